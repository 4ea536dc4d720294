"""Matrix products: tiles in registers for batches of small ones, BLAS for everything else.

GF/s in float32 on one core (AMD EPYC, AVX2), medians of nine; views are transposed:

    batch × (N, K) (K, M)      BLAS    BLAS on views    BLAS on copies    tiles
    2048 × (16, 16) (16, 16)     29         27                21            36
    1024 × (16, 32) (32, 16)     41         27                21            46
     256 × (48, 32) (32, 48)     63         58                44            67
     256 × (49, 32) (32, 49)     49         47                38            39
      64 × (64, 64) (64, 64)     65         70                58            71
       1 × (1024, 1024)²         93         92                76            68
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.compiled import compiled, contiguous, same_float
from minswin.kernels.cpu.products import multiply, room
from minswin.kernels.cpu.simd import load, store
from minswin.reference import linear
from minswin.reference.linear import swap

TILE = 64  # rows and columns of a tile: the four tiles at work stay in the second cache
SMALL, BATCH = 48, 4  # up to this side, and from this many products on, tiles are faster


@kernel("matmul", "numba")
def matmul(x: Array, y: Array) -> tuple[Array, Vjp]:
    """Equals reference.matmul: in tiles where the table above says so, or else with BLAS.

    A batch times one matrix (K, M) is one large product, not one for each image.
    """
    if same_float(x, y) and _small_batch(x, y):
        return tiled_matmul(x, y), lambda g: (tiled_matmul(g, swap(y)), tiled_matmul(swap(x), g))
    if not same_float(x, y) or x.ndim < 3 or y.ndim != 2 or x.size == 0:
        return linear.matmul(x, y)
    rows = x.reshape(-1, x.shape[-1])  # (R, K)

    def vjp(g: Array) -> tuple[Array, Array]:
        g = g.reshape(-1, g.shape[-1])  # (R, M)
        return (g @ y.T).reshape(x.shape), rows.T @ g

    return (rows @ y).reshape(*x.shape[:-1], y.shape[1]), vjp


def _small_batch(x: Array, y: Array) -> bool:
    lead = x.shape[:-2]
    if min(x.ndim, y.ndim) < 3 or 0 in (*x.shape, *y.shape):
        return False
    small = max(*x.shape[-2:], *y.shape[-2:]) <= SMALL
    return small and lead == y.shape[:-2] and math.prod(lead) >= BATCH


# ── tiles ────────────────────────────────────────────────────────────────────────────────────────


def tiled_matmul(x: Array, y: Array) -> Array:
    """x y, tile by tile: what BLAS does, in forty lines.   x (..., N, K)   y (..., K, M)"""
    lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x, y = (contiguous(np.broadcast_to(a, (*lead, *a.shape[-2:]))) for a in (x, y))
    (N, K), M = x.shape[-2:], y.shape[-1]
    z = np.zeros((*lead, N, M), x.dtype)
    if z.size and K:
        tiles = *(room(TILE * TILE, x.dtype) for _ in range(3)), room(TILE, x.dtype)
        numbers = (array.reshape(-1) for array in (x, y, z))
        _multiply_tiles(*numbers, *tiles, math.prod(lead), N, K, M)
    return z


@compiled
def _multiply_tiles(
    x: Any, y: Any, z: Any, a: Any, b: Any, total: Any, zero: Any,
    batch: int, N: int, K: int, M: int,
) -> None:  # fmt: skip
    for item in range(batch):
        for i in range(0, N, TILE):
            for j in range(0, M, TILE):
                rows, columns = min(TILE, N - i), min(TILE, M - j)
                width = columns + -columns % 8
                for k in range(0, K, TILE):
                    depth = min(TILE, K - k)
                    _copy(x, item * N * K + i * K + k, K, a, 0, depth, rows, depth)
                    _copy(y, item * K * M + k * M + j, M, b, 0, width, depth, columns)
                    before = (total, 0, width) if k else (zero, 0, 0)
                    left, right = (a, 0, depth, 1), (b, 0, width)
                    multiply(left, right, before, (total, 0, width), rows, depth, width)
                _copy(total, 0, width, z, item * N * M + i * M + j, M, rows, columns)


@compiled
def _copy(
    x: Any, start: int, step: int, y: Any, y_start: int, y_step: int, rows: int, columns: int
) -> None:
    """Copy a rectangle of numbers."""
    whole = columns - columns % 8
    for i in range(rows):
        for j in range(0, whole, 8):
            store(y, y_start + i * y_step + j, load(x, start + i * step + j))
        for j in range(whole, columns):
            y[y_start + i * y_step + j] = x[start + i * step + j]
