"""Layer normalisation on the GPU: a warp has a row; one kernel forward and one backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin.arrays import Array, Vjp, adding, array_module
from minswin.kernels import kernel
from minswin.kernels.gpu.launch import (
    FEW,
    FREE_SHARED,
    WARP,
    by_rows,
    c_name,
    ceil_div,
    contiguous,
    launch,
    same_float,
    sum_halves,
)
from minswin.reference import normalize

WIDEST = 8192  # columns: sums of one warp, as float64, then fill 128 KB of shared memory
LEAST = 16  # rows of a block of the backward kernel


@kernel("layer_norm", "cupy")
def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> tuple[Array, Vjp]:
    """Equals reference.layer_norm, which runs for empty arrays and for more than 8192 columns.

    It keeps x and two numbers a row. Its vjp adds (see arrays.adding).
    """
    if not fits(x, weight, bias):
        return normalize.layer_norm(x, weight, bias, eps=eps)
    _, y, vjp = normalised(x, weight, bias, eps)
    return y, vjp


def fits(x: Array, weight: Array, bias: Array) -> bool:
    C = x.shape[-1] if x.ndim else 0
    right = same_float(x, weight, bias) and weight.shape == bias.shape == (C,)
    return right and C <= WIDEST and x.size > 0


def normalised(
    x: Array, weight: Array, bias: Array, eps: float, branch: Array | None = None, drop: Any = None
) -> tuple[Array, Array, Vjp]:
    """What is normalised, the norm, and its vjp.

    branch: the norm is that of x + branch, or with a residual.Drop, of x + drop(branch)
    """
    xp, dtype, C, of = array_module(x), x.dtype, x.shape[-1], c_name(x.dtype)
    rows, x, weight = x.size // C, contiguous(x), contiguous(weight)
    y, mean, rstd = xp.empty(x.shape, dtype), xp.empty(rows, dtype), xp.empty(rows, dtype)
    adds, total, added = ("false", x, x)
    if branch is not None:
        adds, total, added = ("true", xp.empty(x.shape, dtype), branch)
    keep, share, scale = x, 0, dtype.type(1)
    if drop is not None:
        keep, share, scale = drop.keep, rows // drop.keep.size, drop.scale
    arrays = x, added, keep, weight, contiguous(bias), total, y, mean, rstd
    name = f"layer_norm_forward<{of}, {adds}>"
    sizes = rows, C, share, scale, dtype.type(eps)
    launch("layer_norm.cu", name, *by_rows(rows), *arrays, *sizes)
    x, keep = total, total if drop is None else keep  # what is summed is not held

    @adding
    def vjp(g: Array, onto: Array | None = None) -> tuple[Array, Array, Array]:
        g, dx, chunk = contiguous(g), xp.empty(x.shape, dtype), max(LEAST, ceil_div(rows, FEW))
        count, warp = ceil_div(rows, chunk), 2 * C * dtype.itemsize  # bytes of the sums of a warp
        warps = next(n for n in (8, 4, 2, 1) if n == 1 or n * warp <= FREE_SHARED)
        sums = xp.empty((count, 2 * C), np.float64)  # of dweight and of dbias
        adds, other = ("false", x) if onto is None else ("true", contiguous(onto))
        dropped = xp.empty(x.shape, dtype) if share else dx
        launch(
            "layer_norm.cu", f"layer_norm_backward<{of}, {adds}>", (count,), (WARP, warps),
            x, weight, mean, rstd, g, other, keep, dx, dropped, sums, rows, C, chunk, share, scale,
            shared=warps * warp,
        )  # fmt: skip
        if drop is not None:
            drop.gradient = dx, dropped
        return dx, *sum_halves(sums, dtype)

    return x, y, vjp
