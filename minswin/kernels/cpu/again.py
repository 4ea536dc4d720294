"""Rows that backward computes again, a block at a time, instead of keeping them.

A linear layer keeps its input for the gradient of its weight. Where that is the output of a layer
norm it need not: the norm keeps its own input anyway, and a block of it is soon normalised again.
The same goes for a norm of a norm, as in the first block of a Swin.
swin_cifar, 128 images: 355 MiB held after forward, 265 with this file. A step of 64 images takes as
long, within the spread of 353 to 374 ms (one core of an AMD EPYC, four runs of each in turn).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

from minswin.arrays import Array

Rows = Callable[[slice], Array]  # a block of rows, (n, C)

_known: dict[int, tuple[Callable[[], Array], Rows]] = {}  # by id: weak reference, and its rows


def can_be_computed_again(y: Array, rows: Rows) -> None:
    """Note that rows(block) computes the rows `block` of y (R, C) once more.

    y owns its memory and is not written into; `rows` must not hold it. Forgotten when y is freed.
    """
    key = id(y)
    _known[key] = weakref.ref(y, lambda _: _known.pop(key, None)), rows


def later(x: Array) -> Rows:
    """A function that gives rows of x (R, C) in backward: it holds x only where it has to."""
    owner = x if x.base is None else x.base
    y, rows = _known.get(id(owner), (None, None))
    if rows is None or y is None or owner is not y():
        return x.__getitem__
    return rows if x.shape == owner.shape and x.flags.carray else x.__getitem__
