"""Shifted-window attention as one kernel: what the windows of a map need is found by index.

Equals composites.shifted_window_attention. Window by window and head by head, q, k and v are
gathered from the map into scratch that stays in the cache, and the result is scattered back: the
roll, the partition and their inverses are only a list of places, and nothing of size
windows × N × N is ever stored.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minswin.arguments import Pair
from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.compiled import compiled, contiguous
from minswin.kernels.cpu.heads import (
    backward_room,
    forward_room,
    gather,
    head_backward,
    head_forward,
    scatter,
)
from minswin.kernels.cpu.products import padded, turn
from minswin.reference.shape import roll
from minswin.reference.windows import attention_mask, relative_position_index, window_partition


@kernel("shifted_window_attention", "numba")
def shifted_window_attention(
    qkv: Array, table: Array, *, heads: int, window: Pair, shift: Pair, table_window: Pair
) -> tuple[Array, Vjp]:
    """Equals the composite of the same name; serial, without the interpreter lock."""
    (B, H, W), C = qkv.shape[:3], qkv.shape[3] // 3
    index = relative_position_index(window, table_window)  # (N, N)
    places, kinds = _geometry((H, W), window, shift)
    biases = _padded_biases(table[index], (H, W), window, shift)  # (kinds, h, keys, queries)
    flat = contiguous(qkv).reshape(-1)
    y = np.empty((B, H, W, C), qkv.dtype)
    head = len(index), len(index), C // heads, C // heads, qkv.dtype
    room = forward_room(*head)
    _forward(flat, places, kinds, biases.reshape(-1), y.reshape(-1), room, B, heads, H * W, C)

    def vjp(g: Array) -> tuple[Array, Array]:
        dqkv, dbias = np.empty(qkv.shape, qkv.dtype), np.zeros(biases.shape[1:])  # in float64
        g, of_bias = contiguous(g).reshape(-1), dbias.reshape(-1)
        of_image = np.zeros_like(of_bias, dtype=qkv.dtype)  # dbias of the windows of one image
        to = dqkv.reshape(-1), of_image, of_bias, backward_room(*head)
        _backward(flat, places, kinds, biases.reshape(-1), g, *to, B, heads, H * W, C)
        pairs = dbias[..., : len(index)].transpose(0, 2, 1).reshape(heads, -1)  # (h, N²)
        rows = len(table)
        dtable = np.stack([np.bincount(index.reshape(-1), p, rows) for p in pairs], axis=1)
        return dqkv, dtable.astype(table.dtype)

    return y, vjp


# ── the geometry: roll and partition, done once to the numbers of the tokens ─────────────────────


@lru_cache(maxsize=64)
def _geometry(grid: Pair, window: Pair, shift: Pair) -> tuple[Array, Array]:
    """Where the tokens of each window of the rolled map lie, in 0…HW−1, and the window's mask.

    Gives places (nW, N), kinds (nW,): 0 inside, 1 last column, 2 last row, 3 last of both
    """
    tokens = np.arange(grid[0] * grid[1]).reshape(1, *grid, 1)
    rolled, _ = roll(tokens, shift=(-shift[0], -shift[1]))
    places, _ = window_partition(rolled, window=window)  # (1, nW, N, 1)
    nh, nw = grid[0] // window[0], grid[1] // window[1]
    last_row = (np.arange(nh) == nh - 1) & (shift[0] > 0)
    last_column = (np.arange(nw) == nw - 1) & (shift[1] > 0)
    kinds = 2 * last_row[:, None] + last_column  # (nh, nw)
    return np.ascontiguousarray(places[0, :, :, 0]), kinds.reshape(-1)


@lru_cache(maxsize=64)
def _masks(grid: Pair, window: Pair, shift: Pair) -> Array:
    """The masks of the four kinds of windows: (4, N, N)."""
    N = window[0] * window[1]
    masks, (_, kinds) = np.zeros((4, N, N)), _geometry(grid, window, shift)
    if any(shift):
        masks[kinds] = attention_mask(grid, window, shift)  # windows of one kind have one mask
    return masks


def _padded_biases(bias: Array, grid: Pair, window: Pair, shift: Pair) -> Array:
    """Bias + mask of the four kinds of windows, transposed.     bias (N, N, h)  gives (4, h, N, Np)

    Padded on the right with queries that nobody asks.
    """
    N, heads = bias.shape[1:]
    biases = np.zeros((4, heads, N, padded(N, 8)), bias.dtype)
    masks = _masks(grid, window, shift).transpose(0, 2, 1)
    biases[..., :N] = bias.transpose(2, 1, 0) + masks[:, None]
    return biases


# ── the windows ──────────────────────────────────────────────────────────────────────────────────


@compiled
def _forward(
    qkv: Any, places: Any, kinds: Any, biases: Any, y: Any, room: Any,
    B: int, heads: int, HW: int, C: int,
) -> None:  # fmt: skip
    kind, N, d = qkv.dtype, places.shape[1], C // heads
    one, scale = kind.type(1), kind.type(1 / np.sqrt(d))
    Np, dp = padded(N, 8), padded(d, 8)
    q, qt, k, v, y_rows, pt, zero = room
    for b in range(B):
        for w in range(len(kinds)):
            for head in range(heads):
                start = b * HW * 3 * C + head * d
                gather(qkv, start, 3 * C, places[w], d, scale, q, dp)
                gather(qkv, start + C, 3 * C, places[w], d, one, k, dp)
                gather(qkv, start + 2 * C, 3 * C, places[w], d, one, v, dp)
                turn(q, dp, qt, Np, Np, dp)
                bias = biases, (kinds[w] * heads + head) * N * Np, Np
                head_forward(qt, k, v, bias, y_rows, pt, zero, N, N, d, d, Np, dp, dp)
                scatter(y_rows, dp, places[w], d, one, y, b * HW * C + head * d, C)


@compiled
def _backward(
    qkv: Any, places: Any, kinds: Any, biases: Any, g: Any,
    dqkv: Any, of_image: Any, dbias: Any, room: Any, B: int, heads: int, HW: int, C: int,
) -> None:  # fmt: skip
    kind, N, d = qkv.dtype, places.shape[1], C // heads
    one, scale = kind.type(1), kind.type(1 / np.sqrt(d))
    Np, dp = padded(N, 8), padded(d, 8)
    q, qt, k, v, dy, dyt, dq, dk, dv, pt, dst, zero = room
    for b in range(B):
        of_image[:] = 0
        for w in range(len(kinds)):
            for head in range(heads):
                start = b * HW * 3 * C + head * d
                gather(qkv, start, 3 * C, places[w], d, scale, q, dp)
                gather(qkv, start + C, 3 * C, places[w], d, one, k, dp)
                gather(qkv, start + 2 * C, 3 * C, places[w], d, one, v, dp)
                gather(g, b * HW * C + head * d, C, places[w], d, one, dy, dp)
                turn(q, dp, qt, Np, Np, dp)
                turn(dy, dp, dyt, Np, Np, dp)
                bias = biases, (kinds[w] * heads + head) * N * Np, Np
                to = dq, dk, dv, (of_image, head * N * Np, Np)
                head_backward(
                    q, qt, k, v, bias, dy, dyt, *to, pt, dst, zero, N, N, d, d, Np, dp, dp
                )
                scatter(dq, dp, places[w], d, scale, dqkv, start, 3 * C)
                scatter(dk, dp, places[w], d, one, dqkv, start + C, 3 * C)
                scatter(dv, dp, places[w], d, one, dqkv, start + 2 * C, 3 * C)
        for i in range(len(of_image)):
            dbias[i] += of_image[i]
