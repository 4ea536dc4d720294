"""How the loops of this folder are compiled, and what they ask of their inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numpy as np
from numba import from_dtype, njit, types

from minswin.arrays import Array

# Serial loops that let go of the interpreter lock: whoever wants more cores splits the batch over
# threads. Sums may be reordered, so that they vectorise; NaN and infinity keep their meaning, which
# they would not with "arcp": 1/√∞ becomes NaN, since an estimate takes the place of the division.
LOOP = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
# A piece of such a loop, written once and copied into it. A call for each short row would cost as
# much as the row.
PIECE = {**LOOP, "forceinline": True}


# ── one compilation for each dtype ───────────────────────────────────────────────────────────────

Kind = Callable[[Any], Any]  # numba's type of the numbers -> its type of an argument


def rows(ndim: int) -> Kind:
    """An argument: a C-contiguous array, not written into."""
    return lambda number: types.Array(number, ndim, "C", readonly=True)


def view(ndim: int) -> Kind:
    """An argument: an array of any strides, not written into."""
    return lambda number: types.Array(number, ndim, "A", readonly=True)


def out(ndim: int) -> Kind:
    """An argument: a C-contiguous array to write into."""
    return lambda number: types.Array(number, ndim, "C")


def sums(ndim: int) -> Kind:
    """An argument: a float64 array to add to, for sums over a whole batch."""
    return lambda number: types.Array(types.float64, ndim, "C")


def indices(ndim: int) -> Kind:
    """An argument: integers that say where."""
    return lambda number: types.Array(types.intp, ndim, "C", readonly=True)


def number(of: Any) -> Any:
    """An argument: one number of the arrays' dtype."""
    return of


def compiled(*kinds: Kind) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: compile a loop whose arguments are of these kinds, on first use, kept on disk.

    It is compiled once for each dtype of its first argument, whatever strides come. Left to itself
    numba would do so for each combination of contiguous, strided and read-only arguments.
    """

    def decorate(loop: Callable[..., None]) -> Callable[..., None]:
        @cache
        def machine_code(dtype: Any) -> Any:
            numbers = from_dtype(dtype)
            return njit(types.void(*(kind(numbers) for kind in kinds)), cache=True, **LOOP)(loop)

        @wraps(loop)
        def run(*arguments: Any) -> None:
            machine_code(arguments[0].dtype)(*arguments)

        run.machine_code = machine_code  # type: ignore[attr-defined]
        return run

    return decorate


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
    """x itself if it is C-contiguous, or else a copy.

    If at least the rows are contiguous, each is copied as one item of raw bytes: NumPy's cost is
    by the item, so this takes half as long (0.17 µs instead of 0.35 for 16 rows of 16 channels).
    """
    if x.flags.c_contiguous and x.flags.aligned:
        return x
    if x.size == 0 or x.strides[-1] != x.itemsize:
        return np.require(x, requirements=["C", "A"])
    row = np.dtype((np.void, x.shape[-1] * x.itemsize))
    copy = np.empty(x.shape, x.dtype)
    copy.view(row)[...] = x.view(row)
    return copy
