"""Updates whose numbers are read later: a GPU is asked for many steps before it is waited for."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from minswin.arrays import Array, array_module, to_numpy
from minswin.devices import gpu_number
from minswin.training.evaluate import quiet
from minswin.training.graphs import Captured
from minswin.training.optimizers import clip_gradients

if TYPE_CHECKING:
    from minswin.training.run import Run


class Made(NamedTuple):
    """What is known of one update."""

    loss: float  # the mean of its batch
    right: int  # answers of its batch
    norm: float  # of the gradient, before it was clipped
    images: int
    lr: float
    skipped: bool = False  # its gradients overflowed in float16: nothing was changed


def right_answers(logits: Array, targets: Array) -> Array:
    """How many labels (B,), or largest targets (B, K), the logits (B, K) name: a 0-d array."""
    labels = targets if targets.ndim == 1 else targets.argmax(1)  # (B,)
    return (logits.argmax(1) == labels).sum()


class LateSteps:
    """Make updates; give what they came to in groups, when the log, a checkpoint or the end asks.

    On a GPU forward and backward are one launch (graphs.py), and nothing in a step is waited for,
    but in float16, where the CPU decides whether the gradients are good (precision.py).
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.unread: list[tuple[Array, int, float, bool]] = []
        on_gpu = gpu_number(run.settings.device) is not None
        self.differentiate: Any = (
            Captured(self._differentiate, run.model, _say) if on_gpu else self._differentiate
        )

    def __call__(self, x: Array, targets: Array, lr: float) -> list[Made]:
        """Make one update; give the updates that were read, often none."""
        run, numbers = self.run, self.differentiate(x, targets)
        good = run.scale is None or run.scale.follow(math.isfinite(float(numbers[2])))
        if good:
            run.optimizer.step(lr)
            if run.average is not None:
                run.average.update()
        skipped = not good and not (run.scale and run.scale.exhausted)
        self.unread.append((numbers.copy(), len(x), lr, skipped))
        return self.read() if self._is_time() else []

    def _differentiate(self, x: Array, targets: Array) -> Array:
        """Set the gradients of a batch, clipped; give loss, right answers and norm: (3,)."""
        run, parameters = self.run, list(self.run.model.parameters())
        run.model.zero_grad()
        with run.computing(), quiet():
            loss, logits = run.loss(x, targets)
            loss.backward(None if run.scale is None else run.scale.array)
        if run.scale is not None:
            run.scale.undo(parameters)
        norm = clip_gradients(parameters, run.settings.clip or None)
        numbers = loss.data, right_answers(logits, targets), norm
        xp = array_module(loss.data)
        return xp.stack([xp.asarray(number).astype("float64") for number in numbers])

    def _is_time(self) -> bool:
        """Whether the step just made is logged, saved, or the last of its epoch."""
        run, settings = self.run, self.run.settings
        steps, within = run.step + len(self.unread), run.step_in_epoch + len(self.unread)
        asked = settings.log_every, settings.checkpoint_every
        return within == len(run.batches) or any(n and steps % n == 0 for n in asked)

    def read(self) -> list[Made]:
        """Wait for the updates made since the last time, and give them."""
        made = []
        for numbers, images, lr, skipped in self.unread:
            loss, right, norm = to_numpy(numbers).tolist()
            made.append(Made(loss, int(right), norm, images, lr, skipped))
        self.unread.clear()
        return made


def _say(line: str) -> None:
    print(f"minswin: {line}", file=sys.stderr)
