"""Clipping gradients and averaging weights on the GPU: a few launches for all parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minswin.arrays import Array, array_module
from minswin.kernels.gpu.launch import c_name, ceil_div, launch, same_float

CHUNK, MANY, BLOCK = 4096, 120, 256  # as in parameters.cu
FILE = "parameters.cu"
TABLE = np.dtype((np.void, MANY * 4 * 8))


def takes(*arrays: Array) -> bool:
    """Whether the kernels are for these arrays."""
    return all(same_float(x) and x.flags.c_contiguous for x in arrays)


def clip(gradients: Sequence[Array], max_norm: float) -> Array:
    """Scale all gradients in place so that their joint length is at most max_norm.

    Gives the length before, a 0-d array in float64. An array that is there twice counts twice.
    """
    xp = array_module(gradients[0])
    tables = list(_tables([(g, g) for g in gradients]))
    ends = np.cumsum([0, *(blocks for *_, blocks in tables)]).tolist()
    sums, numbers = xp.empty(max(ends[-1], 1), np.float64), xp.empty(2, np.float64)
    for (dtype, table, count, blocks), start in zip(tables, ends, strict=False):
        part = sums[start : start + blocks]
        _launch(xp, f"sum_squares<{c_name(dtype)}>", blocks, table, count, part)
    length, factor = numbers[:1], numbers[1:]
    arguments = sums, length, factor, ends[-1], np.float64(max_norm)
    _launch(xp, "clip_factor<double>", 1, *arguments)
    if np.isfinite(max_norm):
        once = {g.data.ptr: g for g in gradients}.values()
        for dtype, table, count, blocks in _tables([(g, g) for g in once]):
            _launch(xp, f"scale_all<{c_name(dtype)}>", blocks, table, count, factor)
    return length.reshape(())


def average(pairs: Sequence[tuple[Array, Array]], share: float) -> None:
    """a ← a + share (p − a) for all (a, p), in place."""
    xp = array_module(pairs[0][0])
    for dtype, table, count, blocks in _tables(pairs):
        name = f"average_all<{c_name(dtype)}>"
        _launch(xp, name, blocks, table, count, dtype.type(share))


def _tables(pairs: Sequence[tuple[Array, Array]]) -> Iterator[tuple[Any, Any, int, int]]:
    """For each launch: dtype, table of (to, from), its rows, and how many blocks it needs."""
    for dtype in sorted({a.dtype for a, _ in pairs}, key=str):
        same = [(a, b) for a, b in pairs if a.dtype == dtype and a.size]
        for start in range(0, len(same), MANY):
            rows, blocks = np.zeros((MANY, 4), np.int64), 0
            some = same[start : start + MANY]
            for row, (to, source) in zip(rows, some, strict=False):
                row[:] = to.data.ptr, source.data.ptr, to.size, blocks
                blocks += ceil_div(to.size, CHUNK)
            yield dtype, np.frombuffer(rows.tobytes(), TABLE)[0], len(some), blocks


def _launch(xp: Any, name: str, blocks: int, *arguments: Any) -> None:
    launch(FILE, name, (blocks,), (BLOCK,), *arguments, library=xp)
