"""Softmax, layer and batch normalisation: each makes a row, or a channel, comparable to others."""

from __future__ import annotations

from minswin.arrays import Array, Vjp, array_module
from minswin.reference.reduce import axis_of

__all__ = ["batch_norm", "layer_norm", "log_softmax", "softmax"]


def softmax(x: Array, *, axis: int = -1) -> tuple[Array, Vjp]:
    """p = eˣ / Σ eˣ along an axis; the maximum is taken off first, so nothing overflows.

    A row that holds −∞ gives 0 there, and gradient 0; a row of nothing but −∞ is NaN.
    """
    xp, axis = array_module(x), axis_of(x, axis)
    p = xp.exp(x - x.max(axis=axis, keepdims=True))
    p /= p.sum(axis=axis, keepdims=True)

    def vjp(g: Array) -> tuple[Array]:
        return (p * (g - (p * g).sum(axis=axis, keepdims=True)),)

    return p, vjp


def log_softmax(x: Array, *, axis: int = -1) -> tuple[Array, Vjp]:
    """log(softmax(x)) = x − max − log Σ e^(x − max), without forming small probabilities."""
    xp, axis = array_module(x), axis_of(x, axis)
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


def batch_norm(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    eps: float = 1e-5,
    moments: tuple[Array, Array] | None = None,
) -> tuple[Array, Vjp]:
    """Bring each channel to mean 0 and variance 1 over the batch.    Ioffe & Szegedy 2015, alg. 1

        x̂ = (x − mean) / √(var + eps)        y = x̂ · weight + bias

    x (B, C, H, W)   weight, bias (C,)   gives (B, C, H, W).   Every image has a share in the mean
    and the variance, so its gradient depends on all others.
    moments: batch_moments(x), where they are known already
    """
    mean, var = batch_moments(x) if moments is None else moments
    rstd = 1 / array_module(x).sqrt(var + eps)  # (C,)
    xhat = (x - _over_maps(mean)) * _over_maps(rstd)

    def vjp(g: Array) -> tuple[Array, Array, Array]:
        dweight, dbias = (g * xhat).sum(axis=(0, 2, 3)), g.sum(axis=(0, 2, 3))
        share = weight.size / x.size  # of one element in the mean of its channel
        dx = g - _over_maps(dbias * share)  # through the mean
        dx -= xhat * _over_maps(dweight * share)  # through the variance
        return dx * _over_maps(weight * rstd), dweight, dbias

    return xhat * _over_maps(weight) + _over_maps(bias), vjp


def batch_moments(x: Array) -> tuple[Array, Array]:
    """Mean and variance of each channel over images and places, added up in float64.

    x (B, C, H, W)   gives (C,), (C,).   The variance divides by the count, not by one less.
    """
    mean = x.mean(axis=(0, 2, 3), dtype="float64").astype(x.dtype)
    centred = x - _over_maps(mean)
    return mean, (centred * centred).mean(axis=(0, 2, 3), dtype="float64").astype(x.dtype)


def follow_moments(
    running_mean: Array,
    running_var: Array,
    batches: Array,
    mean: Array,
    var: Array,
    *,
    momentum: float,
    count: int,
) -> None:
    """Move running statistics towards those of a batch, and count it, in place.

    running_mean, running_var, mean, var (C,)   batches ()   count: numbers of a channel
    The running variance is unbiased: it divides by one less than the count, as in PyTorch.
    """
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (var * (count / (count - 1)) - running_var)
    batches += 1


def _over_maps(v: Array) -> Array:
    """One number for each channel (C,), to broadcast against maps (B, C, H, W)."""
    return v[:, None, None]
