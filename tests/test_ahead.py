"""Two processes compile: the second does what the first will ask for, and is gone in time."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_cases import NAMES, typical_case
from limits import HANG

pytest.importorskip("fcntl")
from numba.core import config

from minswin import no_grad
from minswin.kernels import FAST
from minswin.kernels.cpu import ahead, compiled

ROOT = str(Path(__file__).parents[1])


def run(text: str, folder: Path) -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": ROOT}
    done = subprocess.run(
        [sys.executable, "-c", text], env=environment, capture_output=True, text=True, timeout=HANG
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


IN_THE_SECOND = """
import numpy as np
from minswin.kernels.cpu import ahead, layer_norm as module
x, row = ahead.Like((4, 3), np.dtype("f4")), ahead.Like((3,), np.dtype("f4"))
ahead.compile_vjp("layer_norm", [x, row, row], {"eps": 1e-6})
print(len(module._forward.signatures), len(module._backward.signatures))
"""
IN_THE_FIRST = """
import numpy as np
from minswin.kernels import FAST
from minswin.kernels.cpu import layer_norm as module
row = np.ones(3, np.float32)
value, vjp = FAST["layer_norm"]["numba"](np.ones((4, 3), np.float32), row, row, eps=1e-6)
vjp(value)
for stats in (module._forward.stats, module._backward.stats):
    print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def test_backward_comes_from_the_disk_and_forward_was_left_to_the_first(tmp_path: Path) -> None:
    assert run(IN_THE_SECOND, tmp_path) == "0 1"
    assert run(IN_THE_FIRST, tmp_path).splitlines() == ["0 1", "1 0"]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_zeros_ask_for_what_the_numbers_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kinds of arguments of the loops of a vjp, here and in the second process."""
    arrays, settings = typical_case(name, np.float32)
    value, vjp = FAST[name]["numba"](*arrays, **settings)
    vjp(value)
    asked: list[Any] = []
    monkeypatch.setattr(compiled, "compile_once", lambda *a, patience: asked.append(a))
    monkeypatch.setattr(ahead.Dispatcher, "__call__", ahead.Dispatcher.__call__)  # put back
    like = [ahead.Like(a.shape, a.dtype) if isinstance(a, np.ndarray) else a for a in arrays]
    ahead.compile_vjp(name, like, settings)
    monkeypatch.undo()
    assert all(kinds in loop.signatures for loop, kinds in asked), asked


def test_only_where_a_gradient_is_wanted_and_there_is_a_second_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second = type("Second", (), {"stdin": io.BytesIO()})
    monkeypatch.setattr(ahead, "_second", lambda process: second)
    x = np.ones((2, 3), np.float32)
    sent = []
    for threads, recording in ((1, True), (2, False), (2, True)):
        monkeypatch.setattr(config, "NUMBA_NUM_THREADS", threads)
        ahead._now.call = "softmax", (x, None), {"axis": 0}
        if recording:
            ahead.prepare()
        else:
            with no_grad():
                ahead.prepare()
        ahead.prepare()  # nothing more, whatever is compiled next
        sent.append(len(second.stdin.getvalue()))
    assert sent[:2] == [0, 0]
    name, like, settings = pickle.loads(second.stdin.getvalue())
    assert (name, like, settings) == ("softmax", [((2, 3), x.dtype), None], {"axis": 0})


def test_the_second_process_ends_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("stdin", "exit"):
        second = ahead._second.__wrapped__(0)
        if variable == "stdin":  # the first was killed
            second.stdin.close()
            assert second.wait(timeout=HANG) == 0
        ahead._end(second)
        assert second.returncode is not None


def test_a_program_that_python_is_part_of_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def start(command: list[str], **rest: Any) -> None:
        started.append(command[0])
        raise OSError

    monkeypatch.setattr(ahead.subprocess, "Popen", start)
    pythons = ["/bin/python", "/bin/python3.11", "C/pythonw.exe", "/x/Python", "pypy3"]
    for executable in ("/bin/blender", "/python/bin/gimp", "uwsgi", "", None, *pythons):
        monkeypatch.setattr(sys, "executable", executable)
        assert ahead._second.__wrapped__(0) is None
    assert started == pythons
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert ahead._second.__wrapped__(0) is None
    assert started == pythons


def test_a_loop_that_another_process_compiles_is_left_to_it(tmp_path: Path) -> None:
    loop: Any = type("Loop", (), {})
    loop._cache = type("Cache", (), {"cache_path": str(tmp_path)})
    loop._cache._impl = type("Impl", (), {"filename_base": "loop"})
    loop.compile = lambda loop, signature: f"compiled for {signature}"
    instance = loop()
    assert compiled.compile_once(instance, "x", patience=0) == "compiled for x"
    with compiled._locked(tmp_path / "loop.lock", 0) as ours:
        assert ours
        assert compiled.compile_once(instance, "x", patience=0) is None
        assert compiled.compile_once(instance, "x", patience=0.05) == "compiled for x"
