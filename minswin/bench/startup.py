"""How long the first step of a fresh process takes: with compiled kernels on disk, and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from minswin.bench.children import Failed
from minswin.bench.clock import seconds
from minswin.bench.contenders import build, load
from minswin.bench.setups import SETUPS, check_model

# The clock starts before anything is imported, so this text cannot be a function of ours.
PROGRAM = """
import time; start = time.perf_counter()
import numpy; numpy_done = time.perf_counter()
import minswin; minswin_done = time.perf_counter()
from minswin.bench import startup
startup.report({name!r}, {threads}, numpy_done - start, minswin_done - numpy_done)
"""


class Startup(NamedTuple):
    """Seconds of a fresh process, in the order in which they pass."""

    import_numpy: float
    import_minswin: float
    load_kernels: float  # numba among them
    build_model: float
    first_step: float
    second_step: float

    @property
    def kernels_and_steps(self) -> float:
        """What a cache of compiled kernels shortens."""
        return self.load_kernels + self.first_step


class Startups(NamedTuple):
    """The same process with an empty cache, then with the cache that it left."""

    setup: str
    threads: int
    empty_cache: Startup
    warm_cache: Startup
    kernels: int  # files of compiled kernels in the cache

    @property
    def compiling(self) -> float:
        """Seconds that it takes to compile what a training step needs."""
        return self.empty_cache.kernels_and_steps - self.warm_cache.kernels_and_steps


def startups(name: str, threads: int) -> Startups:
    """Start a training of the configuration `name` twice, with a numba cache of its own."""
    check_model(SETUPS[name].model)
    with tempfile.TemporaryDirectory() as folder:
        empty = _fresh_process(name, threads, folder)
        warm = _fresh_process(name, threads, folder)
        compiled = len(list(Path(folder).rglob("*.nbi")))
    return Startups(name, threads, empty, warm, compiled)


def _fresh_process(name: str, threads: int, cache: str) -> Startup:
    program = PROGRAM.format(name=name, threads=threads)
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Failed(f"its process ended (exit code {done.returncode}): {last}")
    return Startup(**json.loads(done.stdout))


def report(name: str, threads: int, import_numpy: float, import_minswin: float) -> None:
    """In the fresh process: go on to the second training step, and print the times."""
    kernels = seconds(lambda: load("minswin"))
    built = []
    model = seconds(lambda: built.append(build("minswin", SETUPS[name], threads)))
    first, second = (seconds(built[0].train) for _ in range(2))
    times = Startup(import_numpy, import_minswin, kernels, model, first, second)
    print(json.dumps(times._asdict()))
