"""x @ y + bias in one pass on the GPU: cuBLAS's light library adds the bias as it writes.

Where it cannot (float64, arrays that begin anywhere, sizes for which it knows no way), the bias is
added in a pass of its own. What it needs to know of a product is described once for each size.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from minswin.arrays import Array, array_module
from minswin.kernels.gpu.launch import contiguous
from minswin.kernels.gpu.products import (
    TYPES,
    WORKSPACE,
    check,
    compute_type,
    product,
    readable,
    ready,
    short,
)

TURNED_A, TURNED_B, EPILOGUE, BIAS_POINTER = 3, 4, 7, 8  # cublasLtMatmulDescAttributes_t
ADDS_BIAS = 4  # CUBLASLT_EPILOGUE_BIAS
MOST_WORKSPACE = 1  # CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES
ALIGNED = 256  # bytes: what cublasLt takes for granted
FLOAT = TYPES["float32"]


def product_plus(x: Array, y: Array, bias: Array | None) -> Array:
    """x @ y + bias: x (N, K), y (K, M) as in `product`, bias (M,) or None. Gives (N, M)."""
    x, y = short(x), short(y)
    if bias is not None and x.dtype == y.dtype != np.float64 and x.size and y.size:
        z = array_module(x).empty((len(x), y.shape[1]), np.float32)
        if _multiply_adding(x, y, contiguous(bias), z):
            return z
    z = product(x, y)
    if bias is not None:
        z += bias
    return z


class _Plan(NamedTuple):
    """What cublasLt is told of a product, and the way that it chose."""

    operation: ctypes.c_void_p
    layouts: tuple[ctypes.c_void_p, ...]  # of its A, B and C
    algorithm: Any


class _Plans(threading.local):
    def __init__(self) -> None:
        self.of: dict[tuple[Any, ...], _Plan | None] = {}


_plans = _Plans()


def _multiply_adding(x: Array, y: Array, bias: Array, z: Array) -> bool:
    """z = x y + bias; False, and nothing is done, where cublasLt cannot.

    It counts column by column: its C = A B is zᵀ = yᵀ xᵀ, and it adds the bias to each column.
    """
    xp, (N, K), M = array_module(z), x.shape, y.shape[1]
    (x, x_turned, x_leading), (y, y_turned, y_leading) = readable(x), readable(y)
    (_, handle, workspace), library = ready(xp), _library(xp)
    if library is None or any(a.data.ptr % ALIGNED for a in (x, y, bias, z)):
        return False
    sides = (M, N, K), (y_turned, x_turned), (y_leading, x_leading)
    key = (handle.value, *sides, TYPES[x.dtype.name], compute_type(xp, x.dtype))
    address = ctypes.c_void_p(bias.data.ptr)
    if key not in _plans.of:
        _plans.of[key] = _planned(library, handle, address, *key[1:])
    plan = _plans.of[key]
    if plan is None:
        return False
    _set(library, plan.operation, BIAS_POINTER, address)
    one, zero = ctypes.c_float(1), ctypes.c_float(0)
    A, B, C = plan.layouts
    status = library.cublasLtMatmul(
        handle, plan.operation, ctypes.byref(one), _at(y), A, _at(x), B, ctypes.byref(zero),
        _at(z), C, _at(z), C, ctypes.byref(plan.algorithm), ctypes.c_void_p(workspace.ptr),
        ctypes.c_size_t(WORKSPACE), ctypes.c_void_p(xp.cuda.get_current_stream().ptr),
    )  # fmt: skip
    if status:  # it was promised; from now on it is done in two passes
        _plans.of[key] = None
    return not status


def _at(x: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data.ptr)


# ── cublasLt ─────────────────────────────────────────────────────────────────────────────────────


class _Found(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t"""

    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


@cache
def _library(xp: Any) -> Any:
    """Part of cuBLAS, which is loaded by now; None where it is not found by its name."""
    try:
        return ctypes.CDLL(f"libcublasLt.so.{xp.cuda.runtime.runtimeGetVersion() // 1000}")
    except OSError:
        return None


def _planned(
    library: Any,
    handle: ctypes.c_void_p,
    bias: ctypes.c_void_p,
    sizes: tuple[int, int, int],
    turned: tuple[int, int],
    leading: tuple[int, int],
    kind: int,
    compute: int,
) -> _Plan | None:
    """None where cublasLt knows no way. cuBLAS's handle is one of cublasLt's too."""
    M, N, K = sizes
    operation, preference = ctypes.c_void_p(), ctypes.c_void_p()
    made = library.cublasLtMatmulDescCreate(ctypes.byref(operation), compute, FLOAT)
    check(made, "cublasLtMatmulDescCreate")
    for which, value in (
        (TURNED_A, turned[0]), (TURNED_B, turned[1]), (EPILOGUE, ADDS_BIAS)
    ):  # fmt: skip
        _set(library, operation, which, ctypes.c_int(value))
    _set(library, operation, BIAS_POINTER, bias)
    A = _layout(library, kind, (K, M) if turned[0] else (M, K), leading[0])
    B = _layout(library, kind, (N, K) if turned[1] else (K, N), leading[1])
    C = _layout(library, FLOAT, (M, N), M)
    check(library.cublasLtMatmulPreferenceCreate(ctypes.byref(preference)), "cublasLt: preference")
    most = ctypes.c_uint64(WORKSPACE)
    library.cublasLtMatmulPreferenceSetAttribute(
        preference, MOST_WORKSPACE, ctypes.byref(most), ctypes.c_size_t(8)
    )
    found, count = _Found(), ctypes.c_int(0)
    status = library.cublasLtMatmulAlgoGetHeuristic(
        handle, operation, A, B, C, C, preference, 1, ctypes.byref(found), ctypes.byref(count)
    )
    library.cublasLtMatmulPreferenceDestroy(preference)
    if status or not count.value or found.state:
        return None
    return _Plan(operation, (A, B, C), found.algorithm)


def _set(library: Any, operation: ctypes.c_void_p, which: int, value: Any) -> None:
    size = ctypes.c_size_t(ctypes.sizeof(value))
    status = library.cublasLtMatmulDescSetAttribute(operation, which, ctypes.byref(value), size)
    check(status, "cublasLtMatmulDescSetAttribute")


def _layout(library: Any, kind: int, shape: tuple[int, int], leading: int) -> ctypes.c_void_p:
    layout = ctypes.c_void_p()
    status = library.cublasLtMatrixLayoutCreate(
        ctypes.byref(layout), kind, *map(ctypes.c_uint64, shape), ctypes.c_int64(leading)
    )
    check(status, "cublasLtMatrixLayoutCreate")
    return layout
