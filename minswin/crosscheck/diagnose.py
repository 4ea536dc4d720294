"""Name the mistake: which small edit of our text gives exactly their numbers?

The search (search.py) begins at the layer in which the first wrong tensor was made, on what they
had in front of it, and goes on to the layers around it, to what happened to weights, to how the
model was built, to one free number, and to two edits at once. An edit that was found must give
their other wrong tensors too, and their logits from the image. If nothing fits, what is
nevertheless true of their tensor is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from minswin.crosscheck.causes import (
    Cause,
    Diagnosis,
    cause_of,
    cause_of_answer,
    float_array,
    observed,
)
from minswin.crosscheck.compare import GOOD, Comparison, Finding
from minswin.crosscheck.diagnose_training import of_a_derivative, of_training
from minswin.crosscheck.doubts import role_of
from minswin.crosscheck.fingerprints import Table, looked_up, table_of
from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES, Trace
from minswin.crosscheck.ground import Ground
from minswin.crosscheck.masked import KINDS
from minswin.crosscheck.number import numbers
from minswin.crosscheck.precision import SINGLE
from minswin.crosscheck.search import Answer, Clock, Search, Tell
from minswin.crosscheck.site import Site, sites_of
from minswin.crosscheck.weighing import from_the_image, weigh

__all__ = ["Cause", "Diagnosis", "diagnose"]

Array = np.ndarray
SECONDS = 60.0  # of CPU time, for all of a diagnosis
LOW = -1e9  # stands for −∞, which no sum can be told from
DROPPED = "dropout is active"
MOST = 4  # causes that are told
OTHERS = 3  # wrong tensors elsewhere that an edit is tried on as well


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
        causes = [cause_of(h.edit) for h in known[:MOST]]
        return Diagnosis(finding, causes, [], comparison.doubts.tried)
    match = comparison.aligned.get(finding.name)
    if finding.name.startswith(AFTER) or finding.name == LOSSES:
        return of_training(truth, comparison, Clock(seconds), tell)
    if match is None or not _can_be_diagnosed(finding, match.array):
        return Diagnosis(finding, [], [], 0)
    if truth.build is None:
        return Diagnosis(finding, [], observed(truth, comparison, finding), 0)
    if finding.name.startswith(COTANGENT):
        return of_a_derivative(truth, comparison, Clock(seconds), tell)
    return _Value(truth, comparison, Clock(seconds), tell).diagnosis()


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
            n: np.where(m.array == -np.inf, LOW, float_array(m.array))
            if m.array.dtype.kind == "f"
            else m.array
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
        seen = [] if causes else observed(self.truth, self.comparison, self.finding)
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
        branch, theirs = follows.value - x, float_array(self.have[self.name]) - x
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
            sites = sites_of(one, self.name)
            if sites and self.name in one.have:
                search = Search(sites[0], self.u, self.clock)
                if search.off > 64 * search.least:
                    return one
            return Ground(self.truth, self.have)

    def _answers(self, ground: Ground) -> list[Answer]:
        """The answers that explain most of what is wrong, from the first stages that have one."""
        sites = sites_of(ground, self.name)
        if not sites:
            return []
        table, known = self._looked_up(ground, sites[0])
        if known := known or self._classics(ground):
            return known
        witnesses = self._witnesses(ground)
        self.count_of_witnesses = len(witnesses)
        logits = from_the_image(ground, self.clock, self.u)
        found: list[Answer] = [*self.partly]
        for last, stage in self._stages(sites, table):
            if last and self.finding.verdict == "shape":
                break
            answers = stage()
            for answer in answers:
                weigh(answer, witnesses, logits)
            found += answers
            best = max((len(a.sites) for a in found), default=-1)
            if best == len(witnesses) or (found and last) or self.clock.over:
                break
        best = max((len(a.sites) for a in found), default=0)
        if self.partly and best < len(witnesses):
            return self.partly  # what was met before, at this place alone
        good = sorted((a for a in found if len(a.sites) == best), key=lambda a: a.edit.cost)
        return list({a.edit.words + a.edit.diff: a for a in reversed(good)}.values())[::-1]

    def _looked_up(self, ground: Ground, site: Site) -> tuple[Table | None, list[Answer] | None]:
        """The table of this model, if it has one, and the answers that it gives."""
        if site.call.path or self.finding.verdict == "shape":
            return None, None  # something nearer than the image is theirs
        whole = self._whole(ground)
        search = from_the_image(whole, self.clock, self.u)
        if search is None or search.site.target != self.name or (table := table_of(search)) is None:
            return None, None
        answers = looked_up(table, search)
        self.tried += search.count
        return table, self._explaining_all(whole, answers) if answers else None

    def _classics(self, ground: Ground) -> list[Answer] | None:
        """The answers among what was met in public, of all images: some mistakes need several."""
        whole = self._whole(ground)
        for site in sites_of(whole, self.name):
            search = Search(site, self.u, self.clock, self.tell)
            answers = search.run(search.classics(), "known mistakes")
            self.tried += search.count
            if answers:
                if (known := self._explaining_all(whole, answers)) is None:
                    self.partly += answers
                return known
        return None

    def _whole(self, ground: Ground) -> Ground:
        """Of all images."""
        return ground if ground.images is None else Ground(self.truth, self.have)

    def _explaining_all(self, whole: Ground, answers: list[Answer]) -> list[Answer] | None:
        """Those answers that explain all that is wrong, if there are any."""
        witnesses = self._witnesses(whole)
        self.count_of_witnesses = len(witnesses)
        logits = from_the_image(whole, self.clock, self.u)
        for answer in answers:
            weigh(answer, witnesses, logits)
        return [a for a in answers if len(a.sites) == len(witnesses)] or None

    def _stages(
        self, sites: list[Site], table: Table | None
    ) -> Iterator[tuple[bool, Callable[[], list[Answer]]]]:
        """Where to look, one place after the other; True where an answer is enough.

        table: of all single edits, of which none fits
        """
        seen: set[Any] = set()
        searches: list[Search] = []

        def singles(site: Site) -> list[Answer]:
            search = Search(site, self.u, self.clock, self.tell)
            searches.append(search)
            edits: list[Any] = (
                table.edits(search)
                if table is not None
                else [*search.singles(seen), *search.loadings()]
            )
            here = [e for e in edits if not getattr(e, "of_building", False)]
            answers = search.run(sorted(here, key=lambda e: e.cost), "edits")
            self.tried += search.count
            return answers if table is None else []  # they are run for the pairs

        for site in sites:
            yield False, partial(singles, site)

        def building() -> list[Answer]:
            search = searches[0]
            before = search.count
            answers = search.apart(search.of_building(seen), "edits of building")
            self.tried += search.count - before
            return answers

        if table is None:
            yield True, building
        yield True, lambda: [*islice(numbers(searches[0]), 1)]
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
            sites = sites_of(ground, name)
            if sites:
                found.append(Search(sites[0], self.comparison.precision[name].u, self.clock))
        return found

    def _cause(self, answer: Answer) -> Cause:
        cause = cause_of_answer(answer)
        cause.explains, cause.of = len(answer.sites), self.count_of_witnesses
        return cause
