"""Products of matrices: tiles of sums that stay in the registers.

A matrix lies in a 1-D array. What is read along its rows is (array, offset, row stride, …); what
is read as the right factor comes in panels, each as wide as a line of the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from minswin.arrays import Array
from minswin.kernels.cpu.compiled import compiled, contiguous
from minswin.kernels.cpu.simd import LANES, Vector, address, call, load, spread, store, transpose

LINE = 64  # bytes of a line of the cache: 16 float32, 8 float64
HIGH = 6  # rows of a tile: 6 × 64 bytes of sums leave room for the factors in 16 registers


@register_jitable
def padded(n: int, multiple: int) -> int:
    """n, or the next multiple; in compiled loops too."""
    return n + -n % multiple


def panels(matrix: Array) -> Array:
    """The columns of a matrix (K, M), 64 bytes of them at a time: (panels, K, 16 or 8), as 1-D.

    So a tile reads it from one end to the other. The last panel is filled up with zeros.
    """
    K, M = matrix.shape
    packed = np.empty(padded(M, LINE // matrix.itemsize) * K, matrix.dtype)
    if matrix.flags.f_contiguous:
        _pack_columns(matrix.T.reshape(-1), packed, K, M)
    else:
        _pack_rows(contiguous(matrix).reshape(-1), packed, K, M)
    return packed


@compiled
def _pack_columns(matrix: Any, packed: Any, K: int, M: int) -> None:
    """From a matrix that lies column after column."""
    width = LINE // packed.itemsize
    for column in range(padded(M, width)):
        start = column // width * width * K + column % width
        if column < M:
            for k in range(K):
                packed[start + k * width] = matrix[column * K + k]
        else:
            packed[start : start + K * width : width] = 0


@compiled
def _pack_rows(matrix: Any, packed: Any, K: int, M: int) -> None:
    """From a matrix that lies row after row."""
    width = LINE // packed.itemsize
    for left in range(0, M, width):
        columns = min(width, M - left)
        for k in range(K):
            to, start = left * K + k * width, k * M + left
            if columns == width:
                for v in range(0, width, LANES):
                    store(packed, to + v, load(matrix, start + v))
            else:
                packed[to : to + width] = 0
                for j in range(columns):
                    packed[to + j] = matrix[start + j]


# ── tiles ────────────────────────────────────────────────────────────────────────────────────────


def _tile(height: int, nbytes: int) -> Any:
    """The loop of a tile of `height` rows, each of `nbytes` bytes, written out in LLVM's language.

    Every number of A that is loaded meets the whole row of B, every vector of B `height` rows of A.
    """

    @intrinsic
    def tile(
        typing: Any,
        a: Any, a0: Any, ar: Any, ac: Any,
        b: Any, b0: Any, br: Any,
        d: Any, d0: Any, dr: Any,
        c: Any, c0: Any, cr: Any,
        depth: Any,
    ) -> Any:  # fmt: skip
        """C[i, j] = D[i, j] + Σₜ A[i, t] B[t, j]"""
        size = c.dtype.bitwidth // 8
        starts = [LANES * v for v in range(nbytes // size // LANES)]  # of the vectors of a row

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _write_tile(context, builder, signature.args, arguments, height, starts, size)

        whole = types.intp
        start, matrix = (whole, whole), (whole, whole, whole)
        return types.none(a, *matrix, b, *start, d, *start, c, *start, whole), build

    return tile


def _write_tile(
    context: Any, builder: Any, kinds: Any, arguments: Any, height: int, starts: Any, size: int
) -> Any:
    a, a0, ar, ac, b, b0, br, d, d0, dr, c, c0, cr, depth = arguments
    a_kind, b_kind, d_kind, c_kind = (kinds[i] for i in (0, 4, 7, 10))
    vector = context.get_value_type(Vector(c_kind.dtype))

    def at(start: Any, step: Any, n: Any) -> Any:
        n = ir.Constant(start.type, n) if isinstance(n, int) else n
        return builder.add(start, builder.mul(step, n))

    def place(kind: Any, array: Any, index: Any, start: int) -> Any:
        index = builder.add(index, ir.Constant(index.type, start))
        number = address(context, builder, kind, array, index)
        return builder.bitcast(number, vector.as_pointer())

    sums = {(i, s): cgutils.alloca_once(builder, vector) for i in range(height) for s in starts}
    for (i, s), total in sums.items():
        builder.store(builder.load(place(d_kind, d, at(d0, dr, i), s), align=size), total)
    with cgutils.for_range(builder, depth) as loop:
        row = at(b0, br, loop.index)
        ys = {s: builder.load(place(b_kind, b, row, s), align=size) for s in starts}
        for i in range(height):
            index = at(at(a0, ar, i), ac, loop.index)
            x = spread(builder, vector, builder.load(address(context, builder, a_kind, a, index)))
            for s in starts:
                total = sums[i, s]
                builder.store(call(builder, "llvm.fma", x, ys[s], builder.load(total)), total)
    for (i, s), total in sums.items():
        builder.store(builder.load(total), place(c_kind, c, at(c0, cr, i), s), align=size)
    return context.get_dummy_value()


def _panel(nbytes: int) -> Any:
    """All rows of a panel that is `nbytes` wide, from tiles of six, four and one rows."""
    six, four, single = (_tile(height, nbytes) for height in (HIGH, 4, 1))

    @njit(nogil=True, error_model="numpy", _nrt=False)
    def multiply_panel(A: Any, B: Any, D: Any, C: Any, rows: int, depth: int) -> None:
        (a, a0, ar, ac), (b, b0, br), (d, d0, dr), (c, c0, cr) = A, B, D, C
        i = 0
        while rows - i >= 6 and rows - i != 8:  # 8 is 4 + 4
            ai, di, ci = a0 + i * ar, d0 + i * dr, c0 + i * cr
            six(a, ai, ar, ac, b, b0, br, d, di, dr, c, ci, cr, depth)
            i += 6
        while rows - i >= 4:
            ai, di, ci = a0 + i * ar, d0 + i * dr, c0 + i * cr
            four(a, ai, ar, ac, b, b0, br, d, di, dr, c, ci, cr, depth)
            i += 4
        while i < rows:
            ai, di, ci = a0 + i * ar, d0 + i * dr, c0 + i * cr
            single(a, ai, ar, ac, b, b0, br, d, di, dr, c, ci, cr, depth)
            i += 1

    return multiply_panel


_whole_line, _half_line = _panel(LINE), _panel(LINE // 2)


@compiled
def multiply(A: Any, B: Any, D: Any, C: Any, rows: int, depth: int, columns: int) -> None:
    """C = D + A B: C[i, j] = D[i, j] + Σₜ A[i, t] B[t, j].      columns: a multiple of 8

    A (array, offset, row stride, column stride): both, so Aᵀ costs nothing
    B (array, offset, row stride, panel stride)
    D (array, offset, row stride): C itself to add to it; with row stride 0 one row for all, as of
    a bias or of zeros
    C (array, offset, row stride)
    """
    b, b0, br, bp = B
    d, d0, dr = D
    c, c0, cr = C
    width = LINE // c.itemsize
    for j in range(0, columns, width):
        right = b, b0 + j // width * bp, br
        if columns - j >= width:
            _whole_line(A, right, (d, d0 + j, dr), (c, c0 + j, cr), rows, depth)
        else:
            _half_line(A, right, (d, d0 + j, dr), (c, c0 + j, cr), rows, depth)


@compiled
def turn(a: Any, ar: int, b: Any, br: int, rows: int, columns: int) -> None:
    """B = Aᵀ.        A (rows, columns), both multiples of 8"""
    for i in range(0, rows, 8):
        for j in range(0, columns, 8):
            transpose(a, i * ar + j, ar, b, j * br + i, br)
