"""numba kernels for NumPy arrays: importing this package enters them in the table.

`compiled` says how a loop is compiled, `ahead` by which process; `simd` has vectors of eight
numbers, `tiles` those of matrix products, `products` a product of them, `rows` one of many rows,
and `heads` attention of one head, which the others are made of. Every other file is named after the
definitions that it equals.
"""

from __future__ import annotations

from minswin.kernels.blas import take_over
from minswin.kernels.cpu import (
    ahead,
    attention,
    conv,
    gelu,
    layer_norm,
    linear,
    losses,
    matmul,
    softmax,
    updates,
    window_attention,
)
from minswin.kernels.cpu.memory import keep_freed_memory

__all__ = [
    "attention",
    "conv",
    "gelu",
    "layer_norm",
    "linear",
    "losses",
    "matmul",
    "softmax",
    "updates",
    "window_attention",
]

keep_freed_memory()
take_over()
ahead.watch()
