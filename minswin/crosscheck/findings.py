"""What was found: a comparison, how much its verdict rests on, and what a diagnosis tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from minswin.crosscheck.align import BY_VALUE, ONLY, Theirs
from minswin.crosscheck.bounds import KINDS, legible, masked_pairs
from minswin.crosscheck.doubts import Doubts
from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES, Trace
from minswin.crosscheck.held import Follows
from minswin.crosscheck.layouts import windows_of
from minswin.crosscheck.number import closed_form
from minswin.crosscheck.observations import observe
from minswin.crosscheck.precision import Precision
from minswin.crosscheck.recording import GIVEN, Step
from minswin.crosscheck.search import Answer

Array = np.ndarray
GOOD = ("equal", "right", "follows")
TAKEN = "taken"


@dataclass
class Finding:
    """A row of the comparison.

    verdict: "equal" to the last bit of their dtype   "right" within the tolerance
    "follows": not equal to ours, but right for the inputs that it had   "wrong"
    "taken": wrong, and a choice, as the map says
    "shape", "not finite": wrong in another way   "missing": not among theirs
    """

    name: str  # of the array: the step's, with "cotangent/" before it or not
    step: Step
    verdict: str
    theirs: str = ""
    note: str = ""
    shape: tuple[int, ...] = ()
    absolute: float = 0.0  # the largest error
    relative: float = 0.0  # the same, of the largest element
    cosine: float = 1.0
    ulps: float = 0.0  # the same, in units of the last place of the largest element
    worst: tuple[int, ...] = ()  # where the verdict was decided
    off: float = 0.0  # the largest error, in tolerances; infinite where the tolerance is 0
    limit: float = 0.0  # the largest of its elements' tolerances
    given: str = "truth"  # held against this, "its own inputs", "earlier tensors", or "rounding"


@dataclass
class Comparison:
    findings: list[Finding]
    first: Finding | None  # the first that is wrong
    aligned: Mapping[str, Theirs]  # as they were judged
    given: Mapping[str, Theirs]  # the same as they came: with the port's own masked pairs
    precision: Mapping[str, Precision]
    unused: list[str] = field(default_factory=list)  # tensors of theirs that nothing was found for
    unknown: list[str] = field(default_factory=list)  # of these, such as may be wrong ones of ours
    follows: Mapping[str, Follows] = field(default_factory=dict)  # what each wrong one must be
    absent: list[str] = field(default_factory=list)  # lines of the map without a tensor
    doubts: Doubts | None = None  # of a port in half precision whose limits were all kept
    unrounded: Mapping[str, Array] = field(default_factory=dict)  # theirs, but for their file

    @property
    def taken(self) -> list[Finding]:
        return [f for f in self.findings if f.verdict == TAKEN]

    @property
    def drifted(self) -> list[Finding]:
        """Nothing is wrong or a choice, and yet these are farther off than rounding makes them."""
        clean = self.first is None and not self.taken
        return [f for f in self.findings if f.verdict == "follows" and clean]

    @property
    def passed(self) -> bool:
        """Nothing is wrong, and what was compared is enough to say so."""
        finished = self.doubts is None or self.doubts.finished
        return self.first is None and finished and not (self.unknown or self.drifted)


# ── how much of the model the verdict rests on ───────────────────────────────────────────────────


class Coverage(NamedTuple):
    """How much of a pass a verdict rests on: tensors, of values that are computed and gradients."""

    of: int  # that our pass has
    by_name: int  # theirs, by an equal name or the map
    by_value: int  # theirs, found by their values or their shape
    by_inputs: int  # judged by what follows from their own inputs
    by_earlier: int  # by what follows from earlier tensors of theirs
    by_truth: int  # by our value

    @property
    def seen(self) -> int:
        return self.by_name + self.by_value


def coverage(comparison: Comparison, *, gradients: bool = False) -> Coverage:
    """Of the values that are computed, or of the gradients of inputs and parameters."""
    chosen = [f for f in comparison.findings if _counts(f, gradients)]
    seen = [f for f in chosen if f.verdict != "missing"]
    paired = sum(BY_VALUE in f.note or ONLY in f.note for f in seen)
    judged = Counter(f.given for f in seen if f.verdict in (*GOOD, "wrong"))
    ways = (judged[given] for given in ("its own inputs", "earlier tensors", "truth"))
    return Coverage(len(chosen), len(seen) - paired, paired, *ways)


def _counts(finding: Finding, gradients: bool) -> bool:
    given = finding.step.op in GIVEN
    if finding.name.startswith(COTANGENT):
        return gradients and given
    return not (gradients or given or finding.name == LOSSES or finding.name.startswith(AFTER))


def unseen_layers(comparison: Comparison) -> list[str]:
    """Layers none of whose tensors, nor of those inside them, is among theirs."""
    rows = [f for f in comparison.findings if _counts(f, False)]
    around = {f.name: [*accumulate(f.name.split(".")[:-1], "{}.{}".format)] for f in rows}
    seen = {layer for f in rows if f.verdict != "missing" for layer in around[f.name]}
    missing = dict.fromkeys(layer for f in rows for layer in around[f.name] if layer not in seen)
    return [name for name in missing if name.rpartition(".")[0] not in missing]


# ── a diagnosis ──────────────────────────────────────────────────────────────────────────────────


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
    def sure(self) -> bool:
        """Whether it gives all that it was tried on; half, where it was met in ports before.

        Of a port with several mistakes no single one gives all.
        """
        known = bool(self.remedy or self.threads)
        return self.explains == self.of or (known and 2 * self.explains >= self.of)

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
    shows: str = ""  # the tensor that the causes give; "" is the first wrong one

    @property
    def named(self) -> bool:
        return any(cause.sure for cause in self.causes)

    @property
    def claim(self) -> str:
        """What the causes are, or that there are none; "" where observations alone were made."""
        several, elsewhere = len(self.causes) > 1, self.shows not in ("", self.finding.name)
        if not self.causes and self.tried:
            return f"none of {self.tried:,} small edits of our text gives this"
        if not self.causes:
            return "" if self.observations else "none is possible here; see 'how' above"
        if not self.named:
            who = "each of these edits gives" if several else "this edit gives"
            what = f"their {self.shows}, further on" if elsewhere else "the first wrong tensor"
            return f"not sure: {who} {what}, and not all of the others"
        numbers = "their numbers" + (f" of {self.shows}, further on" if elsewhere else "")
        if several:
            each = f"each of these mistakes gives exactly {numbers}"
            return f"{each}; more tensors would tell them apart"
        return f"this mistake gives exactly {numbers}"


def cause_of(edit: Any) -> Cause:
    return Cause(edit.words, edit, getattr(edit, "remedy", ""), getattr(edit, "threads", ()))


def cause_of_answer(answer: Answer) -> Cause:
    cause = cause_of(answer.edit)
    if answer.number is not None:
        form = closed_form(answer.number)
        cause.name = f"this term × {answer.number:.7g}" + (f" = {form}" if form else "")
    cause.others = [f"{e.words}: {e.diff}" for e in answer.edits[1:4]]
    return cause


def float_array(x: Array) -> Array:
    return np.asarray(x, np.float64)


def observed(truth: Trace, comparison: Comparison, finding: Finding) -> list[str]:
    if finding.verdict == "shape":
        return []
    step, y = finding.step, float_array(comparison.aligned[finding.name].array)
    follows = comparison.follows.get(finding.name)
    right = float_array(truth.exact[finding.name]) if follows is None else follows.value
    if step.kind in KINDS:
        y = legible(y, right, masked_pairs(step, truth.steps))
    return list(observe(step, y, right, finding.limit, windows_of(truth.steps).get(step.name)))
