"""A stand-in for CuPy that compiles CUDA sources for the CPU and runs them there, block by block.

`use(monkeypatch)` enters it as the module "cupy", so that the wrappers of kernels/gpu run unchanged
on arrays in the memory of the CPU: their arguments, grids and sizes are checked with the sources.
cuda_on_host.h says how a block runs. Around every array lies a guard, and new arrays are NaN.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import types
from contextlib import nullcontext
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minswin.replacing import replacing

HEADER = Path(__file__).with_suffix(".h")
GUARD = 64  # bytes before and behind an array
CANARY = 0x5A
CHOICES = {"typename": ("float", "double"), "bool": ("false", "true"), "int": ("16", "32", "64")}
KERNEL = re.compile(
    r"template <([^>]*)>\s*__global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(", re.S
)


def compiler() -> str:
    """The C++ compiler of GCC; without it the test is skipped."""
    found = shutil.which("g++")
    if found is None:
        pytest.skip("needs a C++ compiler: there is no g++")
    return found


def instantiations(code: str) -> list[str]:
    """All kernels of a source for all types and numbers that they are used with."""
    names = []
    for parameters, name in KERNEL.findall(code):
        kinds = [p.split()[0] for p in parameters.split(",")]
        choices = product(*(CHOICES[kind] for kind in kinds))
        names += [f"{name}<{', '.join(choice)}>" for choice in choices]
    return names


# ── compiling and running ────────────────────────────────────────────────────────────────────────


KEPT = HEADER.parent / "__pycache__"
FLAGS = ["-std=c++17", "-O1", "-U_FORTIFY_SOURCE", "-fno-extern-tls-init", "-w"]
FLAGS += ["-fno-gnu-unique", "-fPIC", "-shared"]  # each has shared memory of its own


@cache
def library(code: str) -> ctypes.CDLL:
    """All instantiations of a source, compiled, and kept for other processes and later runs."""
    table = "".join(f'    host::entry("{name}", {name}),\n' for name in instantiations(code))
    text = f"{code}\nhost::Entry entries[] = {{\n{table}    {{0, 0, 0, 0, 0}},\n}};\n"
    made_of = text, HEADER.read_text("utf-8"), FLAGS, compiler(), os.stat(compiler()).st_mtime_ns
    built = KEPT / f"kernels-{hashlib.sha256(repr(made_of).encode()).hexdigest()}.so"
    if not built.exists():
        KEPT.mkdir(exist_ok=True)
        with replacing(built, who="cuda_on_host") as temporary:
            _compile(text, temporary)
    loaded = ctypes.CDLL(str(built))
    loaded.launch.restype = loaded.letters_of.restype = ctypes.c_char_p
    return loaded


def _compile(text: str, built: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernels.cpp")
        source.write_text(text, "utf-8")
        command = [compiler(), *FLAGS, "-include", str(HEADER), str(source), "-o", str(built)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]


class RawModule:
    def __init__(self, *, code: str, options: tuple[str, ...], name_expressions: tuple[str, ...]):
        assert "-std=c++17" in options
        self.code, self.names = code, name_expressions

    def get_function(self, name: str) -> RawKernel:
        assert name in self.names and name in instantiations(self.code), name
        return RawKernel(self.code, name)


class RawKernel:
    backwards = False  # the order in which blocks and threads have their turns
    ran: list[str] = []  # noqa: RUF012  the names of all kernels that were started

    def __init__(self, code: str, name: str) -> None:
        self.code, self.name = code, name
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], arguments: Any, *, shared_mem: int = 0
    ) -> None:
        assert shared_mem <= self.max_dynamic_shared_size_bytes, (self.name, shared_mem)
        assert all(n > 0 for n in (*grid, *block)), (self.name, grid, block)
        built, three = library(self.code), ctypes.c_uint * 3
        letters = built.letters_of(self.name.encode()).decode()
        given = "".join(map(letter, arguments))
        assert given == letters, f"{self.name} takes {letters}, got {given}"
        values = [boxed(x) for x in arguments]
        pointers = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))
        sizes = (three(*(*n, 1, 1)[:3]) for n in (grid, block))
        name, backwards = self.name.encode(), int(RawKernel.backwards)
        trouble = built.launch(name, *sizes, shared_mem, pointers, backwards)
        assert trouble is None, f"{self.name}: {trouble.decode()}"
        for x in arguments:
            assert not isinstance(x, ndarray) or guarded(x), f"{self.name}: a write beside an array"
        RawKernel.ran.append(self.name)


def letter(x: Any) -> str:
    """What CuPy would pass: P a pointer, q 64 bits, f and d numbers, ? a truth value."""
    if isinstance(x, ndarray):
        assert x.flags.c_contiguous, "a kernel was given an array with strides"
        return "P"
    if isinstance(x, np.void):
        return "x"  # a struct by value
    kinds = {"int": "q", "int64": "q", "float32": "f", "float64": "d", "bool": "?", "bool_": "?"}
    return kinds[type(x).__name__]


def boxed(x: Any) -> np.ndarray:
    """An array of one element that holds an argument, or the address of an array."""
    return np.array([x.ctypes.data if isinstance(x, ndarray) else x])


# ── arrays ───────────────────────────────────────────────────────────────────────────────────────


class Device(nullcontext):  # type: ignore[type-arg]
    """The one that there is, also as what is current in a block."""

    id = 0


STREAM = nullcontext()  # the one that there is


class ndarray(np.ndarray):
    """An array "on the GPU"."""

    @property
    def data(self) -> Any:
        return types.SimpleNamespace(ptr=self.ctypes.data)

    @property
    def device(self) -> Any:
        return Device()

    def get(self) -> np.ndarray:
        return np.array(self)


class Room(np.ndarray):
    """The bytes of an array and of its guards."""


def empty(shape: Any, dtype: Any = float) -> ndarray:
    shape = shape if isinstance(shape, tuple) else (shape,)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.full(size + 2 * GUARD, 0xFF, np.uint8).view(Room)  # NaN
    room[:GUARD] = room[GUARD + size :] = CANARY
    return np.ndarray.__new__(ndarray, shape, dtype, buffer=room, offset=GUARD)


def guarded(x: Any) -> bool:
    """Whether the guards of the room of x are as they were."""
    while x is not None and not isinstance(x, Room):
        x = x.base
    return x is None or bool(np.all(x[:GUARD] == CANARY) and np.all(x[-GUARD:] == CANARY))


def asarray(x: Any, dtype: Any = None) -> ndarray:
    if isinstance(x, ndarray) and dtype in (None, x.dtype):
        return x
    x = np.asarray(x, dtype)
    copy = empty(x.shape, x.dtype)
    copy[...] = x
    return copy


def ascontiguousarray(x: Any) -> ndarray:
    return asarray(np.array(x))


def zeros(shape: Any, dtype: Any = float) -> ndarray:
    x = empty(shape, dtype)
    x[...] = 0
    return x


class Module(types.ModuleType):
    """The module "cupy": what is not above is NumPy's, which keeps the kind of an array."""

    ndarray, RawModule = ndarray, RawModule
    empty, zeros = staticmethod(empty), staticmethod(zeros)
    asarray, ascontiguousarray = staticmethod(asarray), staticmethod(ascontiguousarray)
    pad = staticmethod(lambda x, around, **how: asarray(np.pad(x, around, **how)))
    broadcast_to = staticmethod(partial(np.broadcast_to, subok=True))
    lib = types.SimpleNamespace(
        stride_tricks=types.SimpleNamespace(
            as_strided=partial(np.lib.stride_tricks.as_strided, subok=True)
        )
    )
    cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(getDevice=lambda: 0),
        get_current_stream=lambda device: STREAM,
    )

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def multiply(x: ndarray, y: ndarray, z: ndarray) -> None:
    """What cuBLAS does on a GPU; host_cuda tests how it is called."""
    z[...] = np.matmul(x, y)


MODULE = Module("cupy")


def use(monkeypatch: pytest.MonkeyPatch) -> Module:
    """Let `import cupy` find the stand-in until the test ends."""
    compiler()
    monkeypatch.setitem(sys.modules, "cupy", MODULE)
    monkeypatch.setattr(RawKernel, "ran", [])
    monkeypatch.setattr("minswin.kernels.gpu.products._multiply", multiply)
    place = "minswin.kernels.gpu.products_with_bias._multiply_adding"
    monkeypatch.setattr(place, lambda x, y, bias, z: False)
    return MODULE
