"""The training steps of a trace: an optimizer on one batch, with all that goes with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minswin import ops
from minswin.autograd import Tensor, no_grad
from minswin.layers import Init, Linear
from minswin.training.ema import WeightAverage
from minswin.training.optimizers import SGD, AdamW, Optimizer, clip_gradients, warmup_cosine

Array = np.ndarray
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adamw": AdamW, "sgd": SGD}


def run_steps(model: Any, x: Array, labels: Array, told: Mapping[str, Any]) -> list[float]:
    """The loss before the first step and after each; with an average, its loss after each too."""
    optimizer = OPTIMIZERS[told["name"]](model.named_parameters(), told["lr"])
    mean = WeightAverage(model.named_parameters(), told["ema"]) if "ema" in told else None
    losses, of_mean = [], []
    for step in range(told["steps"]):
        model.zero_grad()
        value = loss(model, x, labels, told)
        losses.append(value.item())
        value.backward()
        clip_gradients(model.parameters(), told.get("clip"))
        optimizer.step(rate(step, told))
        if mean is not None:
            mean.update()
            with mean.applied(), no_grad():
                of_mean.append(loss(model, x, labels, told).item())
    with no_grad():
        losses.append(loss(model, x, labels, told).item())
    return losses + of_mean


def require_steps(told: Mapping[str, Any]) -> None:
    """Raise for settings that steps would refuse, before a long pass: a small layer tries them."""
    small = Linear(2, 2, init=Init(0, np.float64))
    run_steps(small, np.ones((1, 2)), np.zeros(1, int), {**told, "steps": min(told["steps"], 1)})


def loss(model: Any, x: Array, labels: Array, told: Mapping[str, Any]) -> Tensor:
    return ops.cross_entropy(model(Tensor(x)), labels, smoothing=told.get("smoothing", 0.0))


def rate(step: int, told: Mapping[str, Any]) -> float:
    """The learning rate of a step: one for all, or Swin's, from lr/1000 up and down to lr/100."""
    lr = float(told["lr"])
    if "warmup" not in told:
        return lr
    warmup, steps = told["warmup"], told["planned"]
    return warmup_cosine(step, steps=steps, warmup=warmup, base=lr, start=lr / 1000, final=lr / 100)
