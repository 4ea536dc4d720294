"""A plugin of pytest: which tests run which lines of the package, and how long each takes.

Functions that remember results forget them before each test, so that none hides behind another.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

FOLDER = "MUTATE_MAP"  # environment: where the result is written
PACKAGE = "MUTATE_PACKAGE"  # environment: the folder whose lines count
OPTIMIZED = 1  # CO_OPTIMIZED: the code of a function, not of a module or class

Lines = set[tuple[str, int]]


class Cover:
    """Collects lines in `now`, which belong to the test, fixture or file that is at work."""

    def __init__(self, package: str) -> None:
        self.package, self.now = package, Lines()
        self.tests: dict[str, Lines] = {}
        self.seconds: dict[str, float] = {}
        self.shared: defaultdict[str, Lines] = defaultdict(set)  # of fixtures and files
        self.failed: set[str] = set()
        self._wanted: dict[CodeType, bool] = {}

    # ── tracing ──────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        threading.settrace(self._call)
        sys.settrace(self._call)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        wanted = self._wanted.get(code)
        if wanted is None:
            inside = code.co_filename.startswith(self.package)
            wanted = self._wanted[code] = inside and bool(code.co_flags & OPTIMIZED)
        return self._line if wanted else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.now.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line

    def _into(self, lines: Lines) -> Lines:
        before, self.now = self.now, lines
        if sys.gettrace() != self._call:  # a test has taken it away
            self.start()
        return before

    # ── hooks ────────────────────────────────────────────────────────────────────────────────────

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        before = self._into(self.shared[collector.nodeid.split("::")[0]])
        try:
            return (yield)  # type: ignore[return-value]
        finally:
            self._into(before)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)  # type: ignore[return-value]
        before = self._into(self.shared[fixturedef.argname])
        try:
            return (yield)  # type: ignore[return-value]
        finally:
            self._into(before)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._forget()
        start = time.process_time()
        before = self._into(self.tests.setdefault(item.nodeid, set()))
        try:
            return (yield)  # type: ignore[return-value]
        finally:
            self._into(before)
            self.seconds[item.nodeid] = time.process_time() - start
            for name in getattr(item, "fixturenames", ()):
                self.tests[item.nodeid] |= self.shared.get(name, set())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        self._write(Path(os.environ[FOLDER]))

    def _forget(self) -> None:
        root = Path(self.package).name
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] == root:
                for value in list(vars(module).values()):
                    if hasattr(value, "cache_clear") and hasattr(value, "__wrapped__"):
                        value.cache_clear()

    def _write(self, folder: Path) -> None:
        files: dict[str, dict[str, Any]] = defaultdict(dict)
        for test, lines in self.tests.items():
            if test in self.failed:
                continue
            file = test.split("::")[0]
            by_file: defaultdict[str, list[int]] = defaultdict(list)
            for name, line in sorted(lines | self.shared.get(file, set())):
                by_file[os.path.relpath(name, Path(self.package).parent)].append(line)
            files[file][test] = {"seconds": self.seconds[test], "lines": by_file}
        for file, tests in files.items():
            (folder / (file.replace("/", "~") + ".json")).write_text(json.dumps(tests))
        (folder / f"failed.{os.getpid()}").write_text("\n".join(sorted(self.failed)))


def pytest_configure(config: pytest.Config) -> None:
    distributing = bool(getattr(config.option, "numprocesses", None))
    if not distributing:
        cover = Cover(os.environ[PACKAGE])
        config.pluginmanager.register(cover, "mutate-cover")
        cover.start()
