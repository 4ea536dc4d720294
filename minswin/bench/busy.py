"""A plain model(x) beside busy processes: who waits by spinning takes the cores from everybody.

The same step of training, without `data_parallel`, alone and beside processes that do nothing but
count; once with our threads, which sleep when they wait, and once with those of OpenBLAS.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

import numpy as np

from minswin import kernels, ops
from minswin.bench.children import call
from minswin.bench.clock import seconds
from minswin.bench.setups import SETUPS, check_model, data, our_model
from minswin.kernels import blas

ROUNDS = 3
COUNTING = "while True: pass"


class Busy(NamedTuple):
    """Seconds of a step."""

    threads: str  # whose they are
    alone: float
    beside: float  # busy processes


def busy(name: str, others: int = 2) -> list[Busy]:
    """The configuration `name`, a quarter of its batch, beside `others` busy processes."""
    check_model(SETUPS[name].model)
    return [call(_times, name, others, whose) for whose in ("ours", "OpenBLAS's")]


def _times(name: str, others: int, whose: str) -> Busy:
    setup = SETUPS[name]._replace(batch=max(1, SETUPS[name].batch // 4))
    images, labels = data(setup)
    model = our_model(setup, np.random.default_rng(0))

    def step() -> None:
        model.zero_grad()
        ops.cross_entropy(model(images), labels).backward()

    with kernels.using("numba"):
        if whose != "ours":
            blas.give_back()
        step()  # compiled, and in memory
        alone = median(seconds(step) for _ in range(ROUNDS))
        with counting_processes(others):
            return Busy(whose, alone, median(seconds(step) for _ in range(ROUNDS)))


@contextmanager
def counting_processes(count: int) -> Iterator[None]:
    """As many processes that do nothing but count, inside this block."""
    processes = [subprocess.Popen([sys.executable, "-c", COUNTING]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
