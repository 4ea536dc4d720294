"""A stand-in for CuPy that computes with NumPy, so that code for a GPU can be tested without one.

`use(monkeypatch)` enters it as the module "cupy". Its arrays are foreign to NumPy: every NumPy
function and every mixture with a NumPy array is a TypeError, as it is, or ought to be, on a GPU.
What the real CuPy refuses is refused here (cupy_rules.py).
"""

from __future__ import annotations

import operator
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cupy_rules
import numpy as np
from standin_arrays import METHODS, Device, asarray, asnumpy, call, change, check, ndarray
from standin_streams import Capture, Event, MemoryPool, Stream

__all__ = ["FUNCTIONS", "METHODS", "module", "use"]

FUNCTIONS = """
    abs all any arange argmax argsort array_equal broadcast_to concatenate copysign cos empty
    empty_like exp expand_dims flatnonzero floor full full_like isfinite isinf isnan log log1p
    matmul max maximum mean min minimum moveaxis ones ones_like pad prod repeat roll sign sin split
    sqrt square stack sum swapaxes take_along_axis tanh transpose triu tril vdot where zeros
    zeros_like ascontiguousarray logaddexp einsum clip cumsum tile nonzero invert logical_and
    logical_or
"""


class _Add:
    """cupy.add, with its `at`."""

    def __call__(self, x: Any, y: Any) -> Any:
        return call(operator.add, x, y)

    def at(self, x: ndarray, index: Any, y: Any) -> None:
        change(x, np.add.at, index, y)


@contextmanager
def using_allocator(allocator: Any) -> Iterator[None]:
    yield


# ── the module ───────────────────────────────────────────────────────────────────────────────────


def module() -> types.ModuleType:
    """A module "cupy" made of the above."""
    cupy = types.ModuleType("cupy")
    for name in FUNCTIONS.split():
        setattr(cupy, name, _function(name, getattr(np, name)))
    for name in ("float16", "float32", "float64", "int32", "int64", "uint8", "bool_", "inf", "nan"):
        setattr(cupy, name, getattr(np, name))
    own = {name: cupy_rules.binding(name, asarray) for name in ("asarray", "array")}
    own["asnumpy"] = cupy_rules.binding("asnumpy", asnumpy)
    own.update(ndarray=ndarray, add=_Add(), __version__="0 (stand-in)")
    for name, value in own.items():
        setattr(cupy, name, value)
    name = "lib.stride_tricks.as_strided"
    tricks = types.SimpleNamespace(as_strided=_function(name, np.lib.stride_tricks.as_strided))
    cupy.get_default_memory_pool = MemoryPool
    cupy.lib = types.SimpleNamespace(stride_tricks=tricks)
    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        Stream=Stream,
        Event=Event,
        MemoryPool=MemoryPool,
        using_allocator=using_allocator,
        get_current_stream=lambda: Stream.current,
        runtime=types.SimpleNamespace(getDeviceCount=lambda: 2),
    )
    return cupy


def _function(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*inputs: Any, **settings: Any) -> Any:
        check(name, cupy_rules.bound(name, inputs, settings))
        return call(function, *inputs, **settings)

    return checked


def pinned(shape: Any, dtype: Any = float) -> np.ndarray:
    return np.empty(shape, dtype)


def use(monkeypatch: Any) -> types.ModuleType:
    """Let `import cupy` find the stand-in until the test ends; operations run their definitions."""
    cupy, cupyx = module(), types.ModuleType("cupyx")
    cupyx.empty_pinned = pinned
    monkeypatch.setitem(__import__("sys").modules, "cupy", cupy)
    monkeypatch.setitem(__import__("sys").modules, "cupyx", cupyx)
    monkeypatch.setattr("minswin.kernels._environment", "reference")
    Stream.all, Stream.current = [], Stream()
    Capture.now, Device.current = None, 0
    from minswin import devices

    devices._kept.cache_clear()
    return cupy


def _bind_own() -> None:
    """What is not made from NumPy's functions is bound to CuPy's signatures too."""
    kinds = {f"cuda.{kind.__name__}": kind for kind in (Stream, Event, MemoryPool, Device)}
    kinds |= {"ndarray": ndarray, "cuda.Graph": Capture}
    names = {"ndarray": cupy_rules.OWN_METHODS, **cupy_rules.CLASSES}
    for kind, own in kinds.items():
        for name in names[kind].split():
            setattr(own, name, cupy_rules.binding(f"{kind}.{name}", getattr(own, name)))


_bind_own()
