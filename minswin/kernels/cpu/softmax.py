"""Softmax and its logarithm: rows that lie one after the other, filled up to vectors with −∞."""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.compiled import compiled, contiguous, same_float
from minswin.kernels.cpu.functions import exp, falling_exp
from minswin.kernels.cpu.products import padded, room
from minswin.kernels.cpu.simd import LANES, fma, larger, largest, load, splat, store, total
from minswin.reference import normalize

# ── columns in the cache: vectors down the rows, nothing across; their width is a multiple of 8 ──


@compiled
def softmax_columns(p: Any, rows: int, width: int) -> None:
    """p = softmax(p) down each column. A NaN is not seen by the maximum, but by the sum."""
    for column in range(0, width, LANES):
        end = rows * width + column
        top, each = splat(p.dtype.type(-np.inf)), splat(p.dtype.type(0))
        for j in range(column, end, width):
            top = larger(load(p, j), top)
        for j in range(column, end, width):
            power = falling_exp(load(p, j) - top)
            each = each + power
            store(p, j, power)
        share = splat(p.dtype.type(1)) / each
        for j in range(column, end, width):
            store(p, j, load(p, j) * share)


@compiled
def undo_softmax_columns(p: Any, dp: Any, rows: int, width: int) -> None:
    """dx = p (dp − Σ p dp) down each column, in place of dp."""
    for column in range(0, width, LANES):
        end = rows * width + column
        along = splat(p.dtype.type(0))
        for j in range(column, end, width):
            along = fma(load(p, j), load(dp, j), along)
        for j in range(column, end, width):
            store(dp, j, load(p, j) * (load(dp, j) - along))


# ── rows in the cache; their width is a multiple of 8 ────────────────────────────────────────────


@compiled
def softmax_rows(p: Any, rows: int, width: int) -> None:
    """p = softmax(p), for rows one after the other.  All exponentials at once: none waits."""
    _subtract_largest(p, rows, width)
    for j in range(0, rows * width, LANES):
        store(p, j, falling_exp(load(p, j)))
    for row in range(0, rows * width, width):
        sums = splat(p.dtype.type(0))
        for j in range(row, row + width, LANES):
            sums = sums + load(p, j)
        share = splat(p.dtype.type(1) / total(sums))
        for j in range(row, row + width, LANES):
            store(p, j, load(p, j) * share)


@compiled
def undo_softmax_rows(p: Any, dp: Any, rows: int, width: int) -> None:
    """dx = p (dp − Σ p dp), in place of dp."""
    for row in range(0, rows * width, width):
        sums = splat(p.dtype.type(0))
        for j in range(row, row + width, LANES):
            sums = fma(load(p, j), load(dp, j), sums)
        along = splat(total(sums))
        for j in range(row, row + width, LANES):
            store(dp, j, load(p, j) * (load(dp, j) - along))


@compiled
def log_softmax_rows(y: Any, rows: int, width: int) -> None:
    """y = log softmax(y)."""
    _subtract_largest(y, rows, width)
    for row in range(0, rows * width, width):
        sums = splat(y.dtype.type(0))
        for j in range(row, row + width, LANES):
            sums = sums + falling_exp(load(y, j))
        log_total = splat(np.log(total(sums)))
        for j in range(row, row + width, LANES):
            store(y, j, load(y, j) - log_total)


@compiled
def undo_log_softmax_rows(y: Any, dy: Any, rows: int, width: int) -> None:
    """dx = dy − eʸ Σ dy, in place of dy."""
    for row in range(0, rows * width, width):
        sums = splat(y.dtype.type(0))
        for j in range(row, row + width, LANES):
            sums = sums + load(dy, j)
        along = splat(total(sums))
        for j in range(row, row + width, LANES):
            store(dy, j, load(dy, j) - exp(load(y, j)) * along)


@compiled
def _subtract_largest(x: Any, rows: int, width: int) -> None:
    """A NaN is not seen here; it makes the sum of its row NaN all the same."""
    for row in range(0, rows * width, width):
        top = splat(x.dtype.type(-np.inf))
        for j in range(row, row + width, LANES):
            top = larger(load(x, j), top)
        top = splat(largest(top))
        for j in range(row, row + width, LANES):
            store(x, j, load(x, j) - top)


# ── rows of any width: to the cache, filled up to a multiple of 8, and back ──────────────────────

