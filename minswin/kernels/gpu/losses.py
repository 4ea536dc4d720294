"""Cross-entropy on the GPU: a warp has a row of logits."""

from __future__ import annotations

import numpy as np

from minswin.arrays import Array, Vjp, array_module
from minswin.kernels import kernel
from minswin.kernels.gpu.launch import by_rows, c_name, contiguous, launch, same_float, sum_columns
from minswin.reference import losses


@kernel("cross_entropy", "cupy")
def cross_entropy(logits: Array, targets: Array, *, smoothing: float = 0.0) -> tuple[Array, Vjp]:
    """Equals reference.cross_entropy, which runs for what is empty or does not fit.

    A label that is no class makes the loss NaN: to look at the labels would be to wait for the GPU.
    """
    if not same_float(logits) or logits.ndim != 2 or not logits.size or not _fit(logits, targets):
        return losses.cross_entropy(logits, targets, smoothing=smoothing)
    xp, (B, K), dtype = array_module(logits), logits.shape, logits.dtype
    hard, targets = targets.ndim == 1, contiguous(targets)
    if hard:
        targets = targets.astype(np.int64, copy=False)
    of = f"<{c_name(dtype)}, {'true' if hard else 'false'}>"
    numbers = B, K, dtype.type(1 - smoothing), dtype.type(smoothing / K)
    y, rows = xp.empty((B, K), dtype), xp.empty((B, 1), np.float64)
    arrays = contiguous(logits), targets, y, rows
    launch("losses.cu", "cross_entropy_forward" + of, *by_rows(B), *arrays, *numbers)

    def vjp(g: Array) -> tuple[Array, Array | None]:
        dx = xp.empty((B, K), dtype)
        dtargets = dx if hard else xp.empty((B, K), dtype)  # the kernel leaves it alone where hard
        arrays = y, targets, contiguous(g), dx, dtargets
        launch("losses.cu", "cross_entropy_backward" + of, *by_rows(B), *arrays, *numbers)
        return dx, None if hard else dtargets

    return sum_columns(rows, dtype).reshape(()), vjp


def _fit(logits: Array, targets: Array) -> bool:
    if targets.ndim == 1:
        return targets.shape == logits.shape[:1] and targets.dtype.kind in "iu"
    return same_float(logits, targets) and targets.shape == logits.shape
