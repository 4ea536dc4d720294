"""Softmax and layer normalisation: each makes a row comparable to every other row."""

from __future__ import annotations

from minswin.arrays import Array, Vjp, array_module


def softmax(x: Array, *, axis: int = -1) -> tuple[Array, Vjp]:
    """p = eˣ / Σ eˣ along an axis; the maximum is taken off first, so nothing overflows.

    A row that holds −∞ gives 0 there, and gradient 0; a row of nothing but −∞ is NaN.
    """
    xp = array_module(x)
    p = xp.exp(x - x.max(axis=axis, keepdims=True))
    p /= p.sum(axis=axis, keepdims=True)

    def vjp(g: Array) -> tuple[Array]:
        return (p * (g - (p * g).sum(axis=axis, keepdims=True)),)

    return p, vjp


def log_softmax(x: Array, *, axis: int = -1) -> tuple[Array, Vjp]:
    """log(softmax(x)) = x − max − log Σ e^(x − max), without forming small probabilities."""
    xp = array_module(x)
    shifted = x - x.max(axis=axis, keepdims=True)
    y = shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))

    def vjp(g: Array) -> tuple[Array]:
        return (g - xp.exp(y) * g.sum(axis=axis, keepdims=True),)

    return y, vjp


def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> tuple[Array, Vjp]:
    """Bring each row to mean 0 and variance 1, then scale and shift.        Ba et al. 2016, §3.1

    x̂ = (x − mean) / √(var + eps)        y = x̂ · weight + bias

    x (..., C)   weight, bias (C,)   gives (..., C).   The variance divides by C, not C − 1.
    """
    xp = array_module(x)
    centred = x - x.mean(axis=-1, keepdims=True)
    rstd = 1 / xp.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)  # (..., 1)
    xhat = centred * rstd

    def vjp(g: Array) -> tuple[Array, Array, Array]:
        rows = tuple(range(x.ndim - 1))
        dweight, dbias = (g * xhat).sum(axis=rows), g.sum(axis=rows)
        dxhat = g * weight
        along = (dxhat * xhat).mean(axis=-1, keepdims=True)  # through the variance
        dx = (dxhat - dxhat.mean(axis=-1, keepdims=True) - xhat * along) * rstd
        return dx, dweight, dbias

    return xhat * weight + bias, vjp
