"""Windows: how Swin cuts a map, which bias and mask the tokens of a window get, how maps merge.

A map is (B, H, W, C). A window is Mh×Mw tokens, N = Mh·Mw, read row by row. Windows are numbered
row by row too, and stay on an axis of their own: (B, windows, N, C).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from minswin.arguments import Pair, pair
from minswin.arrays import Array, Vjp

__all__ = [
    "attention_mask",
    "patch_merge",
    "relative_position_index",
    "shift_regions",
    "window_merge",
    "window_partition",
]


# ── partition and merge ──────────────────────────────────────────────────────────────────────────


def _cut(x: Array, window: Pair) -> Array:
    B, H, W, C = x.shape
    Mh, Mw = window
    x = x.reshape(B, H // Mh, Mh, W // Mw, Mw, C)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # (B, H/Mh, W/Mw, Mh, Mw, C)
    return x.reshape(B, (H // Mh) * (W // Mw), Mh * Mw, C)


def _join(x: Array, window: Pair, grid: Pair) -> Array:
    (H, W), (Mh, Mw) = grid, window
    B, _, _, C = x.shape
    x = x.reshape(B, H // Mh, W // Mw, Mh, Mw, C)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # (B, H/Mh, Mh, W/Mw, Mw, C)
    return x.reshape(B, H, W, C)


def window_partition(x: Array, *, window: Pair) -> tuple[Array, Vjp]:
    """Cut a map into windows.                                            Liu et al. 2021, §3.2

    x (B, H, W, C)   gives (B, H/Mh · W/Mw, Mh·Mw, C);   the window must divide the map
    """
    grid = x.shape[1:3]
    return _cut(x, window), lambda g: (_join(g, window, grid),)


def window_merge(x: Array, *, window: Pair, grid: Pair) -> tuple[Array, Vjp]:
    """Put the windows of a map of size `grid` = (H, W) together again: undoes window_partition.

    x (B, windows, N, C) with N = Mh·Mw   gives (B, H, W, C)
    """
    return _join(x, window, grid), lambda g: (_cut(g, window),)


def patch_merge(x: Array) -> tuple[Array, Vjp]:
    """Gather each 2×2 neighbourhood into the channels of one token.     Liu et al. 2021, §3.1

    x (B, H, W, C), H and W even   gives (B, H/2, W/2, 4C): groups of C channels from the
    neighbours (row, column) = (0,0), (1,0), (0,1), (1,1). The row varies FASTEST: the published
    weights depend on this order, and row-major order is the classic bug of a port.
    """
    B, H, W, C = x.shape
    y = x.reshape(B, H // 2, 2, W // 2, 2, C)
    y = y.transpose(0, 1, 3, 4, 2, 5)  # (B, H/2, W/2, column, row, C)

    def vjp(g: Array) -> tuple[Array]:
        g = g.reshape(B, H // 2, W // 2, 2, 2, C)
        return (g.transpose(0, 1, 4, 2, 3, 5).reshape(B, H, W, C),)

    return y.reshape(B, H // 2, W // 2, 4 * C), vjp


# ── which bias belongs to a pair of tokens ───────────────────────────────────────────────────────


@lru_cache(maxsize=32)
def relative_position_index(
    window: int | Pair, table_window: int | Pair | None = None
) -> np.ndarray:
    """Row of the bias table for query p and key q of a window: by displacement p − q.

        index(p, q) = (rₚ − r_q + Mh − 1) · (2 Mw − 1) + (cₚ − c_q + Mw − 1)

    gives (N, N) integers, read-only.             Liu et al. 2021, §3.2, "Relative position bias"
    A table made for a larger window serves a smaller one: pass the table's own window as
    `table_window`, which is the M of the formula.

    >>> relative_position_index((2, 2)).tolist()
    [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    """
    window = pair("relative_position_index", "window", window)
    Mh, Mw = pair("relative_position_index", "table_window", table_window or window)
    row, column = np.divmod(np.arange(window[0] * window[1]), window[1])  # (N,) each
    dr = row[:, None] - row[None, :]  # (N, N): query minus key
    dc = column[:, None] - column[None, :]
    return _frozen((dr + Mh - 1) * (2 * Mw - 1) + (dc + Mw - 1))


# ── which tokens of a shifted window may see each other ──────────────────────────────────────────


@lru_cache(maxsize=32)
def shift_regions(grid: int | Pair, window: int | Pair, shift: int | Pair) -> np.ndarray:
    """Label the ROLLED map by the piece of the image that a token comes from.

    gives (H, W) integers 0…8, read-only. Per axis: 0 up to the last window, 1 the part of the last
    window that was there before, 2 the part that the roll brought from the other end of the image.
    Labels are compared only inside a window, so all the windows that are whole may share the 0.

    >>> shift_regions(8, 4, 2)[0].tolist()  # the first row: column 4 begins the last window
    [0, 0, 0, 0, 1, 1, 2, 2]
    """
    who = "shift_regions"
    (H, W), (Mh, Mw) = pair(who, "grid", grid), pair(who, "window", window)
    sh, sw = pair(who, "shift", shift, 0)
    rows = np.repeat([0, 1, 2], [H - Mh, Mh - sh, sh]) if sh else np.zeros(H, dtype=np.intp)
    columns = np.repeat([0, 1, 2], [W - Mw, Mw - sw, sw]) if sw else np.zeros(W, dtype=np.intp)
    return _frozen(rows[:, None] * 3 + columns[None, :])


@lru_cache(maxsize=32)
def attention_mask(
    grid: int | Pair, window: int | Pair, shift: int | Pair, value: float = -100.0
) -> np.ndarray:
    """What to add to the logits so that only tokens of one region see each other.

    gives (windows, N, N) float32: 0 for a pair of one region, `value` for the others, read-only.
    The original writes −100, not −∞: a masked probability is about e⁻¹⁰⁰, not exactly 0.
    """
    regions, _ = window_partition(
        shift_regions(grid, window, shift)[None, ..., None],
        window=pair("attention_mask", "window", window),
    )
    labels = regions[0, :, :, 0]  # (windows, N)
    apart = labels[:, :, None] != labels[:, None, :]  # (windows, N, N)
    return _frozen(np.where(apart, np.float32(value), np.float32(0)))


def _frozen(x: np.ndarray) -> np.ndarray:
    x.setflags(write=False)  # it is cached: nobody may change it
    return x
