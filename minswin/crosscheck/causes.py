"""What a diagnosis is: a mistake in words, our line, and how much it explains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minswin.crosscheck.compare import Comparison, Finding
from minswin.crosscheck.folder import Trace
from minswin.crosscheck.masked import KINDS, legible, masked_pairs
from minswin.crosscheck.number import closed_form
from minswin.crosscheck.observations import observe
from minswin.crosscheck.search import Answer

Array = np.ndarray


@dataclass
class Cause:
    """A mistake that gives exactly their numbers."""

    name: str  # in words
    edit: Any
    remedy: str = ""
    threads: tuple[str, ...] = ()
    others: list[str] = field(default_factory=list)  # further edits that give the same numbers
    explains: int = 0  # wrong tensors elsewhere
    of: int = 0  # that were tried

    @property
    def place(self) -> str:
        """Where our line stands."""
        return str(getattr(self.edit, "place", "") or self.edit.line)

    @property
    def also(self) -> str:
        """What it gives besides the tensor that it was found by; "" where there was nothing."""
        if not self.of:
            return ""
        doubt = ": something else is wrong too, or it is another mistake"
        gives = f"{self.explains} of {self.of} other tensors that were tried"
        return gives + (doubt if self.explains < self.of else "")

    @property
    def diff(self) -> str:
        """Our line, and what gives their numbers; "" where no edit does."""
        return str(getattr(self.edit, "diff", ""))


@dataclass
class Diagnosis:
    """What was found out about the first wrong tensor."""

    finding: Finding
    causes: list[Cause]  # what gives their tensor
    observations: list[str]  # what else is true of their tensor, where nothing fits
    tried: int  # hypotheses that were tried
    unfinished: bool = False  # the time ran out

    @property
    def named(self) -> bool:
        return bool(self.causes)


def cause_of(edit: Any) -> Cause:
    return Cause(edit.words, edit, getattr(edit, "remedy", ""), getattr(edit, "threads", ()))


def cause_of_answer(answer: Answer) -> Cause:
    cause = cause_of(answer.edit)
    if answer.number is not None:
        form = closed_form(answer.number)
        cause.name = f"this term × {answer.number:.7g}" + (f" = {form}" if form else "")
    cause.others = [f"{e.words}: {e.diff}" for e in answer.edits[1:4]]
    return cause


def _truth_of(truth: Trace, finding: Finding) -> Array:
    return float_array(next(iter(truth.arrays.values()))[finding.name])


def float_array(x: Array) -> Array:
    return np.asarray(x, np.float64)


def observed(truth: Trace, comparison: Comparison, finding: Finding) -> list[str]:
    if finding.verdict == "shape":
        return []
    step, y = finding.step, float_array(comparison.aligned[finding.name].array)
    follows = comparison.follows.get(finding.name)
    right = _truth_of(truth, finding) if follows is None else follows.value
    if step.kind in KINDS:
        y = legible(y, right, masked_pairs(step, truth.steps))
    return list(observe(step, y, right, finding.limit))
