"""How the loops of this folder are compiled, and what they ask of their inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numba import njit

from minswin.arrays import Array

# Serial loops without the interpreter lock: whoever wants more cores splits the batch over threads.
# The machine code is kept on disk between runs; x / 0 is inf, as in NumPy.
compiled = njit(nogil=True, cache=True, error_model="numpy")


def forget_stale_code(folder: Path) -> None:
    """Delete the compiled code in folder/__pycache__ that is older than a source file there.

    numba itself compiles a function anew when its own file changes, but not when a file does that
    it takes a piece from.
    """
    newest = max(source.stat().st_mtime for source in folder.glob("*.py"))
    for index in folder.glob("__pycache__/*.nbi"):
        if index.stat().st_mtime < newest:
            index.unlink(missing_ok=True)


forget_stale_code(Path(__file__).parent)

# ── inputs ───────────────────────────────────────────────────────────────────────────────────────

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def same_float(*arrays: Array | None) -> bool:
    """Whether all arrays are float32, or all float64. For anything else the definition runs."""
    dtypes = {x.dtype for x in arrays if x is not None}
    return len(dtypes) == 1 and dtypes.pop() in _FLOATS


def contiguous(x: Array) -> Array:
    """x itself if it is C-contiguous and may be written into, or else a copy that is.

    So a loop is compiled once for each dtype; for read-only arrays numba would do so once more.
    If at least the rows are contiguous, each is copied as one item of raw bytes: NumPy's cost is
    by the item, so this takes half as long (0.17 µs instead of 0.35 for 16 rows of 16 channels).
    """
    if x.flags.carray:
        return x
    if x.size == 0 or x.ndim == 0 or x.strides[-1] != x.itemsize:
        return np.require(x, requirements=["C", "A", "W"])
    row = np.dtype((np.void, x.shape[-1] * x.itemsize))
    copy = np.empty(x.shape, x.dtype)
    copy.view(row)[...] = x.view(row)
    return copy
