"""Training for any loss until a number of steps or minutes is over: AdamW, warm-up and cosine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from minswin import training
from minswin.arrays import Array
from minswin.autograd import Tensor
from minswin.bar import Bar
from minswin.layers import Layer
from minswin.parallel import data_parallel
from minswin.training import AdamW, warmup_cosine

WARMUP = 0.05  # share of the training in which the learning rate rises


def fit(
    model: Layer,
    batch: Callable[[np.random.Generator], tuple[Array, Any]],
    loss: Callable[[Tensor, Any], Tensor],
    *,
    steps: int,
    minutes: float | None = None,
    lr: float = 2e-3,
    weight_decay: float = 0.05,
    clip: float = 5.0,
    rng: np.random.Generator,
) -> list[float]:
    """Train until `steps` are made, or `minutes` are over; give the loss of every step.

    batch(rng): images (B, 3, H, W) and their truth   loss(model(images), truth): a 0-d Tensor
    The learning rate falls to 0 towards whichever end comes first. Without `minutes`, or where
    they suffice, the same rng gives the same weights on any machine of as many cores.
    """
    if steps < 1 or (minutes is not None and not minutes > 0):
        raise ValueError(f"fit: steps and minutes must be above 0, got {steps} and {minutes}")
    forward = data_parallel(model.train())
    optimizer = AdamW(model.named_parameters(), lr, weight_decay=weight_decay)
    seconds = math.inf if minutes is None else 60 * minutes
    losses: list[float] = []
    began = time.perf_counter()

    def done() -> float:
        return max(len(losses) / steps, (time.perf_counter() - began) / seconds)

    def batches() -> Iterator[tuple[Array, Any]]:
        while done() < 1:
            yield batch(rng)

    with Bar(steps) as bar, closing(forward):
        for value in training.fit(
            model,
            batches(),
            loss,
            optimizer=optimizer,
            lr=lambda step: _learning_rate(min(done(), 1.0), lr),
            clip=clip,
            forward=forward,
        ):
            losses.append(value)
            bar.text = f"loss {np.mean(losses[-50:]):.3f}"
            bar.update()
    return losses


def _learning_rate(done: float, lr: float) -> float:
    """done: the share of the training that is over"""
    place, parts = round(1000 * done), 1000
    return warmup_cosine(
        place, steps=parts, warmup=round(WARMUP * parts), base=lr, start=lr / 50, final=0.0
    )
