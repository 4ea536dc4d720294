"""The CUDA kernels and the cases that they are tested with, here and on a GPU.

Here each runs compiled by a C++ compiler (cuda_on_host.py): `host`, `through_host`.
"""

from __future__ import annotations

from typing import Any

import cuda_on_host
import numpy as np
import pytest
from kernel_cases import Case, windows_of
from table import UPDATES

import minswin.kernels.gpu  # noqa: F401  enters the kernels in the table
from minswin.kernels import FAST

ALL = sorted(name for name, row in FAST.items() if "cupy" in row)
NAMES = [name for name in ALL if name not in UPDATES]
PRODUCTS = ("matmul", "resize")  # are cuBLAS's alone

# Heads of 16, 32 and 64 channels and a little less, windows of 16 to 256 tokens, some not square,
# wholes and parts of a tile, one head and several in a block, masks on both axes.
GEOMETRIES = [
    # (B, H, W), heads, d, window, shift, window of the table
    ((2, 8, 12), 3, 16, (4, 4), (2, 2), (4, 4)),
    ((1, 4, 4), 8, 5, (4, 4), (0, 0), (4, 4)),
    ((2, 7, 14), 2, 32, (7, 7), (3, 3), (7, 7)),
    ((1, 14, 7), 4, 17, (7, 7), (6, 1), (8, 9)),
    ((2, 6, 5), 2, 20, (3, 5), (2, 1), (3, 5)),  # read in fours, and less than 32
    ((1, 8, 16), 2, 32, (8, 8), (4, 4), (8, 8)),
    ((1, 12, 24), 1, 64, (12, 12), (6, 6), (12, 12)),
    ((1, 16, 32), 1, 32, (16, 16), (8, 8), (16, 16)),
    ((1, 16, 16), 2, 64, (16, 16), (0, 15), (16, 16)),
    ((1, 2, 256), 1, 7, (1, 256), (0, 100), (1, 256)),
    ((1, 6, 10), 2, 33, (3, 5), (1, 0), (3, 5)),
    ((2, 3, 3), 2, 1, (1, 1), (0, 0), (1, 1)),
]


def case_of(geometry: Any, dtype: type) -> Case:
    """Random arrays and the settings of shifted-window attention of one of GEOMETRIES."""
    shape, heads, d, window, shift, table_window = geometry
    rng = np.random.default_rng(d)
    qkv = 2 * rng.standard_normal((*shape, 3 * heads * d))
    rows = (2 * table_window[0] - 1) * (2 * table_window[1] - 1)
    table = rng.standard_normal((rows, heads))
    return (qkv.astype(dtype), table.astype(dtype)), windows_of(heads, window, shift, table_window)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Any:
    return cuda_on_host.use(monkeypatch)


def through_host(function: Any) -> Any:
    """A function on CuPy arrays as one on NumPy arrays; strides stay as they are."""

    def there(x: Any) -> Any:
        return None if x is None else x.view(cuda_on_host.ndarray)

    def back(x: Any) -> Any:
        return None if x is None else x.get()

    def run(*arrays: Any, **settings: Any) -> Any:
        value, vjp = function(*map(there, arrays), **settings)
        return back(value), lambda g: tuple(map(back, vjp(there(g))))

    return run
