"""Which mistakes would no test notice? Random single changes of the sources, one at a time.

    python -m tests.mutate --count 500 --seed 1
    python -m tests.mutate --count 50 minswin/reference/softmax.py

A change is killed if a quick test fails: the tests of the same file that run the changed line come
first, then all others that run it. Changes that make no difference are listed, with the reason, in
equivalent.json. Nothing is written into the working tree but .mutate/. A run that was stopped goes
on there with the same command; survivors are tried again once a test has changed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import reporting
from .changes import Change, changes
from .reporting import Result
from .tree import Map, copy_tree, digest, targets

ROOT = Path(__file__).parents[2]


def drawn(root: Path, files: Sequence[str], count: int, seed: int) -> list[Change]:
    """`count` of all changes of the files, in random order."""
    every = [change for file in files for change in changes(file, (root / file).read_bytes())]
    return random.Random(seed).sample(every, min(count, len(every)))


def describe(change: Change, root: Path, end: str = "", by: str = "") -> Result:
    was, becomes = change.lines((root / change.file).read_bytes())
    return Result(change.file, change.line, change.kind, change.where, was, becomes, end, by)


class Run:
    """A seed's changes and what became of them, on disk as one line of JSON each."""

    def __init__(self, root: Path, folder: Path, package: str, work: float) -> None:
        self.root, self.copy, self.package, self.work = root, folder / "tree", package, work
        self.record, self.map = folder / "results.jsonl", folder / "map"
        folder.mkdir(parents=True, exist_ok=True)

    def known(self) -> dict[str, Result]:
        """Killed changes of the same source; survivors too while no test has changed."""
        if not self.record.exists():
            return {}
        lines = [json.loads(line) for line in self.record.read_text().splitlines()]
        return {
            line["key"]: Result(*line["result"])
            for line in lines
            if line["result"][6] in reporting.KILLED or line["tests"] == self.tests
        }

    def start(self, jobs: int) -> None:
        copy_tree(self.root, self.copy)
        self.tests = digest((self.copy / "tests").rglob("*.py"))
        self.tests_of = Map(self.copy, self.package, self.map)
        stale = self.tests_of.stale()
        if stale:
            line = f"running the quick tests of {len(stale)} files, to see which lines they run"
            print(line, file=sys.stderr, flush=True)
        self.tests_of.make(stale, jobs)

    def key(self, change: Change) -> str:
        source = (self.copy / change.file).read_bytes()
        return (
            digest([self.copy / change.file])[:16] + f" {change.start} {change.new!r} {len(source)}"
        )

    def settle(self, change: Change) -> Result:
        from .running import try_change

        verdict = try_change(change, self.tests_of, self.copy, self.work)
        result = describe(change, self.copy, *verdict)
        line = {"key": self.key(change), "tests": self.tests, "result": list(result)}
        with self.record.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return result


_worker: Run  # in a process of the pool: the run, with a copy of the tree of its own


def _begin(run: Run, numbers: Any) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops, and then ends its children
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that tests that run are ended too
    with numbers.get_lock():
        numbers.value += 1
        run.copy = run.copy.with_name(f"tree{numbers.value}")
    copy_tree(run.root, run.copy)
    run.tests_of.copy = run.copy
    _worker = run


def _settle(change: Change) -> Result:
    return _worker.settle(change)


def settle_all(run: Run, chosen: Sequence[Change], jobs: int) -> list[Result]:
    """The result of each change, with a line of progress."""
    from . import running  # noqa: F401  loaded once, for all the processes that are forked

    same = reporting.equivalent(run.root / EQUIVALENT) if (run.root / EQUIVALENT).exists() else {}
    known, results, todo = run.known(), [], []
    for change in chosen:
        result = describe(change, run.copy)
        if result.change in same:
            results.append(result._replace(end="equivalent", by=same[result.change]))
        elif run.key(change) in known:
            results.append(known[run.key(change)])
        else:
            todo.append(change)
    fork = multiprocessing.get_context("fork")
    jobs = max(1, min(jobs, len(todo)))
    with fork.Pool(jobs, _begin, (run, fork.Value("i", 0))) as pool:
        for result in pool.imap_unordered(_settle, todo):
            results.append(result)
            show(reporting.progress(results, len(chosen)), result)
    return results


def show(line: str, last: Result) -> None:
    """On a terminal over the last line, elsewhere a line for each; survivors are shown at once."""
    start, end = ("\r\033[K", "") if sys.stderr.isatty() else ("", "\n")
    for text in reporting.survivors([last]):
        print(f"{start}{text}", file=sys.stderr)
    print(f"{start}{line}", end=end, file=sys.stderr, flush=True)


EQUIVALENT = "tests/mutate/equivalent.json"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("files", nargs="*", metavar="FILE", help="default: what computes numbers")
    parser.add_argument("--count", type=int, default=100, help="changes to try; default: 100")
    parser.add_argument("--seed", type=int, default=0, help="which; default: 0")
    parser.add_argument("--jobs", type=int, default=1, help="processes; default: 1")
    parser.add_argument("--work", type=float, default=5.0, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    parser.add_argument("--package", default="minswin", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    run = Run(root, root / ".mutate", options.package, options.work)
    run.start(options.jobs)
    chosen = drawn(run.copy, targets(root, options.files), options.count, options.seed)
    results = settle_all(run, chosen, options.jobs)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(*reporting.survivors(results), *reporting.table(results), sep="\n")
    return int(any(result.end in ("survived", "not run") for result in results))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
