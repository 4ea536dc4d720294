"""Cross-entropy: one pass over the logits, some rows at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.compiled import compiled, contiguous, same_float
from minswin.kernels.cpu.products import padded
from minswin.kernels.cpu.simd import LANES, absolute, fma, load, splat, store, total, where_negative
from minswin.kernels.cpu.softmax import (
    BLOCK,
    block,
    fill_rows,
    log_softmax_rows,
    take_rows,
    undo_log_softmax_rows,
)
from minswin.reference import losses

FEWEST = 2**14  # logits; for fewer, compiling the loops takes longer than they can ever save


@kernel("cross_entropy", "numba")
def cross_entropy(logits: Array, targets: Array, *, smoothing: float = 0.0) -> tuple[Array, Vjp]:
    """Equals reference.cross_entropy, which runs for what is small or does not fit.

    It keeps log softmax(logits), not its exponential: the gradient of soft targets is made of it.
    """
    large = logits.ndim == 2 and logits.size >= FEWEST
    if not large or not same_float(logits) or not _fit(logits, targets):
        return losses.cross_entropy(logits, targets, smoothing=smoothing)
    (B, K), kind = logits.shape, logits.dtype.type
    hard = targets.ndim == 1
    labels = np.array(targets if hard else [], np.intp)  # (B,) or (0,)
    soft = np.empty(0, kind) if hard else contiguous(targets).reshape(-1)
    smooth = kind(1 - smoothing), kind(smoothing / K)
    y, rooms = np.empty(B * K, kind), (block(K, kind), block(K, kind))
    loss = -_forward(contiguous(logits).reshape(-1), labels, soft, *smooth, y, *rooms, K) / B

    def vjp(g: Array) -> tuple[Array, Array | None]:
        share, dx = kind(g * (-1 / B)), np.empty_like(y)
        rooms = block(K, kind), block(K, kind)
        _backward(y, labels, soft, *smooth, share, dx, *rooms, K)
        dtargets = None if hard else (share * smooth[0] * y).reshape(B, K)
        return dx.reshape(B, K), dtargets

    return kind(loss), vjp


def _fit(logits: Array, targets: Array) -> bool:
    if targets.ndim != 1:
        return same_float(logits, targets) and targets.shape == logits.shape
    (B, K), whole = logits.shape, targets.dtype.kind in "iu"
    return len(targets) == B and whole and 0 <= targets.min() and targets.max() < K


@compiled
def _forward(
    x: Any, labels: Any, soft: Any, keep: Any, even: Any, y: Any, p: Any, t: Any, columns: int
) -> float:
    """y = log softmax(x); gives Σ t y over all rows, in float64."""
    width = padded(columns, LANES)
    step = max(1, BLOCK // width)
    sum_of_all, one = 0.0, x.dtype.type(1)
    for start in range(0, len(x), step * columns):
        rows = min(step, (len(x) - start) // columns)
        fill_rows(x, start, columns, -np.inf, p, rows, width)
        log_softmax_rows(p, rows, width)
        take_rows(p, width, y, start, columns, rows)
        fill_rows(y, start, columns, 0.0, p, rows, width)  # for −∞ times 0 would be NaN
        _fill_targets(labels, soft, start, columns, keep, even, one, t, rows, width)
        for row in range(0, rows * width, width):
            zero = sums = splat(x.dtype.type(0))
            for j in range(row, row + width, LANES):
                weight = load(t, j)
                counted = where_negative(zero - absolute(weight), load(p, j), zero)  # 0 log 0 is 0
                sums = fma(weight, counted, sums)
            sum_of_all += total(sums)
    return sum_of_all


@compiled
def _backward(
    y: Any, labels: Any, soft: Any, keep: Any, even: Any, share: Any, dx: Any, p: Any, t: Any,
    columns: int,
) -> None:  # fmt: skip
    width = padded(columns, LANES)
    step = max(1, BLOCK // width)
    for start in range(0, len(y), step * columns):
        rows = min(step, (len(y) - start) // columns)
        fill_rows(y, start, columns, 0.0, p, rows, width)
        _fill_targets(labels, soft, start, columns, keep, even, share, t, rows, width)
        undo_log_softmax_rows(p, t, rows, width)
        take_rows(t, width, dx, start, columns, rows)


@compiled
def _fill_targets(
    labels: Any, soft: Any, start: int, columns: int, keep: Any, even: Any, share: Any,
    t: Any, rows: int, width: int,
) -> None:  # fmt: skip
    """t = share · (keep · targets + even), with 0 where the rows are filled up."""
    if len(soft):
        fill_rows(soft, start, columns, 0.0, t, rows, width)
    else:
        t[: rows * width] = 0
        for i in range(rows):
            t[i * width + labels[start // columns + i]] = 1
    for j in range(0, rows * width, LANES):
        store(t, j, splat(share) * fma(load(t, j), splat(keep), splat(even)))
    for i in range(rows):
        t[i * width + columns : (i + 1) * width] = 0
