"""The whole of training: forward, loss, backward, one step downhill. The first file to read.

The step is in optimizers.py, backward in autograd.py; `minswin train` runs this loop (updates.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from minswin import ops
from minswin.training.optimizers import SGD, Steps, clip_gradients


class Diverged(FloatingPointError):
    """The loss or a gradient is no longer a number."""


def fit(
    model: Any,
    batches: Iterable[tuple[Any, Any]],
    loss: Callable[[Any, Any], Any] = ops.cross_entropy,
    *,
    optimizer: Steps | None = None,  # None: SGD with momentum
    lr: float | Callable[[int], float] = 0.1,  # of every step, or a function of its number
    clip: float | None = 1.0,  # the longest gradient; None: no limit
    forward: Callable[[Any], Any] | None = None,  # data_parallel(model), say; None: the model
    differentiate: Callable[[Any, Any], Any] | None = None,  # instead of `gradients`
) -> Iterator[Any]:
    """Train: a step for each batch (x, targets); gives loss(model(x), targets), step by step.

    Raises Diverged before a step that would spoil the weights.
    """

    def gradients(x: Any, targets: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):  # the next lines look for it
            value = loss((forward or model)(x), targets)
            length = backward(model, value, clip)
        if not np.isfinite([value.item(), length]).all():
            became = f"the loss became {value.item()} and its gradient {length} long"
            raise Diverged(f"fit: in step {step + 1} {became}; try a smaller lr")
        return value.item()

    optimizer = optimizer or SGD(model.named_parameters(), lr=0.1, momentum=0.9)
    model.train()
    for step, (x, targets) in enumerate(batches):
        value = (differentiate or gradients)(x, targets)  # p.grad = ∂ loss / ∂ p
        optimizer.step(lr(step) if callable(lr) else lr)  # p ← p − lr · mean of the gradients
        yield value


def backward(model: Any, loss: Any, clip: float | None, scale: Any = None) -> Any:
    """Set p.grad = ∂ loss / ∂ p, all together no longer than `clip`; give how long they were."""
    model.zero_grad()
    loss.backward(None if scale is None else scale.array)
    if scale is not None:  # of float16: see precision.py
        scale.undo(model.parameters())
    return clip_gradients(model.parameters(), clip)
