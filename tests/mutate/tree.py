"""A copy of the working tree, the map from lines to tests that belongs to it, and the targets."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from .changes import Change

# What is worth changing: the numbers. The globs follow a file that moves.
TARGETS = (
    "minswin/reference/**/*.py",
    "minswin/**/autograd*.py",
    "minswin/around.py",
    "minswin/**/ops*.py",
    "minswin/**/composites*.py",
    "minswin/layers/**/*.py",
    "minswin/models/**/*.py",
    "minswin/**/parallel*.py",
    "minswin/training/**/optimizers*.py",
    "minswin/training/**/ema*.py",
    "minswin/data/**/augment*.py",
    "minswin/weights/**/resize*.py",
    "minswin/dense/**/metrics*.py",
)
READERS = ("tests/test_promises.py",)  # tests that inspect every file
QUICK = ("-m", "not slow and not parity and not gpu")
LEFT_OUT = (".git", ".venv", ".mutate", ".hypothesis", ".pytest_cache", ".mypy_cache", "runs")
OWN_FILES = 3  # the test files that have most of their lines in the changed file


class Test(NamedTuple):
    name: str
    seconds: float


def targets(root: Path, named: Sequence[str] = ()) -> list[str]:
    """The files to change, relative to root: those named, or all that TARGETS match."""
    paths: Iterable[Path] = map(Path, named)
    if not named:
        paths = (path for glob in TARGETS for path in root.glob(glob))
    return sorted({os.path.relpath(root / path, root) for path in paths})


def copy_tree(root: Path, copy: Path) -> None:
    """With times of files, so that compiled code beside the sources stays valid."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)


def digest(paths: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(path.read_bytes())
    return found.hexdigest()


class Map:
    """Which tests run a line. It is made by running the quick tests once."""

    def __init__(self, copy: Path, package: str, folder: Path) -> None:
        self.copy, self.package, self.folder = copy, package, folder
        folder.mkdir(parents=True, exist_ok=True)

    # ── making ───────────────────────────────────────────────────────────────────────────────────

    def stale(self) -> list[str]:
        """The test files (and the package, for its doctests) whose map is missing or old."""
        sources = digest((self.copy / self.package).rglob("*.py"))
        tests = sorted((self.copy / "tests").glob("test_*.py"))
        shared = digest(p for p in (self.copy / "tests").glob("*.py") if p not in tests)
        self._states = {f"tests/{p.name}": sources + shared + digest([p]) for p in tests}
        self._states[self.package] = sources
        known = self._known()
        return [name for name, state in self._states.items() if known.get(name) != state]

    def make(self, names: Sequence[str], jobs: int) -> None:
        """Run these tests under `covering`, a file in one process; failing tests are left out."""
        if not names:
            return
        for name in names:
            pattern = f"{name.replace('/', '~')}*.json"
            for path in self.folder.glob(pattern):
                path.unlink()
        plugin = f"{Path(__file__).parent.name}.covering"
        split = ["-n", str(jobs), "--dist", "loadfile"] if jobs > 1 else ["-p", "no:xdist"]
        command = [sys.executable, "-m", "pytest", "-q", *split, "-p", plugin, *names]
        environment = {
            **os.environ,
            "PYTHONPATH": f"{self.copy}{os.pathsep}{Path(__file__).parents[1]}",
            "MUTATE_MAP": str(self.folder),
            "MUTATE_PACKAGE": str(self.copy / self.package),
            "CI": "1",
        }
        log = self.folder / "log"
        with log.open("w") as file:
            done = subprocess.run(
                [*command, *QUICK], cwd=self.copy, env=environment, stdout=file, stderr=file
            )
        if done.returncode not in (0, 1):  # 1: some tests fail
            raise SystemExit(
                f"mutate: the tests did not run to their end (status {done.returncode}), so nobody "
                f"knows which lines they run; read {log}, and start again"
            )
        (self.folder / "states").write_text(
            json.dumps(self._known() | {name: self._states[name] for name in names})
        )

    def _known(self) -> dict[str, str]:
        path = self.folder / "states"
        return json.loads(path.read_text()) if path.exists() else {}

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def tests(self) -> dict[str, Test]:
        return {test: Test(test, record["seconds"]) for test, record in self._records()}

    @cached_property
    def _by_line(self) -> dict[str, dict[int, list[str]]]:
        found: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
        for test, record in self._records():
            for file, lines in record["lines"].items():
                for line in lines:
                    found[file][line].append(test)
        return found

    def _records(self) -> Iterator[tuple[str, dict]]:
        for path in sorted(self.folder.glob("*.json")):
            yield from json.loads(path.read_text()).items()

    def tests_of(self, change: Change) -> list[Test]:
        """Those that run the changed statement, or the file where it runs on import alone."""
        lines, (first, last) = self._by_line.get(change.file, {}), change.runs
        names = {test for line in range(first, last + 1) for test in lines.get(line, ())}
        if not _in_function(change, self.copy):  # a default, a table: some tests only read it
            names |= {test for tests in lines.values() for test in tests}
            readers = {*self.own_files.get(change.file, ()), *READERS}
            names |= {test for test in self.tests if test.split("::")[0] in readers}
        return sorted((self.tests[name] for name in names), key=lambda test: test.seconds)

    @cached_property
    def own_files(self) -> dict[str, list[str]]:
        """For each source the test files that have the largest share of their lines in it."""
        hits: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        for source, lines in self._by_line.items():
            for line, tests in lines.items():
                for test in tests:
                    hits[source][test.split("::")[0]].add(line)
        total: dict[str, int] = defaultdict(int)
        for files in hits.values():
            for file, lines in files.items():
                total[file] += len(lines)
        own = {}
        for source, files in hits.items():

            def share(file: str, files: dict[str, set[int]] = files) -> float:
                return len(files[file]) ** 2 / total[file]

            doctests = [file for file in files if file == source]
            own[source] = [*doctests, *sorted(files, key=share, reverse=True)[:OWN_FILES]]
        return own


def _in_function(change: Change, copy: Path) -> bool:
    """Whether the change is in code that runs when something is called."""
    import ast

    tree = ast.parse((copy / change.file).read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            body = node.body if isinstance(node.body, list) else [node.body]
            if body[0].lineno <= change.line <= (node.end_lineno or 0):
                return True
    return False
