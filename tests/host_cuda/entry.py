"""Putting functions of Python's into CuPy as its CUDA.

CuPy's modules find each other's C functions in tables of pointers, with the C types as text. Here
every pointer in the tables of CUDA's runtime and driver is replaced, before the other modules read
them, by a C function made from that text, which calls the method of `Calls` of its name.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from host_cuda import products
from host_cuda.calls import Calls
from host_cuda.kernels import Builder, Kernels

FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "minswin", "host_cuda")
LETTERS = {  # of C's types, as Py_BuildValue takes them
    "int": "i", "unsigned int": "I", "intptr_t": "n", "size_t": "n", "uintmax_t": "n",
    "PyObject *": "O", "cudaMemcpyKind": "i", "CUdevice": "i",
}  # fmt: skip
RESULTS = {  # how a C function gives what Python gave, and what it gives where that was an error
    "PyObject *": ("result", "NULL"),  # or None, once Python ends
    "int": ("(int)PyLong_AsLong(result)", "-1"),
    "unsigned int": ("(unsigned)PyLong_AsLong(result)", "0"),
    "intptr_t": ("(intptr_t)PyLong_AsSsize_t(result)", "0"),
    "size_t": ("(size_t)PyLong_AsSize_t(result)", "0"),
    "float": ("(float)PyFloat_AsDouble(result)", "0"),
}
HEAD = """#include <Python.h>
typedef int cudaMemcpyKind, CUdevice;
static PyObject *calls;  // NULL once Python ends: arrays that are freed then need nobody
void set_calls(PyObject *to) { Py_INCREF(calls = to); }
void end_calls(void) { calls = NULL; }
"""
PRIVATE = ("cupy.cuda.compiler", "_compile_with_cache_cuda")

_state: Calls | None = None
_kept: list[Any] = []  # what C has pointers to


class Missing(Exception):
    """What is not here, so that CuPy cannot run on the CPU."""


def entered() -> Calls | None:
    """The device, once `enter` has made it."""
    return _state


def enter() -> Calls:
    """Let CuPy, which nobody has imported yet, run on the CPU. Raises Missing where it cannot."""
    global _state
    if _state is not None:
        return _state
    _require()
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("CUPY_CACHE_DIR", str(FOLDER / "cupy"))
    os.environ["CUPY_ACCELERATORS"] = ""  # CUB and the like are compiled by nvcc, not from source
    packages = Path(importlib.util.find_spec("cupy").origin).parents[1]  # type: ignore[union-attr, arg-type]
    builder = Builder(FOLDER, [packages / "cupy/_core/include", *_cuda_headers(packages)])

    from cupy_backends.cuda.api import driver, runtime

    calls = Calls(runtime, Kernels(builder))
    cublas = next((packages / "cupy_backends/cuda/libs").glob("cublas.*.so"))
    _kept.append(products.enter(calls, builder, cublas))
    for module in (runtime, driver):
        _replace(module, calls, builder)
    import cupy

    compiler = importlib.import_module(PRIVATE[0])
    if not hasattr(compiler, PRIVATE[1]):
        raise Missing(f"CuPy {cupy.__version__} has no {'.'.join(PRIVATE)}")
    calls.kernels.watch(compiler)
    cupy.cuda.set_allocator(None)  # every array has guards of its own
    _state = calls
    return calls


def _require() -> None:
    if sys.modules.get("cupy") is not None:
        raise Missing("CuPy was imported before the CPU could be entered as its device")
    for package in ("cupy", "cupy_backends"):
        if importlib.util.find_spec(package) is None:
            raise Missing("CuPy cannot be loaded: it is not installed; pip install cupy-cuda13x")
    for program in ("gcc", "g++", "nm"):
        if shutil.which(program) is None:
            raise Missing(f"there is no {program}")


def _cuda_headers(packages: Path) -> list[Path]:
    """Those of nvidia-cuda-runtime, or of a toolkit that is installed."""
    homes = packages / "nvidia/cu13/include", Path("/usr/local/cuda/include")
    found = [home for home in homes if (home / "cuda_runtime_api.h").exists()]
    if not found:
        raise Missing("CUDA's headers are not here; pip install nvidia-cuda-runtime")
    cccl = packages / "cupy/_core/include/cupy/_cccl"
    return [found[0], cccl / "libcudacxx", cccl / "thrust", cccl / "cub"]


# ── CuPy's tables ────────────────────────────────────────────────────────────────────────────────


def _replace(module: Any, calls: Calls, builder: Builder) -> None:
    """Every function of a module's table that C types can be given for, and its Python names."""
    table = getattr(module, "__pyx_capi__", None)
    if table is None:
        raise Missing(f"{module.__name__} has no table of C functions")
    types = {name: _text(capsule) for name, capsule in table.items() if name != "check_status"}
    functions = {name: c for name, text in types.items() if (c := c_function(name, text))}
    if "launchKernel" not in functions and "malloc" not in functions:
        raise Missing(f"the table of {module.__name__} has neither launchKernel nor malloc")
    code = HEAD + "".join(functions.values())
    flags = f"-I{sysconfig.get_paths()['include']}", "-O1", "-w"
    library = ctypes.PyDLL(str(builder.built("-xc", code, *flags)))
    library.set_calls(ctypes.py_object(calls))
    atexit.register(library.end_calls)
    _kept.append(library)
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = (
        ctypes.py_object,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
    )
    for name in functions:
        text = types[name].encode()
        _kept.append(text)
        table[name] = new(
            ctypes.cast(getattr(library, f"call_{name}"), ctypes.c_void_p), text, None
        )
        if hasattr(Calls, name):
            setattr(module, name, getattr(calls, name))


