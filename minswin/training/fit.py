"""The whole of training: forward, loss, backward, one step downhill. The first file to read.

`minswin train` makes these very steps (updates.py) and adds what a long run needs: checkpoints,
averaged weights, float16, GPUs. The step itself is in optimizers.py, backward in autograd.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from minswin import ops
from minswin.autograd import Tensor
from minswin.training.optimizers import SGD, Optimizer, clip_gradients


class Diverged(FloatingPointError):
    """The loss or a gradient is no longer a number."""


def fit(
    model: Any,
    batches: Iterable[tuple[Any, Any]],
    loss: Callable[[Any, Any], Tensor] = ops.cross_entropy,
    *,
    optimizer: Optimizer | None = None,  # None: SGD with momentum
    lr: float | Callable[[int], float] = 0.1,  # of every step, or a function of its number
    clip: float | None = 1.0,  # the longest gradient; None: no limit
    forward: Callable[[Any], Any] | None = None,  # data_parallel(model), say; None: the model
) -> Iterator[float]:
    """Train: one step for each batch (x, targets); gives loss(model(x), targets), step by step.

    Raises Diverged before a step that would spoil the weights.
    """
    optimizer = optimizer or SGD(model.named_parameters(), lr=0.1, momentum=0.9)
    model.train()
    for step, (x, targets) in enumerate(batches):
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
            value = loss((forward or model)(x), targets)
            length = backward(model, value, clip)
        if not (math.isfinite(value.item()) and math.isfinite(length)):
            raise Diverged(
                f"fit: in step {step + 1} the loss became {value.item()} and its gradient {length} "
                "long; try a smaller lr"
            )
        optimizer.step(lr(step) if callable(lr) else lr)  # p ← p − lr · mean of the gradients
        yield value.item()


def backward(model: Any, loss: Tensor, clip: float | None, scale: Any = None) -> Any:
    """Set p.grad = ∂ loss / ∂ p, together no longer than `clip`; gives how long they were."""
    model.zero_grad()
    loss.backward(None if scale is None else scale.array)
    if scale is not None:  # of float16: see precision.py
        scale.undo(model.parameters())
    return clip_gradients(model.parameters(), clip)
