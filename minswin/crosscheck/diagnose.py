"""Name the mistake: which small edit of our text gives exactly their numbers?

The search (search.py) begins at the layer in which the first wrong tensor was made, on what they
had in front of it, and goes on to the layers around it, to what happened to weights, to how the
model was built, to one free number, and to two edits at once. An edit that was found must give
their other wrong tensors too, and their logits from the image. If nothing fits, what is
nevertheless true of their tensor is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from itertools import chain, islice
from typing import Any

import numpy as np

from minswin.crosscheck.bounds import KINDS
from minswin.crosscheck.doubts import role_of
from minswin.crosscheck.edits.moves import along_images
from minswin.crosscheck.edits.spots import watch
from minswin.crosscheck.edits.texts import Edit
from minswin.crosscheck.findings import (
    GOOD,
    Cause,
    Comparison,
    Diagnosis,
    Finding,
    cause_of,
    cause_of_answer,
    float_array,
    observed,
)
from minswin.crosscheck.fingerprints import Table, is_tabled, looked_up, table_of, table_with
from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES, Trace
from minswin.crosscheck.further import KNOWN, ONE, further_on
from minswin.crosscheck.ground import Ground, definitions
from minswin.crosscheck.idle import weights_that_matter
from minswin.crosscheck.number import beside, numbers, on_top
from minswin.crosscheck.observations import dropped
from minswin.crosscheck.precision import SINGLE
from minswin.crosscheck.recording import GIVEN
from minswin.crosscheck.search import OTHERWISE, Answer, Clock, Search, Tell
from minswin.crosscheck.site import Site, sites_of
from minswin.crosscheck.slopes import of_a_derivative
from minswin.crosscheck.training import of_training
from minswin.crosscheck.weighing import Witness, from_the_image, weigh

__all__ = ["Cause", "Diagnosis", "diagnose"]

Array = np.ndarray
SECONDS = 50.0  # of CPU time, for all of a diagnosis: with the comparison a minute
LOW = -1e9  # stands for −∞, which no sum can be told from
DROPPED = "dropout is active"
WRONG = 64  # times what rounding alone does
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
    tell(f"why {finding.name} is wrong")
    if comparison.doubts is not None and (known := comparison.doubts.wrong.get(finding.name)):
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
    clock = Clock(seconds)

    def of(comparison: Comparison, much: int) -> Diagnosis:
        return _Value(truth, comparison, clock, tell, much).diagnosis()

    return further_on(comparison, of, truth.steps)


def _can_be_diagnosed(finding: Finding, y: Array) -> bool:
    """Whether it is numbers, of which a mask may be −∞."""
    if finding.verdict == "not finite" and finding.step.kind in KINDS:
        return not (np.isnan(y) | (y == np.inf)).any()
    return finding.verdict == "wrong" or (finding.verdict == "shape" and y.dtype.kind == "f")


class _Value:
    """The search for the cause of a wrong value."""

    def __init__(
        self, truth: Trace, comparison: Comparison, clock: Clock, tell: Tell, much: int
    ) -> None:
        self.truth, self.comparison, self.clock, self.tell = truth, comparison, clock, tell
        self.much = much  # of what may be tried
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
            if m.array.shape == truth.steps[n].value.shape
            or (n == first.name and first.step.op not in GIVEN)  # what a pass starts from must fit
            if not (np.isnan(m.array) | (m.array == np.inf)).any()
        }
        self.have |= {n: x for n, x in comparison.unrounded.items() if n in self.have}
        self.tried = 0
        self.partly: list[Answer] = []  # known mistakes that explain a part of what is wrong

    def diagnosis(self) -> Diagnosis:
        if self._is_dropped():
            cause = Cause(DROPPED, self.finding.step, "switch dropout and drop path off")
            return Diagnosis(self.finding, [cause], [], 1)
        ground = self._ground()
        search = self._known if self.much == KNOWN else self._answers
        with definitions():  # once for all runs
            answers = search(ground) if ground is not None else []
        found = Diagnosis(self.finding, [self._cause(a) for a in answers[:3]], [], self.tried)
        if not (found.named or self.much == KNOWN):
            found.observations = observed(self.truth, self.comparison, self.finding)
            found.unfinished = self.clock.over
        return found

    def _is_dropped(self) -> bool:
        """Whether a branch is dropped in places: no edit gives their random numbers."""
        step = self.finding.step
        follows = self.comparison.follows.get(self.name)
        if step.op != "add" or follows is None or not step.inputs or self.name not in self.have:
            return False
        x = self.have.get(step.inputs[0])
        if x is None or x.shape != follows.value.shape:
            return False
        return dropped(follows.value - x, float_array(self.have[self.name]) - x)

    def _ground(self) -> Ground | None:
        """Of the first image, if their tensor is wrong there as well: a run is then faster."""
        if self.name not in self.have:
            return None
        if self.name == "loss" or self.finding.verdict == "shape":
            return self._of_all_images
        with np.errstate(all="ignore"):
            one = Ground(self.truth, self.have, images=1)
            sites = sites_of(one, self.name)
            if sites and self.name in one.have:
                search = Search(sites[0], self.u, self.clock)
                if search.off > WRONG * search.least:
                    return one
            return self._of_all_images

    def _known(self, ground: Ground) -> list[Answer]:
        return self._classics(ground) or []

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
        for last, stage in self._stages(ground, sites, table):
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
        """The table of this model, if the logits alone are wrong, and what it tells of them.

        Where a nearer tensor is wrong too, an answer must give that as well.
        """
        logits = self.truth.steps[self.truth.logits].value
        if self.finding.verdict == "shape" or table_with(logits) is None:
            return None, None
        whole = self._whole(ground)
        search = from_the_image(whole, self.clock, self.u)
        if search is None or search.off <= WRONG * search.least:
            return None, None
        if (table := table_of(search)) is None:
            return None, None
        answers, alone = looked_up(table, search), search.site.target == self.name
        self.tried += search.count
        if answers and not alone:
            answers = self._giving_the_first(whole, answers)
        known = self._explaining_all(whole, answers) if answers else None
        return table if alone and not site.call.path else None, known

    def _giving_the_first(self, whole: Ground, answers: list[Answer]) -> list[Answer]:
        """Those answers that give the first wrong tensor, as a search at its layer would."""
        near = Search(sites_of(whole, self.name)[0], self.u, self.clock)
        for answer in answers:
            given = ((e, near.value(e)) for e in answer.edits)
            answer.edits = [e for e, value in given if value is not None and near.fits(e, value)]
        return [answer for answer in answers if answer.edits]

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
        return ground if ground.images is None else self._of_all_images

    @cached_property
    def _of_all_images(self) -> Ground:
        return Ground(self.truth, self.have)

    def _explaining_all(self, whole: Ground, answers: list[Answer]) -> list[Answer] | None:
        """Those answers that explain all that is wrong, if there are any."""
        witnesses = self._witnesses(whole)
        self.count_of_witnesses = len(witnesses)
        logits = from_the_image(whole, self.clock, self.u)
        for answer in answers:
            weigh(answer, witnesses, logits)
        return [a for a in answers if len(a.sites) == len(witnesses)] or None

    def _stages(
        self, ground: Ground, sites: list[Site], table: Table | None
    ) -> Iterator[tuple[bool, Callable[[], list[Answer]]]]:
        """Where to look, one place after the other; True where an answer is enough.

        table: of all single edits, of which none fits
        """
        seen: set[Any] = set()
        searches: list[Search] = []

        def singles(site: Site) -> list[Answer]:
            search = Search(site, self.u, self.clock, self.tell)
            searches.append(search)
            edits: list[Any] = [*search.singles(seen), *weights_that_matter(search)]
            edits += search.classics_here()  # for the pairs
            if table is not None:
                edits = [*table.edits(search), *(e for e in edits if not is_tabled(e))]
            here = [e for e in edits if not getattr(e, "of_building", False)]
            answers = search.run(sorted(here, key=lambda e: e.cost), "edits")
            self.tried += search.count
            new = (a for a in answers if table is None or not all(map(is_tabled, a.edits)))
            return [*new]  # those of a table are run for the pairs

        for site in sites:
            yield False, partial(singles, site)

        def spelled(search: Search) -> list[Answer]:
            before, tried = search.count, {**search.tried}
            answers = search.run(search.spelled_otherwise(), "edits of other spellings")
            self.tried += search.count - before
            search.tried = tried  # no halves of pairs
            return answers

        def building() -> list[Answer]:
            search = searches[0]
            before = search.count
            answers = search.apart(search.of_building(seen), "edits of building")
            self.tried += search.count - before
            return answers

        yield True, lambda: [a for s in searches for a in spelled(s)]
        if table is None:
            yield True, building
        if self.finding.verdict == "shape":  # no number, and no second edit, gives another shape
            return
        yield True, lambda: self._along_images(ground)
        if self.much == ONE:
            return
        yield True, lambda: [*islice(numbers(searches[0]), 1)]
        and_one = chain(chain.from_iterable(map(on_top, searches)), beside(searches[0]))
        yield True, lambda: [*islice(and_one, 1)]
        yield True, lambda: [a for s in searches for a in s.run(s.pairs(), "pairs")]

    def _along_images(self, ground: Ground) -> list[Answer]:
        """The answers that one image cannot show, of the two nearest sites."""
        found: list[Answer] = []
        for site in sites_of(self._whole(ground), self.name)[:2]:
            search = Search(site, self.u, self.clock, self.tell)
            images = len(self.truth.steps["image"].value)
            edits: list[Edit] = []
            for texts in (site.texts, *([t] for t in search.other_spellings(site.texts))):
                values = watch(texts, lambda s=site: s.run(whole=True))  # type: ignore[misc]
                for edit in along_images(texts, values, images):
                    edit.words += OTHERWISE if edit.text.written is not edit.text.function else ""
                    edits.append(edit)
            found = found or search.run(edits, "edits")
            self.tried += search.count
        return found

    def _witnesses(self, ground: Ground) -> list[Witness]:
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
        chosen, u = [*(alike or wrong)[-OTHERS:], *right[:OTHERS]], self.comparison.precision
        found = [Witness(ground, name, u[name].u, self.clock) for name in chosen]
        return [witness for witness in found if witness.sites]

    def _cause(self, answer: Answer) -> Cause:
        cause = cause_of_answer(answer)
        cause.explains, cause.of = len(answer.sites), self.count_of_witnesses
        return cause
