"""Layer normalisation, row by row."""

from __future__ import annotations

import numpy as np

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.compiled import compiled, contiguous, number, out, rows, same_float, sums
from minswin.reference import normalize


@compiled(rows(2), rows(1), rows(1), number, out(2), out(2))
def _layer_norm(x: Array, weight: Array, bias: Array, eps: float, y: Array, moments: Array) -> None:
    zero, one, C = x.dtype.type(0), x.dtype.type(1), x.dtype.type(x.shape[1])
    for i in range(len(x)):
        x_row, y_row = x[i], y[i]
        total, squares = zero, zero
        for j in range(len(x_row)):
            total += x_row[j]
        mean = total / C
        for j in range(len(x_row)):
            squares += (x_row[j] - mean) * (x_row[j] - mean)
        rstd = one / np.sqrt(squares / C + eps)
        for j in range(len(x_row)):
            y_row[j] = (x_row[j] - mean) * rstd * weight[j] + bias[j]
        moments[i, 0], moments[i, 1] = mean, rstd


@compiled(rows(2), rows(2), rows(1), rows(2), out(2), sums(1), sums(1))
def _layer_norm_vjp(
    x: Array, g: Array, weight: Array, moments: Array, dx: Array, dweight: Array, dbias: Array
) -> None:
    zero, C = x.dtype.type(0), x.dtype.type(x.shape[1])
    xhat = np.empty(x.shape[1], x.dtype)
    for i in range(len(x)):
        x_row, g_row, dx_row = x[i], g[i], dx[i]
        mean, rstd = moments[i]
        mean_g, along = zero, zero
        for j in range(len(xhat)):
            xhat[j] = (x_row[j] - mean) * rstd
        for j in range(len(xhat)):
            mean_g += g_row[j] * weight[j]
            along += g_row[j] * weight[j] * xhat[j]  # through the variance
        mean_g, along = mean_g / C, along / C
        for j in range(len(xhat)):
            dx_row[j] = (g_row[j] * weight[j] - mean_g - xhat[j] * along) * rstd
        for j in range(len(xhat)):
            dweight[j] += g_row[j] * xhat[j]
        for j in range(len(xhat)):
            dbias[j] += g_row[j]


@kernel("layer_norm", "numba")
def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> tuple[Array, Vjp]:
    """Equals reference.layer_norm, which runs for C = 0; sums over the batch are in float64.

    It keeps x and two numbers for each row, not x̂: to compute x̂ again is faster than to read it.
    """
    C = x.shape[-1] if x.ndim else 0
    if C == 0 or not same_float(x, weight, bias) or not weight.shape == bias.shape == (C,):
        return normalize.layer_norm(x, weight, bias, eps=eps)
    shape = x.shape
    x, weight, bias = contiguous(x).reshape(-1, C), contiguous(weight), contiguous(bias)
    y, moments = np.empty_like(x), np.empty((len(x), 2), x.dtype)
    _layer_norm(x, weight, bias, x.dtype.type(eps), y, moments)

    def vjp(g: Array) -> tuple[Array, Array, Array]:
        dx, dweight, dbias = np.empty_like(x), np.zeros(C), np.zeros(C)
        _layer_norm_vjp(x, contiguous(g).reshape(x.shape), weight, moments, dx, dweight, dbias)
        return dx.reshape(shape), dweight.astype(x.dtype), dbias.astype(x.dtype)

    return y.reshape(shape), vjp
