"""Softmax and log softmax on the GPU: a warp has a row."""

from __future__ import annotations

from typing import Any

from minswin.arrays import Array, Vjp, array_module
from minswin.kernels import kernel
from minswin.kernels.gpu.launch import by_rows, c_name, contiguous, launch, same_float
from minswin.reference import normalize


@kernel("softmax", "cupy")
def softmax(x: Array, *, axis: int = -1) -> tuple[Array, Vjp]:
    """Equals reference.softmax, which runs for empty and 0-d arrays, and several axes."""
    if _left_to_definition(x, axis):
        return normalize.softmax(x, axis=axis)
    return _along(x, axis, "false")


@kernel("log_softmax", "cupy")
def log_softmax(x: Array, *, axis: int = -1) -> tuple[Array, Vjp]:
    """Equals reference.log_softmax, which runs for empty and 0-d arrays, and several axes."""
    if _left_to_definition(x, axis):
        return normalize.log_softmax(x, axis=axis)
    return _along(x, axis, "true")


def _left_to_definition(x: Array, axis: Any) -> bool:
    return not same_float(x) or x.size == 0 or x.ndim == 0 or not isinstance(axis, int)


def _along(x: Array, axis: int, log: str) -> tuple[Array, Vjp]:
    """Bring the axis to the end, run the kernel on rows, and bring it back."""
    xp, names = array_module(x), f"<{c_name(x.dtype)}, {log}>"
    x = contiguous(xp.moveaxis(x, axis, -1))
    y, columns = xp.empty(x.shape, x.dtype), x.shape[-1]
    rows = x.size // columns
    launch("softmax.cu", "softmax_forward" + names, *by_rows(rows), x, y, rows, columns)

    def vjp(g: Array) -> tuple[Array]:
        g = contiguous(xp.moveaxis(g, axis, -1))
        dx = xp.empty(y.shape, y.dtype)
        launch("softmax.cu", "softmax_backward" + names, *by_rows(rows), y, g, dx, rows, columns)
        return (xp.moveaxis(dx, -1, axis),)

    return xp.moveaxis(y, -1, axis), vjp
