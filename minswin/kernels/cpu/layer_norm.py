"""Layer normalisation, row by row: a row stays in the first cache while it is read three times."""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.again import can_be_computed_again
from minswin.kernels.cpu.compiled import allocating, compiled, contiguous, same_float
from minswin.kernels.cpu.simd import LANES, fma, load, splat, store, total
from minswin.reference import normalize

BLOCK = 64  # rows whose dweight and dbias are summed before they are added to float64 sums


@kernel("layer_norm", "numba")
def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> tuple[Array, Vjp]:
    """Equals reference.layer_norm, which runs for C = 0; sums over the batch are in float64.

    It keeps x and two numbers for each row, not x̂: to compute x̂ again is faster than to read it.
    """
    C = x.shape[-1] if x.ndim else 0
    if C == 0 or not same_float(x, weight, bias) or not weight.shape == bias.shape == (C,):
        return normalize.layer_norm(x, weight, bias, eps=eps)
    shape, numbers = x.shape, contiguous(x).reshape(-1)
    weight, bias = contiguous(weight), contiguous(bias)
    mean, rstd = np.empty(x.size // C, x.dtype), np.empty(x.size // C, x.dtype)
    y = np.empty((len(mean), C), x.dtype)
    _forward(numbers, weight, bias, x.dtype.type(eps), y.reshape(-1), mean, rstd)

    def rows(block: slice) -> Array:
        some = np.empty((len(mean[block]), C), x.dtype)
        _again(numbers, weight, bias, mean, rstd, block.start, some.reshape(-1))
        return some

    can_be_computed_again(y, rows)

    def vjp(g: Array) -> tuple[Array, Array, Array]:
        dx, dweight, dbias = np.empty_like(numbers), np.zeros(C), np.zeros(C)
        g = contiguous(g).reshape(-1)
        _backward(numbers, weight, mean, rstd, g, dx, dweight, dbias)
        return dx.reshape(shape), dweight.astype(dx.dtype), dbias.astype(dx.dtype)

    return y.reshape(shape), vjp


@compiled
def _forward(x: Any, weight: Any, bias: Any, eps: Any, y: Any, mean: Any, rstd: Any) -> None:
    C, kind = len(weight), x.dtype
    for row in range(len(mean)):
        start = row * C
        m = _sum(x, start, C) / kind.type(C)
        r = kind.type(1) / np.sqrt(_squares(x, start, C, m) / kind.type(C) + eps)
        _write_row(x, start, weight, bias, m, r, y, start)
        mean[row], rstd[row] = m, r


@compiled
def _again(x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, first: int, y: Any) -> None:
    """The rows from `first` on, as many as y has."""
    C = len(weight)
    for row in range(len(y) // C):
        at = first + row
        _write_row(x, at * C, weight, bias, mean[at], rstd[at], y, row * C)


@compiled
def _write_row(
    x: Any, start: int, weight: Any, bias: Any, mean: Any, rstd: Any, y: Any, to: int
) -> None:
    C = len(weight)
    whole = C - C % LANES
    for j in range(0, whole, LANES):
        xhat = (load(x, start + j) - splat(mean)) * splat(rstd)
        store(y, to + j, fma(xhat, load(weight, j), load(bias, j)))
    for j in range(whole, C):
        y[to + j] = (x[start + j] - mean) * rstd * weight[j] + bias[j]


@compiled
def _sum(x: Any, start: int, C: int) -> Any:
    whole, sums = C - C % LANES, splat(x.dtype.type(0))
    for j in range(start, start + whole, LANES):
        sums = sums + load(x, j)
    value = total(sums)
    for j in range(start + whole, start + C):
        value += x[j]
    return value


@compiled
def _squares(x: Any, start: int, C: int, mean: Any) -> Any:
    """Σ (x − mean)²"""
    whole, sums = C - C % LANES, splat(x.dtype.type(0))
    for j in range(start, start + whole, LANES):
        centred = load(x, j) - splat(mean)
        sums = fma(centred, centred, sums)
    value = total(sums)
    for j in range(start + whole, start + C):
        value += (x[j] - mean) * (x[j] - mean)
    return value


@allocating
def _backward(
    x: Any, weight: Any, mean: Any, rstd: Any, g: Any, dx: Any, dweight: Any, dbias: Any
) -> None:
    C = len(weight)
    of_weight, of_bias = np.zeros(C, x.dtype), np.zeros(C, x.dtype)
    for start in range(0, len(mean), BLOCK):
        of_weight[:] = 0
        of_bias[:] = 0
        for row in range(start, min(start + BLOCK, len(mean))):
            _undo_row(x, weight, mean[row], rstd[row], g, row * C, dx, of_weight, of_bias)
        for j in range(C):
            dweight[j] += of_weight[j]
            dbias[j] += of_bias[j]


@compiled
def _undo_row(
    x: Any, weight: Any, mean: Any, rstd: Any, g: Any, start: int,
    dx: Any, of_weight: Any, of_bias: Any,
) -> None:  # fmt: skip
    C, kind = len(weight), x.dtype
    whole, m, r = C - C % LANES, splat(mean), splat(rstd)
    sums, alongs = splat(kind.type(0)), splat(kind.type(0))
    for j in range(0, whole, LANES):
        dy, xhat = load(g, start + j), (load(x, start + j) - m) * r
        store(of_weight, j, fma(dy, xhat, load(of_weight, j)))
        store(of_bias, j, load(of_bias, j) + dy)
        dxhat = dy * load(weight, j)
        sums, alongs = sums + dxhat, fma(dxhat, xhat, alongs)
    level, along = total(sums), total(alongs)
    for j in range(whole, C):
        dy1, xhat1 = g[start + j], (x[start + j] - mean) * rstd
        of_weight[j] += dy1 * xhat1
        of_bias[j] += dy1
        level += dy1 * weight[j]
        along += dy1 * weight[j] * xhat1
    level, along = level / kind.type(C), along / kind.type(C)  # along: through the variance
    for j in range(0, whole, LANES):
        xhat = (load(x, start + j) - m) * r
        dxhat = load(g, start + j) * load(weight, j)
        store(dx, start + j, (dxhat - splat(level) - xhat * splat(along)) * r)
    for j in range(whole, C):
        xhat1 = (x[start + j] - mean) * rstd
        dx[start + j] = (g[start + j] * weight[j] - level - xhat1 * along) * rstd
