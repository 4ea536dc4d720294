"""Matrix products and the linear layer."""

from __future__ import annotations

from minswin.arrays import Array, Vjp
from minswin.reference.elementwise import unbroadcast

__all__ = ["linear", "matmul"]


def swap(x: Array) -> Array:
    """Transpose the last two axes."""
    return x.swapaxes(-1, -2)


def matmul(x: Array, y: Array) -> tuple[Array, Vjp]:
    """Batched matrix product; the leading axes broadcast.

    x (*X, N, K)   y (*Y, K, M)   gives (*X and *Y broadcast, N, M)
    """

    def vjp(g: Array) -> tuple[Array, Array]:
        dx = unbroadcast(g @ swap(y), x.shape)
        dy = unbroadcast(swap(x) @ g, y.shape)
        return dx, dy

    return x @ y, vjp


def linear(x: Array, weight: Array, bias: Array | None) -> tuple[Array, Vjp]:
    """y = x Wᵀ + b, on the last axis.

    x (..., K)   weight (M, K): output first, as in PyTorch   bias (M,) or None   gives (..., M)
    """
    rows = x.reshape(-1, x.shape[-1])  # (R, K): one large product is faster than many
    y = rows @ weight.T  # (R, M)
    if bias is not None:
        y += bias

    def vjp(g: Array) -> tuple[Array | None, ...]:
        g = g.reshape(-1, g.shape[-1])  # (R, M)
        dx = (g @ weight).reshape(x.shape)
        return dx, g.T @ rows, None if bias is None else g.sum(axis=0)

    return y.reshape(*x.shape[:-1], weight.shape[0]), vjp
