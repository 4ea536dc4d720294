"""GELU on the GPU, and the MLP: bias and GELU are one pass between the products of cuBLAS."""

from __future__ import annotations

import numpy as np

from minswin.arrays import Array, Vjp, array_module
from minswin.kernels import kernel
from minswin.kernels.gpu.launch import (
    by_columns,
    c_name,
    ceil_div,
    chunks,
    contiguous,
    launch,
    same_float,
    sum_columns,
)
from minswin.kernels.gpu.products import product, short, short_dtype
from minswin.kernels.gpu.products_with_bias import product_plus
from minswin.reference import elementwise

SHORT = {"float16": "__half", "bfloat16": "__nv_bfloat16"}  # what CUDA calls them


@kernel("gelu", "cupy")
def gelu(x: Array) -> tuple[Array, Vjp]:
    """Equals reference.gelu; keeps nothing but x."""
    fits = same_float(x) and x.size > 0
    return _elementwise(x, "false") if fits else elementwise.gelu(x)


@kernel("gelu_tanh", "cupy")
def gelu_tanh(x: Array) -> tuple[Array, Vjp]:
    """Equals reference.gelu_tanh; keeps nothing but x."""
    fits = same_float(x) and x.size > 0
    return _elementwise(x, "true") if fits else elementwise.gelu_tanh(x)


def _elementwise(x: Array, tanh: str) -> tuple[Array, Vjp]:
    xp, of = array_module(x), f"<{c_name(x.dtype)}, {tanh}>"
    x = contiguous(x)
    y, shape = xp.empty(x.shape, x.dtype), ((min(ceil_div(x.size, 256), 4096),), (256,))
    launch("gelu.cu", "gelu_forward" + of, *shape, x, y, x.size)

    def vjp(g: Array) -> tuple[Array]:
        dx = xp.empty(x.shape, x.dtype)
        launch("gelu.cu", "gelu_backward" + of, *shape, x, contiguous(g), dx, x.size)
        return (dx,)

    return y, vjp


def _takes(x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> bool:
    return same_float(x, w1, b1, w2, b2) and 0 not in (x.size, w1.size, w2.size)


@kernel("mlp", "cupy", _takes)
def mlp(x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> tuple[Array, Vjp]:
    """Equals composites.mlp; keeps the first product, and computes GELU again in backward.

    What goes into a product is written as short as the product reads it (products.short).
    """
    xp, dtype, written, b1 = array_module(x), x.dtype, short_dtype(x.dtype), contiguous(b1)
    of = f"<{c_name(dtype)}, {SHORT.get(written.name) or c_name(written)}>"
    shape, w1, w2 = x.shape, short(w1), short(w2)
    rows = short(contiguous(x).reshape(-1, x.shape[-1]))  # (R, C)
    hidden = product(rows, w1.T)  # (R, 4C)
    (R, columns), act = hidden.shape, xp.empty(hidden.shape, written)
    chunk, count = chunks(R, columns)
    sizes, grid = (R, columns, chunk), by_columns(columns, count)
    launch("gelu.cu", "bias_gelu_forward" + of, *grid, hidden, b1, act, *sizes)
    y = product_plus(act, w2.T, b2)  # (R, C)

    def vjp(g: Array) -> tuple[Array, ...]:
        g = contiguous(g).reshape(-1, g.shape[-1])  # (R, C)
        db2, g = sum_columns(g, dtype), short(g)
        dact, act = product(g, w2), xp.empty(hidden.shape, written)  # (R, 4C)
        dh = dact if written == dtype else xp.empty(hidden.shape, written)
        sums = xp.empty((count, columns), np.float64)
        arrays = hidden, b1, dact, act, dh, sums
        launch("gelu.cu", "bias_gelu_backward" + of, *grid, *arrays, *sizes)
        db1 = sum_columns(sums, dtype)
        dx = product(dh, w1).reshape(shape)
        return dx, product(dh.T, rows), db1, product(g.T, act), db2

    return y.reshape(*shape[:-1], len(w2)), vjp
