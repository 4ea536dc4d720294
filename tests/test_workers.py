"""Which runs are handed to workers, and when the kernels are compiled for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import workers
from limits import HANG

ROOT = Path(__file__).parents[1]
PLAIN = {
    "numprocesses": None, "dist": "no", "usepdb": False, "trace": False,
    "collectonly": False, "capture": "fd",
}  # fmt: skip


def run_of(*args: str, **options: Any) -> Any:
    """What pytest's config holds for a command line."""
    return SimpleNamespace(args=list(args), option=SimpleNamespace(**{**PLAIN, **options}))


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "count", lambda: 4)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def test_a_folder_and_many_files_are_handed_to_workers(cores: None) -> None:
    assert workers.wanted(run_of(str(ROOT / "tests"), str(ROOT / "minswin")))
    assert workers.wanted(run_of(*(f"tests/test_{i}.py::test_x" for i in range(9))))


@pytest.mark.parametrize(
    "options",
    [
        {"numprocesses": 0},
        {"numprocesses": 3},
        {"dist": "loadfile"},
        {"usepdb": True},
        {"trace": True},
        {"collectonly": True},
        {"capture": "no"},
    ],
    ids=str,
)
def test_orders_of_the_command_line_are_left_alone(options: dict[str, Any], cores: None) -> None:
    assert not workers.wanted(run_of(str(ROOT / "tests"), **options))


def test_few_files_run_in_one_process(cores: None) -> None:
    assert not workers.wanted(run_of("tests/test_mask.py"))
    assert not workers.wanted(run_of(*(f"tests/test_mask.py::test_{i}" for i in range(9))))


def test_without_xdist_and_on_one_core_nothing_is_distributed(monkeypatch, cores: None) -> None:
    without = SimpleNamespace(args=[str(ROOT)], option=SimpleNamespace())
    assert not workers.wanted(without) and not workers.distributed(without)
    monkeypatch.setattr(workers, "count", lambda: 1)
    assert not workers.wanted(run_of(str(ROOT)))


def test_a_worker_has_none_of_its_own(monkeypatch: pytest.MonkeyPatch, cores: None) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    assert not workers.wanted(run_of(str(ROOT)))


def test_all_libraries_have_one_thread() -> None:
    assert all(os.environ[name] for name in workers.THREADS)
    program = "import os, workers, conftest; print(*(os.environ[name] for name in workers.THREADS))"
    free = {name: value for name, value in os.environ.items() if name not in workers.THREADS}
    free["PYTHONPATH"] = str(workers.TESTS)
    for more, expected in (({}, "1 1 1 1"), ({workers.THREADS[0]: "2"}, "2 1 1 1")):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=free | more, capture_output=True, text=True, timeout=HANG, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == expected


# ── slow tests ────────────────────────────────────────────────────────────────────────────────────


def test_every_slow_test_is_there() -> None:
    for test in workers.slow_tests():
        file, name = test.split("::")
        assert f"def {name.split('[')[0]}(" in (ROOT / file).read_text("utf-8"), (
            f"take {test} out of slow.txt"
        )


@pytest.mark.slow
def test_a_long_test_is_left_out_unless_it_is_asked_for() -> None:
    """In one process, which imports pytest and what it needs once."""
    name, chosen = (
        "test_a_planted_survivor_is_reported_and_a_killed_change_is_not",
        "tests/test_mutate.py",
    )
    collect = ["-q", "--collect-only", "-n", "0", chosen]
    program = "import pytest\nfor more in [], ['-m', 'long'], ['-m', 'not slow']:\n"
    program += f"    pytest.main([*{collect}, *more])\n    print('next')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip
    found = [
        [line.split(name)[1] for line in part.splitlines() if name in line]
        for part in done.stdout.split("next")
    ]
    assert found == [["[2]"], ["[1]"], [], []], done.stdout + done.stderr


# ── kernels ──────────────────────────────────────────────────────────────────────────────────────


class Memory(dict[str, Any]):
    """pytest's cache."""

    def set(self, name: str, value: Any) -> None:
        self[name] = value


def test_workers_keep_bytecode_where_others_leave_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config: Any = SimpleNamespace(cache=SimpleNamespace(mkdir=lambda name: tmp_path / name))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    workers.keep_bytecode(SimpleNamespace())  # type: ignore[arg-type]  no cache, no change
    assert "PYTHONDONTWRITEBYTECODE" in os.environ
    workers.keep_bytecode(config)
    subprocess.run([sys.executable, "-c", "import colorsys"], timeout=HANG, check=True)
    assert list((tmp_path / "bytecode").rglob("colorsys.*.pyc"))
    monkeypatch.delenv("PYTHONPYCACHEPREFIX")
    workers.keep_bytecode(config)  # nothing was forbidden: it goes where it always goes
    assert "PYTHONPYCACHEPREFIX" not in os.environ


def test_kernels_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[int] = []
    monkeypatch.setattr(workers, "_compile", lambda parts, show: compiled.append(parts))
    manager = SimpleNamespace(get_plugin=lambda name: None)
    config: Any = SimpleNamespace(cache=Memory(), pluginmanager=manager)
    workers.compile_kernels(config)
    workers.compile_kernels(config)
    assert compiled == [workers.count()]
    monkeypatch.setattr(workers, "stamp", lambda: "other sources, or another numba")
    workers.compile_kernels(config)
    assert len(compiled) == 2


def test_the_stamp_follows_sources_and_files(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    source, cache = tmp_path / "kernel.py", tmp_path / "cache"
    source.write_text("")
    cache.mkdir()
    monkeypatch.setattr(workers, "KERNELS", tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache))
    stamps = [workers.stamp()]
    os.utime(source, (1, 1))
    stamps.append(workers.stamp())
    (cache / "kernel.nbi").write_text("")
    stamps.append(workers.stamp())
    assert len(set(stamps)) == 3 and workers.stamp() == stamps[-1]


def test_every_kernel_is_compiled_by_one_process() -> None:
    import compile_kernels

    from minswin.kernels import FAST

    parts = [{name for name, _ in compile_kernels.jobs(part, 3)} for part in range(3)]
    assert set().union(*parts) == {name for name, row in FAST.items() if "numba" in row}
    assert sum(map(len, parts)) == len(set().union(*parts))
