"""Products of matrices, panel by panel: the columns of the right factor that a tile is wide.

A matrix lies in a 1-D array. What is read along its rows is (array, offset, row stride, …); what
is read as the right factor may be packed in panels, so that a tile reads it from end to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba.extending import register_jitable

from minswin.arrays import Array
from minswin.kernels.cpu.compiled import compiled, contiguous
from minswin.kernels.cpu.simd import LANES, LINE, load, store
from minswin.kernels.cpu.tiles import multiply_panels, panel_width
from minswin.kernels.cpu.turning import transpose


@register_jitable
def padded(n: int, multiple: int) -> int:
    """n, or the next multiple; in compiled loops too."""
    return n + -n % multiple


def room(size: int, dtype: Any) -> Array:
    """Zeros from the start of a line of the cache on: a load across two takes twice as long."""
    return rooms([size], dtype)[0]


def rooms(sizes: Sequence[int], dtype: Any) -> tuple[Array, ...]:
    """Such zeros for each size, in one piece of memory: to ask for a dozen takes 25 µs."""
    line = LINE // np.dtype(dtype).itemsize
    numbers = np.zeros(sum(padded(size, line) for size in sizes) + line, dtype)
    start, found = -numbers.ctypes.data % LINE // numbers.itemsize, []
    for size in sizes:
        found.append(numbers[start : start + size])
        start += padded(size, line)
    return tuple(found)


def filled(x: Array, axes: int) -> Array:
    """x with each of its last axes filled up with zeros to a multiple of 8."""
    missing = [(0, 0)] * (x.ndim - axes) + [(0, -n % LANES) for n in x.shape[-axes:]]
    return contiguous(np.pad(x, missing))


def panels(matrix: Array, deep: int | None = None) -> Array:
    """The columns of a matrix (K, M), as many at a time as a tile is wide, one panel after another.

    Each panel lies row by row, as 1-D.     M: a multiple of 8
    deep: cut the matrix after so many rows, and give the panels of the pieces one after another
    """
    K, M = matrix.shape
    filled, deep = np.empty(K * M, matrix.dtype), deep or K
    if matrix.flags.f_contiguous:
        numbers = contiguous(matrix.T).reshape(-1)
        for k in range(0, K, deep):
            _pack_columns(numbers, k, K, filled, k * M, min(deep, K - k), M)
    else:
        numbers = contiguous(matrix).reshape(-1)
        for k in range(0, K, deep):
            pack_rows(numbers, k * M, M, filled, k * M, min(deep, K - k), M)
    return filled


@compiled
def _pack_columns(x: Any, x0: int, xr: int, filled: Any, to: int, K: int, M: int) -> None:
    """From columns that lie row after row, `xr` numbers apart."""
    whole, left = K - K % LANES, 0
    while left < M:
        width = panel_width(M - left, filled.itemsize)
        for j in range(0, width, LANES):
            start, end = x0 + (left + j) * xr, to + left * K + j
            for k in range(0, whole, LANES):
                transpose(x, start + k, xr, filled, end + k * width, width)
            for k in range(whole, K):
                for i in range(LANES):
                    filled[end + k * width + i] = x[start + i * xr + k]
        left += width


@compiled
def pack_rows(x: Any, x0: int, xr: int, filled: Any, to: int, K: int, M: int) -> None:
    """The panels of a matrix (K, M) whose rows lie `xr` numbers apart."""
    left = 0
    while left < M:
        width = panel_width(M - left, filled.itemsize)
        for k in range(K):
            start, end = x0 + k * xr + left, to + left * K + k * width
            for v in range(0, width, LANES):
                store(filled, end + v, load(x, start + v))
        left += width


@register_jitable
def multiply(A: Any, B: Any, D: Any, C: Any, rows: int, depth: int, columns: int) -> None:
    """C = D + A B: C[i, j] = D[i, j] + Σₜ A[i, t] B[t, j].      columns: a multiple of 8

    A (array, offset, row stride, column stride): both, so Aᵀ costs nothing
    B (array, offset, row stride); with row stride 0 it is packed in panels
    D (array, offset, row stride): C itself to add to it; with row stride 0 one row for all, as of
    a bias or of zeros
    C (array, offset, row stride)
    """
    (a, a0, ar, ac), (b, b0, br), (d, d0, dr), (c, c0, cr) = A, B, D, C
    multiply_panels(a, a0, ar, ac, b, b0, br, d, d0, dr, c, c0, cr, rows, depth, columns)


@compiled
def turn(a: Any, ar: int, b: Any, br: int, rows: int, columns: int) -> None:
    """B = Aᵀ.        A (rows, columns), both multiples of 8"""
    for i in range(0, rows, 8):
        for j in range(0, columns, 8):
            transpose(a, i * ar + j, ar, b, j * br + i, br)
