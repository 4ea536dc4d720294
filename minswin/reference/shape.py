"""Moving data without changing it: reshape, transpose, roll, pad, index, join, gather, scatter.

Each is a linear map that copies or drops elements; its vjp is the adjoint, which sends every
element back to where it came from and adds where it was copied.
"""

from __future__ import annotations

from itertools import repeat
from types import EllipsisType, NoneType
from typing import Any

import numpy as np

from minswin.arrays import Array, Vjp, array_module
from minswin.reference.elementwise import unbroadcast

__all__ = [
    "broadcast_to",
    "concatenate",
    "getitem",
    "pad",
    "reshape",
    "roll",
    "scatter_add",
    "stack",
    "take",
    "transpose",
]


def reshape(x: Array, *, shape: tuple[int, ...]) -> tuple[Array, Vjp]:
    """The same elements in the same order; one length may be −1."""
    before = x.shape
    return x.reshape(shape), lambda g: (g.reshape(before),)


def transpose(x: Array, *, axes: tuple[int, ...]) -> tuple[Array, Vjp]:
    """Axis i of the result is axis axes[i] of x. Undone by the inverse permutation."""
    inverse = tuple(np.argsort(np.mod(axes, x.ndim or 1)).tolist())
    return x.transpose(axes), lambda g: (g.transpose(inverse),)


def broadcast_to(x: Array, *, shape: tuple[int, ...]) -> tuple[Array, Vjp]:
    """Repeat x along new axes and axes of length 1; undone by summing over them."""
    before = x.shape
    return array_module(x).broadcast_to(x, shape), lambda g: (unbroadcast(g, before),)


def roll(
    x: Array, *, shift: int | tuple[int, ...], axis: tuple[int, ...] = (1, 2)
) -> tuple[Array, Vjp]:
    """Move elements `shift` places on along each axis; those that leave come back at the start.

    A negative shift moves up or left; an int is that of every axis. Undone by the opposite shift.
    Default: a map (B, H, W, C).
    """
    xp = array_module(x)
    shift = (shift,) * len(axis) if isinstance(shift, int) else shift
    back = tuple(-s for s in shift)
    return xp.roll(x, shift, axis), lambda g: (xp.roll(g, back, axis),)


def pad(x: Array, *, width: tuple[tuple[int, int], ...]) -> tuple[Array, Vjp]:
    """Zeros around x: width[i] = (before, after) for axis i, first axis first. Undone by a crop."""
    inside = tuple(slice(before, before + n) for (before, _), n in zip(width, x.shape, strict=True))
    return array_module(x).pad(x, width), lambda g: (g[inside],)


def getitem(x: Array, *, index: Any) -> tuple[Array, Vjp]:
    """x[index] for all that NumPy takes as an index; an element taken twice gets both gradients."""

    def vjp(g: Array) -> tuple[Array]:
        xp = array_module(x)
        dx = xp.zeros_like(x)
        if _takes_each_once(index):
            dx[index] = g
        else:
            xp.add.at(dx, index, g)
        return (dx,)

    return x[index], vjp


def _takes_each_once(index: Any) -> bool:
    """Whether an index cannot take an element twice: it is made of integers, slices, None and … .

    NumPy takes anything else (arrays, lists, tuples in the tuple, buffers) as an array of indices.
    """
    plain = (int, np.integer, slice, NoneType, EllipsisType)
    parts = index if isinstance(index, tuple) else (index,)
    return all(map(isinstance, parts, repeat(plain)))


def concatenate(*xs: Array, axis: int = 0) -> tuple[Array, Vjp]:
    """Join arrays along an existing axis; undone by cutting."""
    xp = array_module(xs[0])
    cuts = [int(n) for n in np.cumsum([x.shape[axis] for x in xs])[:-1]]
    return xp.concatenate(xs, axis=axis), lambda g: tuple(xp.split(g, cuts, axis=axis))


def stack(*xs: Array, axis: int = 0) -> tuple[Array, Vjp]:
    """Join arrays of equal shape along a new axis."""
    xp = array_module(xs[0])
    return xp.stack(xs, axis=axis), lambda g: tuple(xp.moveaxis(g, axis, 0))


def take(table: Array, rows: Array) -> tuple[Array, Vjp]:
    """Look up rows of a table (L, …): Y[i] = table[rows[i]].       Undone by scatter-add.

    table (L, *row)   rows (*places) integers   gives (*places, *row)
    It equals one-hot(rows) @ table.
    """
    length = table.shape[0]
    return table[rows], lambda g: (_add_rows(g, rows, length), None)


def scatter_add(x: Array, rows: Array, *, length: int) -> tuple[Array, Vjp]:
    """Add each x[i] into row rows[i] of a table of zeros. The adjoint of `take`.

    rows (*places) integers   x (*places, *row)   gives (length, *row)
    """
    return _add_rows(x, rows, length), lambda g: (g[rows], None)


def _add_rows(x: Array, rows: Array, length: int) -> Array:
    xp = array_module(x)
    tail = x.shape[rows.ndim :]
    table = xp.zeros((length, *tail), dtype=x.dtype)
    xp.add.at(table, rows.reshape(-1), x.reshape(rows.size, *tail))  # not +=: rows repeat
    return table
