"""Convolution on the GPU: the definition, with the products of cuBLAS."""

from __future__ import annotations

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.gpu.linear import linear
from minswin.reference.conv import Pair, unfold


@kernel("conv2d", "cupy")
def conv2d(
    x: Array, weight: Array, bias: Array | None, *, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> tuple[Array, Vjp]:
    """Equals reference.conv2d."""
    patches, undo_unfold = unfold(x, kernel=weight.shape[2:], stride=stride, padding=padding)
    y, undo_linear = linear(patches, weight.reshape(len(weight), -1), bias)  # (B, H', W', D)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        dpatches, dmatrix, dbias = undo_linear(g.transpose(0, 2, 3, 1))
        return *undo_unfold(dpatches), dmatrix.reshape(weight.shape), dbias

    return y.transpose(0, 3, 1, 2), vjp
