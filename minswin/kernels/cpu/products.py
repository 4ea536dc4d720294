"""Products of small matrices, in registers.

Matrices live in 1-D scratch arrays, padded: their rows to a multiple of 4, their columns to a
multiple of 8. A matrix is (array, offset, row stride), or with a column stride too.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from minswin.kernels.cpu.simd import broadcast, fma, load, splat, store, transpose

# Without the interpreter lock, kept on disk between runs; x / 0 is inf, as in NumPy.
compiled = njit(nogil=True, cache=True, error_model="numpy")


def padded(n: int, multiple: int) -> int:
    return n + -n % multiple


@compiled
def multiply(
    a: Any, a0: int, ar: int, ac: int,
    b: Any, b0: int, br: int,
    c: Any, c0: int, cr: int,
    rows: int, depth: int, columns: int,
) -> None:  # fmt: skip
    """C = A B: C[i, j] = Σₜ A[i, t] B[t, j].     A (rows, depth)   B (depth, columns)

    A is read with both strides (so Aᵀ costs nothing), four rows of it against sixteen columns of B
    at a time: eight sums stay in registers, and every number loaded is used four or two times.
    """
    zero = splat(c.dtype.type(0))
    for i in range(0, rows, 4):
        r0 = a0 + i * ar
        r1, r2, r3 = r0 + ar, r0 + 2 * ar, r0 + 3 * ar
        c_row = c0 + i * cr
        for j in range(0, columns - 8, 16):
            s00, s10, s20, s30 = zero, zero, zero, zero
            s01, s11, s21, s31 = zero, zero, zero, zero
            for t in range(depth):
                y0, y1 = load(b, b0 + t * br + j), load(b, b0 + t * br + j + 8)
                x = broadcast(a, r0 + t * ac)
                s00, s01 = fma(x, y0, s00), fma(x, y1, s01)
                x = broadcast(a, r1 + t * ac)
                s10, s11 = fma(x, y0, s10), fma(x, y1, s11)
                x = broadcast(a, r2 + t * ac)
                s20, s21 = fma(x, y0, s20), fma(x, y1, s21)
                x = broadcast(a, r3 + t * ac)
                s30, s31 = fma(x, y0, s30), fma(x, y1, s31)
            _store_column(c, c_row + j, cr, s00, s10, s20, s30)
            _store_column(c, c_row + j + 8, cr, s01, s11, s21, s31)
        if columns % 16:  # one vector of columns is left
            j = columns - 8
            s00, s10, s20, s30 = zero, zero, zero, zero
            for t in range(depth):
                y0 = load(b, b0 + t * br + j)
                s00 = fma(broadcast(a, r0 + t * ac), y0, s00)
                s10 = fma(broadcast(a, r1 + t * ac), y0, s10)
                s20 = fma(broadcast(a, r2 + t * ac), y0, s20)
                s30 = fma(broadcast(a, r3 + t * ac), y0, s30)
            _store_column(c, c_row + j, cr, s00, s10, s20, s30)


@compiled
def _store_column(c: Any, place: int, cr: int, s0: Any, s1: Any, s2: Any, s3: Any) -> None:
    store(c, place, s0)
    store(c, place + cr, s1)
    store(c, place + 2 * cr, s2)
    store(c, place + 3 * cr, s3)


@compiled
def turn(a: Any, ar: int, b: Any, br: int, rows: int, columns: int) -> None:
    """B = Aᵀ.        A (rows, columns), both multiples of 8"""
    for i in range(0, rows, 8):
        for j in range(0, columns, 8):
            transpose(a, i * ar + j, ar, b, j * br + i, br)
