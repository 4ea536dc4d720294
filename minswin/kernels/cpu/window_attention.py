"""Shifted-window attention as one kernel: what the windows of a map need is found by index.

Equals composites.shifted_window_attention. Window by window and some heads at a time, q, k and v
are gathered from the map into scratch that stays in the cache, and the result is scattered back:
the roll, the partition and their inverses are only a list of places, and nothing of size
windows × N × N is ever stored. While a head is computed, the memory is asked for what comes next:
the rows of a window lie too far apart for the processor to guess.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minswin.arguments import Pair
from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.compiled import compiled, contiguous, written_out
from minswin.kernels.cpu.heads import (
    backward_room,
    expect,
    forward_room,
    gather,
    head_backward,
    head_forward,
    scatter,
)
from minswin.kernels.cpu.products import padded, turn
from minswin.kernels.cpu.simd import LANES
from minswin.reference.shape import roll
from minswin.reference.windows import attention_mask, relative_position_index, window_partition


@kernel("shifted_window_attention", "numba")
def shifted_window_attention(
    qkv: Array, table: Array, *, heads: int, window: Pair, shift: Pair, table_window: Pair
) -> tuple[Array, Vjp]:
    """Equals the composite of the same name; serial, without the interpreter lock."""
    (B, H, W), C = qkv.shape[:3], qkv.shape[3] // 3
    places, kinds = _geometry((H, W), window, shift)
    index, N = _padded_index(window, table_window), places.shape[1]
    biases = _masks((H, W), window, shift, table.dtype) + table.T.take(index, 1, mode="clip")
    flat = contiguous(qkv).reshape(-1)
    y = np.empty((B, H, W, C), qkv.dtype)
    few = _heads_at_a_time(heads, N, C // heads)
    sizes = N, N, C // heads, C // heads, qkv.dtype, few
    room = forward_room(*sizes)
    _forward(flat, places, kinds, biases.reshape(-1), y.reshape(-1), room, B, heads, few, H * W, C)

    def vjp(g: Array) -> tuple[Array, Array]:
        dqkv, dbias = np.empty(qkv.shape, qkv.dtype), np.zeros(biases.shape[1:])  # in float64
        g, of_bias = contiguous(g).reshape(-1), dbias.reshape(-1)
        of_image = np.zeros_like(of_bias, dtype=qkv.dtype)  # dbias of the windows of one image
        to = dqkv.reshape(-1), of_image, of_bias, backward_room(*sizes)
        _backward(flat, places, kinds, biases.reshape(-1), g, *to, B, heads, few, H * W, C)
        rows = len(table) + 1
        numbers = index.reshape(-1) + rows * np.arange(heads)[:, None]  # of all heads at once
        dtable = np.bincount(numbers.reshape(-1), of_bias, rows * heads).reshape(heads, rows)
        return dqkv, dtable[:, :-1].T.astype(table.dtype, order="C")

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
def _masks(grid: Pair, window: Pair, shift: Pair, dtype: Any) -> Array:
    """The masks of the four kinds of windows: (4, 1, keys, queries); of the one without a shift."""
    N, (_, kinds) = window[0] * window[1], _geometry(grid, window, shift)
    masks = np.zeros((4 if any(shift) else 1, 1, N, padded(N, 8)), dtype)
    if any(shift):  # windows of one kind have one mask, and it is symmetric
        masks[kinds, 0, :, :N] = attention_mask(grid, window, shift)
    return masks


@lru_cache(maxsize=64)
def _padded_index(window: Pair, table_window: Pair) -> Array:
    """The row of the table that a pair has: (keys, queries).

    Padded on the right with queries that nobody asks, whose row comes after those of the table.
    """
    index = relative_position_index(window, table_window)
    missing, rows = -len(index) % LANES, (2 * table_window[0] - 1) * (2 * table_window[1] - 1)
    return np.pad(index.T, ((0, 0), (0, missing)), constant_values=rows)


# ── the windows ──────────────────────────────────────────────────────────────────────────────────


SOME = 3072  # numbers of q that are gathered at a time, or else those of one head: 12 of 16 × 16


def _heads_at_a_time(heads: int, N: int, d: int) -> int:
    """How many heads are gathered together: their short rows side by side are long ones.

    One, where rows are padded.
    """
    most = 1 if d % LANES else max(1, min(heads, SOME // (N * d)))
    return -(-heads // -(-heads // most))  # about the same number each time


@written_out
def _part(i: int, parts: int, nW: int, HW: int, wide: int) -> tuple[int, int, int]:
    """The first token of the image, the window and the first channel that are the i-th in order."""
    return i // parts // nW * HW, i // parts % nW, i % parts * wide


@compiled
def _forward(
    qkv: Any, places: Any, kinds: Any, biases: Any, y: Any, room: Any,
    B: int, heads: int, few: int, HW: int, C: int,
) -> None:  # fmt: skip
    kind, (nW, N), d = qkv.dtype, places.shape, C // heads
    one, scale = kind.type(1), kind.type(1 / np.sqrt(d))
    Np, row, parts = padded(N, 8), few * padded(d, 8), -(-heads // few)
    q, qt, k, v, y_rows, pt, zero = room
    for i in range(B * parts * nW):
        token, w, channel = _part(i, parts, nW, HW, few * d)
        after, next_w, next_channel = _part(i + 1, parts, nW, HW, few * d)
        start, width = token * 3 * C + channel, min(few * d, C - channel)
        ahead, ahead_y = after * 3 * C + next_channel, after * C + next_channel
        gather(qkv, start, 3 * C, places[w], width, scale, q, row)
        gather(qkv, start + C, 3 * C, places[w], width, one, k, row)
        gather(qkv, start + 2 * C, 3 * C, places[w], width, one, v, row)
        turn(q, row, qt, Np, Np, row)
        for j in range(0, width, d):
            head, reach = (channel + j) // d, d + (j + d == width)  # the last line ends later
            head_forward(
                (qt, j * Np, Np), (k, j, row), (v, j, row),
                (biases, (kinds[w] * heads + head) * N * Np, Np), (y_rows, j, row),
                pt, zero, N, N, d, d,
            )  # fmt: skip
            expect(qkv, ahead + j, 3 * C, places[next_w], reach, C, 3)
            expect(y, ahead_y + j, C, places[next_w], reach, C, 1, to_write=True)
        scatter(y_rows, row, places[w], width, one, y, token * C + channel, C)


@compiled
def _backward(
    qkv: Any, places: Any, kinds: Any, biases: Any, g: Any,
    dqkv: Any, of_image: Any, dbias: Any, room: Any, B: int, heads: int, few: int, HW: int, C: int,
) -> None:  # fmt: skip
    kind, (nW, N), d = qkv.dtype, places.shape, C // heads
    one, scale = kind.type(1), kind.type(1 / np.sqrt(d))
    Np, row, parts = padded(N, 8), few * padded(d, 8), -(-heads // few)
    q, qt, k, v, dy, dyt, dq, dk, dv, pt, dst, zero = room
    for i in range(B * parts * nW):
        token, w, channel = _part(i, parts, nW, HW, few * d)
        after, next_w, next_channel = _part(i + 1, parts, nW, HW, few * d)
        start, width = token * 3 * C + channel, min(few * d, C - channel)
        ahead, ahead_y = after * 3 * C + next_channel, after * C + next_channel
        gather(qkv, start, 3 * C, places[w], width, scale, q, row)
        gather(qkv, start + C, 3 * C, places[w], width, one, k, row)
        gather(qkv, start + 2 * C, 3 * C, places[w], width, one, v, row)
        gather(g, token * C + channel, C, places[w], width, one, dy, row)
        turn(q, row, qt, Np, Np, row)
        turn(dy, row, dyt, Np, Np, row)
        for j in range(0, width, d):
            head, reach = (channel + j) // d, d + (j + d == width)  # the last line ends later
            head_backward(
                (q, j, row), (qt, j * Np, Np), (k, j, row), (v, j, row),
                (biases, (kinds[w] * heads + head) * N * Np, Np),
                (dy, j, row), (dyt, j * Np, Np), (dq, j, row), (dk, j, row), (dv, j, row),
                (of_image, head * N * Np, Np), pt, dst, zero, N, N, d, d,
            )  # fmt: skip
            expect(qkv, ahead + j, 3 * C, places[next_w], reach, C, 3)
            expect(g, ahead_y + j, C, places[next_w], reach, C, 1)
            expect(dqkv, ahead + j, 3 * C, places[next_w], reach, C, 3, to_write=True)
        scatter(dq, row, places[w], width, scale, dqkv, start, 3 * C)
        scatter(dk, row, places[w], width, one, dqkv, start + C, 3 * C)
        scatter(dv, row, places[w], width, one, dqkv, start + 2 * C, 3 * C)
        if after > token:
            for j in range(len(of_image)):
                dbias[j] += of_image[j]
            of_image[:] = 0
