"""`minswin conform`: put every probe to an adapter, or to files of answers, and judge.

As tests: `MINSWIN_ADAPTER=mypkg.adapter pytest --pyargs minswin.crosscheck.conform`.
"""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minswin.crosscheck import report
from minswin.crosscheck.adapter import Adapter, load_adapter, protocol
from minswin.crosscheck.conform_judge import (
    DIFFERS,
    LEAVING,
    NOT_COVERED,
    PASSED,
    REFUSED,
    Verdict,
    judge,
)
from minswin.crosscheck.conform_pytest import chosen_adapter
from minswin.crosscheck.probes import Probe, ask, pack, selected
from minswin.crosscheck.probes import laws as probes_laws
from minswin.crosscheck.probes.files import read_answers, unmatched, write_pack
from minswin.crosscheck.probes.laws import Law
from minswin.replacing import require_replaceable, write_text

__all__ = ["conform", "examine", "questions"]

Tell = Callable[[str], None]
SAYING_NO = re.compile(r"\b(raise|assert)\b")


# ── an adapter ───────────────────────────────────────────────────────────────────────────────────


def conform(adapter: Adapter, only: Sequence[str] = ()) -> Iterator[Verdict]:
    """What becomes of every probe and law, one after the other."""
    for question in questions(only):
        yield examine(adapter, question)


def questions(only: Sequence[str] = ()) -> tuple[Probe | Law, ...]:
    """The probes and laws whose names contain one of `only`; all, where it is empty."""
    laws = [law for law in probes_laws.laws() if not only or any(t in law.name for t in only)]
    if laws and only and not any(t in p.name for p in pack() for t in only):
        return tuple(laws)
    return (*selected(only), *laws)


def examine(adapter: Adapter, question: Probe | Law) -> Verdict:
    """Put one question to an adapter; whatever it raises is a finding."""
    start = time.perf_counter()
    return _answered(adapter, question)._replace(seconds=time.perf_counter() - start)


def _answered(adapter: Adapter, question: Probe | Law) -> Verdict:
    if missing := question.missing(adapter):
        return _verdict(question, NOT_COVERED, missing)
    try:
        if isinstance(question, Law):
            probes_laws.try_out(question, adapter)
            return _verdict(question, PASSED)
        answers = ask(adapter.functions[question.function], question, adapter.dtype)
    except NotImplementedError as error:
        return _verdict(question, NOT_COVERED, f"the adapter says: {_line(error)}")
    except LEAVING:
        raise
    except BaseException as error:
        claimed = isinstance(question, Law) and isinstance(error, AssertionError)
        if claimed and _last(error).filename == probes_laws.__file__:
            return _verdict(question, DIFFERS, _line(error) or "it does not hold")
        raised = f"raised {type(error).__name__}: {_line(error)}"
        return _verdict(question, _no_or_wrong(adapter, question, error), raised, np.inf)
    return judge(question, answers, adapter.dtype)


def _no_or_wrong(adapter: Adapter, question: Probe | Law, error: BaseException) -> str:
    """REFUSED where a line of Python said no on purpose and another probe passes; else DIFFERS.

    A reshape that fails is no refusal: nobody meant it.
    """
    said = isinstance(error, Exception) and SAYING_NO.search(_last(error).line or "")
    others = (p for p in pack() if p.function in question.needs and p is not question)
    return REFUSED if said and any(_passes(adapter, p) for p in others) else DIFFERS


def _passes(adapter: Adapter, probe: Probe) -> bool:
    try:
        answers = ask(adapter.functions[probe.function], probe, adapter.dtype)
    except LEAVING:
        raise
    except BaseException:
        return False
    return judge(probe, answers, adapter.dtype).status == PASSED


def _last(error: BaseException) -> traceback.FrameSummary:
    """The line that raised."""
    return traceback.extract_tb(error.__traceback__)[-1]


def _verdict(question: Probe | Law, status: str, message: str = "", error: float = 0.0) -> Verdict:
    return Verdict(question.name, status, message, question.aim, question.threads, error)


def _line(error: BaseException) -> str:
    """The message of an error in one line that is not too long."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def conform_files(
    folder: Path | str, only: Sequence[str] = (), dtype: str | None = None
) -> tuple[list[Verdict], list[str]]:
    """Judge the answers in a folder; gives the verdicts and notes on files that match nothing."""
    kind = None if dtype is None else np.dtype(dtype)
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"conform: there is no folder {folder}; give --files the folder of your answers"
        )
    verdicts = [_in_files(probe, read_answers(folder, probe), kind) for probe in selected(only)]
    notes = unmatched(folder)
    if all(v.status == NOT_COVERED for v in verdicts):
        raise ValueError(
            f"conform: nothing in {folder} is an answer; expected files such as {folder}/"
            f"{verdicts[0].name}/y.npy, as the manifest of 'minswin conform --write' says"
            + (f"; {notes[0]}" if notes else "")
        )
    return verdicts, notes


def _in_files(probe: Probe, answers: Mapping[str, Any], dtype: np.dtype[Any] | None) -> Verdict:
    if not answers:
        return _verdict(probe, NOT_COVERED, f"no file {probe.name}/{next(iter(probe.expected))}")
    remedy = "--dtype says what they were computed in" if dtype else "write float32 or float64"
    return judge(probe, answers, dtype, remedy)


# ── the command ──────────────────────────────────────────────────────────────────────────────────


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
    junit: str | None = None,
    show: Tell = print,
    tell: Tell = lambda line: None,
) -> int:
    """What `minswin conform` does; gives the exit status: 0, or 1 where something differs.

    show: prints the report   tell: is given what is being done
    """
    given = [x for x in (module, files, write, functions, names) if x]
    if len(given) != 1:
        raise ValueError("conform: give one of --module, --files, --write, --list or --functions")
    if functions:
        show(protocol())
        return 0
    if names:
        show("\n".join(f"{question.name:44}  {question.aim}" for question in questions()))
        return 0
    if write:
        count, size = write_pack(write, form=form, only=only)
        show(f"{write}: {count} probes, {size / 1024:,.0f} KB; write your answers, and judge them:")
        show("    minswin conform --files ANSWERS")
        return 0
    for file, other in ((markdown, junit), (junit, markdown)):
        if file:
            require_replaceable(file, who="conform", besides=(module, other))
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
    if junit:
        write_text(junit, report.junit_xml(title, verdicts), who="conform")
    return int(any(v.status == DIFFERS for v in verdicts))


# ── pytest ───────────────────────────────────────────────────────────────────────────────────────


def pytest_generate_tests(metafunc: Any) -> None:
    """One test for every probe and law, for the adapter that MINSWIN_ADAPTER names."""
    if "minswin_question" in metafunc.fixturenames:
        adapter = chosen_adapter(metafunc.config)
        every = questions()
        cases = [(adapter, question) for question in every]
        metafunc.parametrize("minswin_question", cases, ids=[q.name for q in every])


def test_conforms(minswin_question: tuple[Adapter, Probe | Law]) -> None:
    import pytest

    verdict = examine(*minswin_question)
    if verdict.status in (NOT_COVERED, REFUSED):
        pytest.skip(f"{verdict.status}: {verdict.message}")
    if verdict.status == DIFFERS:
        pytest.fail("\n".join(report.explain(verdict)), pytrace=False)
