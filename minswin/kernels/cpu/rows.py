"""Many rows times a matrix, and the gradient of that matrix: how tiles go through large arrays.

Some rows at a time, so that they stay in the second cache while all columns of the matrix pass.
Where the matrix is packed as pairs of bfloat16 numbers (pairs.py), so are the rows, before a
product; what comes out is float32 as ever.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from minswin.arrays import Array
from minswin.kernels.cpu.compiled import compiled, contiguous
from minswin.kernels.cpu.pairs import pair_along, pair_down
from minswin.kernels.cpu.products import multiply, pack_rows, padded, panels
from minswin.kernels.cpu.simd import LANES, load, store
from minswin.kernels.cpu.tiles import panel_width

DEEP = 1536  # rows of a matrix whose panel stays in the second cache
PART = 2**16  # numbers of the widest rows that are worked on at a time,
FEWEST = 192  # but at least so many rows: a gradient is read and written once for each part
HIGH = 96  # rows that meet all panels of a matrix
WIDE = 96  # columns of g that meet all panels of x
FAR = 512  # numbers from row to row from which on rows are copied: far apart, they share few places


def fits(*sizes: int) -> bool:
    """Whether tiles multiply matrices of these widths."""
    return all(size and size % LANES == 0 for size in sizes)


def packed(matrix: Array, short: bool = False) -> Array:
    """A matrix (K, M) as `multiply_rows` reads it.        short: its numbers rounded to bfloat16"""
    if not short:
        return panels(matrix, DEEP)
    (K, M), matrix = matrix.shape, contiguous(matrix)
    pairs = np.empty(K // 2 * M, np.uint32)
    for k in range(0, K, DEEP):
        _pair_rows(matrix.reshape(-1), k * M, M, pairs[k // 2 * M :], min(DEEP, K - k), M)
    return pairs


@register_jitable
def rows_of_a_part(rows: int, widest: int) -> int:
    """How many rows are worked on at a time."""
    return _even(rows, max(FEWEST, PART // widest))


@register_jitable
def _even(rows: int, least: int) -> int:
    """At least so many rows if there are, about the same number in each part: a multiple of 8."""
    parts = max(1, rows // least)
    return padded(-(-rows // parts), LANES)


def scratch(rows: int, *widths: int, dtype: Any, short: bool = False) -> Array:
    """Room for the copies that the loops below make: of wide rows; if `short`, pairs of all."""
    widest = max(widths)
    of_part = rows_of_a_part(rows, widest) * (widest + WIDE)
    if short:
        return np.empty(of_part // 2, np.uint32)
    if widest <= FAR:
        return np.empty(0, dtype)
    return np.empty(max(of_part, 2 * HIGH * (DEEP + LANES) if widest > DEEP else 0), dtype)


@compiled
def multiply_rows(
    x: Any, x0: int, matrix: Any, start: Any, y: Any, y0: int, room: Any, rows: int, K: int, M: int
) -> None:
    """y = start + x matrix, for the rows from the numbers x0 and y0 on.

    x (…, K)   matrix (K, M), packed   start (M,)   y (…, M)
    """
    step = _even(rows, HIGH)
    for i in range(0, rows, step):
        high = min(step, rows - i)
        to = y, y0 + i * M, M
        for k in range(0, K, DEEP):
            depth = min(DEEP, K - k)
            before = to if k else (start, 0, 0)
            _multiply_part(x, x0 + i * K + k, K, matrix, k, before, to, room, high, depth, M)


@compiled
def add_gradient(
    g: Any, g0: int, x: Any, x0: int, of_weight: Any, of_bias: Any, one: Any, room: Any,
    rows: int, K: int, M: int,
) -> None:  # fmt: skip
    """of_weight += gᵀ x and of_bias += Σ g, for the rows from the numbers g0 and x0 on.

    g (…, M)   x (…, K)   of_weight (M, K)   of_bias (M,)   one: an array of it
    """
    _add_products(g, g0, x, x0, of_weight, room, rows, K, M)
    multiply((one, 0, 0, 0), (g, g0, M), (of_bias, 0, 0), (of_bias, 0, 0), 1, rows, M)


def _multiply_part(*arguments: Any) -> None:
    """So many rows times so many rows of the matrix, from the number x0 and from row k on."""


def _add_products(*arguments: Any) -> None:
    """of_weight += gᵀ x"""


@overload(_multiply_part, strict=False)
def _by_matrix(x: Any, x0: Any, K: Any, matrix: Any, *_: Any) -> Any:
    return _part_of_pairs if matrix.dtype == types.uint32 else _part_of_numbers


@overload(_add_products, strict=False)
def _by_room(g: Any, g0: Any, x: Any, x0: Any, of_weight: Any, room: Any, *_: Any) -> Any:
    return _products_of_pairs if room.dtype == types.uint32 else _products_of_numbers


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────


def _part_of_numbers(
    x: Any, x0: int, K: int, matrix: Any, k: int, D: Any, C: Any, room: Any,
    rows: int, depth: int, M: int,
) -> None:  # fmt: skip
    left = x, x0, K, 1
    if K > DEEP:
        far = depth + LANES
        _copy(x, x0, K, room, far, rows, depth)
        left = room, 0, far, 1
    multiply(left, (matrix, k * M, 0), D, C, rows, depth, M)


def _products_of_numbers(
    g: Any, g0: int, x: Any, x0: int, of_weight: Any, room: Any, rows: int, K: int, M: int
) -> None:
    right = x, x0, K
    if K > FAR:
        pack_rows(x, x0, K, room, 0, rows, K)
        right = room, 0, 0
    copy = rows * K if K > FAR else 0
    for m in range(0, M, WIDE):
        wide = min(WIDE, M - m)
        left = g, g0 + m, 1, M
        if M > FAR:
            _copy(g, g0 + m, M, room[copy:], WIDE, rows, wide)
            left = room, copy, 1, WIDE
        to = of_weight, m * K, K
        multiply(left, right, to, to, wide, rows, K)


@compiled
def _copy(x: Any, x0: int, xr: int, y: Any, yr: int, rows: int, columns: int) -> None:
    for i in range(rows):
        for j in range(0, columns, LANES):
            store(y, i * yr + j, load(x, x0 + i * xr + j))


# ── pairs ────────────────────────────────────────────────────────────────────────────────────────


def _part_of_pairs(
    x: Any, x0: int, K: int, matrix: Any, k: int, D: Any, C: Any, room: Any,
    rows: int, depth: int, M: int,
) -> None:  # fmt: skip
    half = depth // 2
    for i in range(rows):
        for t in range(0, half, LANES // 2):
            pair_along(x, x0 + i * K + 2 * t, room, i * half + t)
    multiply((room, 0, half, 1), (matrix, k // 2 * M, 0), D, C, rows, half, M)


def _products_of_pairs(
    g: Any, g0: int, x: Any, x0: int, of_weight: Any, room: Any, rows: int, K: int, M: int
) -> None:
    deep = (rows + 1) // 2
    _pair_rows(x, x0, K, room, rows, K)
    for m in range(0, M, WIDE):
        wide, to = min(WIDE, M - m), (of_weight, m * K, K)
        _pair_columns(g, g0 + m, M, room[deep * K :], rows, wide)
        multiply((room, deep * K, 1, wide), (room, 0, 0), to, to, wide, deep, K)


@compiled
def _pair_columns(x: Any, x0: int, xr: int, pairs: Any, rows: int, columns: int) -> None:
    """Each number with the one below it, row by row; zeros below the last row."""
    for k in range(0, rows, 2):
        above = x0 + k * xr
        for j in range(0, columns, LANES):
            below = above + j + xr if k + 1 < rows else -1
            pair_down(x, above + j, below, pairs, k // 2 * columns + j)


@compiled
def _pair_rows(x: Any, x0: int, xr: int, pairs: Any, rows: int, columns: int) -> None:
    """The same in panels: those of a matrix whose rows are half as many."""
    left, deep = 0, (rows + 1) // 2
    while left < columns:
        width = panel_width(columns - left, pairs.itemsize)
        _pair_columns(x, x0 + left, xr, pairs[left * deep :], rows, width)
        left += width
