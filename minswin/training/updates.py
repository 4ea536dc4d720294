"""The updates of a run: the steps of fit.py, and when their numbers are read."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from minswin.arrays import Array, array_module, to_numpy
from minswin.buckets import sum_there
from minswin.devices import gpu_number
from minswin.distributed import Share
from minswin.parallel import Part
from minswin.training.evaluation import quiet
from minswin.training.fit import backward, fit
from minswin.training.gpu import Captured
from minswin.training.optimizers import clip_gradients
from minswin.training.run import Run, Update


class Unread(NamedTuple):
    """An update that was made, but whose numbers still lie where they were computed."""

    numbers: Array  # (3,): loss, right answers, norm of the gradient
    images: int
    lr: float
    skipped: bool


class Updates:
    """What fit.py's loop calls to differentiate and to step; gives the updates that were read.

    On a CPU each is read before the optimizer moves, so that a loss that is not finite spoils
    nothing. On a GPU forward and backward are one launch (gpu.py) and nothing is waited for:
    updates are read in groups, when the log, a checkpoint or the end of an epoch needs them. Only
    in float16 the CPU decides at every step whether the gradients are good (precision.py).
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.unread: list[Unread] = []
        self._share: Share
        on_gpu = gpu_number(run.settings.device) is not None
        self._several_gpus = on_gpu and run.group.size > 1
        self._drawn = [(rng, Part(rng)) for rng in run.model.generators()]
        self._launch: Any = (
            Captured(self._forward_backward, run.model, _say) if on_gpu else self._forward_backward
        )

    def __call__(self, batches: Iterable[tuple[Array, Array]]) -> Iterator[list[Update]]:
        """Make one update for each batch; give the updates that were read then, often none."""
        run = self.run
        for _ in fit(
            run.model,
            batches,
            differentiate=self.differentiate,
            optimizer=self,
            lr=lambda step: run.learning_rate(run.step + len(self.unread)),
        ):
            yield self.read() if self._is_time() else []

    # ── what fit calls ───────────────────────────────────────────────────────────────────────────

    def differentiate(self, x: Array, targets: Array) -> Array:
        """Set the gradients of a batch; give its loss, which a GPU may still be computing."""
        self._images, self._share = len(x), self.run.group.share(len(x))
        x, targets = x[self._share.rows], targets[self._share.rows]
        self._numbers = (
            self._on_several_gpus(x, targets) if self._several_gpus else self._launch(x, targets)
        )
        return self._numbers[0]

    def step(self, lr: float) -> None:
        """Move the weights and their average, unless float16 spoilt the gradients."""
        run, good = self.run, self._is_good(self._numbers, lr)
        if good:
            run.optimizer.step(lr)
            if run.average is not None:
                run.average.update()
        self.unread.append(Unread(self._numbers.copy(), self._images, lr, skipped=not good))

    def _is_good(self, numbers: Array, lr: float) -> bool:
        """Whether the update is to be made. Raises Diverged where that can be known by now."""
        run = self.run
        if run.scale is not None:
            good = run.scale.follow(math.isfinite(float(numbers[2])))
            if good or not run.scale.exhausted:
                return good
        if run.scale is not None or not run.late:
            loss, _, norm = to_numpy(numbers).tolist()
            run.require_finite(loss, norm, lr, step=run.step + len(self.unread))
        return True

    def _forward_backward(self, x: Array, targets: Array) -> Array:
        """Set the gradients of a batch, clipped; give loss, right answers and norm: (3,).

        x and targets are one share of it; the gradients are those of all ranks.
        """
        run = self.run
        clip = None if self._several_gpus else run.settings.clip or None
        with run.computing(), quiet():
            loss, logits = run.loss(x, targets, self._share)
            norm = backward(run.model, loss, clip, run.scale)
        numbers = loss.data, right_answers(logits, targets) * (self._share.weight > 0), norm
        xp = array_module(loss.data)
        made = xp.stack([xp.asarray(number).astype("float64") for number in numbers])
        if not self._several_gpus:
            made[:2] = run.group.all_reduce(made[:2].copy())
        return made

    def _on_several_gpus(self, x: Array, targets: Array) -> Array:
        """The same where each rank has a GPU: gradients are summed after the launch, then clipped.

        Meanwhile the layers draw what the whole batch would, and take what their share needs.
        """
        run, share = self.run, self._share
        for rng, draws in self._drawn:
            draws.state = rng.bit_generator.state, share.start, share.end, share.batch
        with run.model.drawing_from(self._drawn):
            numbers = self._launch(x, targets).copy()
        for rng, draws in self._drawn:
            rng.bit_generator.state = draws.state[0]
        weights = [p for p in run.model.parameters() if p.grad is not None]
        sum_there(run.group, weights)
        numbers[:2] = run.group.all_reduce(numbers[:2].copy())
        numbers[2] = clip_gradients(weights, run.settings.clip or None)
        return numbers

    # ── when the numbers are read ────────────────────────────────────────────────────────────────

    def _is_time(self) -> bool:
        """Whether the updates made since the last reading are to be read."""
        run, settings = self.run, self.run.settings
        steps, within = run.step + len(self.unread), run.step_in_epoch + len(self.unread)
        often = settings.log_every, settings.checkpoint_every
        needed = within == len(run.batches) or any(n and steps % n == 0 for n in often)
        return needed or not run.late

    def read(self) -> list[Update]:
        """Wait for the numbers of the updates made since the last reading, and give them."""
        updates = []
        for i, (numbers, images, lr, skipped) in enumerate(self.unread):
            loss, right, norm = to_numpy(numbers).tolist()
            if not skipped:
                self.run.require_finite(loss, norm, lr, step=self.run.step + i)
            updates.append(Update(loss, int(right), norm, images, lr, skipped))
        self.unread.clear()
        return updates


def right_answers(logits: Array, targets: Array) -> Array:
    """How many labels (B,), or largest targets (B, K), the logits (B, K) name: a 0-d array."""
    labels = targets if targets.ndim == 1 else targets.argmax(1)  # (B,)
    return (logits.argmax(1) == labels).sum()


def _say(line: str) -> None:
    print(f"minswin: {line}", file=sys.stderr)
