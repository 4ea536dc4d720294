"""The table of kernels: fast functions that equal a definition or a composite of the same name.

    FAST["softmax"] == {"numba": <for NumPy arrays>, "cupy": <for CuPy arrays>}

`fast(name, array)` gives the one to run, or None: then the definition runs, as it does for every
operation without a kernel. NumPy arrays use "numba" and CuPy arrays "cupy", unless the environment
variable MINSWIN_KERNELS, read when this is imported, or `with using("reference"):` names another
backend; "reference" is no kernels at all. A named backend that cannot be loaded is an error. Where
none is named and numba is missing, there is a warning and the definitions run; they do so without a
warning where NUMBA_DISABLE_JIT forbids to compile. "bfloat16" is "numba" that rounds what it
multiplies, so it equals no definition; `training.precision.computing` chooses it.
"""

from __future__ import annotations

import importlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple, TypeVar

import numpy as np

from minswin.arrays import INSTALL_CUPY, Array, array_module

__all__ = ["BACKENDS", "FAST", "chosen", "fast", "kernel", "report", "using"]

_HOMES = {  # what is imported for each
    "reference": (),
    "numba": ("minswin.kernels.cpu",),
    "bfloat16": ("minswin.kernels.cpu", "minswin.kernels.cpu.bfloat16"),
    "cupy": ("cupy", "minswin.kernels.gpu"),
}
_INSTALL = {"numba": "pip install numba", "cupy": INSTALL_CUPY}
_INSTALL["bfloat16"] = _INSTALL["numba"]
BACKENDS = ("reference", "numba")  # those for NumPy arrays that compute what the definitions say
COMPILED = ("numba", "bfloat16")  # by numba; the second rounds what it multiplies (see precision)

FAST: dict[str, dict[str, Callable[..., Any]]] = {}
# By the names of operations: functions on Tensors, asked before a kernel is chosen, which give the
# result, or None where they are not for these inputs. See kernels/gpu/residual.py.
FUSIONS: dict[str, Callable[..., Any]] = {}
Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(
    name: str, backend: str, takes: Callable[..., bool] | None = None
) -> Callable[[Function], Function]:
    """Decorator: enter a function as `backend`'s equal of the definition or composite `name`.

    takes: of a composite's kernel, for which inputs it is; for others the composite itself runs.
    """

    def enter(function: Function) -> Function:
        FAST.setdefault(name, {})[backend] = function
        if takes is not None:
            function.takes = takes  # type: ignore[attr-defined]
        return function

    return enter


# ── choosing ─────────────────────────────────────────────────────────────────────────────────────


class _State(threading.local):
    backend: str | None = None  # None: that of the environment, or the one for the array's type


_state = _State()
_environment = os.environ.get("MINSWIN_KERNELS") or None
_loaded = {"reference"}


@contextmanager
def using(backend: str) -> Iterator[None]:
    """Run the operations inside this block (in this thread) with the kernels of `backend`."""
    _load(backend, "using")
    before, _state.backend = _state.backend, backend
    try:
        yield
    finally:
        _state.backend = before


def fast(name: str, array: Array) -> Callable[..., Any] | None:
    """The kernel that runs operation `name` on `array`; None where its definition does."""
    backend = _state.backend or _environment
    if backend == "reference":
        return None
    if backend in (None, "numba") and "numba" in _loaded and type(array) is np.ndarray:
        backend = "numba"
    else:
        backend = chosen(array)
        _load(backend, "MINSWIN_KERNELS")
    row = FAST.get(name)
    if row is None:
        return None
    return row.get(backend) or (row.get("numba") if backend == "bfloat16" else None)


def chosen(array: Array) -> str:
    """The backend that operations on `array` use at this moment in this thread."""
    backend = _state.backend or _environment
    on_cpu = array_module(array) is np
    if backend is None:
        return _default() if on_cpu else "cupy"
    if backend == "cupy" and on_cpu:
        raise ValueError(
            "kernels: the backend 'cupy' works on CuPy arrays, got a NumPy array; "
            "use kernels.using('numba'), or move the data to the GPU"
        )
    if backend == "bfloat16" and _state.backend is None:
        raise ValueError(
            "MINSWIN_KERNELS: 'bfloat16' rounds what it multiplies, and nothing would say so; "
            "choose it by precision (--precision bfloat16)"
        )
    if backend in COMPILED and not on_cpu:
        raise ValueError(
            f"kernels: the backend {backend!r} works on NumPy arrays, got a CuPy array; "
            "use kernels.using('cupy'), or move the data to the CPU"
        )
    return backend


def _load(backend: str, who: str) -> None:
    """Import the kernels of a backend, once; the decorator `kernel` enters them in the table."""
    if backend not in _HOMES:
        raise ValueError(f"{who}: unknown backend {backend!r}; choose one of {', '.join(_HOMES)}")
    if backend in _loaded:
        return
    if backend in COMPILED and _numba().forbidden:
        raise ValueError(
            f"{who}: the backend {backend!r} compiles, which NUMBA_DISABLE_JIT forbids; unset that "
            "variable, or use the backend 'reference'"
        )
    try:
        for home in _HOMES[backend]:
            importlib.import_module(home)
    except ImportError as error:
        raise ImportError(
            f"{who}: the backend {backend!r} cannot be loaded ({error}); "
            f"{_INSTALL[backend]}, or set MINSWIN_KERNELS=reference"
        ) from error
    _loaded.add(backend)


class _Numba(NamedTuple):
    """What keeps numba from compiling: why it cannot be imported, or NUMBA_DISABLE_JIT."""

    missing: str = ""
    forbidden: bool = False


@cache
def _numba() -> _Numba:
    try:
        from numba import config
    except (ImportError, OSError) as error:  # also where it does not fit NumPy or the system
        return _Numba(missing=str(error))
    return _Numba(forbidden=bool(config.DISABLE_JIT))


@cache
def _default() -> str:
    """The backend for NumPy arrays where none was named."""
    if _numba().missing:
        warnings.warn(
            f"numba cannot be imported ({_numba().missing}): the definitions run instead of the "
            f"kernels, which takes much longer; {_INSTALL['numba']}, or set "
            "MINSWIN_KERNELS=reference",
            RuntimeWarning,
            stacklevel=2,
        )
    return "reference" if any(_numba()) else "numba"


# ── looking ──────────────────────────────────────────────────────────────────────────────────────


def report() -> str:
    """A table operation × backend; a dot, or no row, where the definition runs."""
    if not any(_numba()):
        _load("bfloat16", "report")
    importlib.import_module(_HOMES["cupy"][-1])  # can be read without CuPy
    backends = [backend for backend in _HOMES if backend != "reference"]
    width = max(len(name) for name in FAST)
    lines = [f"{'operation':{width}}  " + "  ".join(f"{b:>9}" for b in backends)]
    for name in sorted(FAST):
        marks = ("yes" if b in FAST[name] else "·" for b in backends)
        lines.append(f"{name:{width}}  " + "  ".join(f"{mark:>9}" for mark in marks))
    if any(_numba()):
        why = f"cannot be imported: {_numba().missing}" if _numba().missing else "must not compile"
        lines.append(f"numba {why}.")
    return "\n".join([*lines, "For every other operation its definition runs."])
