"""How the kernels of the .cu files are compiled and started, and what they ask of their inputs."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minswin.arrays import Array, array_module

FOLDER = Path(__file__).parent
OPTIONS = ("-std=c++17",)
FREE_SHARED = 48 * 1024  # bytes of shared memory that a block gets without asking
WARP, DEEP = 32, 8  # a block of 32 × 8 threads sums columns
WARPS = 4  # rows of a block where a warp has a row
FEW = 1024  # rows that one block of 32 × 32 threads may sum


def source(file: str) -> str:
    """The text of a file of this folder, with the headers that it includes in their places.

    So CuPy's cache on disk, which goes by the text, notices that a header has changed.
    """
    text = (FOLDER / file).read_text("utf-8")
    return re.sub(r'^#include "(\w+\.h)"$', lambda include: source(include[1]), text, flags=re.M)


@cache
def _kernel(xp: Any, file: str, name: str) -> Any:
    module = xp.RawModule(code=source(file), options=OPTIONS, name_expressions=(name,))
    return module.get_function(name)


def launch(
    file: str,
    name: str,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    *arguments: Any,
    shared: int = 0,
    library: Any = None,
) -> None:
    """Start the kernel `name` of a .cu file, as softmax_forward<float, true>.

    arguments: arrays become pointers, integers have 64 bits, np.void is passed by value
    library: CuPy; None: that of the first argument, an array
    """
    kernel = _kernel(library or array_module(arguments[0]), file, name)
    if shared > FREE_SHARED:
        kernel.max_dynamic_shared_size_bytes = shared
    kernel(grid, block, arguments, shared_mem=shared)


def ceil_div(n: int, by: int) -> int:
    return -(-n // by)


# ── inputs ───────────────────────────────────────────────────────────────────────────────────────

_C_NAMES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}


def c_name(dtype: Any) -> str:
    """What C++ calls a dtype."""
    return _C_NAMES[np.dtype(dtype)]


def same_float(*arrays: Array | None) -> bool:
    """Whether all arrays are float32, or all float64. For anything else the definition runs."""
    dtypes = {x.dtype for x in arrays if x is not None}
    return len(dtypes) == 1 and dtypes.pop() in _C_NAMES


def contiguous(x: Array) -> Array:
    """x itself if it is C-contiguous, or else a copy that is."""
    return x if x.flags.c_contiguous else array_module(x).ascontiguousarray(x)


# ── rows and columns ─────────────────────────────────────────────────────────────────────────────


def by_elements(size: int) -> tuple[tuple[int], tuple[int]]:
    """Grid and block for kernels whose threads each have some elements."""
    return (min(ceil_div(size, 256), 4096),), (256,)


def by_rows(rows: int) -> tuple[tuple[int], tuple[int, int]]:
    """Grid and block for kernels in which a warp has a row."""
    return (ceil_div(rows, WARPS),), (WARP, WARPS)


def chunks(rows: int, columns: int) -> tuple[int, int]:
    """Rows of a chunk, and their number: enough chunks for the whole GPU, each of 64 rows or more.

    They depend on nothing but the shape: so does the order in which sums are added up.
    """
    most = max(1, 1024 // ceil_div(columns, WARP))
    chunk = ceil_div(rows, min(most, ceil_div(rows, 64)))
    return chunk, ceil_div(rows, chunk)


def by_columns(columns: int, count: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Grid and block for kernels in which a block has 32 columns of a chunk of rows."""
    return (ceil_div(columns, WARP), count), (WARP, DEEP)


def sum_columns(x: Array, dtype: Any, shape: tuple[int, ...] | None = None) -> Array:
    """The sums over the rows of x (rows, columns), added in float64: `shape`, or (columns,)."""
    return _sum_columns(x, dtype, x.shape[1], shape)[0]


def sum_halves(x: Array, dtype: Any) -> tuple[Array, Array]:
    """sum_columns of x (rows, 2 C), as two arrays (C,): autograd would copy parts of one."""
    return _sum_columns(x, dtype, x.shape[1] // 2)


def _sum_columns(
    x: Array, dtype: Any, split: int, shape: tuple[int, ...] | None = None
) -> tuple[Array, Array]:
    """In chunks, for the whole GPU; then the chunks, of which there are never more than 1024."""
    (rows, columns), xp = x.shape, array_module(x)
    chunk, count = chunks(rows, columns)
    if count > 1 and rows > FEW:
        part = xp.empty((count, columns), np.float64)
        name, sizes = (
            f"sum_columns<{c_name(x.dtype)}, double, false>",
            (rows, columns, chunk, columns),
        )
        launch("sums.cu", name, *by_columns(columns, count), x, part, part, *sizes)
        x, rows = part, count
    y = xp.empty(shape or split, dtype)
    rest = xp.empty(columns - split, dtype) if split < columns else y
    name, sizes = (
        f"sum_columns<{c_name(x.dtype)}, {c_name(dtype)}, true>",
        (rows, columns, rows, split),
    )
    grid = (ceil_div(columns, WARP), 1)
    launch("sums.cu", name, grid, (WARP, WARP), x, y, rest, *sizes)
    return y, rest
