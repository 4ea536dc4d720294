"""How far a right result may be from the exact one: per operation, from its length and dtype.

A sum of K products in a floating dtype of unit roundoff u is within K · u · Σ|a b| of the exact one
in whatever order it is added (Higham 2002, eq. 3.5). Moves are exact: their tolerance is zero.
All bounds are arrays of the result's shape, in units of u, for the inputs that the operation had.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minswin.crosscheck.recording import MOVES, Step

Array = np.ndarray
FUNCTIONS = 8  # exp, log, erf of a library: this many units in the last place at most
EXACT = MOVES | {"patch_merge", "take", "concatenate", "broadcast_to", "unfold"}  # move numbers

Bound = Callable[..., Any]
BOUNDS: dict[str, Bound] = {}
REASONS: dict[str, str] = dict.fromkeys(EXACT, "moves numbers: every bit must agree")


def units(op: str, inputs: tuple[Array, ...], settings: dict[str, Any], value: Array) -> Array:
    """The largest right error of each element, in units of u, where the inputs are exact."""
    if op in EXACT:
        return np.zeros(value.shape)
    bound = BOUNDS.get(op)
    if bound is None:  # of an operation that is not known here: like a sum of 64 terms
        return np.full(value.shape, 64 * float(np.max(np.abs(value), initial=0)))
    return np.broadcast_to(bound(*inputs, **settings) + np.abs(value), value.shape)


def reason(op: str) -> str:
    """Why the tolerance is what it is, in words."""
    return REASONS.get(op, "64 roundings of the largest element")


def bound(why: str, *operations: str) -> Callable[[Bound], Bound]:
    """Decorator: enter a function of inputs and settings -> error in units of u, and its reason."""

    def enter(function: Bound) -> Bound:
        BOUNDS.update(dict.fromkeys(operations, function))
        REASONS.update(dict.fromkeys(operations, why))
        return function

    return enter


@bound("K · u · Σ|x w| + 2 u |b|, K the inputs of a product", "linear")
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    products = weight.shape[1] * (np.abs(x) @ np.abs(weight).T)
    return products if bias is None else products + 2 * np.abs(bias)


@bound("K · u · |x|max Σ|w| + 2 u |b|, K the numbers of a patch", "conv2d")
def conv2d(x: Array, weight: Array, bias: Array | None = None, **_: Any) -> Array:
    products = float(np.max(np.abs(x))) * np.abs(weight).sum(axis=(1, 2, 3))  # (D,)
    own = 0 if bias is None else 2 * np.abs(bias)
    return (math.prod(weight.shape[1:]) * products + own)[:, None, None]


@bound("K · u · Σ|a b|, K the length of a product", "matmul")
def matmul(a: Array, b: Array) -> Array:
    return (a.shape[-1] + 2) * (np.abs(a) @ np.abs(b))


@bound("K · u · Σ|a b| through both products and the softmax", "attention")
def attention(q: Array, k: Array, v: Array, bias: Array | None) -> Array:
    largest = float(np.max(np.abs(q)) * np.max(np.abs(k))) * math.sqrt(q.shape[-1])
    return (2 * largest + v.shape[-2] + 64) * float(np.max(np.abs(v)))


@bound("one operation on each element", "add", "subtract")
def add(a: Array, b: Array) -> Array:
    return np.abs(a) + np.abs(b)


@bound("3 u |a b|: a and b may have been rounded only when they were handed out", "multiply")
def multiply(a: Array, b: Array) -> Array:
    return 2 * np.abs(a * b)


@bound("3 u |a / b|: a and b may have been rounded only when they were handed out", "divide")
def divide(a: Array, b: Array) -> Array:
    return 2 * np.abs(a / b)


@bound("one operation on each element", "relu", "sqrt", "maximum", "negative")
def elementwise(*_: Any, **__: Any) -> float:
    return 0.0


@bound("p (2 (m − l) + N + 16) u, m the largest logit: exp, and a sum of N terms", "softmax")
def softmax(x: Array, **_: Any) -> Array:
    below = x.max(axis=-1, keepdims=True) - x
    p = np.exp(-below)
    p /= p.sum(axis=-1, keepdims=True)
    return p * (2 * below + x.shape[-1] + 2 * FUNCTIONS)


@bound("9 u |x|: erf is within 8 units of a number of at most 1", "gelu")
def gelu(x: Array) -> Array:
    return (1 + FUNCTIONS) * np.abs(x)


@bound("(C + 8) u γ |x|max / σ + 2 u |β|: the mean is rounded before it is taken off", "layer_norm")
def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
    C, largest = x.shape[-1], np.abs(x).max(axis=-1, keepdims=True)
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    return (C + FUNCTIONS) * largest / deviation * np.abs(weight) + 2 * np.abs(bias)


@bound("T · u · mean|x|, T the numbers of a mean", "mean")
def mean(x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
    value: Array = np.abs(x).mean(axis=axis, keepdims=keepdims)
    return x.size / max(value.size, 1) * value


@bound("T · u · Σ|x|, T the terms of a sum", "sum")
def sum_(x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
    value: Array = np.abs(x).sum(axis=axis, keepdims=keepdims)
    return x.size / max(value.size, 1) * value


@bound("u (K + 16) (|logit|max + 1), K the classes", "cross_entropy")
def cross_entropy(x: Array, labels: Array, **_: Any) -> Array:
    return np.asarray((x.shape[-1] + 2 * FUNCTIONS) * (np.max(np.abs(x)) + 1))


# ── pairs that a mask keeps apart: −100 does it, and anything lower, −∞ too, does it as well ──────

KINDS = ("mask", "bias_and_mask", "logits")
MASK, MASKED = -100.0, -50.0  # a sum of logit, bias and mask below the second is masked


def masked_pairs(step: Step, steps: Mapping[str, Step]) -> Array:
    """Where the right value is masked: by the mask of its layer, where there is one."""
    mask = steps.get(f"{step.name.rpartition('.')[0]}.mask")
    masked = mask.value < MASKED if mask is not None else np.zeros((), bool)
    return np.broadcast_to(masked, step.value.shape)


def lifted(y: Array, right: Array, pairs: Array, allowed: Array | float = 0) -> Array:
    """y with the right value in those of `pairs` where it is lower still."""
    return np.where(pairs & (y < right - allowed), right.astype(y.dtype), y)


def legible(y: Array, right: Array, pairs: Array) -> Array:
    """y with what −100 would give in the place of −∞, wherever it stands."""
    return np.where(y == -np.inf, np.where(pairs, right, right + MASK), y)
