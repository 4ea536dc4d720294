"""How the loops of this folder are compiled, and what they ask of their inputs."""

from __future__ import annotations

import math
import secrets
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types
from numba.core import event
from numba.core.bytecode import FunctionIdentity
from numba.core.compiler_lock import global_compiler_lock

from minswin import compiling
from minswin.arrays import Array

# ── compiling ────────────────────────────────────────────────────────────────────────────────────

# The symbol of a compiled function is its name, its types and a number, for which numba counts from
# 1 in every process. Two closures of one name that two processes compiled and kept on disk may so
# share a symbol, and a process that loads both runs one of them for both, and computes something
# else (numba issue 10486). Random numbers do not meet; a forked child draws its own too.
FunctionIdentity._unique_ids = iter(lambda: secrets.randbits(64), None)


when_compiling: list[Callable[[], None]] = []  # called before a loop is compiled


class _Listener(event.Listener):
    """Has numba say which of our functions it compiles."""

    def on_start(self, event: Any) -> None:
        function = event.data["dispatcher"].py_func
        if _is_ours(function):
            compiling.begin(function.__name__.strip("_"))
            for tell in when_compiling:
                tell()

    def on_end(self, event: Any) -> None:
        if _is_ours(event.data["dispatcher"].py_func):
            compiling.end()


def _is_ours(function: Any) -> bool:
    return str(function.__module__).startswith("minswin.")  # of executed text it is None


event.register("numba:compile", _Listener())


_RULES = {"nogil": True, "error_model": "numpy"}


def compiled(function: Callable[..., Any], *, for_c: bool = False) -> Any:
    """Decorator: a serial loop without the interpreter lock, compiled at its first call.

    Whoever wants more cores splits the batch over threads. x / 0 is inf, as in NumPy. The machine
    code is kept on disk between runs; where that cannot be, each run compiles it anew.

    No references are counted, since each count is an atomic instruction and a product of 16×16
    matrices has dozens. So the loop can make no arrays: it is given room for what it needs.
    """
    loop = njit(_nrt=False, no_cfunc_wrapper=not for_c, **_RULES)(function)
    loop.get_call_template = partial(_any_number, loop.get_call_template)
    try:
        loop.enable_caching()
    except RuntimeError:  # numba found no folder that it may write
        _warn_that_code_is_not_kept()
        return loop
    forget_stale_code(Path(__file__).parent, Path(loop._cache.cache_path))
    loop._cache.save_overload = _forgiving(loop._cache.save_overload, loop._cache.cache_path)
    loop._cache.load_overload = partial(_load, loop._cache)
    loop._cache._impl.rebuild = _prepared(loop._cache._impl.rebuild)
    loop.compile = partial(compile_once, loop)
    return loop


written_out = njit(inline="always", _nrt=False, **_RULES)  # part of each loop that calls it


def _any_number(template: Callable[..., Any], kinds: Any, keywords: Any) -> Any:
    """numba's choice of the code that a loop calls; without code of its own for each constant."""
    return template([types.unliteral(kind) for kind in kinds], keywords)


def _load(kept: Any, signature: Any, context: Any) -> Any:
    """numba's load_overload, without all that numba can compile: 0.2 s, and 20 MB with SciPy.

    Who compiles afterwards gets that from the compiler. No loop makes arrays, so none needs numba's
    runtime, which each process would compile: 0.2 s, and 30 MB of LLVM.
    """
    with kept._guard_against_spurious_io_errors():
        return kept._load_overload(signature, context)


by_symbol: dict[str, Callable[[], None]] = {}  # what machine code may call, and who provides it


def _prepared(rebuild: Callable[..., Any]) -> Callable[..., Any]:
    """numba's function that links machine code of the disk; what it calls is there before."""

    def rebuild_when_ready(context: Any, stored: Any) -> Any:
        (_, _, (machine_code, _)), *_ = stored
        for symbol, provide in by_symbol.items():
            if symbol.encode() in machine_code:
                provide()
        return rebuild(context, stored)

    return rebuild_when_ready


def _forgiving(save: Callable[..., None], folder: str) -> Callable[..., None]:
    """numba's function that keeps machine code; a full disk does not stop what was compiled."""

    def save_if_possible(*arguments: Any) -> None:
        try:
            with one_writer(Path(folder)):
                save(*arguments)
        except OSError:
            _warn_that_code_is_not_kept()

    return save_if_possible


PATIENCE = 60.0  # seconds that another process may take for a loop


def compile_once(loop: Any, signature: Any, patience: float = PATIENCE) -> Any:
    """numba's compile; what another process is compiling comes from the disk when that has done.

    A loop is compiled here if that takes longer than `patience`, and not at all if this is 0.
    """
    path = Path(loop._cache.cache_path, f"{loop._cache._impl.filename_base}.lock")
    with global_compiler_lock, ExitStack() as stack:
        try:
            ours = stack.enter_context(_locked(path, patience))
        except OSError:  # no folder that may be written
            ours = True
        return type(loop).compile(loop, signature) if ours or patience else None


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Only one process at a time is inside this block, for a folder of compiled code.

    numba reads its index, chooses the next free name, and writes index and code: two processes that
    compile a loop for two dtypes at once may choose one name, and later runs take the code of the
    wrong dtype.
    """
    with _locked(folder / "minswin.lock", math.inf):
        yield


@contextmanager
def _locked(path: Path, patience: float) -> Iterator[bool]:
    """Whether no other process is in a block with this file, after at most `patience` seconds."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield True
        return

    def take() -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            yield take() or _sooner_or_later(take, patience)
        finally:  # closing it would leave the lock to a child forked meanwhile
            fcntl.flock(file, fcntl.LOCK_UN)


def _sooner_or_later(take: Callable[[], bool], patience: float) -> bool:
    """Whether take() within so many seconds."""
    end = time.monotonic() + patience
    compiling.begin("by another process")
    try:
        while time.monotonic() < end:
            time.sleep(0.02)
            if take():
                return True
    finally:
        compiling.end()
    return False


@cache  # once
def _warn_that_code_is_not_kept() -> None:
    warning = (
        "compiled code cannot be kept on disk, so each run compiles it anew (ten seconds); set "
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
