"""What became of the changes: the table by file, and the survivors with their lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

EQUIVALENT = Path(__file__).with_name("equivalent.json")
KILLED = ("own", "suite")


class Result(NamedTuple):
    """A change with its lines before and after, and its verdict."""

    file: str
    line: int
    kind: str
    where: str
    was: str
    becomes: str
    end: str
    by: str

    @property
    def change(self) -> tuple[str, str, str, str]:
        return self.file, self.where, self.was, self.becomes


def equivalent(path: Path = EQUIVALENT) -> dict[tuple[str, str, str, str], str]:
    """The changes that are known to change nothing, each with its reason."""
    entries = json.loads(path.read_text("utf-8"))
    return {(e["file"], e["where"], e["was"], e["becomes"]): e["reason"] for e in entries}


def table(results: Iterable[Result]) -> Iterator[str]:
    """Counts for each file and for all, in Markdown."""
    counts: dict[str, Counter[str]] = {}
    for result in results:
        for name in (result.file, "all"):
            counts.setdefault(name, Counter())[result.end] += 1
    yield "| file | changes | killed by own tests | by the suite | survived | equivalent | killed |"
    yield "|---|---|---|---|---|---|---|"
    for name in sorted(counts, key=lambda name: (name == "all", name)):
        c = counts[name]
        survived, killed = c["survived"] + c["not run"], c["own"] + c["suite"]
        share = f"{killed / (killed + survived):.1%}" if killed + survived else "–"
        cells = (name, c.total(), c["own"], c["suite"], survived, c["equivalent"], share)
        yield "| " + " | ".join(map(str, cells)) + " |"


def survivors(results: Iterable[Result]) -> Iterator[str]:
    for r in results:
        if r.end in ("survived", "not run"):
            why = "" if r.end == "survived" else "; no quick test runs it"
            yield f"{r.file}:{r.line}  {r.where}  ({r.kind}{why})\n  - {r.was}\n  + {r.becomes}"


def progress(results: list[Result], count: int) -> str:
    c = Counter(result.end for result in results)
    return (
        f"{len(results)}/{count}  killed {c['own'] + c['suite']} (own tests {c['own']})  "
        f"survived {c['survived'] + c['not run']}  equivalent {c['equivalent']}"
    )
