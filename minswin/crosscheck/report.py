"""What became of a probe, and the report: for the terminal, and as Markdown."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

PASSED, DIFFERS, NOT_COVERED = "passed", "differs", "not covered"
REFUSED = "refused"  # it said no to this input, and answered another one rightly
STATUSES = (PASSED, DIFFERS, REFUSED, NOT_COVERED)


class Verdict(NamedTuple):
    """What became of one probe or law."""

    name: str
    status: str
    message: str = ""
    aim: str = ""
    threads: tuple[str, ...] = ()
    error: float = 0.0  # the largest, of the worst output
    allowed: float = 0.0

    @property
    def function(self) -> str:
        return self.name.split("/")[0]

    @property
    def asked_by(self) -> str:
        """What an adapter must have: a function, or for a law those of its own."""
        return self.name if self.function == "law" else self.function


def terminal(title: str, verdicts: Sequence[Verdict], notes: Sequence[str] = ()) -> str:
    """One line per function that was asked and one for all others; what differs; the sum."""
    lines = [title, ""]
    rows: list[tuple[str, Sequence[Any]]] = [("function", STATUSES), *by_function(asked(verdicts))]
    for name, numbers in rows:
        columns = zip(numbers, STATUSES, strict=True)
        lines.append(f"{name:34}" + "".join(f"{n or '·':>{len(s) + 2}}" for n, s in columns))
    lines += not_asked(verdicts)
    for verdict in wrong(verdicts):
        lines += ["", *explain(verdict)]
    lines += [""] + [f"refused: {v.name}: it {v.message}" for v in verdicts if v.status == REFUSED]
    lines += [f"note: {note}" for note in notes]
    return "\n".join([*lines, summary(verdicts)])


def asked(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Those of functions that gave an answer to at least one probe, be it a no; laws likewise."""
    there = {v.asked_by for v in verdicts if v.status != NOT_COVERED}
    return [v for v in verdicts if v.asked_by in there]


def not_asked(verdicts: Sequence[Verdict]) -> list[str]:
    """One line about all other functions and laws; none where there are no others."""
    there = asked(verdicts)
    rest = [v.asked_by for v in verdicts if v not in there]
    names = list(dict.fromkeys(rest))
    more = f" and {len(names) - 3} more functions and laws" if len(names) > 3 else ""
    return [f"not asked ({len(rest)} probes): {', '.join(names[:3])}{more}"] if rest else []


def explain(verdict: Verdict) -> list[str]:
    """A probe that differs: where, what it is aimed at, and who met it before."""
    lines = [f"{verdict.name} DIFFERS"]
    for text in (verdict.message, f"aimed at: {verdict.aim}"):
        lines += textwrap.wrap(text, 100, initial_indent="    ", subsequent_indent="    ")
    seen = [f"    seen in: {', '.join(verdict.threads)}"] if verdict.threads else []
    return lines + seen


def summary(verdicts: Sequence[Verdict]) -> str:
    passed, differ, refused, missing = counts(verdicts)
    told = f"{passed} passed, {differ} differ, {refused} refused, {missing} not covered"
    return f"{len(verdicts)} probes: {told}"


def counts(verdicts: Sequence[Verdict]) -> list[int]:
    """How many passed, differ, were refused, are not covered."""
    return [sum(v.status == status for v in verdicts) for status in STATUSES]


def by_function(verdicts: Sequence[Verdict]) -> Iterator[tuple[str, list[int]]]:
    """The counts of each function, in the order of the probes."""
    for name in dict.fromkeys(v.function for v in verdicts):
        yield name, counts([v for v in verdicts if v.function == name])


def wrong(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [v for v in verdicts if v.status == DIFFERS]


# ── Markdown ─────────────────────────────────────────────────────────────────────────────────────


def markdown(title: str, verdicts: Sequence[Verdict], notes: Sequence[str] = ()) -> str:
    """The same with a row for every probe of the functions that were asked."""
    lines = [f"# {_cell(title)}", "", summary(verdicts) + ".", ""]
    lines += [*function_table(asked(verdicts)), "", *not_asked(verdicts)]
    if wrong(verdicts):
        lines += ["", "## What differs", "", *differences(verdicts)]
    rows = []
    for v in asked(verdicts):
        compared = v.status in (PASSED, DIFFERS) and v.function != "law"
        rows.append(
            (f"`{v.name}`", v.status, *(_number(x, compared) for x in (v.error, v.allowed)))
        )
    heads = ("probe", "result", "largest error", "allowed")
    lines += ["", "## Every probe", "", *_table(heads, rows)]
    lines += ["", *(f"Note: {_cell(note)}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def function_table(verdicts: Sequence[Verdict]) -> list[str]:
    rows = ((f"`{name}`", *(str(n or "") for n in ns)) for name, ns in by_function(verdicts))
    return _table(("function", *STATUSES), rows)


def differences(verdicts: Sequence[Verdict]) -> list[str]:
    """A row for every probe that differs, with its threads as links."""
    rows = []
    for v in wrong(verdicts):
        links = ", ".join(f"[{t}]({link(t)})" for t in v.threads)
        rows.append((f"`{v.name}`", _cell(v.aim), _cell(v.message), links))
    return _table(("probe", "aimed at", "what came", "seen in"), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in (heads, *rows)]
    return [lines[0], "|---" * len(heads) + "|", *lines[1:]]


def link(thread: str) -> str:
    """The address of a public thread.

    >>> link("pytorch/vision#6266")
    'https://github.com/pytorch/vision/issues/6266'
    """
    repository, _, number = thread.partition("#")
    return f"https://github.com/{repository}/issues/{number}"


def _number(x: float, compared: bool) -> str:
    if not compared:
        return ""
    return f"{x:.1e}" if math.isfinite(x) and x else "0" if not x else "—"


def _cell(text: str) -> str:
    """Text that does not break a table."""
    return re.sub(r"([|<*_`\[\]])", r"\\\1", " ".join(text.split()))
