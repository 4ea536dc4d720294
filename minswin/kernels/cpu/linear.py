"""The linear layer and the MLP, over as many tokens at a time as stay in the second cache.

The products are BLAS's. What stands between them (bias, GELU, its derivative) meets a block while
it is still in the cache, and costs no pass over the largest activations of the network.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.compiled import contiguous, same_float
from minswin.kernels.cpu.gelu import gelu_loop
from minswin.reference import linear as reference

BLOCK = 512  # tokens


def blocks(tokens: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, tokens, BLOCK))


@kernel("linear", "numba")
def linear(x: Array, weight: Array, bias: Array | None) -> tuple[Array, Vjp]:
    """Equals reference.linear, which runs for unequal dtypes; bias is added block by block."""
    if not same_float(x, weight, bias):
        return reference.linear(x, weight, bias)
    rows = contiguous(x).reshape(-1, x.shape[-1])  # (R, K)
    y = np.empty((len(rows), len(weight)), x.dtype)  # (R, M)
    for block in blocks(len(rows)):
        np.matmul(rows[block], weight.T, out=y[block])
        if bias is not None:
            y[block] += bias

    def vjp(g: Array) -> tuple[Array | None, ...]:
        g = contiguous(g).reshape(-1, g.shape[-1])  # (R, M)
        dbias = None if bias is None else np.ones(len(g), g.dtype) @ g
        return (g @ weight).reshape(x.shape), g.T @ rows, dbias

    return y.reshape(*x.shape[:-1], len(weight)), vjp


@kernel("mlp", "numba")
def mlp(x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> tuple[Array, Vjp]:
    """Equals layers.basic.mlp; keeps the input of the GELU, and computes GELU again in backward."""
    rows = contiguous(x).reshape(-1, x.shape[-1])  # (R, C)
    hidden = np.empty((len(rows), len(w1)), x.dtype)  # (R, 4C)
    y = np.empty((len(rows), len(w2)), x.dtype)  # (R, C)
    room = np.empty((3, min(BLOCK, len(rows)), len(w1)), x.dtype)  # stays in the cache

    for block in blocks(len(rows)):
        h = hidden[block]
        act, slope = room[:2, : len(h)]
        np.matmul(rows[block], w1.T, out=h)
        h += b1
        gelu_loop(h.reshape(-1), act.reshape(-1), slope.reshape(-1))
        np.matmul(act, w2.T, out=y[block])
        y[block] += b2

    def vjp(g: Array) -> tuple[Array, ...]:
        g = contiguous(g).reshape(-1, g.shape[-1])  # (R, M)
        dx = np.empty_like(rows)
        dw1, db1, dw2 = np.zeros_like(w1), np.zeros_like(b1), np.zeros_like(w2)
        ones = np.ones(BLOCK, x.dtype)
        for block in blocks(len(rows)):
            h, dy = hidden[block], g[block]
            act, slope, dh = room[:, : len(h)]
            gelu_loop(h.reshape(-1), act.reshape(-1), slope.reshape(-1))
            dw2 += dy.T @ act  # undoes act w2ᵀ
            np.matmul(dy, w2, out=dh)
            dh *= slope  # undoes GELU
            db1 += ones[: len(h)] @ dh
            dw1 += dh.T @ rows[block]  # undoes x w1ᵀ
            np.matmul(dh, w1, out=dx[block])
        db2 = np.ones(len(g), g.dtype) @ g
        return dx.reshape(x.shape), dw1, db1, dw2, db2

    return y.reshape(*x.shape[:-1], len(w2)), vjp
