"""One change at a time in a copy of the tree: tests run in a forked process until one fails."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import hypothesis  # noqa: F401  loaded once here, for all the processes that are forked
import numba  # noqa: F401
import numpy as np  # noqa: F401
import pytest

from .changes import Change
from .tree import Map, Test

FIRST = 60  # of the tests elsewhere, the cheapest this many come first
HANG = 600  # seconds for all tests, in which something may wait for ever


class Verdict(NamedTuple):
    """By what a change was killed: "own" or "suite" tests, or by none: "survived", "not run"."""

    end: str
    by: str = ""


class Chosen:
    """A plugin of pytest: these tests alone, in this order; the first that fails is remembered.

    work: seconds of processor time that a test may take beyond 10 times what it took
    """

    def __init__(self, tests: Sequence[Test], note: Path, work: float) -> None:
        self.order = {test.name: i for i, test in enumerate(tests)}
        self.seconds = {test.name: test.seconds for test in tests}
        self.note, self.work = note, work

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        kept = [item for item in items if item.nodeid in self.order]
        items[:] = sorted(kept, key=lambda item: self.order[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """From here on a test that works for too long ends the process."""
        signal.setitimer(signal.ITIMER_PROF, self.work + 10 * self.seconds[nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.note.write_text(report.nodeid)


def try_change(change: Change, tests_of: Map, copy: Path, work: float) -> Verdict:
    """Write the change into the copy, run tests until one fails, and take the change back."""
    tests = tests_of.tests_of(change)
    if not tests:
        return Verdict("not run")
    files = tests_of.own_files.get(change.file, [])
    own = [test for test in tests if test.name.split("::")[0] in files]
    others = [test for test in tests if test not in set(own)]
    path = copy / change.file
    source, times = path.read_bytes(), path.stat()
    path.write_bytes(change.apply(source))
    try:
        for end, stage in (("own", own), ("suite", others[:FIRST]), ("suite", others[FIRST:])):
            if stage and (by := failure(stage, copy, work)):
                return Verdict(end, by)
        return Verdict("survived")
    finally:
        path.write_bytes(source)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def failure(tests: Sequence[Test], copy: Path, work: float) -> str:
    """The first of the tests that fails, "hangs" or "cannot be imported", or ""."""
    note = copy / ".failed"
    note.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _child(tests, copy, note, work)
    status = _wait(child)
    if os.WIFSIGNALED(status):
        return f"{signal.Signals(os.WTERMSIG(status)).name}: crashes or hangs"
    code = os.waitstatus_to_exitcode(status)
    if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return ""
    return note.read_text() if note.exists() else "it cannot be imported"


def _wait(child: int) -> int:
    """Its status; whoever stops waiting, also by Ctrl-C, ends the child."""
    deadline = time.monotonic() + HANG
    pause = 0.005
    done = 0
    try:
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
    finally:
        if not done:
            with suppress(ProcessLookupError):  # it has not yet made its group
                os.killpg(child, signal.SIGKILL)
            os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _child(tests: Sequence[Test], copy: Path, note: Path, work: float) -> None:
    """Run the tests and leave with pytest's status; never returns."""
    code: int = pytest.ExitCode.INTERNAL_ERROR
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with open(copy / ".log", "w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.chdir(copy)
        os.environ.update(CI="1", PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="1")
        sys.path.insert(0, str(copy))
        sys.dont_write_bytecode = True
        files = list(dict.fromkeys(test.name.split("::")[0] for test in tests))
        quiet = ["-q", "-x", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist"]
        known = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        code = pytest.main([*files, *quiet, *known], plugins=[Chosen(tests, note, work)])
    finally:
        sys.stdout.flush()
        os._exit(int(code))
