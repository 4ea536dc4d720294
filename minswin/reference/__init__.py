"""The definitions: `value, vjp = f(*arrays, **settings)`, the same for NumPy and CuPy arrays.

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

__all__ = [
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
