"""Attention: two batched products, and between them everything else in one pass over the logits."""

from __future__ import annotations

import numpy as np

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.compiled import (
    compiled,
    contiguous,
    indices,
    number,
    out,
    rows,
    same_float,
    sums,
)
from minswin.kernels.cpu.softmax import dot, softmax_row
from minswin.reference import attention as reference
from minswin.reference.elementwise import unbroadcast
from minswin.reference.linear import swap


@compiled(out(3), rows(3), indices(1), number)
def _softmax(p: Array, bias: Array, which: Array, scale: float) -> None:
    """p = softmax(p · scale + bias[which]), in place."""
    (_, N, M) = p.shape
    logits = np.empty(N * M, p.dtype)
    for w in range(len(p)):
        products, to_add = p[w].reshape(-1), bias[which[w]].reshape(-1)
        for j in range(N * M):
            logits[j] = products[j] * scale + to_add[j]
        for i in range(N):
            softmax_row(logits[i * M : i * M + M], p[w, i])


@compiled(out(3), rows(3), indices(1), number, sums(3))
def _softmax_vjp(ds: Array, p: Array, which: Array, scale: float, dbias: Array) -> None:
    """Turn ds from the gradient of p into that of the products, in place; add to dbias[which]."""
    for w in range(len(ds)):
        for i in range(ds.shape[1]):
            row, p_row, dbias_row = ds[w, i], p[w, i], dbias[which[w], i]
            along = dot(p_row, row)
            for j in range(len(row)):
                d_logit = p_row[j] * (row[j] - along)
                dbias_row[j] += d_logit
                row[j] = d_logit * scale


@kernel("attention", "numba")
def attention(q: Array, k: Array, v: Array, bias: Array | None) -> tuple[Array, Vjp]:
    """Equals reference.attention, which runs for empty arrays and different leading axes.

    q, k and v become contiguous first: on views of small windows BLAS takes up to twice as long.
    """
    lead = q.shape[:-2]
    empty = 0 in (*q.shape, *k.shape, *v.shape)
    if empty or not same_float(q, k, v, bias) or not lead == k.shape[:-2] == v.shape[:-2]:
        return reference.attention(q, k, v, bias)
    q, k, v = contiguous(q), contiguous(k), contiguous(v)
    p = q @ swap(k)  # (..., N, M): products, from the next call on probabilities
    scale = p.dtype.type(q.shape[-1] ** -0.5)
    tiles, which = _bias_tiles(bias, p)
    flat = (-1, *p.shape[-2:])
    _softmax(p.reshape(flat), tiles, which, scale)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        g = contiguous(g)
        ds, dtiles = g @ swap(v), np.zeros(tiles.shape)
        _softmax_vjp(ds.reshape(flat), p.reshape(flat), which, scale, dtiles)
        dbias = None if bias is None else _from_tiles(dtiles, bias)
        return ds @ k, swap(ds) @ q, swap(p) @ g, dbias

    return p @ v, vjp


def _bias_tiles(bias: Array | None, p: Array) -> tuple[Array, Array]:
    """The different (N, M) pieces of the bias, and for each product of p which piece it gets."""
    (*lead, N, M) = p.shape
    if bias is None:
        bias = np.zeros((N, M), p.dtype)
    own = bias.shape[:-2]
    tiles = contiguous(np.broadcast_to(bias, (*own, N, M))).reshape(-1, N, M)
    which = np.arange(len(tiles)).reshape(own)
    return tiles, contiguous(np.broadcast_to(which, lead)).reshape(-1)


def _from_tiles(dtiles: Array, bias: Array) -> Array:
    own = (*bias.shape[:-2], *dtiles.shape[1:])
    return unbroadcast(dtiles.reshape(own), bias.shape).astype(bias.dtype)
