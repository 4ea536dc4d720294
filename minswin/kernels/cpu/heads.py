"""One head of attention, on scratch that stays in the cache: what all attention kernels share.

Logits and probabilities are kept transposed, a row for each key and a column for each query: eight
queries lie side by side in a vector, so softmax over the keys never looks across one. The queries
are taken TILE at a time, so that no more than TILE columns of logits exist at once. Backward
computes the probabilities again: they are never stored.

    q (N, d)   k (M, d)   v (M, e)   y (N, e)   Bt (M, Np) bias and mask   …t: transposed
    channels are padded to `dp` and `ep`, queries to `Np`: multiples of 8 numbers
"""

from __future__ import annotations

from typing import Any

from minswin.arrays import Array
from minswin.kernels.cpu.compiled import compiled, written_out
from minswin.kernels.cpu.in_registers import probabilities, product, undo_probabilities
from minswin.kernels.cpu.products import padded, rooms
from minswin.kernels.cpu.simd import (
    LANES,
    LINE,
    itemsize,
    load,
    prefetch,
    prefetch_to_write,
    splat,
    store,
)

TILE = 64  # queries


def forward_room(N: int, M: int, d: int, e: int, dtype: Any, heads: int = 1) -> tuple[Array, ...]:
    """Scratch, with zeros where rows are padded: (q, qt, k, v, y, pt, zero).

    heads: so many lie side by side in q, k, v and y, and one above the other in qt
    """
    Np, dp, ep = padded(N, 8), padded(d, 8) * heads, padded(e, 8) * heads
    logits = M * min(Np, TILE)
    return rooms([Np * dp, Np * dp, M * dp, M * ep, N * ep, logits, max(Np, dp, ep)], dtype)


def backward_room(N: int, M: int, d: int, e: int, dtype: Any, heads: int = 1) -> tuple[Array, ...]:
    """The same for backward: (q, qt, k, v, dy, dyt, dq, dk, dv, pt, dst, zero)."""
    Np, dp, ep = padded(N, 8), padded(d, 8) * heads, padded(e, 8) * heads
    q, k, v, y, logits = Np * dp, M * dp, M * ep, Np * ep, M * min(Np, TILE)
    return rooms([q, q, k, v, y, y, q, k, v, logits, logits, max(Np, dp, ep)], dtype)


@written_out
def head_forward(
    Qt: Any, K: Any, V: Any, Bt: Any, Y: Any, pt: Any, zero: Any, N: int, M: int, d: int, e: int
) -> None:
    """P = softmax(q kᵀ + B)        Y = P v        (q is scaled already)

    Qt, K, V, Bt, Y (array, offset, row stride)
    pt: room for M × TILE logits   zero: a row of zeros   d, e: channels of q and k, and of v
    """
    nothing = zero, 0, 0
    (qt, qt0, qtr), (b, b0, br), (y, y0, yr) = Qt, Bt, Y
    Np, ep = padded(N, 8), padded(e, 8)
    for i in range(0, N, TILE):
        width, queries = min(TILE, Np - i), min(TILE, N - i)
        probabilities(K, (qt, qt0 + i, qtr), (b, b0 + i, br), (pt, 0, width), M, d, width)
        product((pt, 0, 1, width), V, nothing, (y, y0 + i * yr, yr), queries, M, ep)


@written_out
def head_backward(
    Q: Any, Qt: Any, K: Any, V: Any, Bt: Any, dY: Any, dYt: Any,
    dQ: Any, dK: Any, dV: Any, dBt: Any, pt: Any, dst: Any, zero: Any,
    N: int, M: int, d: int, e: int,
) -> None:  # fmt: skip
    """The gradients of q, k and v; that of B is added to dBt, unless its row stride is 0."""
    nothing = zero, 0, 0
    (q, q0, qr), (qt, qt0, qtr) = Q, Qt
    (dy, dy0, dyr), (dyt, dyt0, dytr), (dq, dq0, dqr) = dY, dYt, dQ
    (b, b0, br), (db, db0, dbr) = Bt, dBt
    Np, dp, ep = padded(N, 8), padded(d, 8), padded(e, 8)
    for i in range(0, N, TILE):
        width, queries = min(TILE, Np - i), min(TILE, N - i)
        of_k, of_v = (dK, dV) if i else (nothing, nothing)  # add to what the queries before gave
        probabilities(K, (qt, qt0 + i, qtr), (b, b0 + i, br), (pt, 0, width), M, d, width)
        undo_probabilities(
            V, (dyt, dyt0 + i, dytr), (pt, 0, width), (dst, 0, width), zero, M, e, width
        )
        if dbr:  # somebody wants to know
            _add_rows(dst, M, width, db, db0 + i, dbr)
        # Y = P v, then q kᵀ
        product((pt, 0, width, 1), (dy, dy0 + i * dyr, dyr), of_v, dV, M, queries, ep)
        product((dst, 0, width, 1), (q, q0 + i * qr, qr), of_k, dK, M, queries, dp)
        product((dst, 0, 1, width), K, nothing, (dq, dq0 + i * dqr, dqr), queries, M, dp)


@compiled
def _add_rows(x: Any, rows: int, width: int, y: Any, y0: int, yr: int) -> None:
    for i in range(rows):
        for j in range(0, width, LANES):
            place = y0 + i * yr + j
            store(y, place, load(y, place) + load(x, i * width + j))


# ── to scratch and back ──────────────────────────────────────────────────────────────────────────


@compiled
def gather(
    x: Any, start: int, step: int, places: Any, d: int, factor: Any, rows: Any, row: int
) -> None:
    """rows[n] = factor · x[start + step · places[n] :][:d]"""
    whole = d - d % LANES
    for n in range(len(places)):
        source = start + step * places[n]
        for t in range(0, whole, LANES):
            store(rows, n * row + t, load(x, source + t) * splat(factor))
    for n in range(len(places)):
        for t in range(whole, d):
            rows[n * row + t] = x[start + step * places[n] + t] * factor


@compiled
def scatter(
    rows: Any, row: int, places: Any, d: int, factor: Any, x: Any, start: int, step: int
) -> None:
    """x[start + step · places[n] :][:d] = factor · rows[n]"""
    whole = d - d % LANES
    for n in range(len(places)):
        target = start + step * places[n]
        for t in range(0, whole, LANES):
            store(x, target + t, load(rows, n * row + t) * splat(factor))
    for n in range(len(places)):
        for t in range(whole, d):
            x[start + step * places[n] + t] = rows[n * row + t] * factor


@compiled
def expect(
    x: Any, start: int, step: int, places: Any, d: int, apart: int, parts: int,
    to_write: bool = False,
) -> None:  # fmt: skip
    """Ask for what `gather` reads or `scatter` writes next, while there is something to compute.

    A row begins anywhere in a line of the cache, so the heads end in one line more than they begin
    in: for the last, d is larger by one. All parts in one call: a call for each takes four times as
    long.
    """
    for part in range(parts):
        for t in range(0, d, LINE // itemsize(x)):
            for n in range(len(places)):
                place = start + part * apart + t + step * places[n]
                if to_write:
                    prefetch_to_write(x, place)
                else:
                    prefetch(x, place)
