"""How the loops of this folder are compiled, and what they ask of their inputs."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types
from numba.core import event
from numba.core.bytecode import FunctionIdentity

from minswin import compiling
from minswin.arrays import Array

# ── compiling ────────────────────────────────────────────────────────────────────────────────────

# The symbol of a compiled function is its name, its types and a number, for which numba counts from
# 1 in every process. Two closures of one name that two processes compiled and kept on disk may so
# share a symbol, and a process that loads both runs one of them for both, and computes something
# else (numba issue 10486). Random numbers do not meet; a forked child draws its own too.
FunctionIdentity._unique_ids = iter(lambda: secrets.randbits(64), None)


class _Listener(event.Listener):
    """Has numba say which of our functions it compiles."""

    def on_start(self, event: Any) -> None:
        function = event.data["dispatcher"].py_func
        if _is_ours(function):
            compiling.begin(function.__name__.strip("_"))

    def on_end(self, event: Any) -> None:
        if _is_ours(event.data["dispatcher"].py_func):
            compiling.end()


def _is_ours(function: Any) -> bool:
    return str(function.__module__).startswith("minswin.")  # of executed text it is None


event.register("numba:compile", _Listener())


def compiled(function: Callable[..., Any], *, allocates: bool = False) -> Any:
    """Decorator: a serial loop without the interpreter lock, compiled at its first call.

    Whoever wants more cores splits the batch over threads. x / 0 is inf, as in NumPy. The machine
    code is kept on disk between runs; where that cannot be, each run compiles it anew.

    No references are counted, since each count is an atomic instruction and a product of 16×16
    matrices has dozens: so the loop can make no arrays, unless it `allocates`.
    """
    loop = njit(nogil=True, error_model="numpy", _nrt=allocates)(function)
    try:
        loop.enable_caching()
    except RuntimeError:  # numba found no folder that it may write
        _warn_that_code_is_not_kept()
        return loop
    forget_stale_code(Path(__file__).parent, Path(loop._cache.cache_path))
    loop._cache.save_overload = _forgiving(loop._cache.save_overload, loop._cache.cache_path)
    loop._cache.load_overload = _prepared(loop._cache.load_overload)
    return loop


allocating = partial(compiled, allocates=True)


before_loading: list[Callable[[Any], None]] = []  # called with each dtype, before its code comes


def _prepared(load: Callable[..., Any]) -> Callable[..., Any]:
    """numba's function that takes machine code from the disk; what it calls is there before."""

    def load_when_ready(signature: Any, *others: Any) -> Any:
        kinds = getattr(signature, "args", signature)
        for dtype in {kind.dtype for kind in kinds if isinstance(kind, types.Array)}:
            for prepare in before_loading:
                prepare(dtype)
        return load(signature, *others)

    return load_when_ready


def _forgiving(save: Callable[..., None], folder: str) -> Callable[..., None]:
    """numba's function that keeps machine code; a full disk does not stop what was compiled."""

    def save_if_possible(*arguments: Any) -> None:
        try:
            with one_writer(Path(folder)):
                save(*arguments)
        except OSError:
            _warn_that_code_is_not_kept()

    return save_if_possible


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Only one process at a time is inside this block, for a folder of compiled code.

    numba reads its index, chooses the next free name, and writes index and code: two processes that
    compile a loop for two dtypes at once may choose one name, and later runs take the code of the
    wrong dtype.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "minswin.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file is closed
        yield


@cache  # once
def _warn_that_code_is_not_kept() -> None:
    warning = (
        "compiled code cannot be kept on disk, so each run compiles it anew (about a minute); set "
        "NUMBA_CACHE_DIR to a folder with room that may be written, or MINSWIN_KERNELS=reference"
    )
    warnings.warn_explicit(warning, RuntimeWarning, "minswin.kernels", 0)  # prints one line


@cache
def forget_stale_code(sources: Path, kept: Path) -> None:
    """Delete the compiled code in the folder `kept` that is older than one of the sources.

    numba itself compiles a function again when its own file changes, but not when another file
    does from which it takes a piece.
    """
    newest = max(source.stat().st_mtime for source in sources.glob("*.py"))
    for index in kept.glob("*.nbi"):
        try:
            if index.stat().st_mtime < newest:
                index.unlink()
        except FileNotFoundError:  # another process was first
            pass


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
