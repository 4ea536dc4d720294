"""Time and memory: one step's seconds, the spread of many, the most that a process has held."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

Step = Callable[[], object]


class Spread(NamedTuple):
    """Of repeated times, in seconds: half of them lie between `low` and `high`."""

    low: float
    median: float
    high: float


def spread(times: Sequence[float]) -> Spread:
    """The quartiles of at least one time."""
    if len(times) == 1:
        return Spread(times[0], times[0], times[0])
    return Spread(*quantiles(times, n=4, method="inclusive"))


def seconds(step: Step) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def peak_memory() -> float:
    """The most memory that this process has held, in MiB.

    From /proc where there is one: ru_maxrss remembers, on Linux, the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
