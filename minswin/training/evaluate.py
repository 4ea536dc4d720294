"""How well a model classifies, and what it says about single images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from minswin.arrays import Array, to_numpy
from minswin.autograd import Tensor, no_grad
from minswin.devices import like
from minswin.layers import Layer
from minswin.parallel import data_parallel

Forward = Callable[[Array], Tensor]  # images (B, 3, H, W) to logits (B, K)


class Evaluation(NamedTuple):
    """Mean loss, share of right answers, and that share for each class (NaN: no image of it)."""

    loss: float
    accuracy: float
    per_class: np.ndarray  # (K,)


def evaluate(
    model: Layer, batches: Iterable[tuple[Array, Array]], *, forward: Forward | None = None
) -> Evaluation:
    """Classify every image once, without dropout, and compare with its label.

    batches: pairs of images (B, 3, H, W) and labels (B,); the last may be smaller.
    forward: what runs the model, such as data_parallel(model); left out, one for all cores.
    """
    losses, hits, labels, classes = [], [], [], 0
    forward = data_parallel(model) if forward is None else forward
    with model.evaluating(), no_grad(), quiet():
        for x, truth in batches:
            logits = to_numpy(forward(x).data).astype(np.float64)  # (B, K)
            truth, classes = to_numpy(truth), logits.shape[1]
            _require_labels(truth, classes)
            losses.append(_surprise(logits)[np.arange(len(x)), truth])  # (B,)
            hits.append(logits.argmax(1) == truth)  # (B,)
            labels.append(truth)
    if not losses:
        raise ValueError("evaluate: batches is empty; give at least one batch")
    hit, label = np.concatenate(hits), np.concatenate(labels)
    seen = np.bincount(label, minlength=classes)  # (K,)
    right = np.bincount(label[hit], minlength=classes)  # (K,)
    per_class = np.divide(right, seen, out=np.full(classes, np.nan), where=seen > 0)
    return Evaluation(float(np.concatenate(losses).mean()), float(hit.mean()), per_class)


def predict(model: Layer, images: Array) -> np.ndarray:
    """The probability of each class.        images (B, 3, H, W), normalised        gives (B, K)

    Images on the CPU are copied to the device of the model.
    """
    with model.evaluating(), no_grad(), quiet():
        images = like(next(model.parameters()).data, images)
        logits = to_numpy(data_parallel(model)(images).data).astype(np.float64)  # (B, K)
    return np.exp(-_surprise(logits))


def _surprise(logits: np.ndarray) -> np.ndarray:
    """−log softmax: how unexpected each class would be; NaN where a logit is not finite."""
    with np.errstate(invalid="ignore"):
        shifted = logits - logits.max(1, keepdims=True)
    return np.log(np.exp(shifted).sum(1, keepdims=True)) - shifted


def _require_labels(labels: np.ndarray, classes: int) -> None:
    if labels.size and not (0 <= labels.min() and labels.max() < classes):
        raise ValueError(
            f"evaluate: labels must lie in 0…{classes - 1}, got values from {labels.min()} to "
            f"{labels.max()}; use a model with as many outputs as there are classes"
        )


def quiet() -> np.errstate:
    """Inside this block overflow is no warning: the caller looks at loss and gradients itself."""
    return np.errstate(over="ignore", invalid="ignore")
