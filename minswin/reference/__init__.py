"""The definitions: `value, vjp = f(*arrays, **settings)`, one text for NumPy and CuPy arrays.

In `updates`, which is not about derivatives, each changes its arrays in place instead.
"""

from minswin.reference import (
    attention,
    conv,
    detection,
    elementwise,
    linear,
    losses,
    maps,
    normalize,
    reduce,
    shape,
    updates,
    windows,
)

MODULES = (
    elementwise,
    shape,
    reduce,
    linear,
    conv,
    normalize,
    attention,
    windows,
    losses,
    maps,
    detection,
)

__all__ = [
    "MODULES",
    "attention",
    "conv",
    "detection",
    "elementwise",
    "linear",
    "losses",
    "maps",
    "normalize",
    "reduce",
    "shape",
    "updates",
    "windows",
]