def _text(capsule: Any) -> str:
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    return name(capsule).decode()  # type: ignore[no-any-return]


def c_function(name: str, types: str) -> str | None:
    """A C function of these types that calls Python; None for what is no function, or has others.

    >>> print(c_function("free", "PyObject *(intptr_t, int __pyx_skip_dispatch)"))
    PyObject *call_free(intptr_t a0, int skip) {
        if (!calls) Py_RETURN_NONE;
        PyObject *result = PyObject_CallMethod(calls, "free", "(n)", a0);
        if (!result) return NULL;
        return result;
    }
    <BLANKLINE>
    """
    match = re.fullmatch(r"([^()]*?) ?\((.*)\)", types)
    if match is None:
        return None
    result, listed = match[1], match[2].split(", ")
    parameters, values, letters = [], [], ""
    for i, kind in enumerate(listed):
        if kind.endswith("__pyx_skip_dispatch"):
            parameters.append("int skip")
        elif kind.endswith("__pyx_optional_args"):
            parameters.append("void *optional")
        elif kind in LETTERS:
            parameters.append(f"{kind} a{i}")
            values.append(f"a{i}")
            letters += LETTERS[kind]
        elif kind != "void":
            return None
    if result not in RESULTS:
        return None
    given, failed = RESULTS[result]
    release = "" if given == "result" else "    Py_DECREF(result);\n"
    space = "" if result.endswith("*") else " "
    keep = (
        f"    {result} given = {given};\n{release}    return given;\n"
        if release
        else "    return result;\n"
    )
    arguments = ", ".join([f'calls, "{name}", "({letters})"', *values])
    return (
        f"{result}{space}call_{name}({', '.join(parameters)}) {{\n"
        f"    if (!calls) {'Py_RETURN_NONE' if given == 'result' else 'return 0'};\n"
        f"    PyObject *result = PyObject_CallMethod({arguments});\n"
        f"    if (!result) return {failed};\n{keep}}}\n"
    )


# ── counting ─────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def counted(*, computing: bool = True) -> Iterator[Counter[str]]:
    """What is asked of the device inside this block; not `computing`: nothing is computed."""
    device = entered()
    assert device is not None
    before = device.counts, device.computing, device.memory.filled
    device.counts, device.computing = Counter(), computing
    device.memory.filled = device.memory.filled and computing
    try:
        yield device.counts
    finally:
        device.counts, device.computing, device.memory.filled = before
