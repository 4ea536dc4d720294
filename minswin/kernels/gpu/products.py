"""Matrix products on the GPU by cuBLAS itself, since those of CuPy cannot be captured.

CuPy raises NotImplementedError for every product while a stream is captured, though cuBLAS allows
it. Here its library, which CuPy has loaded, is called directly, on CuPy's stream and with a
workspace of that stream. One function of cuBLAS does all: batches of matrices of any of its types.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from minswin.arrays import Array, array_module
from minswin.kernels.gpu.launch import contiguous

TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}  # cudaDataType
FLOAT32, FLOAT64, TF32 = 68, 70, 77  # cublasComputeType_t
WORKSPACE = 32 << 20  # bytes: what NVIDIA recommends for sm_90


# ── how exactly ──────────────────────────────────────────────────────────────────────────────────


class _State(threading.local):
    short: Any = None  # the dtype of 16 bits that inputs are rounded to


_state = _State()


@contextmanager
def rounding_to(dtype: Any) -> Iterator[None]:
    """Inside this block (in this thread) products of float32 round their inputs to `dtype`.

    The sums stay float32, and so does what comes out.
    """
    before, _state.short = _state.short, dtype
    try:
        yield
    finally:
        _state.short = before


def compute_type(xp: Any, dtype: Any) -> int:
    if dtype == np.float64:
        return FLOAT64
    routines = xp._core._routines_linalg
    tf32 = routines.get_compute_type(np.float32) == routines.COMPUTE_TYPE_TF32
    return TF32 if dtype == np.float32 and tf32 else FLOAT32


# ── products ─────────────────────────────────────────────────────────────────────────────────────


def short(x: Array) -> Array:
    """What a product reads of x: a copy of 16 bits inside `rounding_to`, or else x itself.

    Who multiplies the same array twice asks once, and keeps half as many bytes.
    """
    return x.astype(short_dtype(x.dtype), copy=False)


def short_dtype(dtype: Any) -> Any:
    """The dtype of what `short` gives: a kernel that writes it saves that copy."""
    return _state.short if _state.short is not None and dtype == np.float32 else dtype


def product(x: Array, y: Array) -> Array:
    """x @ y for float32, float64 or what `short` gives, whose product is float32.

    x (N, K), y (K, M), or batches (B, N, K), (B, K, M), where a batch of one serves all.
    Gives (N, M) or (B, N, M).
    """
    xp, (N, K), M = array_module(x), x.shape[-2:], y.shape[-1]
    lead = (max(x.shape[0], y.shape[0]),) if x.ndim == 3 else ()
    x, y = short(x), short(y)
    if x.dtype != y.dtype:  # only one was made short: pulled back outside of the block
        shorter = min(x.dtype, y.dtype, key=lambda dtype: dtype.itemsize)
        x, y = x.astype(shorter), y.astype(shorter)
    z = xp.empty((*lead, N, M), np.float32 if x.itemsize == 2 else x.dtype)
    if z.size and not K:
        z.fill(0)
    elif z.size:
        _multiply(x, y, z)
    return z


def _multiply(x: Array, y: Array, z: Array) -> None:
    """z = x y. cuBLAS counts column by column, so for it this is zᵀ = yᵀ xᵀ."""
    xp, (N, K), M = array_module(z), x.shape[-2:], y.shape[-1]
    batch, compute = z.size // (N * M), compute_type(xp, x.dtype)
    (x, x_turned, x_leading), (y, y_turned, y_leading) = readable(x), readable(y)
    number = ctypes.c_double if compute == FLOAT64 else ctypes.c_float
    one, zero = number(1), number(0)
    cublas, handle, _ = ready(xp)
    status = cublas.cublasGemmStridedBatchedEx(
        handle, ctypes.c_int(y_turned), ctypes.c_int(x_turned),
        ctypes.c_int(M), ctypes.c_int(N), ctypes.c_int(K), ctypes.byref(one),
        *_described(y, y_leading), *_described(x, x_leading), ctypes.byref(zero),
        *_described(z, M), ctypes.c_int(batch), ctypes.c_int(compute), ctypes.c_int(-1),
    )  # fmt: skip
    check(status, "cublasGemmStridedBatchedEx")


def readable(x: Array) -> tuple[Array, int, int]:
    """Matrices as cuBLAS can read them; whether they are transposed; numbers from row to row."""
    item, (rows, columns) = x.itemsize, x.shape[-2:]
    for turned, far, near, least in ((0, -2, -1, columns), (1, -1, -2, rows)):
        step = x.strides[far] // item
        dense = x.strides[near] == item or x.shape[near] == 1
        if dense and x.strides[far] % item == 0 and (step >= least or x.shape[far] == 1):
            return x, turned, max(step, least)
    return contiguous(x), 0, columns


def _described(x: Array, leading: int) -> tuple[Any, ...]:
    """Address, type, leading dimension and step of the batch, as cuBLAS takes them."""
    step = x.strides[0] // x.itemsize if x.ndim == 3 and x.shape[0] > 1 else 0
    kind = TYPES[x.dtype.name]
    return (
        ctypes.c_void_p(x.data.ptr), ctypes.c_int(kind), ctypes.c_int(leading),
        ctypes.c_longlong(step),
    )  # fmt: skip


# ── cuBLAS ───────────────────────────────────────────────────────────────────────────────────────


@cache
def _library(xp: Any) -> Any:
    from cupy_backends.cuda.libs import cublas  # noqa: F401  loads the library

    return ctypes.CDLL(f"libcublas.so.{xp.cuda.runtime.runtimeGetVersion() // 1000}")


class _Handles(threading.local):
    """cuBLAS's handle of each device, for this thread, and a workspace for each of its streams."""

    def __init__(self) -> None:
        self.of_device: dict[int, ctypes.c_void_p] = {}
        self.workspaces: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


_handles = _Handles()


def ready(xp: Any) -> tuple[Any, ctypes.c_void_p, Any]:
    """The library, a handle that works on CuPy's current stream, and the workspace of that."""
    library, device = _library(xp), xp.cuda.runtime.getDevice()
    stream = xp.cuda.get_current_stream()
    if device not in _handles.of_device:
        handle = ctypes.c_void_p()
        check(library.cublasCreate_v2(ctypes.byref(handle)), "cublasCreate")
        _handles.of_device[device] = handle
    handle, workspace = _handles.of_device[device], _handles.workspaces.get(stream)
    if workspace is None:
        workspace = _handles.workspaces[stream] = xp.cuda.alloc(WORKSPACE)
    check(library.cublasSetStream_v2(handle, ctypes.c_void_p(stream.ptr)), "cublasSetStream")
    place = ctypes.c_void_p(workspace.ptr), ctypes.c_size_t(WORKSPACE)
    check(library.cublasSetWorkspace_v2(handle, *place), "cublasSetWorkspace")
    return library, handle, workspace


def check(status: int, function: str) -> None:
    if status:
        raise RuntimeError(f"cuBLAS: {function} gave the status {status}")
