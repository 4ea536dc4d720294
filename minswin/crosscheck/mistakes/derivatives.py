"""Known mistakes in backward passes, each as what it adds to the right derivative.

A cotangent is wrong first where all behind it are right, so the mistake is in the derivative of the
step that consumes it. `error(step, g, *inputs)` is wrong minus right for the input at `position` of
`step`, whose cotangent is g.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from minswin.crosscheck import formulas
from minswin.crosscheck.mistakes import Mistake
from minswin.crosscheck.recording import Step

Array = np.ndarray
Error = Callable[..., Array]


class Slip(NamedTuple):
    """One mistake in the derivative of a kind of step by one of its inputs."""

    mistake: Mistake
    position: int
    error: Error


SLIPS: list[Slip] = []


def slip(name: str, *kinds: str, position: int = 0, remedy: str) -> Callable[[Error], Error]:
    def enter(error: Error) -> Error:
        SLIPS.append(Slip(Mistake(name, kinds, error, remedy), position, error))
        return error

    return enter


def errors(consumer: Step, position: int, g: Array, inputs: list[Array]) -> Iterator[tuple]:
    """(mistake, what it adds) for every slip that this step may have."""
    for candidate in SLIPS:
        if consumer.kind in candidate.mistake.kinds and position == candidate.position:
            yield candidate.mistake, candidate.error(consumer, g, *inputs)


# ── moves ────────────────────────────────────────────────────────────────────────────────────────


@slip(
    "the derivative is rolled the wrong way", "shifted", "map",
    remedy="undo a roll by s with a roll by −s",
)  # fmt: skip
def rolled_on(step: Step, g: Array, x: Array) -> Array:
    if not any(step.geometry["shift"]):
        return np.zeros_like(x)
    sign = 1 if step.kind == "map" else -1
    shift = tuple(sign * s for s in step.geometry["shift"])
    back = tuple(-s for s in shift)
    return np.roll(g, shift, axis=(1, 2)) - np.roll(g, back, axis=(1, 2))


@slip(
    "the derivative of merging takes the neighbours row by row", "neighbours",
    remedy="put group 2 · column + row of the channels back at (row, column)",
)  # fmt: skip
def merged_by_rows(step: Step, g: Array, x: Array) -> Array:
    B, H, W, C = x.shape
    g = np.asarray(g).reshape(B, (H + 1) // 2, (W + 1) // 2, 2, 2, C)  # column, row
    right = g.transpose(0, 1, 4, 2, 3, 5)
    wrong = g.transpose(0, 1, 3, 2, 4, 5)
    size = (B, 2 * g.shape[1], 2 * g.shape[2], C)
    return (wrong.reshape(size) - right.reshape(size))[:, :H, :W]


@slip(
    "pairs of one displacement overwrite each other in the table's gradient", "bias",
    remedy="add, do not assign: np.add.at, index_add, scatter_add",
)  # fmt: skip
def overwritten(step: Step, g: Array, table: Array, rows: Array) -> Array:
    flat, each = rows.astype(int).ravel(), np.moveaxis(g, 0, -1).reshape(rows.size, -1)
    right, wrong = np.zeros_like(table), np.zeros_like(table)
    np.add.at(right, flat, each)
    wrong[flat] = each
    return wrong - right


@slip(
    "the gradient of the bias is averaged over tokens instead of added up", "Linear", "fc1", "fc2",
    position=2, remedy="the gradient of a bias is the sum of the cotangents of all tokens",
)  # fmt: skip
def bias_averaged(step: Step, g: Array, x: Array, weight: Array, bias: Array) -> Array:
    rows = g.reshape(-1, g.shape[-1])
    return rows.mean(axis=0) - rows.sum(axis=0)


# ── functions ────────────────────────────────────────────────────────────────────────────────────


@slip(
    "the derivative of the softmax lacks the sum over its row", "probabilities",
    remedy="p (g − Σ p g), the sum over the keys",
)  # fmt: skip
def softmax_alone(step: Step, g: Array, x: Array) -> Array:
    p = formulas.softmax(step, x)
    return p * (p * g).sum(axis=-1, keepdims=True)


@slip(
    "the derivative of GELU lacks x φ(x)", "gelu",
    remedy="Φ(x) + x φ(x), φ the density of the normal distribution",
)  # fmt: skip
def gelu_alone(step: Step, g: Array, x: Array) -> Array:
    return -g * x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


DERIVATIVE = "(g γ − mean(g γ) − x̂ mean(g γ x̂)) / √(var + ε), the means over the channels"


def _normed(step: Step, g: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """x̂, the reciprocal of its deviation, and the derivative by x̂."""
    centred = x - x.mean(axis=-1, keepdims=True)
    rstd = 1 / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + step.settings["eps"])
    return centred * rstd, rstd, g * weight


@slip("the derivative of the norm lacks the part of its variance", "LayerNorm", remedy=DERIVATIVE)
def norm_without_variance(step: Step, g: Array, x: Array, weight: Array, bias: Array) -> Array:
    xhat, rstd, d = _normed(step, g, x, weight)
    return xhat * (d * xhat).mean(axis=-1, keepdims=True) * rstd


@slip("the derivative of the norm lacks the part of its mean", "LayerNorm", remedy=DERIVATIVE)
def norm_without_mean(step: Step, g: Array, x: Array, weight: Array, bias: Array) -> Array:
    _, rstd, d = _normed(step, g, x, weight)
    return np.broadcast_to(d.mean(axis=-1, keepdims=True) * rstd, x.shape)
