"""Starts a function of a test in several processes, the ranks of a group, by mpiexec."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import traceback
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from limits import HANG

TESTS = Path(__file__).parent
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)


def mpiexec() -> str:
    """The one that belongs to the library of this environment; without MPI the test is skipped."""
    beside = Path(sys.executable).parent / "mpiexec"
    where = str(beside) if beside.is_file() else shutil.which("mpiexec")
    if where is None or find_spec("mpi4py") is None:
        pytest.skip('MPI is not installed: pip install "minswin[mpi]"')
    return where


def environment(**changes):
    """That of this process without what an mpiexec around the tests may have set."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "MPI_", "OMPI_"))}
    path = os.pathsep.join(filter(None, [str(TESTS.parent), str(TESTS), kept.get("PYTHONPATH")]))
    return {**kept, **ONE_THREAD, "PYTHONPATH": path, **changes}


def command(number, *arguments):
    """The line that starts `python arguments…` in so many ranks."""
    return [mpiexec(), "-n", str(number), sys.executable, *map(str, arguments)]


def start(number, *arguments, timeout=HANG, **changes):
    """Run `python arguments…` in so many ranks, to its end."""
    return subprocess.run(
        command(number, *arguments),
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def run(number, function, *arguments, timeout=HANG):
    """What function(group, *arguments) of a test file gives in each rank; an error ends all."""
    return _run(number, command(number), function, arguments, timeout)


def python(function, *arguments, timeout=HANG):
    """The same in one process without mpiexec, whose group is one of one."""
    return _run(1, [], function, arguments, timeout)[0]


def _run(number, launcher, function, arguments, timeout):
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "asked"
        asked.write_bytes(pickle.dumps((function.__module__, function.__name__, arguments)))
        line = [*launcher, *([] if launcher else [sys.executable]), __file__, str(asked)]
        done = subprocess.run(
            line, env=environment(), capture_output=True, text=True, timeout=timeout
        )
        assert not done.returncode, done.stdout + done.stderr
        return [pickle.loads((Path(folder) / f"{r}").read_bytes()) for r in range(number)]


def _in_a_rank(asked):
    from minswin.distributed import world

    group = world()
    module, name, arguments = pickle.loads(asked.read_bytes())
    try:
        result = getattr(import_module(module), name)(group, *arguments)
        (asked.parent / f"{group.rank}").write_bytes(pickle.dumps(result))
    except BaseException:
        traceback.print_exc()
        group.abort(1)


if __name__ == "__main__":
    _in_a_rank(Path(sys.argv[1]))
