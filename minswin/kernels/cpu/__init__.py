"""numba kernels for NumPy arrays: importing this package enters them in the table.

`compiled` says how a loop is compiled, `exponential` has the eˣ that several of them need; every
other file is named after the definitions that it equals.
"""

from __future__ import annotations

from minswin.kernels.cpu import (
    attention,
    gelu,
    layer_norm,
    linear,
    matmul,
    softmax,
    window_attention,
)

__all__ = ["attention", "gelu", "layer_norm", "linear", "matmul", "softmax", "window_attention"]
