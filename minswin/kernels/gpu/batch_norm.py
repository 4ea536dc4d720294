"""Batch normalisation on the GPU: one launch forward, backward sums channels in float64."""

from __future__ import annotations

import numpy as np

from minswin.arrays import Array, Vjp, array_module
from minswin.kernels import kernel
from minswin.kernels.gpu.launch import (
    DEEP,
    WARP,
    by_elements,
    c_name,
    chunks,
    contiguous,
    launch,
    same_float,
    sum_columns,
    sum_halves,
)
from minswin.reference import normalize


def batch_moments(x: Array) -> tuple[Array, Array]:
    """Equals reference.normalize.batch_moments, which runs for empty arrays."""
    if x.ndim != 4 or not x.size or not same_float(x):
        return normalize.batch_moments(x)
    x, (B, C, H, W) = contiguous(x), x.shape
    chunk, count = _chunks(B, C)

    def moment(mean: Array, squares: str) -> Array:
        parts = array_module(x).empty((count, C), np.float64)
        name = f"batch_norm_moments<{c_name(x.dtype)}, {squares}>"
        sizes = B, C, H * W, chunk
        launch("batch_norm.cu", name, (C, count), (WARP, DEEP), x, mean, parts, *sizes)
        return sum_columns(parts, x.dtype)

    mean = moment(x, "false")  # which reads no mean
    return mean, moment(mean, "true")


def _chunks(images: int, channels: int) -> tuple[int, int]:
    """Images of a chunk, and the number of chunks: a channel is a block, as 32 columns are."""
    return chunks(images, channels * WARP)


@kernel("batch_norm", "cupy")
def batch_norm(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    eps: float = 1e-5,
    moments: tuple[Array, Array] | None = None,
) -> tuple[Array, Vjp]:
    """Equals reference.batch_norm, which runs for empty arrays; keeps x and two numbers a map."""
    if x.ndim != 4 or not x.size or not same_float(x, weight, bias, *(moments or ())):
        return normalize.batch_norm(x, weight, bias, eps=eps, moments=moments)
    xp, dtype, of = array_module(x), x.dtype, f"<{c_name(x.dtype)}>"
    (B, C, H, W), eps = x.shape, x.dtype.type(eps)
    x, weight, bias = map(contiguous, (x, weight, bias))
    mean, var = map(contiguous, batch_moments(x) if moments is None else moments)
    y, sizes = xp.empty(x.shape, dtype), (x.size, C, H * W, eps)
    forward = x, weight, bias, mean, var, y, *sizes
    launch("batch_norm.cu", "batch_norm_forward" + of, *by_elements(x.size), *forward)

    def vjp(g: Array) -> tuple[Array, Array, Array]:
        g, dx = contiguous(g), xp.empty(x.shape, dtype)
        chunk, count = _chunks(B, C)
        sums = xp.empty((count, 2 * C), np.float64)  # of dweight and of dbias
        parameters = x, mean, var, g, sums, B, C, H * W, chunk, eps
        name = "batch_norm_parameters" + of
        launch("batch_norm.cu", name, (C, count), (WARP, DEEP), *parameters)
        dweight, dbias = sum_halves(sums, dtype)
        backward = x, weight, mean, var, g, dweight, dbias, dx, *sizes, dtype.type(C / x.size)
        launch("batch_norm.cu", "batch_norm_backward" + of, *by_elements(x.size), *backward)
        return dx, dweight, dbias

    return y, vjp


def follow_moments(
    running_mean: Array,
    running_var: Array,
    batches: Array,
    mean: Array,
    var: Array,
    *,
    momentum: float,
    count: int,
) -> None:
    """Equals reference.normalize.follow_moments, which runs for arrays with gaps; one launch."""
    kept, dtype = (running_mean, running_var, batches), mean.dtype
    dense = all(x.flags.c_contiguous for x in kept) and batches.dtype == np.int64
    if not dense or not same_float(running_mean, running_var, mean, var):
        return normalize.follow_moments(*kept, mean, var, momentum=momentum, count=count)
    arrays = *kept, contiguous(mean), contiguous(var)
    numbers = len(mean), dtype.type(momentum), dtype.type(count / (count - 1))
    name, shape = f"batch_norm_follow<{c_name(dtype)}>", by_elements(len(mean))
    launch("batch_norm.cu", name, *shape, *arrays, *numbers)


# what the layer asks before and after
batch_norm.moments = batch_moments  # type: ignore[attr-defined]
batch_norm.follow = follow_moments  # type: ignore[attr-defined]
