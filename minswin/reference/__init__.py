"""The definitions: `value, vjp = f(*arrays, **settings)`, one text for NumPy and CuPy arrays."""

from minswin.reference import (
    attention,
    conv,
    elementwise,
    linear,
    losses,
    normalize,
    reduce,
    shape,
    windows,
)

MODULES = (elementwise, shape, reduce, linear, conv, normalize, attention, windows, losses)
