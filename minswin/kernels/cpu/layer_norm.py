"""Layer normalisation, row by row: a row stays in the first cache while it is read three times."""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin.arrays import Array, Vjp, adding
from minswin.kernels import kernel
from minswin.kernels.cpu.again import can_be_computed_again, later
from minswin.kernels.cpu.compiled import compiled, contiguous, same_float, written_out
from minswin.kernels.cpu.products import room
from minswin.kernels.cpu.simd import LANES, fma, load, splat, store, total
from minswin.reference import normalize

BLOCK = 64  # rows whose dweight and dbias are summed before they are added to float64 sums
SOME = 128 * BLOCK  # rows of x that are computed again at a time


@kernel("layer_norm", "numba")
def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> tuple[Array, Vjp]:
    """Equals reference.layer_norm, which runs for C = 0; sums over the batch are in float64.

    It keeps x and two numbers for each row, not x̂: to compute x̂ again is faster than to read it.
    Nor x, if that is the output of a layer norm itself. Its vjp adds (see arrays.adding).
    """
    C = x.shape[-1] if x.ndim else 0
    if C == 0 or not same_float(x, weight, bias) or not weight.shape == bias.shape == (C,):
        return normalize.layer_norm(x, weight, bias, eps=eps)
    rows, weight, bias = contiguous(x).reshape(-1, C), contiguous(weight), contiguous(bias)
    mean, rstd = np.empty(len(rows), x.dtype), np.empty(len(rows), x.dtype)
    y = np.empty(rows.shape, x.dtype)
    _forward(rows.reshape(-1), weight, bias, x.dtype.type(eps), y.reshape(-1), mean, rstd)
    shape, inputs, dtype = x.shape, later(rows), x.dtype  # a vjp that named x would keep it

    def again(block: slice) -> Array:
        some = np.empty((len(mean[block]), C), dtype)
        numbers = inputs(block).reshape(-1)
        _again(numbers, weight, bias, mean[block], rstd[block], some.reshape(-1))
        return some

    can_be_computed_again(y, again)

    @adding
    def vjp(g: Array, onto: Array | None = None) -> tuple[Array, Array, Array]:
        dx, dweight, dbias = np.empty(shape, dtype), np.zeros(C), np.zeros(C)
        adds = onto is not None and (onto.shape, onto.dtype) == (shape, dtype)
        before = contiguous(onto).reshape(-1, C) if adds else np.empty((0, C), dtype)
        g, to = contiguous(g).reshape(-1, C), dx.reshape(-1, C)
        sums = dweight, dbias, room(C, dtype), room(C, dtype)
        for start in range(0, len(g), SOME):
            block = slice(start, start + SOME)
            some = (a.reshape(-1) for a in (inputs(block), g[block], before[block], to[block]))
            _backward(weight, mean[block], rstd[block], *some, *sums)
        of_x = dx if adds or onto is None else onto + dx
        return of_x, dweight.astype(dtype), dbias.astype(dtype)

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
def _again(x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, y: Any) -> None:
    C = len(weight)
    for row in range(len(mean)):
        _write_row(x, row * C, weight, bias, mean[row], rstd[row], y, row * C)


@written_out
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


@written_out
def _sum(x: Any, start: int, C: int) -> Any:
    whole, sums = C - C % LANES, splat(x.dtype.type(0))
    for j in range(start, start + whole, LANES):
        sums = sums + load(x, j)
    value = total(sums)
    for j in range(start + whole, start + C):
        value += x[j]
    return value


@written_out
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


@compiled
def _backward(
    weight: Any, mean: Any, rstd: Any, x: Any, g: Any, before: Any, dx: Any,
    dweight: Any, dbias: Any, of_weight: Any, of_bias: Any,
) -> None:  # fmt: skip
    """before: what dx is added to; nothing, if it is empty"""
    C = len(weight)
    for start in range(0, len(mean), BLOCK):
        of_weight[:] = 0
        of_bias[:] = 0
        for row in range(start, min(start + BLOCK, len(mean))):
            m, r, at = mean[row], rstd[row], row * C
            _undo_row(x, weight, m, r, g, at, before, dx, of_weight, of_bias)
        for j in range(C):
            dweight[j] += of_weight[j]
            dbias[j] += of_bias[j]


@written_out
def _undo_row(
    x: Any, weight: Any, mean: Any, rstd: Any, g: Any, start: int,
    before: Any, dx: Any, of_weight: Any, of_bias: Any,
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
        change = (dxhat - splat(level) - xhat * splat(along)) * r
        store(dx, start + j, load(before, start + j) + change if len(before) else change)
    for j in range(whole, C):
        xhat1 = (x[start + j] - mean) * rstd
        change1 = (g[start + j] * weight[j] - level - xhat1 * along) * rstd
        dx[start + j] = before[start + j] + change1 if len(before) else change1
