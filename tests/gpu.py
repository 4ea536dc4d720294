"""What tests that need a GPU share: they skip and say why, or fail where a GPU was promised."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import host_cuda
import pytest

from minswin import devices


def require_gpu() -> Any:
    """CuPy on a GPU, or where there is none, on the CPU as its device (host_cuda/README.md).

    Where neither can be had the test is skipped; with MINSWIN_REQUIRE_GPU=1 it fails.
    """
    try:
        if not _driver_has_a_gpu():
            host_cuda.enter()
        return devices.cupy()
    except (ImportError, OSError, host_cuda.Missing) as error:
        why = f"needs a GPU: {error}"
    if os.environ.get("MINSWIN_REQUIRE_GPU") == "1":
        pytest.fail(why)
    pytest.skip(why)


def _driver_has_a_gpu() -> bool:
    """Asked without CuPy, which must not be imported before the CPU is entered as its device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 < count.value
