"""What an operation has to do at least, from the shapes of its arrays: products, or bytes to move.

A kernel that computes something twice is not credited for it: rates are of the work that counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minswin.arrays import Array


def _matmul(x: Array, y: Array) -> int:
    (N, K), M = x.shape[-2:], y.shape[-1]
    return math.prod(np.broadcast_shapes(x.shape[:-2], y.shape[:-2])) * N * K * M


def _linear(x: Array, weight: Array, bias: Array | None) -> int:
    return x.size * len(weight)


def _mlp(x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> int:
    return x.size * len(w1) + x.size // x.shape[-1] * w2.size


def _conv2d(
    x: Array, weight: Array, bias: Array | None, *, stride: Any = (1, 1), padding: Any = (0, 0)
) -> int:
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True)
    places = math.prod((side + 2 * p - k) // s + 1 for side, k, s, p in sides)
    return len(x) * places * weight.size


def _attention(q: Array, k: Array, v: Array, bias: Array | None) -> int:
    lead = math.prod(q.shape[:-2])
    return lead * q.shape[-2] * k.shape[-2] * (q.shape[-1] + v.shape[-1])


def _shifted_window_attention(qkv: Array, table: Array, *, window: Any, **settings: Any) -> int:
    return 2 * math.prod(window) * (qkv.size // 3)


# Multiply-adds of the operations whose time goes into products; all others move numbers.
MACS: dict[str, Callable[..., int]] = {
    "matmul": _matmul,
    "linear": _linear,
    "mlp": _mlp,
    "conv2d": _conv2d,
    "attention": _attention,
    "shifted_window_attention": _shifted_window_attention,
}

# Backward they look at the cotangent only; the others read their inputs again.
LINEAR = {
    "add", "subtract", "negative", "sum", "mean", "reshape", "transpose", "broadcast_to", "roll",
    "pad", "getitem", "concatenate", "stack", "take", "scatter_add", "unfold", "window_partition",
    "window_merge", "patch_merge",
}  # fmt: skip


def forward_work(name: str, inputs: Sequence[Any], settings: Any, value: Array) -> tuple[int, int]:
    """(floating-point operations, bytes), one of them 0."""
    if name in MACS:
        return 2 * MACS[name](*inputs, **settings), 0
    if any(np.may_share_memory(value, x) for x in arrays(inputs)):
        return 0, 0  # a view
    return 0, size(inputs) + value.nbytes


def backward_work(
    name: str, flops: int, input_bytes: int, g: Array, gradients: Sequence[Any]
) -> tuple[int, int]:
    """(floating-point operations, bytes) of a vjp, whose forward did `flops` and read so much.

    Every product Y = A B gives two: dA = dY Bᵀ and dB = Aᵀ dY; one, where nobody asks for dA.
    """
    if name in MACS:
        return flops * (1 if gradients[0] is None else 2), 0
    made = [d for d in arrays(gradients) if not np.may_share_memory(d, g)]
    if not made:
        return 0, 0  # it passes g on
    return 0, g.nbytes + size(made) + (0 if name in LINEAR else input_bytes)


def size(inputs: Sequence[Any]) -> int:
    """Bytes of all arrays."""
    return sum(x.nbytes for x in arrays(inputs))


def arrays(inputs: Sequence[Any]) -> list[Array]:
    return [x for x in inputs if hasattr(x, "nbytes")]
