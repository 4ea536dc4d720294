"""Tests on all cores: when worker processes are started, and the kernels that they share.

A single file, a debugger or `-s` has no use for workers. `-n 0` and `-p no:xdist` turn them off.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
KERNELS = TESTS.parent / "minswin" / "kernels" / "cpu"
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
MOST = 8  # each worker takes 300 MB
FEW = 6  # files that one process runs sooner than workers have started


def slow_tests() -> list[str]:
    """The names in slow.txt: of a test, or of one of its cases."""
    lines = (TESTS / "slow.txt").read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def count() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, MOST)


def folders(config: pytest.Config) -> bool:
    """Whether pytest was given a folder: the kernels that a few files need are compiled by them."""
    return any(Path(argument.split("::")[0]).is_dir() for argument in config.args)


def many_files(config: pytest.Config) -> bool:
    """Whether pytest was given a folder, or more than a few files."""
    return len({argument.split("::")[0] for argument in config.args}) > FEW or folders(config)


def wanted(config: pytest.Config) -> bool:
    """Whether the run should be distributed although the command line has no -n."""
    options = config.option
    if getattr(options, "numprocesses", 0) is not None or options.dist != "no":
        return False  # no pytest-xdist, or it has its orders
    if hasattr(config, "workerinput") or "PYTEST_XDIST_WORKER" in os.environ:
        return False
    looking = options.usepdb or options.trace or options.collectonly or options.capture == "no"
    return not looking and count() > 1 and many_files(config)


def distributed(config: pytest.Config) -> bool:
    """Whether this is the process that hands tests to workers."""
    return bool(getattr(config.option, "numprocesses", None))


def keep_bytecode(config: pytest.Config) -> None:
    """Let workers and their programs compile each file of Python once, into pytest's cache.

    Where nothing is written beside the sources, as in many containers, each of hundreds of programs
    would compile minswin anew, and each run all tests.
    """
    cache: Any = getattr(config, "cache", None)
    if cache is not None and os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        os.environ.setdefault("PYTHONPYCACHEPREFIX", str(cache.mkdir("bytecode")))


# ── kernels ──────────────────────────────────────────────────────────────────────────────────────

STAMP = "minswin/compiled"


def compile_kernels(config: pytest.Config) -> None:
    """Fill numba's cache on disk in as many processes as there are workers, if anything changed."""
    cache: Any = getattr(config, "cache", None)  # absent with -p no:cacheprovider
    if cache is not None and cache.get(STAMP, None) == stamp():
        return
    _compile(count(), progress(config))
    if cache is not None:
        cache.set(STAMP, stamp())


def _compile(parts: int, show: Callable[[int], None]) -> None:
    """`compile_kernels.py` prints a line for each kernel that it has done."""
    program = [sys.executable, str(TESTS / "compile_kernels.py")]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    processes = [
        subprocess.Popen(
            [*program, f"{part}/{parts}"], env=environment, stdout=subprocess.PIPE, text=True
        )
        for part in range(parts)
    ]
    done = 0
    for process in processes:
        with process:  # waits for its end; a kernel that does not compile fails in its own test
            for _ in process.stdout or ():
                show(done := done + 1)


def progress(config: pytest.Config) -> Callable[[int], None]:
    """A function that writes how many kernels are compiled: on a terminal, over the last number."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return lambda done: None
    reporter.write_line("compiling the kernels, once for all workers (the next run finds them)")
    if not reporter.isatty:
        return lambda done: None
    return lambda done: reporter.rewrite(f"{done} kernels are compiled", erase=True)


def stamp() -> str:
    """What the compiled code depends on, and how many files of it there are."""
    found = hashlib.sha256()
    for path in sorted(KERNELS.glob("*.py")):
        found.update(f"{path.name} {path.stat().st_mtime_ns}".encode())
    versions = [importlib.metadata.version(name) for name in ("numba", "llvmlite", "numpy")]
    cache = os.environ.get("NUMBA_CACHE_DIR", "")
    files = len(list(Path(cache or KERNELS).rglob("*.nbi")))
    return f"{sys.version} {versions} {cache} {files} {found.hexdigest()}"
