"""Every kind of step once more, as a formula of the steps that it is made of, in plain NumPy.

    FORMULAS["scores"](step, q, k)        what the scores must be, given this q and this k

So a step of another implementation is judged by its own inputs: it is wrong only if it does not
follow from them. Written apart from the model's text on purpose: a test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minswin.crosscheck.recording import Step

Array = np.ndarray
Formula = Callable[..., Array]
FORMULAS: dict[str, Formula] = {}


def formula(*kinds: str) -> Callable[[Formula], Formula]:
    """Decorator: enter a function (step, *inputs) -> value as the formula of these kinds."""

    def enter(function: Formula) -> Formula:
        FORMULAS.update(dict.fromkeys(kinds, function))
        return function

    return enter


def expected(step: Step, inputs: list[Array]) -> Array | None:
    """What `step` must be, given its inputs; None where no formula says it."""
    function = FORMULAS.get(step.kind)
    if function is None or len(inputs) != len(step.inputs):
        return None
    try:
        return function(step, *inputs)
    except (NotImplementedError, ValueError, IndexError, KeyError):
        return None  # between it and its inputs, another model moved data in a way of its own


# ── sums of products ─────────────────────────────────────────────────────────────────────────────


@formula("Linear", "fc1", "fc2")
def linear(step: Step, x: Array, weight: Array, bias: Array | None = None) -> Array:
    y = np.einsum("...k,mk->...m", x, weight, optimize=True)
    return y if bias is None else y + bias


@formula("Conv2d")
def patch_projection(step: Step, image: Array, weight: Array, bias: Array) -> Array:
    """Only of patches that do not overlap."""
    (sh, sw), (_, C, ph, pw) = step.settings["stride"], weight.shape
    if (sh, sw) != (ph, pw) or any(step.settings["padding"]):
        raise NotImplementedError("a convolution with overlapping patches")
    B, _, H, W = image.shape
    x = image[:, :, : H // ph * ph, : W // pw * pw].reshape(B, C, H // ph, ph, W // pw, pw)
    return np.einsum("bcipjq,dcpq->bdij", x, weight, optimize=True) + bias[:, None, None]


@formula("scores")
def scores(step: Step, q: Array, k: Array) -> Array:
    return np.einsum("...nd,...md->...nm", q / math.sqrt(q.shape[-1]), k, optimize=True)


@formula("heads")
def heads(step: Step, probabilities: Array, v: Array) -> Array:
    return np.einsum("...nm,...md->...nd", probabilities, v, optimize=True)


# ── sums and functions ───────────────────────────────────────────────────────────────────────────


@formula("residual", "output", "positioned")
def add(step: Step, x: Array, y: Array) -> Array:
    return x + y.reshape(1, *x.shape[1:]) if step.kind == "positioned" else x + y


@formula("bias_and_mask")
def bias_and_mask(step: Step, bias: Array, mask: Array) -> Array:
    return bias[None] + mask.reshape(mask.shape[0], 1, *mask.shape[-2:])


@formula("logits")
def logits(step: Step, scores: Array, bias: Array) -> Array:
    return scores + bias


@formula("probabilities")
def softmax(step: Step, x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@formula("gelu")
def gelu(step: Step, x: Array) -> Array:
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return x * (1 + erf(x / math.sqrt(2))) / 2


@formula("LayerNorm")
def layer_norm(step: Step, x: Array, weight: Array, bias: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + step.settings["eps"]) * weight + bias


@formula("pooled")
def mean_over_tokens(step: Step, x: Array) -> Array:
    return x.reshape(x.shape[0], -1, x.shape[-1]).mean(axis=1)


@formula("loss")
def cross_entropy(step: Step, x: Array, labels: Array) -> Array:
    top = x.max(axis=-1)
    log_sum = np.log(np.exp(x - top[:, None]).sum(axis=-1)) + top
    return np.mean(log_sum - x[np.arange(len(x)), labels.astype(int)])


# ── moves: every element of the result is an element of the input ────────────────────────────────


@formula("patches")
def channels_last(step: Step, x: Array) -> Array:
    return np.moveaxis(x, 1, -1)


@formula("padded")
def pad(step: Step, x: Array) -> Array:
    return np.pad(x, step.settings["width"])


@formula("cropped")
def crop(step: Step, x: Array) -> Array:
    H, W = step.geometry["grid"]
    return x[:, :H, :W]


@formula("shifted")
def roll(step: Step, x: Array) -> Array:
    """The element at (r, c) comes from (r + s, c + s)."""
    (H, W), (sh, sw) = x.shape[1:3], step.geometry["shift"]
    rows, columns = (np.arange(H) + sh) % H, (np.arange(W) + sw) % W
    return x[:, rows[:, None], columns]


@formula("map")
def roll_back(step: Step, x: Array) -> Array:
    """From the rolled map, or from windows where nothing was rolled."""
    (sh, sw) = step.geometry["shift"]
    if not (sh or sw):
        return merge_windows(step, x)
    H, W = x.shape[1:3]
    rows, columns = (np.arange(H) - sh) % H, (np.arange(W) - sw) % W
    return x[:, rows[:, None], columns]


def places(step: Step) -> tuple[Array, Array]:
    """Row and column on the (rolled) map of each token of each window: (nW, N) twice."""
    (H, W), (Mh, Mw) = step.geometry["grid"], step.geometry["window"]
    window, token = np.arange(H // Mh * (W // Mw))[:, None], np.arange(Mh * Mw)[None]
    row = window // (W // Mw) * Mh + token // Mw
    column = window % (W // Mw) * Mw + token % Mw
    return row, column


@formula("windows")
def cut_windows(step: Step, x: Array) -> Array:
    row, column = places(step)
    return x[:, row, column]


@formula("rolled")
def merge_windows(step: Step, x: Array) -> Array:
    row, column = places(step)
    y = np.empty((x.shape[0], *step.geometry["grid"], x.shape[-1]), x.dtype)
    y[:, row, column] = x
    return y


@formula("q", "k", "v")
def head_channels(step: Step, x: Array) -> Array:
    h = step.geometry["heads"]
    d, which = x.shape[-1] // (3 * h), "qkv".index(step.kind)
    parts = [x[..., (which * h + head) * d : (which * h + head + 1) * d] for head in range(h)]
    return np.stack(parts, axis=-3)


@formula("merged")
def heads_side_by_side(step: Step, x: Array) -> Array:
    return np.concatenate([x[..., head, :, :] for head in range(x.shape[-3])], axis=-1)


@formula("neighbours")
def neighbours(step: Step, x: Array) -> Array:
    x = np.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
    groups = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
    return np.concatenate(groups, axis=-1)


# ── bias and mask ────────────────────────────────────────────────────────────────────────────────


def displacements(step: Step) -> tuple[Array, Array]:
    """Rows and columns from key to query: (N, N) twice."""
    Mh, Mw = step.geometry["window"]
    row, column = np.divmod(np.arange(Mh * Mw), Mw)
    return row[:, None] - row, column[:, None] - column


@formula("index")
def index(step: Step) -> Array:
    (dr, dc), (Mh, Mw) = displacements(step), step.geometry["table_window"]
    return (dr + Mh - 1) * (2 * Mw - 1) + dc + Mw - 1


@formula("bias")
def bias(step: Step, table: Array, rows: Array) -> Array:
    return np.moveaxis(table[rows.astype(int)], -1, 0)


@formula("mask")
def mask(step: Step) -> Array:
    """By where tokens come from: rows that the roll brought from the other end stand apart."""
    (H, W), (sh, sw) = step.geometry["grid"], step.geometry["shift"]
    row, column = places(step)
    over = (row >= H - sh).astype(int) * 2 + (column >= W - sw)  # (nW, N): which seams were crossed
    apart = over[:, :, None] != over[:, None, :]
    return np.where(apart, -100.0, 0.0)[:, None]


def named(steps: dict[str, Step], step: Step) -> list[Any]:
    """The input steps of a step."""
    return [steps[name] for name in step.inputs]
