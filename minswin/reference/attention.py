"""Scaled dot-product attention.

`swap` exchanges the last two axes. `unbroadcast` sums a gradient over the axes along which the bias
was repeated.
"""

from __future__ import annotations

from minswin.arrays import Array, Vjp, array_module
from minswin.reference.elementwise import unbroadcast
from minswin.reference.linear import swap

__all__ = ["attention"]


def attention(q: Array, k: Array, v: Array, bias: Array | None) -> tuple[Array, Vjp]:
    """Let every query take a weighted mean of the values.             Liu et al. 2021, eq. (4)

        P = softmax(q kᵀ/√d + bias)        Y = P v

    q (..., N, d)   k (..., M, d)   v (..., M, e)   bias -> (..., N, M) floats or None
    gives Y (..., N, e)
    A mask is a bias: 0 where a query may look, −100 (or −∞) where it may not.
    """
    xp = array_module(q)
    scale = q.shape[-1] ** -0.5
    p = (q * scale) @ swap(k)  # (..., N, M): the logits, turned into probabilities in place
    if bias is not None:
        p += bias
    p -= p.max(axis=-1, keepdims=True)
    xp.exp(p, out=p)
    p /= p.sum(axis=-1, keepdims=True)  # each row sums to 1

    def vjp(g: Array) -> tuple[Array | None, ...]:
        dp = g @ swap(v)  # undoes Y = P v
        ds = p * (dp - (p * dp).sum(axis=-1, keepdims=True))  # undoes the softmax of a row
        dq, dk = (ds @ k) * scale, swap(ds) @ (q * scale)  # undoes q kᵀ/√d
        dbias = None if bias is None else unbroadcast(ds, bias.shape)
        return dq, dk, swap(p) @ g, dbias

    return p @ v, vjp
