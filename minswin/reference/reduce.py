"""Sums, means and maxima over axes."""

from __future__ import annotations

from typing import Any

from minswin.arrays import Array, Vjp, array_module

__all__ = ["max", "mean", "sum"]

Axis = Any  # an int, a tuple of ints, or None for all
Shape = tuple[int, ...]


def sum(x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array, Vjp]:
    """Sum over `axis` (all axes when None)."""
    shape, axis = x.shape, axis_of(x, axis)
    return x.sum(axis=axis, keepdims=keepdims), lambda g: (_spread(g, shape, axis, keepdims),)


def mean(x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array, Vjp]:
    """Arithmetic mean over `axis` (all axes when None)."""
    y = x.mean(axis=axis, keepdims=keepdims)
    shape, share = x.shape, y.size / x.size if x.size else 0
    return y, lambda g: (_spread(g * share, shape, axis, keepdims),)


def max(x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array, Vjp]:
    """Maximum over `axis` (all axes when None); equal maxima share the gradient evenly."""
    axis = axis_of(x, axis)
    y = x.max(axis=axis, keepdims=keepdims)

    def vjp(g: Array) -> tuple[Array]:
        winners = x == _restore(y, x.shape, axis, keepdims)
        ties = winners.sum(axis=axis, keepdims=True)
        return (_restore(g, x.shape, axis, keepdims) * winners / ties.astype(x.dtype),)

    return y, vjp


def axis_of(x: Array, axis: Axis) -> Axis:
    """The axis; None for 0 and −1 of a number without axes, which NumPy takes and CuPy does not."""
    return None if x.ndim == 0 and axis in (0, -1) else axis


def _restore(y: Array, shape: Shape, axis: Axis, keepdims: bool) -> Array:
    """Put the reduced axes back with length 1, so that y broadcasts against `shape`."""
    if keepdims:
        return y
    ndim = len(shape)
    axes = range(ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    reduced = {a % ndim for a in axes} if ndim else set()
    return y.reshape(tuple(1 if i in reduced else n for i, n in enumerate(shape)))


def _spread(g: Array, shape: Shape, axis: Axis, keepdims: bool) -> Array:
    """Repeat g over the axes that were summed: the adjoint of a sum."""
    return array_module(g).broadcast_to(_restore(g, shape, axis, keepdims), shape).copy("K")
