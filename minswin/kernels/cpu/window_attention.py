"""Shifted-window attention as one kernel: what the windows of a map need is found by index.

Equals layers.windows.shifted_window_attention. Window by window and head by head, q, k and v are
gathered from the map into scratch that stays in cache, and the result is scattered back: the roll,
the partition and their inverses are only the way an index is computed, and nothing of size
windows × N × N is ever stored. Backward computes the probabilities again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.products import compiled, multiply, padded, turn
from minswin.kernels.cpu.simd import exp, fma, larger, largest, load, splat, store, total
from minswin.reference.windows import attention_mask, relative_position_index

Pair = tuple[int, int]


@kernel("shifted_window_attention", "numba")
def shifted_window_attention(
    qkv: Array, table: Array, *, heads: int, window: Pair, shift: Pair, table_window: Pair
) -> tuple[Array, Vjp]:
    """Equals the composite of the same name; serial, without the interpreter lock."""
    (B, H, W), C = qkv.shape[:3], qkv.shape[3] // 3
    N, d = window[0] * window[1], C // heads
    index = relative_position_index(window, table_window)  # (N, N)
    biases = _padded_biases(table[index], (H, W), window, shift)  # (kinds, h, Nr, Nc)
    sizes = (B, H, W, C, heads, *window, *shift, *biases.shape[2:], padded(d, 8))
    flat = np.ascontiguousarray(qkv).reshape(-1)
    y = np.empty((B, H, W, C), qkv.dtype)
    _forward(flat, biases.reshape(-1), y.reshape(-1), *sizes)

    def vjp(g: Array) -> tuple[Array, Array]:
        dqkv = np.empty(qkv.shape, qkv.dtype)
        dbias = np.zeros((heads, *biases.shape[2:]))  # float64: it sums over all windows
        g = np.ascontiguousarray(g).reshape(-1)
        _backward(flat, biases.reshape(-1), g, dqkv.reshape(-1), dbias.reshape(-1), *sizes)
        pairs = dbias[:, :N, :N].reshape(heads, -1)  # (h, N²)
        rows = len(table)
        dtable = np.stack([np.bincount(index.reshape(-1), p, rows) for p in pairs], axis=1)
        return dqkv, dtable.astype(table.dtype)

    return y, vjp


def _padded_biases(bias: np.ndarray, grid: Pair, window: Pair, shift: Pair) -> np.ndarray:
    """Bias + mask of the four kinds of windows: inside, last column, last row, last of both.

    bias (N, N, h)   gives (kinds, h, Nr, Nc), padded with −∞ on the right, so that the columns that
    pad a row get probability 0.
    """
    N, heads = bias.shape[1:]
    biases = np.zeros((4, heads, padded(N, 4), padded(N, 8)), bias.dtype)
    biases[..., N:] = -np.inf
    biases[..., :N, :N] = bias.transpose(2, 0, 1)
    if any(shift):
        nh, nw = grid[0] // window[0], grid[1] // window[1]
        masks = attention_mask(grid, window, shift).reshape(nh, nw, N, N)
        last_row, last_column = shift[0] > 0, shift[1] > 0
        for kind, (row, column) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
            where = (nh - 1 if row else 0, nw - 1 if column else 0)
            if (last_row or not row) and (last_column or not column):
                biases[kind, :, :N, :N] += masks[where]
    return biases


# ── the windows ──────────────────────────────────────────────────────────────────────────────────


@compiled
def _find(
    places: Any, row: int, column: int, Mh: int, Mw: int, sh: int, sw: int, H: int, W: int
) -> None:
    """Where the tokens of a window of the rolled map lie on the map: places (N,) in 0…HW−1."""
    n = 0
    for r in range(row * Mh + sh, row * Mh + sh + Mh):
        for c in range(column * Mw + sw, column * Mw + sw + Mw):
            places[n] = r % H * W + c % W
            n += 1


@compiled
def _gather(
    x: Any, start: int, step: int, places: Any, d: int, factor: Any, rows: Any, dp: int
) -> None:
    """rows[n] = factor · x[start + step · places[n] :][:d]"""
    whole = d - d % 8
    for n in range(len(places)):
        source = start + step * places[n]
        for t in range(0, whole, 8):
            store(rows, n * dp + t, load(x, source + t) * splat(factor))
        for t in range(whole, d):
            rows[n * dp + t] = x[source + t] * factor


@compiled
def _scatter(
    rows: Any, dp: int, places: Any, d: int, factor: Any, x: Any, start: int, step: int
) -> None:
    """x[start + step · places[n] :][:d] = factor · rows[n]"""
    whole = d - d % 8
    for n in range(len(places)):
        target = start + step * places[n]
        for t in range(0, whole, 8):
            store(x, target + t, load(rows, n * dp + t) * splat(factor))
        for t in range(whole, d):
            x[target + t] = rows[n * dp + t] * factor


@compiled
def _softmax(p: Any, biases: Any, bias: int, N: int, Nc: int) -> None:
    """p = softmax(p + bias) along rows: maxima, then all the exponentials, then the sums."""
    for row in range(0, N * Nc, Nc):
        top = splat(p.dtype.type(-np.inf))
        for j in range(row, row + Nc, 8):
            logits = load(p, j) + load(biases, bias + j)
            store(p, j, logits)
            top = larger(logits, top)
        top = splat(largest(top))
        for j in range(row, row + Nc, 8):
            store(p, j, load(p, j) - top)
    for j in range(0, N * Nc, 8):
        store(p, j, exp(load(p, j)))
    for row in range(0, N * Nc, Nc):
        each = splat(p.dtype.type(0))
        for j in range(row, row + Nc, 8):
            each = each + load(p, j)
        share = splat(p.dtype.type(1) / total(each))
        for j in range(row, row + Nc, 8):
            store(p, j, load(p, j) * share)


@compiled
def _undo_softmax(p: Any, dp: Any, dbias: Any, bias: int, N: int, Nc: int) -> None:
    """ds = p (dp − Σ p dp), in place of dp; added to dbias too."""
    for row in range(0, N * Nc, Nc):
        each = splat(p.dtype.type(0))
        for j in range(row, row + Nc, 8):
            each = fma(load(p, j), load(dp, j), each)
        along = splat(total(each))
        for j in range(row, row + Nc, 8):
            ds = load(p, j) * (load(dp, j) - along)
            store(dp, j, ds)
            store(dbias, bias + j, load(dbias, bias + j) + ds)


@compiled
def _kind(row: int, column: int, nh: int, nw: int, sh: int, sw: int) -> int:
    """Which of the four masks a window has."""
    return 2 * (sh > 0 and row == nh - 1) + (sw > 0 and column == nw - 1)


@compiled
def _forward(
    qkv: Any, biases: Any, y: Any,
    B: int, H: int, W: int, C: int, heads: int, Mh: int, Mw: int, sh: int, sw: int,
    Nr: int, Nc: int, dp: int,
) -> None:  # fmt: skip
    kind, d, nh, nw = qkv.dtype, C // heads, H // Mh, W // Mw
    one, scale = kind.type(1), kind.type(1 / np.sqrt(d))
    q, y_rows = np.zeros(Nr * dp, kind), np.zeros(Nr * dp, kind)
    k, v, kt = np.zeros(Nc * dp, kind), np.zeros(Nc * dp, kind), np.zeros(Nc * dp, kind)
    p = np.zeros(Nr * Nc, kind)
    places = np.empty(Mh * Mw, np.int64)
    for b in range(B):
        for window in range(nh * nw):
            row, column = window // nw, window % nw
            _find(places, row, column, Mh, Mw, sh, sw, H, W)
            bias = _kind(row, column, nh, nw, sh, sw) * heads * Nr * Nc
            for head in range(heads):
                start = b * H * W * 3 * C + head * d
                _gather(qkv, start, 3 * C, places, d, scale, q, dp)
                _gather(qkv, start + C, 3 * C, places, d, one, k, dp)
                _gather(qkv, start + 2 * C, 3 * C, places, d, one, v, dp)
                turn(k, dp, kt, Nc, Nc, dp)
                multiply(q, 0, dp, 1, kt, 0, Nc, p, 0, Nc, Nr, d, Nc)  # q kᵀ/√d
                _softmax(p, biases, bias + head * Nr * Nc, Mh * Mw, Nc)
                multiply(p, 0, Nc, 1, v, 0, dp, y_rows, 0, dp, Nr, Mh * Mw, dp)  # P v
                _scatter(y_rows, dp, places, d, one, y, b * H * W * C + head * d, C)


@compiled
def _backward(
    qkv: Any, biases: Any, g: Any, dqkv: Any, dbias: Any,
    B: int, H: int, W: int, C: int, heads: int, Mh: int, Mw: int, sh: int, sw: int,
    Nr: int, Nc: int, dp: int,
) -> None:  # fmt: skip
    kind, d, nh, nw, N = qkv.dtype, C // heads, H // Mh, W // Mw, Mh * Mw
    one, scale = kind.type(1), kind.type(1 / np.sqrt(d))
    q, dy = np.zeros(Nr * dp, kind), np.zeros(Nr * dp, kind)
    k, v, kt = np.zeros(Nc * dp, kind), np.zeros(Nc * dp, kind), np.zeros(Nc * dp, kind)
    vt = np.zeros(Nc * dp, kind)
    dq, dk, dv = np.zeros(Nr * dp, kind), np.zeros(Nr * dp, kind), np.zeros(Nr * dp, kind)
    p, ds = np.zeros(Nr * Nc, kind), np.zeros(Nr * Nc, kind)
    of_image = np.zeros(heads * Nr * Nc, kind)  # dbias of the windows of one image
    places = np.empty(N, np.int64)
    for b in range(B):
        of_image[:] = 0
        for window in range(nh * nw):
            row, column = window // nw, window % nw
            _find(places, row, column, Mh, Mw, sh, sw, H, W)
            bias = _kind(row, column, nh, nw, sh, sw) * heads * Nr * Nc
            for head in range(heads):
                start = b * H * W * 3 * C + head * d
                _gather(qkv, start, 3 * C, places, d, scale, q, dp)
                _gather(qkv, start + C, 3 * C, places, d, one, k, dp)
                _gather(qkv, start + 2 * C, 3 * C, places, d, one, v, dp)
                _gather(g, b * H * W * C + head * d, C, places, d, one, dy, dp)
                turn(k, dp, kt, Nc, Nc, dp)
                turn(v, dp, vt, Nc, Nc, dp)
                multiply(q, 0, dp, 1, kt, 0, Nc, p, 0, Nc, Nr, d, Nc)
                _softmax(p, biases, bias + head * Nr * Nc, N, Nc)
                multiply(dy, 0, dp, 1, vt, 0, Nc, ds, 0, Nc, Nr, d, Nc)  # undoes P v
                _undo_softmax(p, ds, of_image, head * Nr * Nc, N, Nc)
                multiply(p, 0, 1, Nc, dy, 0, dp, dv, 0, dp, Nr, N, dp)
                multiply(ds, 0, Nc, 1, k, 0, dp, dq, 0, dp, Nr, N, dp)  # undoes q kᵀ/√d
                multiply(ds, 0, 1, Nc, q, 0, dp, dk, 0, dp, Nr, N, dp)
                _scatter(dq, dp, places, d, scale, dqkv, start, 3 * C)
                _scatter(dk, dp, places, d, one, dqkv, start + C, 3 * C)
                _scatter(dv, dp, places, d, one, dqkv, start + 2 * C, 3 * C)
        for i in range(len(of_image)):
            dbias[i] += of_image[i]
