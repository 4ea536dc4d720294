"""Machine code that is kept on disk: what several processes compile fits together."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from limits import HANG

pytest.importorskip("numba")
pytest.importorskip("fcntl")

from minswin.kernels.cpu.compiled import _locked, one_writer


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    """Locks of two open files exclude each other in one process as they do in two."""
    order = []
    second = threading.Thread(target=lambda: write_second(tmp_path, order))
    with one_writer(tmp_path):
        second.start()
        second.join(0.2)  # time enough to come in, were it let
        order.append("first")
    second.join()
    assert order == ["first", "second"]


def write_second(folder: Path, order: list[str]) -> None:
    with one_writer(folder):
        order.append("second")


def test_a_child_forked_meanwhile_does_not_keep_the_lock(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with one_writer(tmp_path):
        child = os.fork()
        if not child:
            os.close(writer)
            os.read(reader, 1)  # until the other end is closed
            os._exit(0)
    try:
        with _locked(tmp_path / "minswin.lock", 0) as ours:
            assert ours
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(child, 0)


def test_code_is_saved_under_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    from minswin.kernels.cpu import compiled

    inside = []

    @contextmanager
    def lock(folder: Path):
        inside.append(folder)
        yield

    monkeypatch.setattr(compiled, "one_writer", lock)
    compiled._forgiving(lambda *arguments: inside.append(arguments), str(tmp_path))("code")
    assert inside == [tmp_path, ("code",)]


TWINS = """
import sys
import numpy as np
from numba import njit
from numba.core.runtime import rtsys
from minswin.kernels.cpu.compiled import compiled


def power(n):
    @njit(nogil=True, error_model="numpy")
    def sum_of_powers(x, rows):
        total = 0.0
        for i in range(rows):
            y = 1.0
            for _ in range(n):
                y *= x[i]
            total += y
            if total > 1e30:
                print(total)  # too long to be copied into its caller
        return total

    return sum_of_powers


square, cube = power(2), power(3)


@compiled
def squares(x, rows):
    return square(x, rows) + square(x[1:], rows - 1)


@compiled
def cubes(x, rows):
    return cube(x, rows) + cube(x[1:], rows - 1)


print(*(float(globals()[name](np.array([1.0, 2.0]), 2)) for name in sys.argv[1:]), rtsys._init)
"""


def test_closures_of_one_name_that_two_processes_compiled_stay_apart(tmp_path: Path) -> None:
    """Each run compiles one loop, so numba's own count would give both closures one symbol.

    The last run compiles nothing, so it does without numba's runtime, which would be compiled.
    """
    (tmp_path / "twins.py").write_text(TWINS, "utf-8")
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path / "kept"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    printed = [
        subprocess.run(
            [sys.executable, "twins.py", *names],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=HANG,
        ).stdout
        for names in (["squares"], ["cubes"], ["squares", "cubes"])
    ]
    assert printed == ["9.0 True\n", "17.0 True\n", "9.0 17.0 False\n"]


def test_numbers_of_functions_do_not_repeat_in_another_process() -> None:
    from numba.core.bytecode import FunctionIdentity

    first, second = (FunctionIdentity.from_function(write_second).unique_id for _ in range(2))
    assert first > 2**32 and second > 2**32 and first != second  # numba's own count up from 1
