"""CUDA kernels for CuPy arrays: importing this package enters them in the table.

`launch` compiles the .cu files of this folder, when a kernel first runs, and starts their kernels;
`products` and `products_with_bias` are cuBLAS's; every other file is named after the definitions
that it equals. Nothing here imports CuPy: a kernel takes the array library from its arrays. No
kernel waits for the GPU, all run in CuPy's current stream, and all sums have a fixed order, so the
same numbers give the same bits.
"""

from __future__ import annotations

from minswin.kernels.gpu import (
    attention,
    batch_norm,
    conv,
    dropout,
    gelu,
    layer_norm,
    linear,
    losses,
    maps,
    residual,
    softmax,
    updates,
    window_attention,
)

__all__ = [
    "attention",
    "batch_norm",
    "conv",
    "dropout",
    "gelu",
    "layer_norm",
    "linear",
    "losses",
    "maps",
    "residual",
    "softmax",
    "updates",
    "window_attention",
]
