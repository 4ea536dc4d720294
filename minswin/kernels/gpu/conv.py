"""Convolution on the GPU: the definition, with the products of cuBLAS."""

from __future__ import annotations

from minswin.arrays import Array, Vjp, array_module
from minswin.kernels import kernel
from minswin.kernels.gpu.launch import by_elements, c_name, contiguous, launch, same_float
from minswin.kernels.gpu.linear import linear
from minswin.reference.conv import Pair, unfold


@kernel("conv2d", "cupy")
def conv2d(
    x: Array, weight: Array, bias: Array | None, *, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> tuple[Array, Vjp]:
    """Equals reference.conv2d; one launch puts the gradients of patches back on the map."""
    patches, undo_unfold = unfold(x, kernel=weight.shape[2:], stride=stride, padding=padding)
    grid = patches.shape[1:3]
    tiled = tuple(n * k for n, k in zip(grid, weight.shape[2:], strict=True)) == x.shape[2:]
    if tiled and stride == weight.shape[2:]:
        undo_unfold = lambda g: (_untiled(g, weight.shape[2:]),)  # noqa: E731
    elif same_float(x) and x.size and patches.size:
        undo_unfold = lambda g: (_folded(g, x, weight.shape[2:], stride, padding),)  # noqa: E731
    y, undo_linear = linear(patches, weight.reshape(len(weight), -1), bias)  # (B, H', W', D)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        dpatches, dmatrix, dbias = undo_linear(g.transpose(0, 2, 3, 1))
        return *undo_unfold(dpatches), dmatrix.reshape(weight.shape), dbias

    return y.transpose(0, 3, 1, 2), vjp


def _folded(g: Array, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Patches (B, H', W', C·kh·kw) that overlap, added up: (B, C, H, W) like x."""
    dx = array_module(x).empty(x.shape, x.dtype)
    sizes = x.size, *x.shape[1:], *g.shape[1:3], *kernel, *stride, *padding
    name = f"fold<{c_name(x.dtype)}>"
    launch("fold.cu", name, *by_elements(x.size), contiguous(g), dx, *sizes)
    return dx


def _untiled(g: Array, kernel: Pair) -> Array:
    """Patches (B, H', W', C·kh·kw) side by side: (B, C, H'·kh, W'·kw)."""
    (B, H, W), (kh, kw) = g.shape[:3], kernel
    g = g.reshape(B, H, W, -1, kh, kw).transpose(0, 3, 1, 4, 2, 5)  # (B, C, H', kh, W', kw)
    return g.reshape(B, -1, H * kh, W * kw)
