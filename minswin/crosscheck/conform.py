"""`minswin conform`: put every probe to an adapter, or to files of answers, and judge the answers:
which output is wrong, by how much, and where.

As tests: `MINSWIN_ADAPTER=mypkg.adapter pytest --pyargs minswin.crosscheck.conform`, with
`--junitxml FILE` for a server; MINSWIN_ANSWERS=FOLDER in its place judges files.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin.crosscheck import report
from minswin.crosscheck.adapter import Adapter, load_adapter, protocol
from minswin.crosscheck.bounds import MASK
from minswin.crosscheck.observations import likeness
from minswin.crosscheck.probes import LEAVING, Probe, array_of, ask, pack, selected
from minswin.crosscheck.probes import laws as probes_laws
from minswin.crosscheck.probes.files import read_answers, unmatched, write_pack
from minswin.crosscheck.probes.laws import Law
from minswin.crosscheck.recording import Step
from minswin.crosscheck.report import DIFFERS, NOT_COVERED, PASSED, REFUSED, Verdict
from minswin.replacing import require_replaceable, write_text

__all__ = ["conform", "examine", "questions"]

Dtype = np.dtype[Any]
SAYING_NO = re.compile(r"\b(raise|assert)\b")
SWAPPED = "right with the bytes of each number in the other order: write little-endian"
VARIABLES = "MINSWIN_ADAPTER", "MINSWIN_ANSWERS"  # of the environment: what pytest is to test


# ── an adapter ────────────────────────────────────────────────────────────────────────────────────


def conform(adapter: Adapter, only: Sequence[str] = ()) -> Iterator[Verdict]:
    """What becomes of every probe and law, one after the other."""
    return (examine(adapter, question) for question in questions(only))


def questions(only: Sequence[str] = ()) -> tuple[Probe | Law, ...]:
    """The probes and laws whose names contain one of `only`; all, where it is empty."""
    return selected(only, (*pack(), *probes_laws.LAWS))


def examine(adapter: Adapter, question: Probe | Law) -> Verdict:
    """Put one question to an adapter; whatever it raises is a finding.

    It is refused where a line of Python said no on purpose, and another probe passes. A reshape
    that fails is no refusal: nobody meant it.
    """
    verdict, said_no = _answered(adapter, question)
    others = (p for p in pack() if p.function in question.needs and p is not question)
    if said_no and any(_answered(adapter, p)[0].status == PASSED for p in others):
        return verdict._replace(status=REFUSED)
    return verdict


def _answered(adapter: Adapter, question: Probe | Law) -> tuple[Verdict, bool]:
    """What becomes of a question, and whether a line said no to it."""
    if missing := question.missing(adapter):
        return _verdict(question, NOT_COVERED, missing), False
    try:
        if isinstance(question, Law):
            probes_laws.try_out(question, adapter)
            return _verdict(question, PASSED), False
        answers = ask(adapter.functions[question.function], question, adapter.dtype)
    except LEAVING:
        raise
    except BaseException as error:
        said = _line(error)
        told = ": ".join(filter(None, (type(error).__name__, said)))
        if isinstance(error, NotImplementedError):
            return _verdict(question, NOT_COVERED, f"the adapter raised {told}"), False
        last = traceback.extract_tb(error.__traceback__)[-1]  # the line that raised
        if isinstance(error, AssertionError) and last.filename == probes_laws.__file__:
            return _verdict(question, DIFFERS, said or "it does not hold"), False
        said_no = isinstance(error, Exception) and SAYING_NO.search(last.line or "") is not None
        return _verdict(question, DIFFERS, f"raised {told}", np.inf), said_no
    return judge(question, answers, adapter.dtype), False


def _verdict(
    question: Probe | Law, status: str, message: str = "", error: float = 0.0, allowed: float = 0.0
) -> Verdict:
    return Verdict(question.name, status, message, question.aim, question.threads, error, allowed)


def _line(error: BaseException) -> str:
    """The message of an error in one line that is not too long; "" where it has none."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # it is theirs as well
        return ""
    return text if len(text) <= 300 else text[:297] + "..."


# ── the answers to a probe ────────────────────────────────────────────────────────────────────────


