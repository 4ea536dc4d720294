"""Attention over all tokens, head by head and some queries at a time: N × N is never stored."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.compiled import compiled, contiguous, same_float
from minswin.kernels.cpu.heads import (
    backward_room,
    forward_room,
    gather,
    head_backward,
    head_forward,
    scatter,
)
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
    sizes = np.arange(N), np.arange(M), math.prod(lead), N, M, d, e
    rows, which = _padded_bias(bias, (*lead, N, M), q.dtype)
    inputs = [contiguous(a).reshape(-1) for a in (q, k, v)]
    y = np.empty((*lead, N, e), q.dtype)
    room = forward_room(N, M, d, e, q.dtype)
    _forward(*inputs, rows.reshape(-1), which, y.reshape(-1), room, *sizes)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        dq, dk, dv = (np.empty(a.shape, a.dtype) for a in (q, k, v))
        drows = np.zeros(rows.shape if bias is not None else 0)  # in float64
        of_one = np.zeros(drows[0].size if bias is not None else 0, q.dtype)
        to = [a.reshape(-1) for a in (dq, dk, dv, of_one, drows)]
        room = backward_room(N, M, d, e, q.dtype)
        _backward(*inputs, rows.reshape(-1), which, contiguous(g).reshape(-1), *to, room, *sizes)
        return dq, dk, dv, None if bias is None else _unpadded(drows, bias, N)

    return y, vjp


def _padded_bias(bias: Array | None, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    """The different pieces of the bias, and for each head of each sample which piece it has.

    Gives (pieces, M or 1, Np), transposed and padded with queries that nobody asks, and (heads of
    all samples,). No bias is one row for all keys.
    """
    (*lead, N, M) = shape
    if bias is None:
        return np.zeros((1, 1, padded(N, 8)), dtype), np.zeros(math.prod(lead), np.int64)
    pieces = bias.shape[:-2]
    rows = np.zeros((math.prod(pieces), M, padded(N, 8)), dtype)
    whole = np.broadcast_to(bias, (*pieces, N, M)).reshape(-1, N, M)
    rows[..., :N] = whole.transpose(0, 2, 1)
    which = np.arange(len(rows)).reshape(pieces)
    return rows, np.ascontiguousarray(np.broadcast_to(which, lead)).reshape(-1)


def _unpadded(drows: Array, bias: Array, N: int) -> Array:
    whole = drows[..., :N].transpose(0, 2, 1)
    shape = *bias.shape[:-2], *whole.shape[1:]
    return unbroadcast(whole.reshape(shape), bias.shape).astype(bias.dtype)


# ── the heads ────────────────────────────────────────────────────────────────────────────────────


@compiled
def _forward(
    q: Any, k: Any, v: Any, biases: Any, which: Any, y: Any, room: Any,
    queries: Any, keys: Any, batch: int, N: int, M: int, d: int, e: int,
) -> None:  # fmt: skip
    kind, dp, ep, Np = q.dtype, padded(d, 8), padded(e, 8), padded(N, 8)
    one, scale = kind.type(1), kind.type(1 / np.sqrt(d))
    q_rows, qt, k_rows, v_rows, y_rows, pt, zero = room
    stride = 0 if len(biases) == Np else Np  # one row for all keys
    for w in range(batch):
        gather(q, w * N * d, d, queries, d, scale, q_rows, dp)
        gather(k, w * M * d, d, keys, d, one, k_rows, dp)
        gather(v, w * M * e, e, keys, e, one, v_rows, ep)
        turn(q_rows, dp, qt, Np, Np, dp)
        bias = biases, which[w] * M * stride, stride
        head_forward(
            (qt, 0, Np), (k_rows, 0, dp), (v_rows, 0, ep), bias, (y_rows, 0, ep), pt, zero,
            N, M, d, e,
        )  # fmt: skip
        scatter(y_rows, ep, queries, e, one, y, w * N * e, e)


@compiled
def _backward(
    q: Any, k: Any, v: Any, biases: Any, which: Any, g: Any,
    dq: Any, dk: Any, dv: Any, of_one: Any, dbiases: Any, room: Any,
    queries: Any, keys: Any, batch: int, N: int, M: int, d: int, e: int,
) -> None:  # fmt: skip
    kind, dp, ep, Np = q.dtype, padded(d, 8), padded(e, 8), padded(N, 8)
    one, scale = kind.type(1), kind.type(1 / np.sqrt(d))
    q_rows, qt, k_rows, v_rows, g_rows, gt, dq_rows, dk_rows, dv_rows, pt, dst, zero = room
    stride = 0 if len(biases) == Np else Np
    for w in range(batch):
        gather(q, w * N * d, d, queries, d, scale, q_rows, dp)
        gather(k, w * M * d, d, keys, d, one, k_rows, dp)
        gather(v, w * M * e, e, keys, e, one, v_rows, ep)
        gather(g, w * N * e, e, queries, e, one, g_rows, ep)
        turn(q_rows, dp, qt, Np, Np, dp)
        turn(g_rows, ep, gt, Np, Np, ep)
        bias = biases, which[w] * M * stride, stride
        of_one[:] = 0
        head_backward(
            (q_rows, 0, dp), (qt, 0, Np), (k_rows, 0, dp), (v_rows, 0, ep), bias,
            (g_rows, 0, ep), (gt, 0, Np), (dq_rows, 0, dp), (dk_rows, 0, dp), (dv_rows, 0, ep),
            (of_one, 0, Np if len(dbiases) else 0), pt, dst, zero, N, M, d, e,
        )  # fmt: skip
        scatter(dq_rows, dp, queries, d, scale, dq, w * N * d, d)
        scatter(dk_rows, dp, keys, d, one, dk, w * M * d, d)
        scatter(dv_rows, ep, keys, e, one, dv, w * M * e, e)
        for i in range(len(of_one)):
            dbiases[which[w] * M * Np + i] += of_one[i]
