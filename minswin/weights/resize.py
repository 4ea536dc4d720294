"""Position biases and embeddings for other windows and images, and heads for other classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import isqrt
from pathlib import Path

import numpy as np

from minswin import opening
from minswin.arguments import Pair

# ── along one axis: a matrix (new, old) ──────────────────────────────────────────────────────────


def cubic(x: np.ndarray, a: float) -> np.ndarray:
    """The weight of a sample at distance x: cubic convolution.                   Keys 1981, eq. (4)

    |x| < 1: (a+2)|x|³ − (a+3)|x|² + 1        |x| < 2: a (|x|³ − 5|x|² + 8|x| − 4)
    """
    x = abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=64)
def bicubic_matrix(old: int, new: int) -> np.ndarray:
    """Four neighbours each, a = −0.75; beyond the ends stands the last sample.

    As torch's bicubic without antialias, which the original Swin and DeiT use.
    """
    centre = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(centre).astype(int) - 1
    matrix = np.zeros((new, old))
    for tap in range(4):
        at = first + tap
        np.add.at(matrix, (np.arange(new), at.clip(0, old - 1)), cubic(centre - at, -0.75))
    return matrix


@lru_cache(maxsize=64)
def antialias_matrix(old: int, new: int) -> np.ndarray:
    """A cubic with a = −0.5, widened where the grid shrinks; beyond the ends there is nothing.

    As Pillow's bicubic and torch's with antialias, which timm uses for position embeddings.
    """
    scale = old / new
    width = max(scale, 1.0)
    centre = (np.arange(new)[:, None] + 0.5) * scale
    at = np.arange(old) + 0.5
    inside = abs(np.arange(old) + 0.5 - centre) < 2 * width
    matrix = np.where(inside, cubic((at - centre) / width, -0.5), 0.0)
    return matrix / matrix.sum(axis=1, keepdims=True)


@lru_cache(maxsize=64)
def geometric_matrix(old: int, new: int) -> np.ndarray:
    """Displacements in geometric progression become those of whole numbers, linear in between.

    The middle stays in the middle, the ends become the ends, so that what was learnt for small
    displacements keeps its scale.         As timm does for tables, after BEiT (Bao et al. 2022)
    old, new: odd, the displacements of a window along an axis
    """
    half, far = old // 2, new // 2
    if half == 0:
        return np.ones((new, 1))
    steps = np.cumsum(_ratio(half, far) ** np.arange(half))  # 1, 1 + q, 1 + q + q², …
    known = np.concatenate([-steps[::-1], [0.0], steps])
    wanted = np.arange(-far, far + 1.0)
    at = np.clip(np.searchsorted(known, wanted, side="right") - 1, 0, old - 2)
    share = np.clip((wanted - known[at]) / (known[at + 1] - known[at]), 0, 1)
    matrix = np.zeros((new, old))
    matrix[np.arange(new), at] = 1 - share
    matrix[np.arange(new), at + 1] += share
    return matrix


def _ratio(steps: int, length: int) -> float:
    """The q of 1 + q + … + q^(steps−1) = length, between 1.01 and 1.5, by bisection."""
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        q = (low + high) / 2
        low, high = (low, q) if (1 - q**steps) / (1 - q) > length else (q, high)
    return q


Matrix = Callable[[int, int], np.ndarray]

# How the original resizes tables and positions, and how timm does.
RULES: dict[str, dict[str, Matrix]] = {
    "original": {"table": bicubic_matrix, "positions": bicubic_matrix},
    "timm": {"table": geometric_matrix, "positions": antialias_matrix},
}


# ── arrays ───────────────────────────────────────────────────────────────────────────────────────


def resize_grid(x: np.ndarray, size: Pair, matrix: Matrix) -> np.ndarray:
    """A map (H, W, C) at another size, of the same dtype: both axes one after the other."""
    down, along = matrix(x.shape[0], size[0]), matrix(x.shape[1], size[1])
    y = np.einsum("rh,hwc->rwc", down, x.astype(np.float64))
    return np.einsum("sw,rwc->rsc", along, y).astype(x.dtype)


def resize_table(
    table: np.ndarray, window: Pair, *, rule: str, old: Pair | None = None, extra: int = 0
) -> np.ndarray:
    """A table of position biases for another window.

    table ((2M−1)² + extra, h) of a square window, unless `old` gives it
    window: the new one, (height, width)   extra: rows at the end that have no displacement
    """
    matrix = _rule("resize_table", rule)["table"]
    rows = len(table) - extra
    side = (isqrt(rows), isqrt(rows)) if old is None else (2 * old[0] - 1, 2 * old[1] - 1)
    _check_area("resize_table", rows, side, "rows", "old")
    new = (2 * window[0] - 1, 2 * window[1] - 1)
    places, rest = table[:rows].reshape(*side, -1), table[rows:]
    if new != side:
        places = resize_grid(places, new, matrix)
    return np.concatenate([places.reshape(new[0] * new[1], -1), rest])


def resize_positions(
    positions: np.ndarray, grid: Pair, *, rule: str, old: Pair | None = None, extra: int = 0
) -> np.ndarray:
    """Position embeddings for another grid of patches.

    positions (1, extra + patches, C) of a square grid, unless `old` gives it
    grid: the new one, (rows, columns)   extra: tokens in front that have no place
    """
    matrix = _rule("resize_positions", rule)["positions"]
    patches = positions.shape[1] - extra
    side = (isqrt(patches), isqrt(patches)) if old is None else old
    _check_area("resize_positions", patches, side, "patches", "old")
    front, places = positions[:, :extra], positions[0, extra:].reshape(*side, -1)
    if grid != side:
        places = resize_grid(places, grid, matrix)
    return np.concatenate([front, places.reshape(1, grid[0] * grid[1], -1)], axis=1)


def _rule(who: str, rule: str) -> dict[str, Matrix]:
    if rule not in RULES:
        raise ValueError(f"{who}: the rule must be one of {', '.join(RULES)}, got {rule!r}")
    return RULES[rule]


def _check_area(who: str, count: int, side: Pair, what: str, name: str) -> None:
    if count < 1 or side[0] * side[1] != count:
        raise ValueError(
            f"{who}: {count} {what} do not make {side[0]}×{side[1]}; give the shape that they are "
            f"for as {name}="
        )


# ── heads ────────────────────────────────────────────────────────────────────────────────────────


def read_rows(path: Path | str) -> np.ndarray:
    """The row numbers in a text file, one for each class: such as that from 22K to 1K classes."""
    text = opening.read_text(path, who="read_rows").split()
    wrong = [word for word in text if not word.isdecimal()]
    if wrong or not text:
        raise ValueError(
            f"read_rows: {path} has {wrong[0]!r} where a row number is expected"
            if wrong
            else f"read_rows: {path} is empty, expected a row number for each class"
        )
    return np.array([int(word) for word in text])


def choose_rows(head: np.ndarray, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """The rows of a head's weight (K, C) or bias (K,) that belong to the new classes, in order."""
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not rows.size:
        raise ValueError(
            f"choose_rows: rows must be one whole number for each class, got {rows.dtype} "
            f"of shape {rows.shape}"
        )
    if rows.min() < 0 or rows.max() >= len(head):
        raise ValueError(
            f"choose_rows: the head has rows 0…{len(head) - 1}, got {rows.min()}…{rows.max()}; "
            "are they meant for another head?"
        )
    return head[rows]
