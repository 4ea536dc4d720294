"""Mistakes in the attention itself: scale, products, softmax."""

from __future__ import annotations

import math

import numpy as np

from minswin.crosscheck import formulas
from minswin.crosscheck.mistakes import mistake
from minswin.crosscheck.recording import Step

Array = np.ndarray
SCALE = "scores = (q / √d) kᵀ, d the channels of one head"
ROWS = "softmax over the keys, the last axis: each query's row sums to 1"
HEADS = "probabilities (query, key) times v (key, feature), head by head"


def _raw(q: Array, k: Array) -> Array:
    return np.einsum("...nd,...md->...nm", q, k, optimize=True)


# ── scores ───────────────────────────────────────────────────────────────────────────────────────


@mistake("q kᵀ is not scaled", "scores", remedy=SCALE)
def not_scaled(step: Step, q: Array, k: Array) -> Array:
    return _raw(q, k)


@mistake(
    "q kᵀ is divided by d instead of √d", "scores", remedy=f"{SCALE}; do not scale both q and k"
)
def divided_by_d(step: Step, q: Array, k: Array) -> Array:
    return _raw(q, k) / q.shape[-1]


@mistake("q kᵀ is multiplied by √d", "scores", remedy=SCALE)
def multiplied(step: Step, q: Array, k: Array) -> Array:
    return _raw(q, k) * math.sqrt(q.shape[-1])


@mistake("q kᵀ is scaled by all channels instead of those of one head", "scores", remedy=SCALE)
def scaled_by_all_channels(step: Step, q: Array, k: Array) -> Array:
    return _raw(q, k) / math.sqrt(q.shape[-1] * q.shape[-3])


@mistake("q kᵀ is scaled by the tokens instead of the channels", "scores", remedy=SCALE)
def scaled_by_tokens(step: Step, q: Array, k: Array) -> Array:
    return _raw(q, k) / math.sqrt(q.shape[-2])


@mistake("k qᵀ is computed instead of q kᵀ", "scores", remedy=SCALE)
def exchanged(step: Step, q: Array, k: Array) -> Array:
    return formulas.scores(step, k, q)


@mistake("k is reshaped to (d, N) instead of transposed", "scores", remedy=SCALE)
def reshaped(step: Step, q: Array, k: Array) -> Array:
    *lead, N, d = k.shape
    return q / math.sqrt(d) @ k.reshape(*lead, d, N)


@mistake(
    "q and k are divided by their lengths, as in Swin V2", "scores",
    remedy="Swin V1 takes the plain product; cosine attention is V2",
)  # fmt: skip
def cosine(step: Step, q: Array, k: Array) -> Array:
    return _raw(*(x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k)))


# ── probabilities ────────────────────────────────────────────────────────────────────────────────


def _softmax(x: Array, axis: int | tuple[int, ...]) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@mistake("the softmax runs over the queries", "probabilities", remedy=ROWS)
def over_queries(step: Step, x: Array) -> Array:
    return _softmax(x, -2)


@mistake("the softmax runs over the heads", "probabilities", remedy=ROWS)
def over_heads(step: Step, x: Array) -> Array:
    return _softmax(x, -3)


@mistake("the softmax runs over all pairs of a window", "probabilities", remedy=ROWS)
def over_pairs(step: Step, x: Array) -> Array:
    return _softmax(x, (-2, -1))


@mistake("the exponentials are not divided by their sum", "probabilities", remedy=ROWS)
def not_divided(step: Step, x: Array) -> Array:
    return np.exp(x - x.max(axis=-1, keepdims=True))


@mistake("2 is raised to the logits instead of e", "probabilities", remedy=ROWS)
def base_two(step: Step, x: Array) -> Array:
    return _softmax(x * math.log(2), -1)


@mistake("a sigmoid stands for the softmax", "probabilities", remedy=ROWS)
def sigmoid(step: Step, x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


@mistake("there is no softmax", "probabilities", remedy=ROWS)
def no_softmax(step: Step, x: Array) -> Array:
    return x


@mistake(
    "masked pairs are set to zero after the softmax, and rows no longer sum to 1", "probabilities",
    remedy="add the mask to the logits before the softmax",
)  # fmt: skip
def masked_afterwards(step: Step, x: Array) -> Array:
    masked = x < -50
    return np.where(masked, 0.0, _softmax(np.where(masked, x + 100, x), -1))


# ── heads ────────────────────────────────────────────────────────────────────────────────────────


@mistake("the probabilities are transposed", "heads", remedy=HEADS)
def probabilities_transposed(step: Step, p: Array, v: Array) -> Array:
    return formulas.heads(step, p.swapaxes(-1, -2), v)


@mistake("v is returned without the probabilities", "heads", remedy=HEADS)
def values_alone(step: Step, p: Array, v: Array) -> Array:
    return v


@mistake("the heads' probabilities are averaged", "heads", remedy=HEADS)
def probabilities_averaged(step: Step, p: Array, v: Array) -> Array:
    return formulas.heads(step, np.broadcast_to(p.mean(axis=-3, keepdims=True), p.shape), v)
