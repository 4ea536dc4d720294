"""Swin V1 in slow, plain loops, typed from the paper: no roll, no mask, no reshaping of windows.

Maps are (B, H, W, C). Shifted windows are what they are in the image: rectangles, cut at
0, s, s+M, …, H−(M−s), H along each axis, in each of which plain attention runs by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise, product
from typing import Any

import numpy as np

Pair = tuple[int, int]
Place = tuple[int, int]


# ── windows ──────────────────────────────────────────────────────────────────────────────────────


def cut_points(length: int, side: int, shift: int) -> list[int]:
    """Where windows of `side` tokens, displaced by `shift`, cut an axis."""
    return sorted({0, *range(shift, length, side), length})


def rectangles(grid: Pair, window: Pair, shift: Pair) -> Iterator[list[Place]]:
    """The tokens (row, column) of every rectangle that the displaced windows cut from the map."""
    rows = pairwise(cut_points(grid[0], window[0], shift[0]))
    columns = pairwise(cut_points(grid[1], window[1], shift[1]))
    for (top, bottom), (left, right) in product(rows, list(columns)):
        yield list(product(range(top, bottom), range(left, right)))


def same_rectangle(grid: Pair, window: Pair, shift: Pair) -> np.ndarray:
    """(H, W, H, W) bool: may token (r, c) see token (r', c')?"""
    number = np.zeros(grid, dtype=int)  # of the rectangle that a token lies in
    for i, tokens in enumerate(rectangles(grid, window, shift)):
        for token in tokens:
            number[token] = i
    return number[:, :, None, None] == number


def partition(x: np.ndarray, window: Pair) -> np.ndarray:
    """Windows row by row, tokens in each row by row: (B, windows, N, C)."""
    (B, H, W, C), (Mh, Mw) = x.shape, window
    y = np.zeros((B, (H // Mh) * (W // Mw), Mh * Mw, C), dtype=x.dtype)
    for b, r, c in product(range(B), range(H), range(W)):
        number = (r // Mh) * (W // Mw) + c // Mw
        y[b, number, (r % Mh) * Mw + c % Mw] = x[b, r, c]
    return y


def merge_neighbours(x: np.ndarray) -> np.ndarray:
    """The 2×2 neighbours as 4C channels, in the order of the published weights."""
    B, H, W, C = x.shape
    y = np.zeros((B, H // 2, W // 2, 4 * C), dtype=x.dtype)
    for b, r, c in product(range(B), range(H // 2), range(W // 2)):
        for group, (down, right) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
            y[b, r, c, group * C : (group + 1) * C] = x[b, 2 * r + down, 2 * c + right]
    return y


def zero_extended(x: np.ndarray, multiple: Pair) -> np.ndarray:
    """Rows and columns of zeros after the last, up to a multiple of `multiple`."""
    B, H, W, C = x.shape
    sides = (math.ceil(H / multiple[0]) * multiple[0], math.ceil(W / multiple[1]) * multiple[1])
    y = np.zeros((B, *sides, C), dtype=x.dtype)
    for r, c in product(range(H), range(W)):
        y[:, r, c] = x[:, r, c]
    return y


def displacement_rows(window: Pair) -> dict[Place, int]:
    """The row of the bias table for each displacement, which are listed in sorted order."""
    rows, columns = range(1 - window[0], window[0]), range(1 - window[1], window[1])
    return {displacement: row for row, displacement in enumerate(product(rows, columns))}


# ── attention ────────────────────────────────────────────────────────────────────────────────────


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """softmax(q kᵀ/√d + B) v, eq. (4), one query at a time."""
    y = np.zeros((len(q), v.shape[1]))
    for i in range(len(q)):
        logits = k @ q[i] / math.sqrt(q.shape[1]) + bias[i]
        weights = np.exp(logits - max(logits))
        y[i] = weights @ v / sum(weights)
    return y


def region_attention(
    qkv: np.ndarray,
    table: np.ndarray,
    window: Pair,
    shift: Pair,
    *,
    table_window: Pair | None = None,
) -> np.ndarray:
    """Plain attention in each rectangle by itself; channels of qkv are (q, k, v) × head × d."""
    B, H, W, channels = qkv.shape
    heads, C = table.shape[1], channels // 3
    d = C // heads
    number = displacement_rows(table_window or window)
    y = np.zeros((B, H, W, C))
    for tokens in rectangles((H, W), window, shift):
        rows, columns = [r for r, _ in tokens], [c for _, c in tokens]
        place = np.array([[number[r - s, c - t] for s, t in tokens] for r, c in tokens])
        for b, head in product(range(B), range(heads)):
            starts = (which * C + head * d for which in range(3))
            q, k, v = (qkv[b, rows, columns, start : start + d] for start in starts)
            y[b, rows, columns, head * d : (head + 1) * d] = attend(q, k, v, table[place, head])
    return y


def fit(grid: Pair, window: Pair) -> tuple[Pair, Pair]:
    """The window and the shift of an SW-MSA layer: no shift where a side is no longer than it."""
    (H, W), (Mh, Mw) = grid, window
    if H > Mh and W > Mw:
        return window, (Mh // 2, Mw // 2)
    if Mh == Mw:
        return (min(H, W), min(H, W)), (0, 0)
    return (min(H, Mh), min(W, Mw)), (0, 0)


def window_attention(
    x: np.ndarray, state: Mapping[str, np.ndarray], *, window: Pair, shifted: bool
) -> np.ndarray:
    """The whole layer, by the names of its parameters: extend with zeros, attend, crop, project."""
    _, H, W, _ = x.shape
    side, shift = fit((H, W), window)
    qkv = zero_extended(x, side) @ state["qkv.weight"].T + state["qkv.bias"]
    table = state["relative_position_bias_table"]
    shift = shift if shifted else (0, 0)
    y = region_attention(qkv, table, side, shift, table_window=window)[:, :H, :W]
    return y @ state["proj.weight"].T + state["proj.bias"]


# ── the other layers ─────────────────────────────────────────────────────────────────────────────


def layer_norm(x: np.ndarray, gain: np.ndarray, shift: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    y = np.zeros_like(x)
    for token in np.ndindex(x.shape[:-1]):
        row = x[token]
        mean = sum(row) / len(row)
        variance = sum((element - mean) ** 2 for element in row) / len(row)
        y[token] = (row - mean) / math.sqrt(variance + eps) * gain + shift
    return y


def gelu(x: np.ndarray) -> np.ndarray:
    y = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        y[i] = x[i] * 0.5 * (1 + math.erf(x[i] / math.sqrt(2)))
    return y


def mlp(x: np.ndarray, state: Mapping[str, np.ndarray]) -> np.ndarray:
    hidden = gelu(x @ state["fc1.weight"].T + state["fc1.bias"])
    return hidden @ state["fc2.weight"].T + state["fc2.bias"]


def patches(images: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Each patch times each filter, all three channels: images (B, 3, H, W) to (B, H/p, W/p, C)."""
    (B, _, H, W), (C, _, ph, pw) = images.shape, weight.shape
    y = np.zeros((B, H // ph, W // pw, C))
    for b, r, c, k in product(range(B), range(H // ph), range(W // pw), range(C)):
        patch = images[b, :, r * ph : (r + 1) * ph, c * pw : (c + 1) * pw]
        y[b, r, c, k] = np.sum(patch * weight[k]) + bias[k]
    return y


# ── the model ────────────────────────────────────────────────────────────────────────────────────


def below(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, Any]:
    """The parameters whose names start with `prefix.`, by the rest of the name."""
    start = prefix + "."
    return {name[len(start) :]: a for name, a in state.items() if name.startswith(start)}


def block(
    x: np.ndarray, state: Mapping[str, np.ndarray], *, window: Pair, shifted: bool
) -> np.ndarray:
    """Eq. (3): x + attention of the normed x, then x + MLP of the normed x."""
    normed = layer_norm(x, state["norm1.weight"], state["norm1.bias"])
    x = x + window_attention(normed, below(state, "attn"), window=window, shifted=shifted)
    normed = layer_norm(x, state["norm2.weight"], state["norm2.bias"])
    return x + mlp(normed, below(state, "mlp"))


def swin(
    images: np.ndarray, state: Mapping[str, np.ndarray], *, depths: tuple[int, ...], window: Pair
) -> np.ndarray:
    """Images (B, 3, H, W) to logits, by the names of the original."""
    x = patches(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"])
    x = layer_norm(x, state["patch_embed.norm.weight"], state["patch_embed.norm.bias"])
    if "absolute_pos_embed" in state:
        x = x + state["absolute_pos_embed"].reshape(1, *x.shape[1:])
    for i, depth in enumerate(depths):
        stage = below(state, f"layers.{i}")
        own, _ = fit(x.shape[1:3], window)
        for j in range(depth):
            x = block(x, below(stage, f"blocks.{j}"), window=own, shifted=j % 2 == 1)
        if i < len(depths) - 1:
            merge = below(stage, "downsample")
            x = merge_neighbours(zero_extended(x, (2, 2)))
            x = (
                layer_norm(x, merge["norm.weight"], merge["norm.bias"])
                @ merge["reduction.weight"].T
            )
    x = layer_norm(x, state["norm.weight"], state["norm.bias"])
    pooled = sum(x[:, r, c] for r, c in np.ndindex(x.shape[1:3])) / (x.shape[1] * x.shape[2])
    return pooled @ state["head.weight"].T + state["head.bias"]
