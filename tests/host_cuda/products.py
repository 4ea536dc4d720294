"""cuBLAS: a library of its name whose products NumPy computes. What is not here is an error.

Inputs of 16 bits and TF32 are rounded as a GPU rounds them; sums are float64, better than there.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from host_cuda.kernels import Builder
from host_cuda.memory import view

HERE = Path(__file__).parent
TF32 = 77  # CUBLAS_COMPUTE_32F_FAST_TF32


class Product(ctypes.Structure):
    """C = α op(A) op(B) + β C, column by column, for a batch: as in cublas.c."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("turned_a", "turned_b", "m", "n", "k", "batch")),
        *((name, ctypes.c_int) for name in ("type_a", "type_b", "type_c", "lda", "ldb", "ldc")),
        ("compute", ctypes.c_int),
        *((name, ctypes.c_longlong) for name in ("a", "b", "c", "step_a", "step_b", "step_c")),
        ("stream", ctypes.c_longlong),
        ("bias", ctypes.c_longlong),  # 0: there is none
        ("alpha", ctypes.c_double),
        ("beta", ctypes.c_double),
    )


def enter(calls: Any, builder: Builder, cublas: Path) -> Any:
    """Load a libcublas of ours before `cublas`, CuPy's module, asks for the real one."""
    text = (HERE / "cublas.c").read_text("utf-8")
    listed = subprocess.run(
        ["nm", "-D", "-u", str(cublas)], capture_output=True, text=True, check=True
    )
    wanted = set(re.findall(r"\bcublas\w+", listed.stdout)) - set(
        re.findall(r"\bcublas\w+(?=\()", text)
    )
    text += "".join(f"int {name}() {{ return NOT_SUPPORTED; }}\n" for name in sorted(wanted))
    libraries = []
    for soname in ("libcublasLt.so.13", "libcublas.so.13"):  # both have all functions
        flags = ("-O1", "-w", f"-Wl,-soname,{soname},--default-symver")
        path = builder.built("-xc", text, *flags, name=soname)
        libraries.append(ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL))  # now found by its soname

    def ask(asked: Any) -> int:
        product = Product.from_buffer_copy(asked.contents)
        try:
            calls.work("product", product.stream, lambda: multiply(product, calls.memory))
        except Exception as error:  # an exception cannot pass through C
            print(f"cuBLAS on the CPU: {error!r}")
            return 14  # CUBLAS_STATUS_INTERNAL_ERROR
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Product))(ask)
    for library in libraries:
        library.set_multiply(callback)
    return libraries, callback  # to be kept


def multiply(p: Product, memory: Any) -> None:
    x = _matrices(p.a, p.type_a, (p.m, p.k), p.lda, p.step_a, p.batch, p.turned_a)
    y = _matrices(p.b, p.type_b, (p.k, p.n), p.ldb, p.step_b, p.batch, p.turned_b)
    z = _matrices(p.c, p.type_c, (p.m, p.n), p.ldc, p.step_c, p.batch, 0)
    if p.compute == TF32:
        x, y = _tf32(x), _tf32(y)
    with np.errstate(all="ignore"):  # a GPU gives no warnings
        result = p.alpha * (x.astype(np.float64) @ y.astype(np.float64))
        if p.bias:
            result += view(p.bias, p.m * z.itemsize).view(z.dtype)[:, None]
        z[...] = result + p.beta * z.astype(np.float64) if p.beta else result
    memory.check(p.c, "a product")


def _dtype(number: int) -> np.dtype[Any]:
    """Of CUDA's number for a type."""
    if number == 14:
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype({0: np.float32, 1: np.float64, 2: np.float16}[number])


def _matrices(
    address: int,
    kind: int,
    shape: tuple[int, int],
    leading: int,
    step: int,
    batch: int,
    turned: int,
) -> np.ndarray:
    """op(matrix) of each of a batch, as views: (batch, *shape)."""
    dtype, (rows, columns) = _dtype(kind), shape[::-1] if turned else shape
    size = (batch - 1) * step + (columns - 1) * leading + rows
    numbers = view(address, size * dtype.itemsize).view(dtype)
    strides = tuple(n * dtype.itemsize for n in (step, 1, leading))
    whole = np.lib.stride_tricks.as_strided(numbers, (batch, rows, columns), strides)
    return whole.swapaxes(1, 2) if turned else whole


def _tf32(x: np.ndarray) -> np.ndarray:
    """Rounded to 10 bits behind the point, to even where two are as near."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = (bits + (0xFFF + (bits >> 13 & 1)).astype(np.uint32)) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(x), rounded.view(np.float32), x)
