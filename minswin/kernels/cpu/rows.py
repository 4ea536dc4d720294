"""Many rows times a matrix, and the gradient of that matrix: how tiles go through large arrays.

Some rows at a time, so that they stay in the second cache while all columns of the matrix pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from minswin.arrays import Array
from minswin.kernels.cpu.compiled import compiled
from minswin.kernels.cpu.products import multiply, pack_rows, padded, panels
from minswin.kernels.cpu.simd import LANES, load, store

DEEP = 1536  # rows of a matrix whose panel stays in the second cache
PART = 2**16  # numbers of the widest rows that are worked on at a time,
FEWEST = 192  # but at least so many rows: a gradient is read and written once for each part
HIGH = 96  # rows that meet all panels of a matrix
WIDE = 96  # columns of g that meet all panels of x
FAR = 512  # numbers from row to row from which on rows are copied: far apart, they share few places


def fits(*sizes: int) -> bool:
    """Whether tiles multiply matrices of these widths."""
    return all(size and size % LANES == 0 for size in sizes)


def packed(matrix: Array) -> Array:
    """A matrix (K, M) as `multiply_rows` reads it."""
    return panels(matrix, DEEP)


@register_jitable
def rows_of_a_part(rows: int, widest: int) -> int:
    """How many rows are worked on at a time."""
    return _even(rows, max(FEWEST, PART // widest))


@register_jitable
def _even(rows: int, least: int) -> int:
    """At least so many rows if there are, about the same number in each part: a multiple of 8."""
    parts = max(1, rows // least)
    return padded(-(-rows // parts), LANES)


def scratch(rows: int, *widths: int, dtype: Any) -> Array:
    """Room for the copies that the two loops below make; none, where all rows are short."""
    widest = max(widths)
    if widest <= FAR:
        return np.empty(0, dtype)
    of_part = rows_of_a_part(rows, widest) * (widest + WIDE)
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
            left = x, x0 + i * K + k, K, 1
            if K > DEEP:
                far = depth + LANES
                _copy(x, x0 + i * K + k, K, room, far, high, depth)
                left = room, 0, far, 1
            multiply(left, (matrix, k * M, 0), to if k else (start, 0, 0), to, high, depth, M)


@compiled
def add_gradient(
    g: Any, g0: int, x: Any, x0: int, of_weight: Any, of_bias: Any, one: Any, room: Any,
    rows: int, K: int, M: int,
) -> None:  # fmt: skip
    """of_weight += gᵀ x and of_bias += Σ g, for the rows from the numbers g0 and x0 on.

    g (…, M)   x (…, K)   of_weight (M, K)   of_bias (M,)   one: an array of it
    """
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
    multiply((one, 0, 0, 0), (g, g0, M), (of_bias, 0, 0), (of_bias, 0, 0), 1, rows, M)


@compiled
def _copy(x: Any, x0: int, xr: int, y: Any, yr: int, rows: int, columns: int) -> None:
    for i in range(rows):
        for j in range(0, columns, LANES):
            store(y, i * yr + j, load(x, x0 + i * xr + j))
