"""Shifted-window attention on the GPU: one kernel forward, one backward."""

from __future__ import annotations

from typing import Any

from minswin.arguments import Pair
from minswin.arrays import Array, Vjp, array_module
from minswin.kernels import kernel
from minswin.kernels.gpu.launch import (
    FREE_SHARED,
    c_name,
    ceil_div,
    contiguous,
    launch,
    same_float,
    sum_columns,
)

WIDTHS = (16, 32, 64)  # numbers of a head that the kernels are compiled for
TOKENS = 256  # of a window: a block has a thread for each
FILE = "window_attention.cu"


def _takes(qkv: Array, table: Array, *, heads: int, window: Pair, **_: Any) -> bool:
    """Up to 256 tokens of a window and 64 channels of a head."""
    N, d = window[0] * window[1], qkv.shape[3] // 3 // heads
    return same_float(qkv, table) and qkv.size > 0 and N <= TOKENS and d <= WIDTHS[-1]


@kernel("shifted_window_attention", "cupy", _takes)
def shifted_window_attention(
    qkv: Array, table: Array, *, heads: int, window: Pair, shift: Pair, table_window: Pair
) -> tuple[Array, Vjp]:
    """Equals the composite of the same name.

    It keeps y and two numbers for each query and head. The gradient of the table is a sum of one
    small table for each window, in a fixed order.
    """
    (B, H, W), C = qkv.shape[:3], qkv.shape[3] // 3
    N, d = window[0] * window[1], C // heads
    xp, dtype, qkv, table = array_module(qkv), qkv.dtype, contiguous(qkv), contiguous(table)
    width = next(w for w in WIDTHS if w >= d)
    of = f"<{c_name(dtype)}, {width}>"
    windows, R = H // window[0] * (W // window[1]), (2 * window[0] - 1) * (2 * window[1] - 1)
    geometry = H, W, *window, *shift, *table_window, heads, d
    scale = dtype.type(d**-0.5)

    def run(name: str, *arrays: Array, backward: bool) -> None:
        together, tile, shared = _share(N, R, width, heads, dtype.itemsize, backward)
        grid, block = (windows, heads // together, B), (N, together)
        launch(FILE, name + of, grid, block, *arrays, *geometry, tile, scale, shared=shared)

    y, stats = xp.empty((B, H, W, C), dtype), xp.empty((B, windows, heads, N, 2), dtype)
    run("window_attention_forward", qkv, table, y, stats, backward=False)

    def vjp(g: Array) -> tuple[Array, Array]:
        dqkv, dbias = xp.empty(qkv.shape, dtype), xp.empty((B * windows, R * heads), dtype)
        arrays = qkv, table, y, stats, contiguous(g), dqkv, dbias
        run("window_attention_backward", *arrays, backward=True)
        return dqkv, _into_table(dbias, table, heads, window, table_window)

    return y, vjp


def _share(
    N: int, R: int, width: int, heads: int, itemsize: int, backward: bool
) -> tuple[int, int, int]:
    """How the memory of a block is used: heads of a block, keys of a tile, bytes.

    Small windows share a block, up to 128 threads. The numbers are those of window_attention.cu.
    """
    tile = min(32, 8 * ceil_div(N, 8))

    def needed(together: int) -> int:
        bias = tile * N + _align(2 * R) + _align(3 * N) if backward else _align(R)
        return together * (2 * tile * width + bias) * itemsize + 3 * N * 4

    together = next(
        n for n in range(heads, 0, -1)
        if n == 1 or (heads % n == 0 and n * N <= 128 and needed(n) <= FREE_SHARED)
    )  # fmt: skip
    while tile > 8 and needed(together) > 2 * FREE_SHARED:
        tile -= 8
    return together, tile, needed(together)


def _align(numbers: int) -> int:
    return 4 * ceil_div(numbers, 4)


def _into_table(dbias: Array, table: Array, heads: int, window: Pair, table_window: Pair) -> Array:
    """The sums of dbias (B · windows, R · heads), in the middle of a table that may be larger."""
    if window == table_window:
        return sum_columns(dbias, table.dtype, table.shape)
    (Mh, Mw), (Th, Tw) = window, table_window
    small = sum_columns(dbias, table.dtype).reshape(2 * Mh - 1, 2 * Mw - 1, heads)
    dtable = array_module(table).zeros(table.shape, table.dtype)
    whole = dtable.reshape(2 * Th - 1, 2 * Tw - 1, heads)
    whole[Th - Mh : Th + Mh - 1, Tw - Mw : Tw + Mw - 1] = small
    return dtable
