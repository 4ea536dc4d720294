"""One head of attention, on scratch that stays in the cache: what all attention kernels share.

The queries are taken TILE rows at a time, so that no more than TILE rows of logits exist at once.
Backward computes the probabilities again: they are never stored.

    q, y (N, d)   k, v (M, d)   kt, vt their transposes   B (N, M) bias and mask
    rows padded to `dp`, a multiple of 8 numbers; those of logits to `Mp`, where B is −∞
"""

from __future__ import annotations

from typing import Any

from minswin.kernels.cpu.compiled import compiled
from minswin.kernels.cpu.products import LINE, multiply
from minswin.kernels.cpu.simd import LANES, load, splat, store
from minswin.kernels.cpu.softmax import softmax_rows, undo_softmax_rows

TILE = 64  # queries


@compiled
def head_forward(
    q: Any, kt: Any, v: Any, B: Any, y: Any, p: Any, zero: Any,
    N: int, M: int, d: int, e: int, dp: int, ep: int, Mp: int,
) -> None:  # fmt: skip
    """P = softmax(q kᵀ + B)        Y = P v        (q is scaled already)

    B (array, offset, row stride)   p: room for TILE rows of logits   zero: a row of zeros
    d, e: channels of q and k, and of v
    """
    line, nothing = LINE // p.itemsize, (zero, 0, 0)
    b, b0, br = B
    for i in range(0, N, TILE):
        rows = min(TILE, N - i)
        bias = b, b0 + i * br, br
        multiply((q, i * dp, dp, 1), (kt, 0, Mp, line), bias, (p, 0, Mp), rows, d, Mp)
        softmax_rows(p, rows, Mp)
        multiply((p, 0, Mp, 1), (v, 0, ep, line), nothing, (y, i * ep, ep), rows, M, ep)


@compiled
def head_backward(
    q: Any, k: Any, kt: Any, vt: Any, B: Any, dy: Any,
    dq: Any, dk: Any, dv: Any, dB: Any, p: Any, ds: Any, zero: Any,
    N: int, M: int, d: int, e: int, dp: int, ep: int, Mp: int,
) -> None:  # fmt: skip
    """The gradients of q, k and v; that of B is added to dB, unless its row stride is 0."""
    line, nothing = LINE // p.itemsize, (zero, 0, 0)
    (b, b0, br), (db, db0, dbr) = B, dB
    for i in range(0, N, TILE):
        rows = min(TILE, N - i)
        bias = b, b0 + i * br, br
        of_k = (dk, 0, dp) if i else (zero, 0, 0)  # add to what the queries before gave
        of_v = (dv, 0, ep) if i else (zero, 0, 0)
        multiply((q, i * dp, dp, 1), (kt, 0, Mp, line), bias, (p, 0, Mp), rows, d, Mp)
        softmax_rows(p, rows, Mp)
        multiply((dy, i * ep, ep, 1), (vt, 0, Mp, line), nothing, (ds, 0, Mp), rows, e, Mp)
        undo_softmax_rows(p, ds, rows, Mp)
        if dbr:  # somebody wants to know
            _add_rows(ds, rows, Mp, db, db0 + i * dbr, dbr)
        multiply((p, 0, 1, Mp), (dy, i * ep, ep, line), of_v, (dv, 0, ep), M, rows, ep)  # Y = P v
        multiply((ds, 0, 1, Mp), (q, i * dp, dp, line), of_k, (dk, 0, dp), M, rows, dp)  # q kᵀ
        multiply((ds, 0, Mp, 1), (k, 0, dp, line), nothing, (dq, i * dp, dp), rows, M, dp)


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