BLOCK = 2**12  # numbers that are worked on at a time, or else one row


def block(columns: int, dtype: Any) -> Array:
    """Room for the rows that are worked on at a time."""
    return room(max(BLOCK, padded(columns, LANES)), dtype)


@compiled
def fill_rows(
    x: Any, start: int, columns: int, filler: float, p: Any, rows: int, width: int
) -> None:
    """p = rows of `columns` numbers each, which lie in x from `start` on, filled up to `width`."""
    whole = columns - columns % LANES
    for i in range(rows):
        in_x, in_p = start + i * columns, i * width
        for j in range(0, whole, LANES):
            store(p, in_p + j, load(x, in_x + j))
        for j in range(whole, width):
            p[in_p + j] = x[in_x + j] if j < columns else filler


@compiled
def take_rows(p: Any, width: int, x: Any, start: int, columns: int, rows: int) -> None:
    """The way back, without what was filled up."""
    whole = columns - columns % LANES
    for i in range(rows):
        in_x, in_p = start + i * columns, i * width
        for j in range(0, whole, LANES):
            store(x, in_x + j, load(p, in_p + j))
        for j in range(whole, columns):
            x[in_x + j] = p[in_p + j]


@compiled
def _forward(x: Any, y: Any, p: Any, columns: int, log: bool) -> None:
    width = padded(columns, LANES)
    step = max(1, BLOCK // width)
    for start in range(0, len(x), step * columns):
        rows = min(step, (len(x) - start) // columns)
        fill_rows(x, start, columns, -np.inf, p, rows, width)
        if log:
            log_softmax_rows(p, rows, width)
        else:
            softmax_rows(p, rows, width)
        take_rows(p, width, y, start, columns, rows)


@compiled
def _backward(y: Any, g: Any, dx: Any, p: Any, dp: Any, columns: int, log: bool) -> None:
    width = padded(columns, LANES)
    step = max(1, BLOCK // width)
    for start in range(0, len(y), step * columns):
        rows = min(step, (len(y) - start) // columns)
        fill_rows(y, start, columns, 0.0, p, rows, width)
        fill_rows(g, start, columns, 0.0, dp, rows, width)
        if log:
            undo_log_softmax_rows(p, dp, rows, width)
        else:
            undo_softmax_rows(p, dp, rows, width)
        take_rows(dp, width, dx, start, columns, rows)


# ── any axis ─────────────────────────────────────────────────────────────────────────────────────


@kernel("softmax", "numba")
def softmax(x: Array, *, axis: int = -1) -> tuple[Array, Vjp]:
    """Equals reference.softmax, which runs for an empty axis, several, and 0-d arrays.

    A probability that would be subnormal (1.2e-38 in float32) may be 0.
    """
    if _left_to_definition(x, axis):
        return normalize.softmax(x, axis=axis)
    return _along(x, axis, log=False)


@kernel("log_softmax", "numba")
def log_softmax(x: Array, *, axis: int = -1) -> tuple[Array, Vjp]:
    """Equals reference.log_softmax, which runs for an empty axis, several, and 0-d arrays."""
    if _left_to_definition(x, axis):
        return normalize.log_softmax(x, axis=axis)
    return _along(x, axis, log=True)


def _left_to_definition(x: Array, axis: Any) -> bool:
    if not same_float(x) or not isinstance(axis, int):  # of several axes at once, or all
        return True
    return x.ndim == 0 or not -x.ndim <= axis < x.ndim or x.shape[axis] == 0


def _along(x: Array, axis: int, log: bool) -> tuple[Array, Vjp]:
    """Bring the axis to the end, run the loop on rows, and bring it back."""
    shape = np.moveaxis(x, axis, -1).shape

    def to_rows(x: Array) -> Array:
        return contiguous(np.moveaxis(x, axis, -1)).reshape(-1)

    def back(rows: Array) -> Array:
        return np.moveaxis(rows.reshape(shape), -1, axis)

    y = np.empty(x.size, x.dtype)
    _forward(to_rows(x), y, block(shape[-1], y.dtype), shape[-1], log)

    def vjp(g: Array) -> tuple[Array]:
        dx = np.empty_like(y)
        rooms = (block(shape[-1], y.dtype) for _ in range(2))
        _backward(y, to_rows(g), dx, *rooms, shape[-1], log)
        return (back(dx),)

    return back(y), vjp
