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
    share = x.size // keep.size if keep.size else 0
    first = x.shape[: keep.ndim - keep.shape.count(1)] + (1,) * keep.shape.count(1)
    fits = x.ndim == keep.ndim and keep.shape in (x.shape, first)
    if not same_float(x) or not fits or keep.dtype != np.bool_ or not x.size:
        return elementwise.dropout(x, keep, rate=rate)
    scale, keep = x.dtype.type(1 / (1 - rate) if rate < 1 else 0), contiguous(keep)

    def run(x: Array) -> Array:
        x, y = contiguous(x), array_module(x).empty(x.shape, x.dtype)
        name = f"dropout<{c_name(x.dtype)}>"
        launch("dropout.cu", name, *by_elements(x.size), x, keep, y, x.size, share, scale)
        return y

    return run(x), lambda g: (run(g), None)
