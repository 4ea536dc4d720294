"""Matrix products and the linear layer on the GPU; gradients of biases are summed by all of it."""

from __future__ import annotations

from math import prod

import numpy as np

from minswin.arrays import Array, Vjp, array_module
from minswin.kernels import kernel
from minswin.kernels.gpu.launch import contiguous, same_float, sum_columns
from minswin.kernels.gpu.products import product, short
from minswin.kernels.gpu.products_with_bias import product_plus
from minswin.reference import linear as definitions
from minswin.reference.elementwise import unbroadcast
from minswin.reference.linear import swap


@kernel("linear", "cupy")
def linear(x: Array, weight: Array, bias: Array | None) -> tuple[Array, Vjp]:
    """Equals reference.linear, which runs for empty arrays and for 16 bits."""
    if not same_float(x, weight, bias) or 0 in (x.size, weight.size):
        return definitions.linear(x, weight, bias)
    shape, rows, weight = x.shape, short(x.reshape(-1, x.shape[-1])), short(weight)  # (R, K)
    y = product_plus(rows, weight.T, bias)  # (R, M)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        g = contiguous(g).reshape(-1, g.shape[-1])  # (R, M)
        dbias, g = None if bias is None else sum_columns(g, g.dtype), short(g)
        return product(g, weight).reshape(shape), product(g.T, rows), dbias

    return y.reshape(*shape[:-1], len(weight)), vjp


@kernel("matmul", "cupy")
def matmul(x: Array, y: Array) -> tuple[Array, Vjp]:
    """Equals reference.matmul, which runs for vectors, empty arrays and 16 bits."""
    if not same_float(x, y) or min(x.ndim, y.ndim) < 2 or 0 in (x.size, y.size):
        return definitions.matmul(x, y)

    def vjp(g: Array) -> tuple[Array, Array]:
        dx = unbroadcast(batched(g, swap(y)), x.shape)
        return dx, unbroadcast(batched(swap(x), g), y.shape)

    return batched(x, y), vjp


def batched(x: Array, y: Array) -> Array:
    """x @ y with any leading axes, which broadcast.

    x (*X, N, K)   y (*Y, K, M)   gives (*X and *Y broadcast, N, M)
    """
    if y.ndim == 2:  # one large product is faster than many
        return product(x.reshape(-1, x.shape[-1]), y).reshape(*x.shape[:-1], y.shape[-1])
    lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])

    def listed(a: Array) -> Array:
        """(B, rows, columns), or (1, rows, columns) where one matrix serves all."""
        if prod(a.shape[:-2]) == 1:
            return a.reshape(1, *a.shape[-2:])
        whole = array_module(a).broadcast_to(a, (*lead, *a.shape[-2:]))
        return whole.reshape(prod(lead), *a.shape[-2:])

    z = product(listed(x), listed(y))  # (B, N, M), or (1, N, M)
    return z.reshape(*lead, *z.shape[-2:])
