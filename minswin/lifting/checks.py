"""What shapes do not show: sides that divide, settings and indices in their range.

Each check is called as its definition is: `check(*arrays, **settings)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minswin.arguments import Pair, at_least_zero, fraction
from minswin.reference.maps import METHODS

Check = Callable[..., None]


def conv2d(
    x: Any, weight: Any, bias: Any, *, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> None:
    (H, W), (kh, kw) = x.shape[2:], weight.shape[2:]
    if H + 2 * padding[0] < kh or W + 2 * padding[1] < kw:
        raise ValueError(
            f"conv2d: a {H}×{W} map with padding {padding} is smaller than the {kh}×{kw} filter; "
            "enlarge the map or the padding"
        )


def pool(who: str) -> Check:
    def check(x: Any, *, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> None:
        if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
            raise ValueError(
                f"{who}: the padding must be at most half of the kernel {kernel}, got {padding}; "
                "else a patch holds nothing of the map"
            )

    return check


def window_partition(x: Any, *, window: Pair) -> None:
    if x.shape[1] % window[0] or x.shape[2] % window[1]:
        raise ValueError(
            f"window_partition: {window[0]}×{window[1]} windows must divide x, a map (B, H, W, C), "
            f"got {x.shape}; pad it first"
        )


def window_merge(x: Any, *, window: Pair, grid: Pair) -> None:
    count, tokens = grid[0] // window[0] * (grid[1] // window[1]), window[0] * window[1]
    if x.shape[1:3] != (count, tokens):
        raise ValueError(
            f"window_merge: a {grid[0]}×{grid[1]} map of {window[0]}×{window[1]} windows needs "
            f"x (B, {count}, {tokens}, C), got {x.shape}"
        )


def shifted_window_attention(
    qkv: Any, table: Any, *, heads: int, window: Pair, shift: Pair, table_window: Pair
) -> None:
    who = "shifted_window_attention"
    if qkv.shape[3] % (3 * heads):
        raise ValueError(
            f"{who}: qkv must be a map (B, H, W, 3C) whose C divides into {heads} heads, "
            f"got {qkv.shape}"
        )
    if qkv.shape[1] % window[0] or qkv.shape[2] % window[1]:
        raise ValueError(
            f"{who}: {window[0]}×{window[1]} windows do not divide {qkv.shape}; pad the map"
        )
    if any(not 0 <= s < side for s, side in zip(shift, window, strict=True)):
        raise ValueError(f"{who}: shift must lie in 0…window − 1, got {shift} for {window}")
    rows = (2 * table_window[0] - 1) * (2 * table_window[1] - 1)
    if table.shape != (rows, heads):
        raise ValueError(
            f"{who}: a table for {table_window[0]}×{table_window[1]} windows and {heads} heads "
            f"must be {(rows, heads)}, got {table.shape}"
        )
    if window[0] > table_window[0] or window[1] > table_window[1]:
        raise ValueError(f"{who}: the window {window} is larger than its table's {table_window}")


def patch_merge(x: Any) -> None:
    if x.shape[1] % 2 or x.shape[2] % 2:
        raise ValueError(
            f"patch_merge: H and W of x, a map (B, H, W, C), must be even, got {x.shape}; "
            "pad it with one row or column of zeros"
        )


def cross_entropy(logits: Any, targets: Any, *, smoothing: float = 0.0) -> None:
    if len(logits) == 0:
        raise ValueError("cross_entropy: the batch is empty; leave such a batch out")
    if not 0 <= smoothing < 1:
        raise ValueError(f"cross_entropy: smoothing must be in [0, 1), got {smoothing}")
    if targets.ndim == 1:
        _indices("cross_entropy", "targets", targets, logits.shape[1])


def axis(who: str, *, several: bool = False) -> Check:
    """Whole numbers only: of a number without axes the definitions take 0.0 and False for 0."""

    def check(*xs: Any, axis: Any = None, keepdims: bool = False) -> None:
        if axis is None or type(axis) is int:
            return
        axes = axis if several and isinstance(axis, tuple) else (axis,)
        if any(isinstance(a, bool) or not isinstance(a, (int, np.integer)) for a in axes):
            expected = "an int, a tuple of ints or None" if several else "an int"
            raise TypeError(f"{who}: axis must be {expected}, got {axis!r}")

    return check


def norm(who: str) -> Check:
    def check(x: Any, weight: Any, bias: Any, *, eps: float = 1e-5, moments: Any = None) -> None:
        if type(eps) is not float or not 0 <= eps < math.inf:
            at_least_zero(who, "eps", eps)

    return check


def focal_loss(logits: Any, targets: Any, *, alpha: float = 0.25, gamma: float = 2.0) -> None:
    fraction("focal_loss", "alpha", alpha)
    at_least_zero("focal_loss", "gamma", gamma)
    _indices("focal_loss", "targets", targets, 2)


def take(table: Any, rows: Any) -> None:
    _indices("take", "rows", rows, len(table))


def scatter_add(x: Any, rows: Any, *, length: int) -> None:
    _indices("scatter_add", "rows", rows, length)


def dropout(x: Any, keep: Any, *, rate: float) -> None:
    if not 0 <= rate <= 1:
        raise ValueError(f"dropout: rate must be in [0, 1], got {rate}")


def resize(x: Any, *, size: Pair, method: str = "bilinear") -> None:
    if 0 in x.shape[1:3]:
        raise ValueError(f"resize: x must be a map (B, H, W, C) with H, W >= 1, got {x.shape}")
    if method not in METHODS:
        raise ValueError(f"resize: method must be one of {', '.join(METHODS)}, got {method}")


def _indices(who: str, argument: str, indices: Any, count: int) -> None:
    if not isinstance(indices, np.ndarray):
        return  # looking at the numbers would wait for the GPU
    if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= count):
        raise ValueError(
            f"{who}: {argument} must lie in 0…{count - 1}, "
            f"got values from {int(indices.min())} to {int(indices.max())}"
        )
