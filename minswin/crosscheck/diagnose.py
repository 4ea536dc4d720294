"""Name the mistake: which small edit of our text gives exactly their numbers?

The search (search.py) begins at the layer in which the first wrong tensor was made, on what they
had in front of it, and goes on to the layers around it, to what happened to weights, to how the
model was built, to one free number, and to two edits at once. An edit that was found must give
their other wrong tensors too, and their logits from the image. If nothing fits, what is
nevertheless true of their tensor is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from minswin.crosscheck.compare import GOOD, Comparison, Finding
from minswin.crosscheck.doubts import role_of
from minswin.crosscheck.edits import helpers
from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES, Trace
from minswin.crosscheck.masked import KINDS, legible, masked_pairs
from minswin.crosscheck.observations import observe
from minswin.crosscheck.precision import SINGLE
from minswin.crosscheck.search import Answer, Clock, Search, Tell, closed_form
from minswin.crosscheck.site import Ground, Site
from minswin.crosscheck.slopes import slopes
from minswin.crosscheck.training import Training, TrainingSearch

__all__ = ["Cause", "Diagnosis", "diagnose"]

Array = np.ndarray
SECONDS = 60.0  # of CPU time, for all of a diagnosis
QUICK = 10.0
LOW = -1e9  # stands for −∞, which no sum can be told from
DROPPED = "dropout is active"
ALIKE = 8  # edits of equal numbers that are tried elsewhere
MOST = 4  # causes that are told
OTHERS = 3  # wrong tensors elsewhere that an edit is tried on as well


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


def diagnose(
    truth: Trace,
    comparison: Comparison,
    *,
    seconds: float = SECONDS,
    tell: Tell = lambda line: None,
) -> Diagnosis | None:
    """Why the first wrong tensor is wrong; None where nothing is."""
    finding = comparison.first
    if finding is None:
        return None
    if comparison.doubts is not None and (known := comparison.doubts.wrong[finding.name]):
        causes = [_cause_of(h.edit) for h in known[:MOST]]
        return Diagnosis(finding, causes, [], comparison.doubts.tried)
    match = comparison.aligned.get(finding.name)
    if finding.name.startswith(AFTER) or finding.name == LOSSES:
        return _of_training(truth, comparison, Clock(seconds), tell)
    if match is None or not _can_be_diagnosed(finding, match.array):
        return Diagnosis(finding, [], [], 0)
    if truth.build is None:
        return Diagnosis(finding, [], _observed(truth, comparison, finding), 0)
    if finding.name.startswith(COTANGENT):
        return _of_a_derivative(truth, comparison, Clock(seconds), tell)
    return _Value(truth, comparison, Clock(seconds), tell).diagnosis()


def _of_a_derivative(truth: Trace, comparison: Comparison, clock: Clock, tell: Tell) -> Diagnosis:
    """The edit of a vjp that gives their cotangent, from those nearer to the loss."""
    finding = comparison.first
    assert finding is not None
    have = {
        n: m.array
        for n, m in comparison.aligned.items()
        if not n.startswith(AFTER) and n != LOSSES and np.isfinite(m.array).all()
        if m.array.shape == next(iter(truth.arrays.values()))[n].shape
    }
    precision = dict(comparison.precision)
    causes: list[Cause] = []
    tried = 0
    for site in slopes(truth, have, precision, finding.name):
        search = Search(site, precision[finding.name].u, clock, tell)
        answers = search.run(site.edits(), "edits of derivatives")
        tried += search.count
        causes = [_plain_cause(a) for a in answers[:3]]
        if causes or clock.over:
            break
    seen = [] if causes else _observed(truth, comparison, finding)
    return Diagnosis(finding, causes, seen, tried, clock.over and not causes)


def _of_training(truth: Trace, comparison: Comparison, clock: Clock, tell: Tell) -> Diagnosis:
    """All gradients are right: the edit of the optimizer, or of the loop, that gives the rest."""
    finding = comparison.first
    assert finding is not None
    seen = list(_of_the_optimizer(comparison))
    if truth.build is None or "optimizer" not in truth.header:
        return Diagnosis(finding, [], seen, 0)
    have = {n: m.array for n, m in comparison.aligned.items() if n.startswith(AFTER) or n == LOSSES}
    site = Training(truth, have, finding.name)
    u = max(comparison.precision[finding.name].u, SINGLE.u)
    search = TrainingSearch(site, u, clock, tell)
    known, edits = site.edits()
    answers = search.run(known, "known mistakes") or search.run(edits, "edits of the training")
    if not answers:
        numbers = Search(site.of_all_losses(), u, clock, tell).numbers(site.texts)
        answers = [*islice(numbers, 1)]
    causes = [_plain_cause(a) for a in answers[:3]]
    return Diagnosis(finding, causes, [] if causes else seen, search.count, clock.over)


def _cause_of(edit: Any) -> Cause:
    return Cause(edit.words, edit, getattr(edit, "remedy", ""), getattr(edit, "threads", ()))


def _plain_cause(answer: Answer) -> Cause:
    cause = _cause_of(answer.edit)
    if answer.number is not None:
        form = closed_form(answer.number)
        cause.name = f"this term × {answer.number:.7g}" + (f" = {form}" if form else "")
    cause.others = [f"{e.words}: {e.diff}" for e in answer.edits[1:4]]
    return cause


def _truth_of(truth: Trace, finding: Finding) -> Array:
    return _float(next(iter(truth.arrays.values()))[finding.name])


def _float(x: Array) -> Array:
    return np.asarray(x, np.float64)


def _can_be_diagnosed(finding: Finding, y: Array) -> bool:
    """Whether it is numbers, of which a mask may be −∞."""
    if finding.verdict == "not finite" and finding.step.kind in KINDS:
        return not (np.isnan(y) | (y == np.inf)).any()
    return finding.verdict == "wrong" or (finding.verdict == "shape" and y.dtype.kind == "f")


class _Value:
    """The search for the cause of a wrong value."""

    def __init__(self, truth: Trace, comparison: Comparison, clock: Clock, tell: Tell) -> None:
        self.truth, self.comparison, self.clock, self.tell = truth, comparison, clock, tell
        first = comparison.first
        assert first is not None
        self.finding, self.name = first, first.name
        self.u = comparison.precision.get(first.name, SINGLE).u
        self.have = {
            n: np.where(m.array == -np.inf, LOW, m.array) if m.array.dtype.kind == "f" else m.array
            for n, m in comparison.given.items()
            if n in truth.steps
            if m.array.shape == truth.steps[n].value.shape or n == first.name
            if not (np.isnan(m.array) | (m.array == np.inf)).any()
        }
        self.tried = 0
        self.partly: list[Answer] = []  # known mistakes that explain a part of what is wrong

    def diagnosis(self) -> Diagnosis:
        if self._is_dropped():
            cause = Cause(DROPPED, self.finding.step, "switch dropout and drop path off")
            return Diagnosis(self.finding, [cause], [], 1)
        ground = self._ground()
        answers = self._answers(ground) if ground is not None else []
        causes = [self._cause(answer) for answer in answers[:3]]
        seen = [] if causes else _observed(self.truth, self.comparison, self.finding)
        return Diagnosis(self.finding, causes, seen, self.tried, self.clock.over and not causes)

    def _is_dropped(self) -> bool:
        """Whether what is left of a branch is zero in places, and larger by one factor elsewhere.

        No edit gives their random numbers.
        """
        step = self.finding.step
        follows = self.comparison.follows.get(self.name)
        if step.op != "add" or follows is None or not step.inputs or self.name not in self.have:
            return False
        x = self.have.get(step.inputs[0])
        if x is None or x.shape != follows.value.shape:
            return False
        branch, theirs = follows.value - x, _float(self.have[self.name]) - x
        none = np.abs(theirs) <= 1e-5 * np.max(np.abs(branch))
        if not 0.001 < none.mean() < 0.9:
            return False
        factor = float((theirs * branch)[~none].sum() / (branch * branch)[~none].sum())
        off = np.abs(theirs - factor * branch)[~none]
        return factor > 1.001 and float(off.max()) <= 1e-4 * float(np.max(np.abs(branch)))

    def _ground(self) -> Ground | None:
        """Of the first image, if their tensor is wrong there as well: a run is then faster."""
        if self.name not in self.have:
            return None
        if self.name == "loss" or self.finding.verdict == "shape":
            return Ground(self.truth, self.have)  # of all images
        with np.errstate(all="ignore"):
            one = Ground(self.truth, self.have, images=1)
            sites = one.sites(self.name)
            if sites and self.name in one.have:
                search = Search(sites[0], self.u, self.clock)
                if search.off > 64 * search.least:
                    return one
            return Ground(self.truth, self.have)

    def _answers(self, ground: Ground) -> list[Answer]:
        """The answers that explain most of what is wrong, from the first stages that have one."""
        sites = ground.sites(self.name)
        if not sites:
            return []
        if (known := self._classics(ground)) is not None:
            return known
        witnesses = self._witnesses(ground)
        self.count_of_witnesses = len(witnesses)
        logits = _from_the_image(ground, self.clock, self.u)
        found: list[Answer] = [*self.partly]
        for last, stage in self._stages(sites):
            if last and self.finding.verdict == "shape":
                break
            answers = stage()
            for answer in answers:
                _weigh(answer, witnesses, logits)
            found += answers
            best = max((len(a.sites) for a in found), default=-1)
            if best == len(witnesses) or (found and last) or self.clock.over:
                break
        best = max((len(a.sites) for a in found), default=0)
        if self.partly and best < len(witnesses):
            return self.partly  # what was met before, at this place alone
        good = sorted((a for a in found if len(a.sites) == best), key=lambda a: a.edit.cost)
        return list({a.edit.words + a.edit.diff: a for a in reversed(good)}.values())[::-1]

    def _classics(self, ground: Ground) -> list[Answer] | None:
        """The answers among what was met in public, of all images: some mistakes need several."""
        whole = ground if ground.images is None else Ground(self.truth, self.have)
        for site in whole.sites(self.name):
            search = Search(site, self.u, self.clock, self.tell)
            answers = search.run(search.classics(), "known mistakes")
            self.tried += search.count
            if answers:
                witnesses = self._witnesses(whole)
                self.count_of_witnesses = len(witnesses)
                logits = _from_the_image(whole, self.clock, self.u)
                for answer in answers:
                    _weigh(answer, witnesses, logits)
                best = max(len(a.sites) for a in answers)
                if best == len(witnesses):
                    return [a for a in answers if len(a.sites) == best]
                self.partly += answers
                break
        return None

    def _stages(self, sites: list[Site]) -> Iterator[tuple[bool, Callable[[], list[Answer]]]]:
        """Where to look, one place after the other; True where an answer is enough."""
        seen: set[Any] = set()
        searches: list[Search] = []

        def singles(site: Site) -> list[Answer]:
            search = Search(site, self.u, self.clock, self.tell)
            searches.append(search)
            edits: list[Any] = [*search.singles(seen), *search.loadings()]
            answers = search.run(sorted(edits, key=lambda e: e.cost), "edits")
            self.tried += search.count
            return answers

        for site in sites:
            yield False, partial(singles, site)

        def building() -> list[Answer]:
            search = searches[0]
            before = search.count
            answers = search.apart(search.of_building(seen), "edits of building")
            self.tried += search.count - before
            return answers

        yield True, building
        yield True, lambda: [*islice(searches[0].numbers(), 1)]
        yield True, lambda: [a for s in searches for a in s.run(s.pairs(), "pairs")]

    def _witnesses(self, ground: Ground) -> list[Search]:
        """Other wrong tensors, and the logits from the image: an edit must give them too."""
        names = [
            f.name
            for f in self.comparison.findings
            if f.verdict in ("wrong", *GOOD) and f.name not in (self.name, "loss")
            if f.name in ground.inputs and f.name in ground.have and f.step.op != "constant"
        ]
        verdicts = {f.name: f.verdict for f in self.comparison.findings}
        wrong = [n for n in names if verdicts[n] == "wrong"]
        alike = [n for n in wrong if role_of(n) == role_of(self.name)]
        ops = {self.truth.steps[n].op for n in ground.between(self.name)}
        right = [n for n in names if verdicts[n] in GOOD and self.truth.steps[n].op in ops]
        right = list({role_of(n): n for n in right}.values())  # one of each role
        found = []
        for name in [*(alike or wrong)[-OTHERS:], *right[:OTHERS]]:
            sites = ground.sites(name)
            if sites:
                found.append(Search(sites[0], self.comparison.precision[name].u, self.clock))
        return found

    def _cause(self, answer: Answer) -> Cause:
        cause = _plain_cause(answer)
        cause.explains, cause.of = len(answer.sites), self.count_of_witnesses
        return cause


def _from_the_image(ground: Ground, clock: Clock, u: float) -> Search | None:
    """The logits from the image alone, where they are given: what tells equal edits apart."""
    logits = ground.inputs.get("loss", ("",))[0]
    root = next((c for c in ground.calls if not c.path), None)
    if logits not in ground.have or root is None:
        return None
    site = Site(ground, root, logits, set(ground.order))
    site.known, site.stubs = {}, {}
    return Search(site, u, clock)


def _weigh(answer: Answer, witnesses: list[Search], whole: Search | None) -> None:
    """Put the edit first that gives most of the other tensors, wrong ones and right ones.

    Edits that are one at one place need not be so everywhere: a norm left out here, or in all.
    """
    most, first = (-1, False), answer.edit
    for edit in answer.edits[:ALIKE]:
        given = [w.site.target for w in witnesses if _gives(w, edit, answer.number)]
        several = len(answer.edits) > 1 and whole is not None
        logits = several and whole is not None and _gives(whole, edit, answer.number)
        if (len(given), logits) > most:
            most, first, answer.sites = (len(given), logits), edit, given
    answer.edits = [first, *(e for e in answer.edits if e is not first)]


def _gives(witness: Search, edit: Any, number: float | None) -> bool:
    helpers.FREE["number"] = 1.0 if number is None else number
    try:
        value = witness.value(edit)
        return value is not None and witness.equals(edit, value)
    finally:
        helpers.FREE["number"] = 1.0


def _observed(truth: Trace, comparison: Comparison, finding: Finding) -> list[str]:
    if finding.verdict == "shape":
        return []
    step, y = finding.step, _float(comparison.aligned[finding.name].array)
    follows = comparison.follows.get(finding.name)
    right = _truth_of(truth, finding) if follows is None else follows.value
    if step.kind in KINDS:
        y = legible(y, right, masked_pairs(step, truth.steps))
    return list(observe(step, y, right, finding.limit))


def _of_the_optimizer(comparison: Comparison) -> Iterator[str]:
    """All gradients are right, so the step is not: whose weights are wrong?"""
    weights = [f for f in comparison.findings if f.name.startswith(AFTER) and f.theirs]
    wrong = [f for f in weights if f.verdict not in GOOD]
    if not weights:
        yield "the weights after the steps, named after/…, would tell more"
        return
    yield f"{len(wrong)} of {len(weights)} weights are wrong after the steps"
    vectors = {f.name for f in weights if len(f.shape) == 1}
    if wrong and {f.name for f in wrong} <= vectors:
        yield "all of these have one axis: do norms and biases decay? they must not"
    elif len(wrong) == len(weights):
        yield "all of them: look at the learning rate, the momentum, whether gradients are reset"
