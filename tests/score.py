"""The kit put to the test: every known defect is planted, and must be found, killed and named.

python -m tests.score --markdown table.md
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from minswin.bar import Bar
from minswin.crosscheck import conform, own, recipe
from minswin.crosscheck.adapter import adapter_of
from minswin.crosscheck.compare import Comparison, compare
from minswin.crosscheck.diagnose import Diagnosis, diagnose
from minswin.crosscheck.edits.classics import Classic, classics, planted, planted_everywhere
from minswin.crosscheck.folder import Trace, builder
from minswin.crosscheck.report import DIFFERS, REFUSED
from minswin.crosscheck.trace import trace
from minswin.replacing import write_text

# Awkward on purpose: H ≠ W, sides that the window does not divide, one odd side at the merge,
# heads, channels of a head and tokens all different, three images.
_TINY = {"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 3), "patch_size": 2, "num_classes": 5}
CASES: dict[str, dict[str, Any]] = {
    "square": {**_TINY, "img_size": (28, 18), "window_size": 4},
    "wide": {**_TINY, "img_size": (28, 18), "window_size": (3, 4)},
    "trained": {**_TINY, "img_size": (28, 18), "window_size": 4},
}
IMAGES = 3


class Outcome(NamedTuple):
    """What became of one fault."""

    fault: Classic
    killed_by: str  # the first probe that fails, else the test that stands beside the fault, or ""
    first: str  # the first wrong tensor, or ""
    diagnosis: str  # "right", "wrong", "none"; "—" where there is nothing to compare
    named: tuple[str, ...]


# ── trace, compare, diagnose ─────────────────────────────────────────────────────────────────────


def run(case: str, dtypes: tuple[str, ...] = ("float64", "float32")) -> Trace:
    """Trace the tiny model of a case as minswin is now, with a fault or without."""
    settings = CASES[case]
    images = recipe.images(IMAGES, 3, settings["img_size"])
    steps: dict[str, Any] = {"steps": 3, "optimizer": "adamw"} if case == "trained" else {}
    labels = recipe.labels(IMAGES, settings["num_classes"])
    return trace(builder("swin_tiny", settings), images, labels, dtypes=dtypes, **steps)


@cache
def truth(case: str) -> Trace:
    return run(case)


def examine(fault: Classic) -> tuple[Comparison, Diagnosis | None] | None:
    """Compare and diagnose a port in float32 that has the fault; None if it cannot even run."""
    right = truth(fault.case)
    with planted(fault):
        try:
            theirs = run(fault.case, ("float32",))
        except (ValueError, TypeError, IndexError):
            return None
    comparison = compare(right, theirs.arrays["float32"])
    return comparison, diagnose(right, comparison)


def as_expected(outcome: Outcome) -> bool:
    """Whether the first wrong tensor is of the kind that the fault is known to spoil first."""
    first, name = outcome.fault.first, outcome.first
    if first in ("", "error"):
        return name.startswith("(") == (first == "error")
    prefix = {"cotangent": "cotangent/", "after": "after/"}.get(first.split()[0], "")
    if not name.startswith(prefix) or first == "after":
        return name.startswith(prefix)
    step = name.removeprefix(prefix)
    known = truth(outcome.fault.case).steps.get(step)
    wanted = first.removeprefix("cotangent ")
    return known is not None and wanted in (known.kind, step.rpartition(".")[2])


# ── probes ───────────────────────────────────────────────────────────────────────────────────────


def killer() -> Callable[[Classic], str]:
    """A function that gives the first probe or law that differs under a fault, or "".

    All right answers are computed here, before anything is planted.
    """
    adapter, questions = adapter_of(own, "minswin"), conform.questions()
    for question in questions:
        assert getattr(question, "expected", True), question.name

    def kill(fault: Classic) -> str:
        with planted_everywhere(fault):
            verdicts = ((q, conform.examine(adapter, q)) for q in questions)
            return next((q.name for q, v in verdicts if v.status in (DIFFERS, REFUSED)), "")

    return kill


def judge(fault: Classic, kill: Callable[[Classic], str]) -> Outcome:
    """Put one fault to all three commands."""
    killed_by = kill(fault) or fault.test
    if not fault.first:
        return Outcome(fault, killed_by, "", "—", ())
    found = examine(fault)
    if found is None:
        return Outcome(fault, killed_by, "(it raises an error)", "—", ())
    comparison, diagnosis = found
    first = comparison.first.name if comparison.first else ""
    causes = diagnosis.causes if diagnosis else []
    named = tuple(cause.name for cause in causes)
    right = fault.words in named or any(_is_planted(cause, fault) for cause in causes)
    claimed = diagnosis is not None and diagnosis.named  # not only as what may be
    verdict = "right" if right else "wrong" if claimed else "none"
    return Outcome(fault, killed_by, first, verdict, named)


def _is_planted(cause: Any, fault: Classic) -> bool:
    """Whether the edit that is told, in whatever words, is the very change that was planted."""
    rows = getattr(cause.edit, "rows", ())
    return any(sign == "+" and fault.becomes in line for sign, line in rows)


# ── the table ────────────────────────────────────────────────────────────────────────────────────


def table(outcomes: list[Outcome]) -> Iterator[str]:
    """The table of all faults, in Markdown."""
    yield "| planted fault | met in | killed by | first wrong tensor | diagnosis |"
    yield "|---|---|---|---|---|"
    for o in outcomes:
        said = {"right": "named", "none": "not named", "—": "—"}.get(o.diagnosis, "WRONG")
        first = f"`{o.first}`" if o.first else "—"
        killer = f"`{o.killed_by}`" if o.killed_by else "no probe"
        yield f"| {o.fault.name} | {o.fault.met} | {killer} | {first} | {said} |"
    yield ""
    yield summary(outcomes)


def summary(outcomes: list[Outcome]) -> str:
    tests = sum("::" in o.killed_by for o in outcomes)
    probes = sum(bool(o.killed_by) for o in outcomes) - tests
    compared = [o for o in outcomes if o.diagnosis != "—"]
    seen = sum(bool(o.first) for o in compared)
    named = sum(o.diagnosis == "right" for o in compared)
    wrong = sum(o.diagnosis == "wrong" for o in compared)
    alive = [o.fault.name for o in outcomes if not (o.killed_by or o.first)]
    return (
        f"{len(outcomes)} faults: {probes} are killed by a probe, {tests} by a test of their own. "
        f"`minswin compare` was given {len(compared)} and finds {seen}; of these {named} are named "
        f"rightly, {wrong} wrongly, {len(compared) - named - wrong} not at all. "
        f"{len(alive)} survive everything{': ' + ', '.join(alive) if alive else ''}."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; status 1 if a fault survives, or is named wrongly."""
    parser = argparse.ArgumentParser(prog="python -m tests.score", description=main.__doc__)
    parser.add_argument("--markdown", metavar="FILE", help="write the table here too")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth fault")
    options = parser.parse_args(arguments)
    kill = killer()
    chosen = classics()[:: options.every]
    outcomes = []
    with Bar(len(chosen), unit="faults") as bar:
        for fault in chosen:
            outcomes.append(judge(fault, kill))
            bar.update()
    text = "\n".join(table(outcomes)) + "\n"
    print(text, end="")
    if options.markdown:
        write_text(options.markdown, text, who="score")
    bad = [o for o in outcomes if not (o.killed_by or o.first) or o.diagnosis == "wrong"]
    return int(bool(bad) or not all(map(as_expected, outcomes)))


if __name__ == "__main__":
    raise SystemExit(main())
