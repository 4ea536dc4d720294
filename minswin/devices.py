"""Where arrays are, and the only way for them to move: "cpu", "gpu" (the first one), "gpu:1".

Nothing moves unasked: operations on arrays of two devices are an error. CuPy is imported when a
GPU is named for the first time, never before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from minswin.arrays import INSTALL_CUPY, Array, array_module, to_numpy

__all__ = ["device_of", "to_device"]


def gpu_number(device: str) -> int | None:
    """The number of the GPU that a name means; None for the CPU.

    >>> [gpu_number(name) for name in ("cpu", "gpu", "gpu:1")]
    [None, 0, 1]
    """
    kind, colon, number = str(device).partition(":")
    if device == "cpu":
        return None
    if kind != "gpu" or (colon and not number.isdecimal()):
        raise ValueError(f"device must be 'cpu', 'gpu' or 'gpu:1', 'gpu:2', …, got {device!r}")
    return int(number or 0)


def device_of(x: Array) -> str:
    """The device of an array, as to_device names it; the first GPU is "gpu:0" then."""
    return "cpu" if array_module(x) is np else f"gpu:{x.device.id}"


def to_device(x: Array, device: str) -> Array:
    """x itself, where it lies on that device already; else a copy there."""
    number = gpu_number(device)
    if number is None:
        return to_numpy(x)
    if device_of(x) == f"gpu:{number}":
        return x
    with gpu(device):
        return x.copy() if array_module(x) is not np else cupy(device).asarray(x)


def gpu(device: str) -> Any:
    """Inside this block, a CuPy device, new arrays of CuPy are made on that GPU."""
    library, number = cupy(device), gpu_number(device)
    count = library.cuda.runtime.getDeviceCount()
    if number is None or number >= count:
        raise OSError(f"device {device!r}: there are {count} GPUs, counted from 0; use another one")
    return library.cuda.Device(number)


def cupy(device: str = "gpu") -> Any:
    """The module cupy, which can use a GPU here; else an error that says what is missing."""
    try:
        import cupy as library
    except ImportError as error:
        raise ImportError(
            f"device {device!r}: CuPy cannot be loaded ({error}); {INSTALL_CUPY}, "
            "or use device 'cpu'"
        ) from error
    try:
        count = library.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy's own kind, where there is no driver
        count, reason = 0, f"{error}"
    else:
        reason = "CUDA counts 0 of them"
    if count == 0:
        raise OSError(
            f"device {device!r}: there is no GPU that CUDA can use ({reason}); "
            "see what nvidia-smi says, or use device 'cpu'"
        )
    return library


@contextmanager
def working_on(device: str) -> Iterator[None]:
    """Inside this block (in this thread) a GPU works on a stream of its own, which can be captured.

    What is made there belongs there: read it, or move it to the CPU, inside the block too.
    """
    if gpu_number(device) is None:
        yield
        return
    where = gpu(device)
    with where, cupy(device).cuda.Stream(non_blocking=True):
        yield
        where.synchronize()


# ── for layers ───────────────────────────────────────────────────────────────────────────────────


def like(x: Array, array: Array) -> Array:
    """`array`, which was made on the CPU, where x is."""
    return array if isinstance(x, np.ndarray) else to_device(array, device_of(x))


def constant(x: Array, make: Callable[..., np.ndarray], *arguments: Any) -> Array:
    """make(*arguments), a table of NumPy's, where x is; a GPU keeps its copy for the next time."""
    if isinstance(x, np.ndarray):
        return make(*arguments)
    return _kept(device_of(x), make, arguments)


@lru_cache(maxsize=256)
def _kept(device: str, make: Callable[..., np.ndarray], arguments: tuple[Any, ...]) -> Array:
    return to_device(make(*arguments), device)