class _Finding(NamedTuple):
    """One output; `weight` tells which is the worst. Without a text it is right."""

    text: str
    weight: float = np.inf
    error: float = np.inf
    allowed: float = 0.0


def judge(
    probe: Probe,
    answers: Mapping[str, Any],
    dtype: Dtype | None,
    remedy: str = "the adapter's dtype says what it computes in",
) -> Verdict:
    """Compare answers by name with the truth. dtype: of the computation; None: that of the answer.

    Every output must be there: a gradient that is left out is a finding. remedy: what to say of an
    answer that is narrower than dtype
    """
    alone = answers.keys() == {"y"}  # what is no dict, see ask
    came = type(answers["y"]).__name__ if alone else ", ".join(map(str, answers)) or "nothing"
    found = [
        _check(probe, name, answers[name], truth, dtype, remedy)
        if name in answers
        else _Finding(f"{name} is missing; what came: {came}")
        for name, truth in probe.expected.items()
    ]
    wrong = [f for f in found if f.text]
    worst = max(wrong or found, key=lambda f: f.weight)
    others = f"; and {len(wrong) - 1} more of {len(found)} outputs" if len(wrong) > 1 else ""
    status = DIFFERS if wrong else PASSED
    return _verdict(probe, status, worst.text + others, worst.error, worst.allowed)


def _check(
    probe: Probe, name: str, given: Any, truth: np.ndarray, dtype: Dtype | None, remedy: str
) -> _Finding:
    try:
        answer = array_of(given)
    except (TypeError, ValueError) as error:
        return _Finding(f"{name}: {error}")
    if probe.function == "attention_mask":  # anything from −100 down masks
        answer = np.where(answer <= MASK, MASK, answer).astype(np.float64)
    kind = dtype or (answer.dtype if answer.dtype.kind == "f" else np.dtype("float64"))
    limit = probe.allowed(truth, kind)
    if problem := _misfit(probe, answer, truth, dtype, remedy):
        text = SWAPPED if _right_if_swapped(answer, truth, limit) else problem
        return _Finding(f"{name}: {text}", allowed=limit)
    off = abs(answer.astype(np.float64) - truth)
    largest = float(off.max(initial=0.0))
    text = _where(name, answer, truth, off, limit) if largest > limit else ""
    weight = largest / limit if limit else 1e300 * (largest > 0)
    return _Finding(text, weight, largest, limit)


def _misfit(
    probe: Probe, answer: np.ndarray, truth: np.ndarray, dtype: Dtype | None, remedy: str
) -> str:
    """What makes a comparison impossible; "" if nothing does."""
    floating, least = answer.dtype.kind == "f", dtype or np.dtype("float32")
    if answer.shape != truth.shape:
        return f"the shape is {answer.shape}, expected {truth.shape}"
    if not floating and probe.length:
        return f"{answer.dtype}, expected floating-point numbers"
    if floating and answer.dtype.itemsize < least.itemsize:
        return f"{answer.dtype}, expected {least}; {remedy}"
    if (bad := np.isnan(answer)).any():
        return f"{int(bad.sum())} of {bad.size} are NaN, the first at {_largest(bad)}"
    return ""


def _largest(x: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(x.argmax()), x.shape))


def _where(
    name: str, answer: np.ndarray, truth: np.ndarray, error: np.ndarray, limit: float
) -> str:
    place = _largest(error)
    text = (
        f"{name}{list(place) or ''} is {answer[place]:.6g}, expected {truth[place]:.6g} "
        f"(off by {error[place]:.2g}, allowed {limit:.2g}; "
        f"{int((error > limit).sum())} of {error.size} are wrong)"
    )
    if _right_if_swapped(answer, truth, limit):
        return f"{text}; {SWAPPED}"
    with np.errstate(all="ignore"):
        alike = likeness(Step(name, "", "", truth), answer.astype(np.float64), truth)
        return "; ".join([text, *islice(alike, 1)])


def _right_if_swapped(answer: np.ndarray, truth: np.ndarray, limit: float) -> bool:
    if answer.shape != truth.shape or answer.dtype.kind != "f":
        return False
    swapped = answer.view(answer.dtype.newbyteorder())
    with np.errstate(all="ignore"):
        return bool(np.all(abs(swapped.astype(np.float64) - truth) <= limit))


