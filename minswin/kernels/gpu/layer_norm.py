"""Layer normalisation on the GPU: a warp has a row; one kernel forward and one backward."""

from __future__ import annotations

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
    C = x.shape[-1] if x.ndim else 0
    fits = same_float(x, weight, bias) and weight.shape == bias.shape == (C,) and C <= WIDEST
    if not x.size or not fits:
        return normalize.layer_norm(x, weight, bias, eps=eps)
    xp, dtype, rows, of = array_module(x), x.dtype, x.size // C, c_name(x.dtype)
    x, weight = contiguous(x), contiguous(weight)
    y, mean, rstd = xp.empty(x.shape, dtype), xp.empty(rows, dtype), xp.empty(rows, dtype)
    forward = x, weight, contiguous(bias), y, mean, rstd, rows, C, dtype.type(eps)
    launch("layer_norm.cu", f"layer_norm_forward<{of}>", *by_rows(rows), *forward)

    @adding
    def vjp(g: Array, onto: Array | None = None) -> tuple[Array, Array, Array]:
        g, dx, chunk = contiguous(g), xp.empty(x.shape, dtype), max(LEAST, ceil_div(rows, FEW))
        count, warp = ceil_div(rows, chunk), 2 * C * dtype.itemsize  # bytes of the sums of a warp
        warps = next(n for n in (8, 4, 2, 1) if n == 1 or n * warp <= FREE_SHARED)
        sums = xp.empty((count, 2 * C), np.float64)  # of dweight and of dbias
        adds, other = ("false", x) if onto is None else ("true", contiguous(onto))
        launch(
            "layer_norm.cu", f"layer_norm_backward<{of}, {adds}>", (count,), (WARP, warps),
            x, weight, mean, rstd, g, other, dx, sums, rows, C, chunk, shared=warps * warp,
        )  # fmt: skip
        return dx, *sum_halves(sums, dtype)

    return y, vjp
