"""How far a right result may be from the exact one: per kind of step, from its length and dtype.

A sum of K products in a floating dtype of unit roundoff u is within K · u · Σ|a b| of the exact one
in whatever order it is added (Higham 2002, eq. 3.5). Moves are exact: their tolerance is zero.
All bounds are arrays of the step's shape, for the inputs that the step was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minswin.crosscheck.precision import Precision
from minswin.crosscheck.recording import Step

Array = np.ndarray
MOVES = {
    "patches", "padded", "cropped", "shifted", "map", "windows", "rolled", "q", "k", "v", "merged",
    "neighbours", "index", "bias", "mask",
}  # fmt: skip
FUNCTIONS = 8  # exp, log, erf of a library: so many units in the last place at most

Bound = Callable[..., Any]
BOUNDS: dict[str, Bound] = {}
REASONS: dict[str, str] = {}


def tolerance(step: Step, inputs: list[Array], value: Array, precision: Precision) -> Array:
    """The largest right error of each element: `value` is exact, the other side is rounded."""
    if step.kind in MOVES:
        return np.zeros(value.shape)
    bound = BOUNDS.get(step.kind)
    if bound is None:  # of an operation that is not known here: like a sum of 64 terms
        largest = float(np.max(np.abs(value), initial=0))
        return np.full(value.shape, 64 * precision.u * largest)
    units = bound(step, *inputs) + np.abs(value)  # the last: to round the result itself
    return np.broadcast_to(precision.u * units + precision.smallest, value.shape)


def reason(step: Step) -> str:
    """Why the tolerance is what it is, in words."""
    if step.kind in MOVES:
        return "moves numbers: every bit must agree"
    return REASONS.get(step.kind, "64 roundings of the largest element")


def bound(why: str, *kinds: str) -> Callable[[Bound], Bound]:
    """Decorator: enter a function (step, *inputs) -> error in units of u, and its reason."""

    def enter(function: Bound) -> Bound:
        BOUNDS.update(dict.fromkeys(kinds, function))
        REASONS.update(dict.fromkeys(kinds, why))
        return function

    return enter


# ── the bounds, in units of u ────────────────────────────────────────────────────────────────────


@bound("K · u · Σ|x w| + 2 u |b|, K the inputs of a product", "Linear", "fc1", "fc2")
def linear(step: Step, x: Array, weight: Array, bias: Array | None = None) -> Array:
    products = np.einsum("...k,mk->...m", np.abs(x), np.abs(weight), optimize=True)
    units = weight.shape[1] * products
    return units if bias is None else units + 2 * np.abs(bias)


@bound("K · u · |x|max Σ|w| + 2 u |b|, K the numbers of a patch", "Conv2d")
def convolution(step: Step, image: Array, weight: Array, bias: Array) -> Array:
    products = float(np.max(np.abs(image))) * np.abs(weight).sum(axis=(1, 2, 3))  # (D,)
    return (math.prod(weight.shape[1:]) * products + 2 * np.abs(bias))[:, None, None]


@bound("(d + 2) · u · Σ|q k| / √d", "scores")
def scores(step: Step, q: Array, k: Array) -> Array:
    d = q.shape[-1]
    products = np.einsum("...nd,...md->...nm", np.abs(q), np.abs(k), optimize=True)
    return (d + 2) / math.sqrt(d) * products


@bound("N · u · Σ|p v|", "heads")
def heads(step: Step, probabilities: Array, v: Array) -> Array:
    products = np.einsum("...nm,...md->...nd", np.abs(probabilities), np.abs(v), optimize=True)
    return v.shape[-2] * products


@bound("two additions, in any order", "logits")
def logits(step: Step, scores: Array, bias: Array) -> Array:
    return 2 * (np.abs(scores) + np.abs(bias))


@bound("one addition", "bias_and_mask")
def bias_and_mask(step: Step, bias: Array, mask: Array) -> Array:
    mask = mask.reshape(mask.shape[0], 1, *mask.shape[-2:])
    return np.abs(bias)[None] + np.abs(mask)


@bound("one addition", "residual", "output")
def residual(step: Step, x: Array, y: Array) -> Array:
    return np.abs(x) + np.abs(y)


@bound("p (2 (m − l) + N + 16) u, m the largest logit: exp, and a sum of N terms", "probabilities")
def softmax(step: Step, x: Array) -> Array:
    below = x.max(axis=-1, keepdims=True) - x
    p = np.exp(-below)
    p /= p.sum(axis=-1, keepdims=True)
    return p * (2 * below + x.shape[-1] + 2 * FUNCTIONS)


@bound("9 u |x|: erf is within 8 units of a number of at most 1", "gelu")
def gelu(step: Step, x: Array) -> Array:
    return (1 + FUNCTIONS) * np.abs(x)


@bound("(C + 8) u γ |x|max / σ + 2 u |β|: the mean is rounded before it is taken off", "LayerNorm")
def layer_norm(step: Step, x: Array, weight: Array, bias: Array) -> Array:
    C, largest = x.shape[-1], np.abs(x).max(axis=-1, keepdims=True)
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + step.settings["eps"])
    return (C + FUNCTIONS) * largest / deviation * np.abs(weight) + 2 * np.abs(bias)


@bound("T · u · mean|x|, T the tokens", "pooled")
def pooled(step: Step, x: Array) -> Array:
    x = np.abs(x).reshape(x.shape[0], -1, x.shape[-1])
    return x.shape[1] * x.mean(axis=1)


@bound("u (K + 16) (|logit|max + 1), K the classes", "loss")
def loss(step: Step, x: Array, labels: Array) -> Array:
    return np.asarray((x.shape[-1] + 2 * FUNCTIONS) * (np.max(np.abs(x)) + 1))