def conform_files(
    folder: Path | str, only: Sequence[str] = (), dtype: str | None = None
) -> tuple[list[Verdict], list[str]]:
    """Judge the answers in a folder; gives the verdicts and notes on files that match nothing."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"conform: there is no folder {folder}; give --files the folder of your answers"
        )
    remedy = "--dtype says what they were computed in" if dtype else "write float32 or float64"
    verdicts, notes = [], unmatched(folder)
    for probe in selected(only):
        if answers := read_answers(folder, probe):
            verdicts.append(judge(probe, answers, np.dtype(dtype) if dtype else None, remedy))
        else:
            none = f"no file {probe.name}/{next(iter(probe.expected))}"
            verdicts.append(_verdict(probe, NOT_COVERED, none))
    if all(v.status == NOT_COVERED for v in verdicts):
        raise ValueError(
            f"conform: nothing in {folder} is an answer; expected files such as {folder}/"
            f"{verdicts[0].name}/y.npy, as the manifest of 'minswin conform --write' says"
            + (f"; {notes[0]}" if notes else "")
        )
    return verdicts, notes


# ── the command, and pytest ───────────────────────────────────────────────────────────────────────


def run_conform(
    *,
    module: str | None = None,
    files: str | None = None,
    write: str | None = None,
    functions: bool = False,
    names: bool = False,
    only: Sequence[str] = (),
    dtype: str | None = None,
    form: str = "npy",
    markdown: str | None = None,
    show: Callable[[str], None] = print,
    tell: Callable[[str], None] = lambda line: None,
) -> int:
    """What `minswin conform` does; gives the exit status: 0, or 1 where something differs.

    show: prints the report   tell: is given what is being done
    """
    if functions:
        show(protocol())
        return 0
    if names:
        show("\n".join(f"{question.name:44}  {question.aim}" for question in questions(only)))
        return 0
    if write:
        count, size = write_pack(write, form=form, only=only)
        show(f"{write}: {count} probes, {size / 1024:,.0f} KB; write your answers, and judge them:")
        show("    minswin conform --files ANSWERS")
        return 0
    if markdown:
        require_replaceable(markdown, who="conform", besides=(module,))
    if module:
        adapter = load_adapter(module, dtype)
        title = f"{module}, {adapter.dtype}"
        verdicts, notes = [], list(adapter.notes)
        for question in questions(only):
            tell(question.name)
            verdicts.append(examine(adapter, question))
    else:
        title = str(files)
        verdicts, notes = conform_files(title, only, dtype)
    show(report.terminal(title, verdicts, notes))
    if markdown:
        write_text(markdown, report.markdown(title, verdicts, notes), who="conform")
    return int(any(v.status == DIFFERS for v in verdicts))


def pytest_generate_tests(metafunc: Any) -> None:
    """One test for every probe and law, for the adapter or the answers that a variable names."""
    import pytest

    if "minswin_verdict" not in metafunc.fixturenames:
        return
    adapter, answers = map(os.environ.get, VARIABLES)
    try:
        if adapter:
            ask_it = partial(examine, load_adapter(adapter))
            cases = {q.name: partial(ask_it, q) for q in questions()}
        elif answers:
            cases = {v.name: partial(lambda v: v, v) for v in conform_files(answers)[0]}
        else:
            raise ValueError(
                f"minswin conform: no adapter is named; set {VARIABLES[0]}=mypkg.adapter in the "
                f"environment, or {VARIABLES[1]}=FOLDER"
            )
    except (ImportError, ValueError, OSError) as error:
        raise pytest.UsageError(str(error)) from None
    metafunc.parametrize("minswin_verdict", cases.values(), ids=cases)


def test_conforms(minswin_verdict: Callable[[], Verdict]) -> None:
    import pytest

    verdict = minswin_verdict()
    if verdict.status in (NOT_COVERED, REFUSED):
        pytest.skip(f"{verdict.status}: {verdict.message}")
    if verdict.status == DIFFERS:
        pytest.fail("\n".join(report.explain(verdict)), pytrace=False)
