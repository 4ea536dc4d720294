"""Attention over all tokens, head by head and some queries at a time: N × N is never stored."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.compiled import compiled, contiguous, same_float
from minswin.kernels.cpu.heads import TILE, gather, head_backward, head_forward, scatter
from minswin.kernels.cpu.products import padded, turn
from minswin.reference import attention as reference
from minswin.reference.elementwise import unbroadcast


@kernel("attention", "numba")
def attention(q: Array, k: Array, v: Array, bias: Array | None) -> tuple[Array, Vjp]:
    """Equals reference.attention, which runs for empty arrays and different leading axes."""
    lead = q.shape[:-2]
    empty = 0 in (*q.shape, *k.shape, *v.shape)
    if empty or not same_float(q, k, v, bias) or not lead == k.shape[:-2] == v.shape[:-2]:
        return reference.attention(q, k, v, bias)
    (N, d), (M, e) = q.shape[-2:], v.shape[-2:]
    sizes = math.prod(lead), N, M, d, e
    rows, which = _padded_bias(bias, (*lead, N, M), q.dtype)
    inputs = [contiguous(a).reshape(-1) for a in (q, k, v)]
    y = np.empty((*lead, N, e), q.dtype)
    _forward(*inputs, rows.reshape(-1), which, y.reshape(-1), *sizes)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        dq, dk, dv = (np.empty(a.shape, a.dtype) for a in (q, k, v))
        drows = np.zeros(rows.shape if bias is not None else 0)  # in float64
        to = [a.reshape(-1) for a in (dq, dk, dv, drows)]
        _backward(*inputs, rows.reshape(-1), which, contiguous(g).reshape(-1), *to, *sizes)
        return dq, dk, dv, None if bias is None else _unpadded(drows, bias, M)

    return y, vjp


def _padded_bias(bias: Array | None, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    """The different pieces of the bias, and for each head of each sample which piece it has.

    Gives (pieces, N or 1, Mp), where −∞ pads a row, so that those columns get probability 0; and
    (heads of all samples,). No bias is one row for all queries.
    """
    (*lead, N, M) = shape
    if bias is None:
        rows = np.full((1, 1, padded(M, 8)), -np.inf, dtype)
        rows[..., :M] = 0
        return rows, np.zeros(math.prod(lead), np.int64)
    own = bias.shape[:-2]
    rows = np.full((math.prod(own), N, padded(M, 8)), -np.inf, dtype)
    rows[..., :M] = np.broadcast_to(bias, (*own, N, M)).reshape(-1, N, M)
    which = np.arange(len(rows)).reshape(own)
    return rows, np.ascontiguousarray(np.broadcast_to(which, lead)).reshape(-1)


def _unpadded(drows: Array, bias: Array, M: int) -> Array:
    own = (*bias.shape[:-2], drows.shape[1], M)
    return unbroadcast(drows[..., :M].reshape(own), bias.shape).astype(bias.dtype)


# ── the heads ────────────────────────────────────────────────────────────────────────────────────


@compiled
def _forward(
    q: Any, k: Any, v: Any, biases: Any, which: Any, y: Any,
    batch: int, N: int, M: int, d: int, e: int,
) -> None:  # fmt: skip
    kind, dp, ep, Mp = q.dtype, padded(d, 8), padded(e, 8), padded(M, 8)
    one, scale = kind.type(1), kind.type(1 / np.sqrt(d))
    q_rows, y_rows, v_rows = np.zeros(N * dp, kind), np.zeros(N * ep, kind), np.zeros(M * ep, kind)
    k_rows, kt = np.zeros(Mp * dp, kind), np.zeros(Mp * dp, kind)
    p, zero = np.zeros(min(N, TILE) * Mp, kind), np.zeros(max(Mp, ep), kind)
    queries, keys = np.arange(N), np.arange(M)
    stride = 0 if len(biases) == Mp else Mp  # one row for all queries
    for w in range(batch):
        gather(q, w * N * d, d, queries, d, scale, q_rows, dp)
        gather(k, w * M * d, d, keys, d, one, k_rows, dp)
        gather(v, w * M * e, e, keys, e, one, v_rows, ep)
        turn(k_rows, dp, kt, Mp, Mp, dp)
        bias = biases, which[w] * N * stride, stride
        head_forward(q_rows, kt, v_rows, bias, y_rows, p, zero, N, M, d, e, dp, ep, Mp)
        scatter(y_rows, ep, queries, e, one, y, w * N * e, e)


@compiled
def _backward(
    q: Any, k: Any, v: Any, biases: Any, which: Any, g: Any,
    dq: Any, dk: Any, dv: Any, dbiases: Any,
    batch: int, N: int, M: int, d: int, e: int,
) -> None:  # fmt: skip
    kind, dp, ep, Mp = q.dtype, padded(d, 8), padded(e, 8), padded(M, 8)
    one, scale = kind.type(1), kind.type(1 / np.sqrt(d))
    q_rows, g_rows, dq_rows = (
        np.zeros(N * dp, kind),
        np.zeros(N * ep, kind),
        np.zeros(N * dp, kind),
    )
    k_rows, kt, dk_rows = np.zeros(Mp * dp, kind), np.zeros(Mp * dp, kind), np.zeros(M * dp, kind)
    v_rows, vt, dv_rows = np.zeros(Mp * ep, kind), np.zeros(Mp * ep, kind), np.zeros(M * ep, kind)
    p, ds = np.zeros(min(N, TILE) * Mp, kind), np.zeros(min(N, TILE) * Mp, kind)
    zero, of_one = np.zeros(max(Mp, dp, ep), kind), np.zeros(N * Mp if len(dbiases) else 0, kind)
    queries, keys = np.arange(N), np.arange(M)
    stride = 0 if len(biases) == Mp else Mp
    for w in range(batch):
        gather(q, w * N * d, d, queries, d, scale, q_rows, dp)
        gather(k, w * M * d, d, keys, d, one, k_rows, dp)
        gather(v, w * M * e, e, keys, e, one, v_rows, ep)
        gather(g, w * N * e, e, queries, e, one, g_rows, ep)
        turn(k_rows, dp, kt, Mp, Mp, dp)
        turn(v_rows, ep, vt, Mp, Mp, ep)
        bias = biases, which[w] * N * stride, stride
        of_one[:] = 0
        to = dq_rows, dk_rows, dv_rows, (of_one, 0, Mp if len(dbiases) else 0)
        head_backward(
            q_rows, k_rows, kt, vt, bias, g_rows, *to, p, ds, zero, N, M, d, e, dp, ep, Mp
        )
        scatter(dq_rows, dp, queries, d, scale, dq, w * N * d, d)
        scatter(dk_rows, dp, keys, d, one, dk, w * M * d, d)
        scatter(dv_rows, ep, keys, e, one, dv, w * M * e, e)
        for i in range(len(of_one)):
            dbiases[which[w] * N * Mp + i] += of_one[i]
