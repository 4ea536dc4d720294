"""Dropout and drop path on the GPU: one launch each way."""

from __future__ import annotations

import numpy as np

from minswin.arrays import Array, Vjp, array_module
from minswin.kernels import kernel
from minswin.kernels.gpu.launch import by_elements, c_name, contiguous, launch, same_float
from minswin.reference import elementwise


@kernel("dropout", "cupy")
def dropout(x: Array, keep: Array, *, rate: float) -> tuple[Array, Vjp]:
    """Equals reference.dropout, which runs where `keep` is neither x's shape nor (B, 1, …, 1)."""
    first = x.shape[: keep.ndim - keep.shape.count(1)] + (1,) * keep.shape.count(1)
    fits = x.ndim == keep.ndim and keep.shape in (x.shape, first)
    if not same_float(x) or not fits or keep.dtype != np.bool_ or not x.size:
        return elementwise.dropout(x, keep, rate=rate)
    scale, keep = scale_of(x, rate), contiguous(keep)
    return dropped(x, keep, scale), lambda g: (dropped(g, keep, scale), None)


def scale_of(x: Array, rate: float) -> np.floating:
    """What is kept is multiplied by this number of x's dtype."""
    return x.dtype.type(1 / (1 - rate) if rate < 1 else 0)


def dropped(x: Array, keep: Array, scale: np.floating, onto: Array | None = None) -> Array:
    """x · keep · scale, added to `onto` where that is given; keep is C-contiguous."""
    x, y = contiguous(x), array_module(x).empty(x.shape, x.dtype)
    adds, other = ("false", x) if onto is None else ("true", contiguous(onto))
    name, share = f"dropout<{c_name(x.dtype)}, {adds}>", x.size // keep.size
    launch("dropout.cu", name, *by_elements(x.size), x, keep, other, y, x.size, share, scale)
    return y
