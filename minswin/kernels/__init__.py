"""The table of kernels: for every operation its definition, and faster functions that equal it.

    KERNELS["softmax"] == {"reference": <the definition>, "numba": <its fast equal>, "cupy": …}

`select(name, array)` gives the function to run. NumPy arrays use "numba" and CuPy arrays "cupy",
unless the environment variable MINSWIN_KERNELS or `with using("reference"):` says otherwise. An
operation without a kernel of the chosen backend runs its definition, as `report()` shows; a backend
that cannot be loaded is an error, never a silent fallback.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from minswin import reference
from minswin.arrays import Array, array_module

__all__ = ["BACKENDS", "KERNELS", "chosen", "kernel", "report", "select", "using"]

_HOMES = {  # what is imported for each
    "reference": (),
    "numba": ("minswin.kernels.cpu",),
    "cupy": ("cupy", "minswin.kernels.gpu"),
}
_INSTALL = {"numba": "pip install numba", "cupy": "pip install cupy-cuda12x"}
BACKENDS = ("reference", "numba")  # those for NumPy arrays

KERNELS: dict[str, dict[str, Callable[..., Any]]] = {}
Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(name: str, backend: str) -> Callable[[Function], Function]:
    """Decorator: enter a function as `backend`'s equal of the definition `name`."""

    def enter(function: Function) -> Function:
        if name not in KERNELS and backend != "reference":
            raise ValueError(f"kernel: {name!r} has no definition; known are {sorted(KERNELS)}")
        KERNELS.setdefault(name, {})[backend] = function
        return function

    return enter


COMPOSITES: set[str] = set()  # operations whose definition is a text on Tensors, see ops.composite
UPDATES = {"sgd_step", "adamw_step"}  # these change arrays in place and have no derivative


def _enter_definitions(module: ModuleType) -> None:
    """Every public function of a module of reference/ that returns `value, vjp` is a definition."""
    for name, function in vars(module).items():
        if getattr(function, "__module__", None) != module.__name__ or name.startswith("_"):
            continue
        if "Vjp" in str(function.__annotations__.get("return", "")):
            kernel(name, "reference")(function)


for _module in reference.MODULES:
    _enter_definitions(_module)
for _name in UPDATES:
    kernel(_name, "reference")(getattr(reference.updates, _name))


# ── choosing ─────────────────────────────────────────────────────────────────────────────────────


class _State(threading.local):
    backend: str | None = None  # None: the default for the array's type


_state = _State()


@contextmanager
def using(backend: str) -> Iterator[None]:
    """Run the operations inside this block (in this thread) with the kernels of `backend`."""
    _load(backend, "using")
    before, _state.backend = _state.backend, backend
    try:
        yield
    finally:
        _state.backend = before


def chosen(array: Array) -> str:
    """The backend that operations on `array` use here and now."""
    backend = _state.backend or os.environ.get("MINSWIN_KERNELS") or None
    on_cpu = array_module(array) is np
    if backend is None:
        return "numba" if on_cpu else "cupy"
    if backend == "cupy" and on_cpu:
        raise ValueError(
            "kernels: the backend 'cupy' works on CuPy arrays, got a NumPy array; "
            "use kernels.using('numba'), or move the data to the GPU"
        )
    if backend == "numba" and not on_cpu:
        raise ValueError(
            "kernels: the backend 'numba' works on NumPy arrays, got a CuPy array; "
            "use kernels.using('cupy'), or move the data to the CPU"
        )
    return backend


def select(name: str, array: Array) -> Callable[..., Any]:
    """The function that runs operation `name` on `array`: a kernel, or else the definition."""
    backend = chosen(array)
    if backend not in _loaded:
        _load(backend, "MINSWIN_KERNELS")
    row = KERNELS[name]
    return row.get(backend) or row["reference"]


_loaded = {"reference"}


def _load(backend: str, who: str) -> None:
    """Import the kernels of a backend, once; the decorator `kernel` enters them in the table."""
    if backend not in _HOMES:
        raise ValueError(f"{who}: unknown backend {backend!r}; choose one of {', '.join(_HOMES)}")
    if backend not in _loaded:
        try:
            for home in _HOMES[backend]:
                importlib.import_module(home)
        except ImportError as error:
            raise ImportError(
                f"{who}: the backend {backend!r} cannot be loaded ({error}); "
                f"{_INSTALL[backend]}, or set MINSWIN_KERNELS=reference"
            ) from error
    _loaded.add(backend)


# ── looking ──────────────────────────────────────────────────────────────────────────────────────


def report() -> str:
    """A table operation × backend; a dot where the definition runs."""
    for backend in BACKENDS:
        _load(backend, "report")
    importlib.import_module(_HOMES["cupy"][-1])  # can be read without CuPy
    width = max(len(name) for name in KERNELS)
    lines = [f"{'operation':{width}}  " + "  ".join(f"{b:>9}" for b in _HOMES)]
    for name in sorted(KERNELS):
        marks = ("yes" if b in KERNELS[name] else "·" for b in _HOMES)
        lines.append(f"{name:{width}}  " + "  ".join(f"{mark:>9}" for mark in marks))
    return "\n".join(lines)
