"""Softmax and its logarithm, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.compiled import PIECE, compiled, contiguous, out, rows, same_float
from minswin.kernels.cpu.exponential import exp
from minswin.reference import normalize

# ── one row ──────────────────────────────────────────────────────────────────────────────────────


@njit(**PIECE)
def largest(x: Array) -> Any:
    """The largest element; where there is a NaN, anything: the sum becomes NaN all the same."""
    top = x[0]
    for j in range(len(x)):
        top = x[j] if x[j] > top else top
    return top


@njit(**PIECE)
def softmax_row(x: Array, p: Array) -> None:
    """p = eˣ / Σ eˣ.  (p must not be x: the loops would not vectorise.)"""
    top, total = largest(x), x.dtype.type(0)
    for j in range(len(x)):
        e = exp(x[j] - top)
        p[j] = e
        total += e
    for j in range(len(x)):
        p[j] /= total


@njit(**PIECE)
def dot(x: Array, y: Array) -> Any:
    """Σ x y."""
    total = x.dtype.type(0)
    for j in range(len(x)):
        total += x[j] * y[j]
    return total


# ── all rows ─────────────────────────────────────────────────────────────────────────────────────


@compiled(rows(2), out(2))
def _softmax(x: Array, p: Array) -> None:
    for i in range(len(x)):
        softmax_row(x[i], p[i])


@compiled(rows(2), rows(2), out(2))
def _softmax_vjp(p: Array, g: Array, dx: Array) -> None:
    for i in range(len(p)):
        along = dot(p[i], g[i])
        for j in range(p.shape[1]):
            dx[i, j] = p[i, j] * (g[i, j] - along)


@compiled(rows(2), out(2))
def _log_softmax(x: Array, y: Array) -> None:
    for i in range(len(x)):
        top, total = largest(x[i]), x.dtype.type(0)
        for j in range(x.shape[1]):
            shifted = x[i, j] - top
            y[i, j] = shifted
            total += exp(shifted)
        log_total = np.log(total)
        for j in range(x.shape[1]):  # a loop of its own, or it might become x − (top + log_total)
            y[i, j] -= log_total


@compiled(rows(2), rows(2), out(2))
def _log_softmax_vjp(y: Array, g: Array, dx: Array) -> None:
    for i in range(len(y)):
        total = y.dtype.type(0)
        for j in range(y.shape[1]):
            total += g[i, j]
        for j in range(y.shape[1]):
            dx[i, j] = g[i, j] - exp(y[i, j]) * total


# ── any axis ─────────────────────────────────────────────────────────────────────────────────────


@kernel("softmax", "numba")
def softmax(x: Array, *, axis: int = -1) -> tuple[Array, Vjp]:
    """Equals reference.softmax, which runs for an empty axis and for 0-d arrays.

    A probability that would be subnormal (1.2e-38 in float32) may be 0.
    """
    if _left_to_definition(x, axis):
        return normalize.softmax(x, axis=axis)
    return _along(x, axis, _softmax, _softmax_vjp)


@kernel("log_softmax", "numba")
def log_softmax(x: Array, *, axis: int = -1) -> tuple[Array, Vjp]:
    """Equals reference.log_softmax, which runs for an empty axis and for 0-d arrays."""
    if _left_to_definition(x, axis):
        return normalize.log_softmax(x, axis=axis)
    return _along(x, axis, _log_softmax, _log_softmax_vjp)


def _left_to_definition(x: Array, axis: int) -> bool:
    return not same_float(x) or x.ndim == 0 or not -x.ndim <= axis < x.ndim or x.shape[axis] == 0


def _along(x: Array, axis: int, forward: Any, backward: Any) -> tuple[Array, Vjp]:
    """Bring the axis to the end, run the loop on rows, and bring it back."""
    shape = np.moveaxis(x, axis, -1).shape

    def to_rows(x: Array) -> Array:
        return contiguous(np.moveaxis(x, axis, -1)).reshape(-1, shape[-1])

    def back(rows: Array) -> Array:
        return np.moveaxis(rows.reshape(shape), -1, axis)

    x = to_rows(x)
    y = np.empty_like(x)
    forward(x, y)

    def vjp(g: Array) -> tuple[Array]:
        dx = np.empty_like(y)
        backward(y, to_rows(g), dx)
        return (back(dx),)

    return back(y), vjp
