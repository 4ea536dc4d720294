"""One head of attention, on scratch that stays in the cache: what all attention kernels share.

Logits and probabilities are kept transposed, a row for each key and a column for each query: eight
queries lie side by side in a vector, so softmax over the keys never looks across one. The queries
are taken TILE at a time, so that no more than TILE columns of logits exist at once. Backward
computes the probabilities again: they are never stored.

    q, y (N, d)   k, v (M, d)   qt, yt the transposes   Bt (M, Np) bias and mask, transposed
    rows are padded to `dp` and `ep`, columns to `Np`: multiples of 8 numbers
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin.arrays import Array
from minswin.kernels.cpu.compiled import compiled
from minswin.kernels.cpu.products import multiply, padded
from minswin.kernels.cpu.simd import LANES, LINE, load, splat, store
from minswin.kernels.cpu.softmax import softmax_columns, undo_softmax_columns

TILE = 64  # queries


def forward_room(N: int, M: int, d: int, e: int, dtype: Any) -> tuple[Array, ...]:
    """Scratch of a head, with zeros where rows are padded: (q, qt, k, v, y, pt, zero)."""
    Np, dp, ep = padded(N, 8), padded(d, 8), padded(e, 8)
    sizes = Np * dp, Np * dp, M * dp, M * ep, N * ep, M * min(Np, TILE), max(Np, dp, ep)
    return tuple(_zeros(size, dtype) for size in sizes)


def _zeros(size: int, dtype: Any) -> Array:
    """Zeros from the start of a line of the cache on: a load across two takes twice as long."""
    room = np.zeros(size + LINE // np.dtype(dtype).itemsize, dtype)
    return room[-room.ctypes.data % LINE // room.itemsize :][:size]


def backward_room(N: int, M: int, d: int, e: int, dtype: Any) -> tuple[Array, ...]:
    """The same for backward: (q, qt, k, v, dy, dyt, dq, dk, dv, pt, dst, zero)."""
    q, qt, k, v, _, pt, zero = forward_room(N, M, d, e, dtype)
    dy, dyt = (_zeros(padded(N, 8) * padded(e, 8), dtype) for _ in range(2))
    dq, dk, dv, dst = (_zeros(a.size, dtype) for a in (q, k, v, pt))
    return q, qt, k, v, dy, dyt, dq, dk, dv, pt, dst, zero


@compiled
def head_forward(
    qt: Any, k: Any, v: Any, Bt: Any, y: Any, pt: Any, zero: Any,
    N: int, M: int, d: int, e: int, Np: int, dp: int, ep: int,
) -> None:  # fmt: skip
    """P = softmax(q kᵀ + B)        Y = P v        (q is scaled already)

    Bt (array, offset, row stride)   pt: room for M × TILE logits   zero: a row of zeros
    d, e: channels of q and k, and of v
    """
    nothing = zero, 0, 0
    b, b0, br = Bt
    for i in range(0, N, TILE):
        width, queries = min(TILE, Np - i), min(TILE, N - i)
        multiply((k, 0, dp, 1), (qt, i, Np), (b, b0 + i, br), (pt, 0, width), M, d, width)
        softmax_columns(pt, M, width)
        multiply((pt, 0, 1, width), (v, 0, ep), nothing, (y, i * ep, ep), queries, M, ep)


@compiled
def head_backward(
    q: Any, qt: Any, k: Any, v: Any, Bt: Any, dy: Any, dyt: Any,
    dq: Any, dk: Any, dv: Any, dBt: Any, pt: Any, dst: Any, zero: Any,
    N: int, M: int, d: int, e: int, Np: int, dp: int, ep: int,
) -> None:  # fmt: skip
    """The gradients of q, k and v; that of B is added to dBt, unless its row stride is 0."""
    nothing = zero, 0, 0
    (b, b0, br), (db, db0, dbr) = Bt, dBt
    for i in range(0, N, TILE):
        width, queries = min(TILE, Np - i), min(TILE, N - i)
        of_k = (dk, 0, dp) if i else (zero, 0, 0)  # add to what the queries before gave
        of_v = (dv, 0, ep) if i else (zero, 0, 0)
        multiply((k, 0, dp, 1), (qt, i, Np), (b, b0 + i, br), (pt, 0, width), M, d, width)
        softmax_columns(pt, M, width)
        multiply((v, 0, ep, 1), (dyt, i, Np), nothing, (dst, 0, width), M, e, width)
        undo_softmax_columns(pt, dst, M, width)
        if dbr:  # somebody wants to know
            _add_rows(dst, M, width, db, db0 + i, dbr)
        # Y = P v, then q kᵀ
        multiply((pt, 0, width, 1), (dy, i * ep, ep), of_v, (dv, 0, ep), M, queries, ep)
        multiply((dst, 0, width, 1), (q, i * dp, dp), of_k, (dk, 0, dp), M, queries, dp)
        multiply((dst, 0, 1, width), (k, 0, dp), nothing, (dq, i * dp, dp), queries, M, dp)


@compiled
def _add_rows(x: Any, rows: int, width: int, y: Any, y0: int, yr: int) -> None:
    for i in range(rows):
        for j in range(0, width, LANES):
            place = y0 + i * yr + j
            store(y, place, load(y, place) + load(x, i * width + j))


# ── to scratch and back ──────────────────────────────────────────────────────────────────────────


@compiled
def gather(
    x: Any, start: int, step: int, places: Any, d: int, factor: Any, rows: Any, dp: int
) -> None:
    """rows[n] = factor · x[start + step · places[n] :][:d]"""
    whole = d - d % LANES
    for n in range(len(places)):
        source = start + step * places[n]
        for t in range(0, whole, LANES):
            store(rows, n * dp + t, load(x, source + t) * splat(factor))
        for t in range(whole, d):
            rows[n * dp + t] = x[source + t] * factor


@compiled
def scatter(
    rows: Any, dp: int, places: Any, d: int, factor: Any, x: Any, start: int, step: int
) -> None:
    """x[start + step · places[n] :][:d] = factor · rows[n]"""
    whole = d - d % LANES
    for n in range(len(places)):
        target = start + step * places[n]
        for t in range(0, whole, LANES):
            store(x, target + t, load(rows, n * dp + t) * splat(factor))
        for t in range(whole, d):
            x[target + t] = rows[n * dp + t] * factor
