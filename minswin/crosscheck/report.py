"""What became of a probe, and the report: for the terminal, as Markdown, and as JUnit XML.

Most servers that run tests can show the last.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
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
    seconds: float = 0.0

    @property
    def function(self) -> str:
        return self.name.split("/")[0]


def terminal(title: str, verdicts: Sequence[Verdict], notes: Sequence[str] = ()) -> str:
    """One line per function that was asked and one for all others; what differs; the sum."""
    columns = f"{'passed':>8}{'differs':>9}{'refused':>9}{'not covered':>13}"
    lines = [f"{title}", "", f"{'function':34}{columns}"]
    for name, numbers in by_function(asked(verdicts)):
        passed, differ, refused, missing = (str(n) if n else "·" for n in numbers)
        lines.append(f"{name:34}{passed:>8}{differ:>9}{refused:>9}{missing:>13}")
    lines += not_asked(verdicts)
    for verdict in wrong(verdicts):
        lines += ["", *explain(verdict)]
    lines += [""] + [f"refused: {v.name}: it {v.message}" for v in verdicts if v.status == REFUSED]
    lines += [f"note: {note}" for note in notes]
    return "\n".join([*lines, summary(verdicts)])


def asked(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Those of functions that gave an answer to at least one probe, be it a no; laws likewise."""
    there = {_asked_by(v) for v in verdicts if v.status != NOT_COVERED}
    return [v for v in verdicts if _asked_by(v) in there]


def not_asked(verdicts: Sequence[Verdict]) -> list[str]:
    """One line about all other functions and laws; none where there are no others."""
    there = asked(verdicts)
    rest = [_asked_by(v) for v in verdicts if v not in there]
    names = list(dict.fromkeys(rest))
    more = f" and {len(names) - 3} more functions and laws" if len(names) > 3 else ""
    return [f"not asked ({len(rest)} probes): {', '.join(names[:3])}{more}"] if rest else []


def explain(verdict: Verdict) -> list[str]:
    """A probe that differs: where, what it is aimed at, and who met it before."""
    lines = [f"{verdict.name} DIFFERS"]
    for text in (verdict.message, f"aimed at: {verdict.aim}"):
        lines += textwrap.wrap(text, 100, initial_indent="    ", subsequent_indent="    ")
    if verdict.threads:
        lines.append(f"    seen in: {', '.join(verdict.threads)}")
    return lines


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


def _asked_by(verdict: Verdict) -> str:
    """What an adapter must have: a function, or for a law those of its own."""
    return verdict.name if verdict.function == "law" else verdict.function


def wrong(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [v for v in verdicts if v.status == DIFFERS]


# ── Markdown ─────────────────────────────────────────────────────────────────────────────────────


def markdown(title: str, verdicts: Sequence[Verdict], notes: Sequence[str] = ()) -> str:
    """The same with a row for every probe of the functions that were asked."""
    lines = [f"# {_cell(title)}", "", summary(verdicts) + ".", ""]
    lines += [*function_table(asked(verdicts)), "", *not_asked(verdicts)]
    if wrong(verdicts):
        lines += ["", "## What differs", "", *differences(verdicts)]
    lines += ["", "## Every probe", "", "| probe | result | largest error | allowed |"]
    lines.append("|---|---|---|---|")
    for v in asked(verdicts):
        compared = v.status in (PASSED, DIFFERS) and v.function != "law"
        numbers = [_number(v.error), _number(v.allowed)] if compared else ["", ""]
        lines.append(f"| `{v.name}` | {v.status} | {' | '.join(numbers)} |")
    lines += ["", *(f"Note: {_cell(note)}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def function_table(verdicts: Sequence[Verdict]) -> list[str]:
    lines = ["| function | passed | differs | refused | not covered |", "|---|---|---|---|---|"]
    for name, numbers in by_function(verdicts):
        lines.append(f"| `{name}` | {' | '.join(str(n) if n else '' for n in numbers)} |")
    return lines


def differences(verdicts: Sequence[Verdict]) -> list[str]:
    """A row for every probe that differs, with its threads as links."""
    lines = ["| probe | aimed at | what came | seen in |", "|---|---|---|---|"]
    for v in wrong(verdicts):
        links = ", ".join(f"[{t}]({link(t)})" for t in v.threads)
        lines.append(f"| `{v.name}` | {_cell(v.aim)} | {_cell(v.message)} | {links} |")
    return lines


def link(thread: str) -> str:
    """The address of a public thread.

    >>> link("pytorch/vision#6266")
    'https://github.com/pytorch/vision/issues/6266'
    """
    repository, _, number = thread.partition("#")
    return f"https://github.com/{repository}/issues/{number}"


def _number(x: float) -> str:
    return f"{x:.1e}" if math.isfinite(x) and x else "0" if not x else "—"


def _cell(text: str) -> str:
    """Text that does not break a table."""
    return re.sub(r"([|<*_`\[\]])", r"\\\1", " ".join(text.split()))


# ── JUnit XML ────────────────────────────────────────────────────────────────────────────────────


def junit_xml(title: str, verdicts: Sequence[Verdict]) -> str:
    """One test case for every probe; one that is not covered or refused is skipped."""
    _, differ, refused, missing = counts(verdicts)
    sums = {"tests": len(verdicts), "failures": differ, "errors": 0, "skipped": refused + missing}
    told = {name: str(n) for name, n in sums.items()}
    told["time"] = f"{sum(v.seconds for v in verdicts):.3f}"
    root = ElementTree.Element("testsuites", told)
    suite = ElementTree.SubElement(
        root, "testsuite", {"name": f"minswin conform {_clean(title)}", **told}
    )
    for verdict in verdicts:
        _add(suite, verdict)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add(suite: ElementTree.Element, verdict: Verdict) -> None:
    function, _, case = verdict.name.partition("/")
    names = {"classname": f"minswin.{function}", "name": case, "time": f"{verdict.seconds:.3f}"}
    element = ElementTree.SubElement(suite, "testcase", names)
    message = {"message": _clean(verdict.message)}
    if verdict.status == DIFFERS:
        failure = ElementTree.SubElement(element, "failure", message)
        failure.text = _clean("\n".join(explain(verdict)))
    elif verdict.status in (NOT_COVERED, REFUSED):
        ElementTree.SubElement(element, "skipped", message)


def _clean(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return _NOT_XML.sub("�", text)
