"""What the machine can do at best: the rate of a large product, and of copying a large array.

To be called in a process whose BLAS was told how many threads to use, see children.blas_threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from minswin.bench.clock import seconds

SIDE = 2048  # of the matrices
COPIED = 2**25  # numbers of 4 bytes: far more than the caches hold
REPEATS = 5  # the best counts: whatever else the machine does can only slow it down


class Ceilings(NamedTuple):
    threads: int
    products: float  # GF/s
    copies: float  # GB/s, read and written


def ceilings(threads: int) -> Ceilings:
    """The ceilings of float32 with so many threads."""
    return Ceilings(threads, product_rate() / 1e9, copy_rate(threads) / 1e9)


def product_rate(side: int = SIDE) -> float:
    """Floating-point operations per second of a square product."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, side, side), dtype=np.float32)
    out = np.empty_like(x)
    best = min(seconds(lambda: np.matmul(x, y, out=out)) for _ in range(REPEATS))
    return 2 * side**3 / best


def copy_rate(threads: int, numbers: int = COPIED) -> float:
    """Bytes per second, read and written, while every thread copies its part of one array."""
    x = np.ones(numbers, np.float32)
    y = np.ones_like(x)  # written once, so that its memory exists
    parts = list(zip(np.array_split(x, threads), np.array_split(y, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            list(pool.map(lambda part: np.copyto(part[1], part[0]), parts))

        best = min(seconds(copy) for _ in range(REPEATS))
    return 2 * x.nbytes / best
