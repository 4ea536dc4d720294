"""Matrix products: BLAS, called once where the definition calls it often; and tiles of our own."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.compiled import PIECE, compiled, out, same_float, view
from minswin.reference import linear


@kernel("matmul", "numba")
def matmul(x: Array, y: Array) -> tuple[Array, Vjp]:
    """Equals reference.matmul; a batch times one matrix (K, M) is one product, not one an image."""
    if not same_float(x, y) or x.ndim < 3 or y.ndim != 2 or x.size == 0:
        return linear.matmul(x, y)
    rows = x.reshape(-1, x.shape[-1])  # (R, K)

    def vjp(g: Array) -> tuple[Array, Array]:
        g = g.reshape(-1, g.shape[-1])  # (R, M)
        return (g @ y.T).reshape(x.shape), rows.T @ g

    return (rows @ y).reshape(*x.shape[:-1], y.shape[1]), vjp


# ── tiles ────────────────────────────────────────────────────────────────────────────────────────

TILE = 64  # rows and columns of y in a tile, which stays in the fastest cache
DEPTH = 8  # rows of a tile that meet a row of z at a time: their factors stay in registers


def tiled_matmul(x: Array, y: Array) -> Array:
    """x y, computed tile by tile: what BLAS does, in forty lines."""
    lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x, y = (np.broadcast_to(a, (*lead, *a.shape[-2:])) for a in (x, y))
    z = np.zeros((*lead, x.shape[-2], y.shape[-1]), x.dtype)
    groups = (math.prod(lead[:-1]), math.prod(lead[-1:]))
    _add_tiles(*(a.reshape(*groups, *a.shape[-2:]) for a in (x, y, z)))
    return z


@compiled(view(4), view(4), out(4))
def _add_tiles(x: Array, y: Array, z: Array) -> None:
    """z += x y."""
    (N, K), M = x.shape[2:], y.shape[3]
    row, tile = np.empty(TILE, x.dtype), np.empty(TILE * TILE, x.dtype)
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            for k in range(0, K, TILE):
                for j in range(0, M, TILE):
                    _fill(tile, y[a, b, k : k + TILE, j : j + TILE])
                    for i in range(N):
                        part = x[a, b, i, k : k + TILE]
                        for t in range(len(part)):
                            row[t] = part[t]
                        _add_row(row[: len(part)], tile, z[a, b, i, j : j + TILE])


@njit(**PIECE)
def _fill(tile: Array, y: Array) -> None:
    """Copy y (K, M) into a flat tile with rows of length TILE."""
    for k in range(y.shape[0]):
        tile_row = tile[k * TILE :]
        for j in range(y.shape[1]):
            tile_row[j] = y[k, j]


@njit(**PIECE)
def _add_row(row: Array, tile: Array, z: Array) -> None:
    """z[j] += Σₖ row[k] tile[k, j]: DEPTH products for every load and store of z."""
    whole = len(row) // DEPTH * DEPTH
    for k0 in range(0, whole, DEPTH):
        factors, y = row[k0:], tile[k0 * TILE :]
        for j in range(len(z)):
            total = z[j]
            for k in range(DEPTH):  # the compiler writes these out
                total += factors[k] * y[k * TILE + j]
            z[j] = total
    for k in range(whole, len(row)):
        y = tile[k * TILE :]
        for j in range(len(z)):
            z[j] += row[k] * y[j]
