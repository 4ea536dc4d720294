"""Which small edit of our text gives exactly their wrong tensor?

Every single edit of the functions that made the tensor is run on what they had in front of it. An
edit is an answer if its numbers equal theirs to its own rounding, which is measured: the edited
text in float32 against itself in float64. Edits that give equal numbers are one answer.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import CodeType
from typing import Any

import numpy as np

from minswin.around import surroundings
from minswin.crosscheck.alone import Alone
from minswin.crosscheck.bounds import KINDS, MASK, MASKED, lifted
from minswin.crosscheck.building import Rebuilt, forked
from minswin.crosscheck.edits.classics import classic_edits
from minswin.crosscheck.edits.loading import Loaded, loadings
from minswin.crosscheck.edits.operators import edits_of
from minswin.crosscheck.edits.spellings import spellings_of
from minswin.crosscheck.edits.spots import watch
from minswin.crosscheck.edits.texts import Edit, Several, Text
from minswin.crosscheck.idle import edits_that_run, texts_that_matter
from minswin.crosscheck.precision import SINGLE
from minswin.crosscheck.replay import Unlike

Array = np.ndarray
Tell = Callable[[str], None]
EQUAL = 1e-10  # of the size: two edits that are nearer give equal numbers
FAR = 0.05  # of what ours is off: an edit that is farther from theirs does not give it
WORSE = 64  # times: how much larger than ours the rounding of an edited text may count
# they build nothing that a port has
ASIDE = ("registry", "initialize", "arguments", ".base", "building", "parameters")
OTHERWISE = ", where it is spelled otherwise"  # words of an edit
NEAREST = 8  # single edits on top of which a second one is tried
SCALED = 4  # more, whose direction is nearest
LIKELY = 3  # the rank up to which an edit is one of two
MOST_PAIRS = 2000  # of the likeliest


@dataclass
class Answer:
    """Edits that give exactly their numbers; the first is the simplest."""

    edits: list[Any]
    value: Array
    number: float | None = None  # of one free number
    sites: list[str] = field(default_factory=list)  # steps elsewhere that it explains too

    @property
    def edit(self) -> Any:
        return self.edits[0]


class Clock:
    """CPU seconds that may be used, by this process and by those that it waited for."""

    def __init__(self, seconds: float) -> None:
        self.end = _spent() + seconds

    @property
    def left(self) -> float:
        return self.end - _spent()

    @property
    def over(self) -> bool:
        return self.left < 0


def _spent() -> float:
    of_children = os.times()
    return time.process_time() + of_children.children_user + of_children.children_system


def rms(x: Array) -> float:
    x = np.asarray(x, np.float64).ravel()
    with np.errstate(over="ignore"):
        return math.sqrt(np.dot(x, x) / x.size) if x.size else 0.0


class Search:
    """The search at one site. u: the unit roundoff of their tensor."""

    def __init__(self, site: Any, u: float, clock: Clock, tell: Tell = lambda line: None) -> None:
        self.site, self.u, self.clock, self.tell = site, u, clock, tell
        right = site.value()
        self.right = np.zeros(site.theirs.shape) if right is None else right
        self.tried: dict[int, tuple[Any, Array]] = {}  # edits that ran, and what they gave
        self.alone: Alone | None = None
        self.matter: list[Text] = []  # the texts that the tensor depends on
        self.same: dict[bytes, Array | None] = {}  # what the site gives, by what one function gave
        self.count = 0
        self.masks = site.kind in KINDS
        theirs = np.maximum(site.theirs, 2 * MASK) if self.masks else site.theirs
        self.off = rms(self.right - theirs) if self.right.shape == theirs.shape else 0.0
        self.least = u * rms(theirs)
        self.rounding = self.least
        # sums may be taken in another order; half precision rounds what was summed in a wider one
        self.slack = 4 if u <= SINGLE.u else 2
        single = site.value("float32")
        if single is not None and single.shape == self.right.shape:
            self.rounding = max(self.least, rms(single - self.right) * u / SINGLE.u)

    # ── one hypothesis ───────────────────────────────────────────────────────────────────────────

    def value(self, edit: Any, dtype: str = "float64", *, whole: bool = False) -> Array | None:
        """What the site gives under an edit; whole: nothing that ran before is looked up."""
        quick = dtype == "float64" and not whole
        try:
            for part in getattr(edit, "edits", (edit,)):
                if isinstance(part, Loaded):
                    part.layer = self._layer(dtype)
            way = self._way(edit) if quick else []
            rebuilt = self.rebuilt if getattr(edit, "of_building", False) else None
            with edit.planted():
                if rebuilt is not None:
                    return rebuilt.value(edit, dtype, keep=quick)
                told = None
                if self.alone is not None and isinstance(edit, Edit) and quick:
                    told = self.alone.told(edit.text)
                if told is None:
                    return self._run(way, dtype)
                if told not in self.same:
                    self.same[told] = self._run(way, dtype)
                return self.same[told]
        except Exception:
            return None

    def _run(self, way: list[CodeType], dtype: str) -> Array | None:
        """What the site gives: from the edited texts to the end, or all of it."""
        if way and self.alone is not None and surroundings() is None:
            with suppress(Unlike):
                return self.alone.tape.value(way)
        return self.site.value(dtype)

    def _way(self, edit: Any) -> list[CodeType]:
        """The texts from which a run may begin under an edit; none where all of it must run."""
        parts = getattr(edit, "edits", (edit,))
        if self.alone is None or not self.site.is_of_layers:
            return []
        if not all(isinstance(part, Edit) and not part.of_building for part in parts):
            return []
        texts = {part.text.right[0]: part.text for part in parts}.values()
        ways = [self.alone.tape.way(text) for text in texts]
        return [code for code in ways if code is not None] if all(ways) else []

    def _layer(self, dtype: str) -> Any:
        return self.site.ground.layers[dtype][self.site.path]

    def fits(self, edit: Any, value: Array) -> bool:
        """Whether the numbers of an edit are theirs, and not the right ones."""
        if value.shape != self.site.theirs.shape:
            return False
        theirs = self._as_masked(value)
        near = rms(value - theirs)
        if self.right.shape != value.shape:
            found = near <= self.slack * self.noise(edit, value)
            return found and self._is_on_their_inputs(edit) and self.site.gives_all(edit)
        if near > max(FAR * self.off, WORSE * self.least):
            return False
        own = self.noise(edit, value)
        found = near <= self.slack * own and rms(value - self.right) >= 10 * max(own, near)
        return (
            found
            and self._is_of_all(edit, value)
            and self._is_on_their_inputs(edit)
            and self.site.gives_all(edit)
        )

    def _is_of_all(self, edit: Any, value: Array) -> bool:
        """Whether all of the layer gives what an edit gave where a part of it ran again."""
        exact = self.value(edit, whole=True)
        return exact is not None and rms(exact - value) <= EQUAL * rms(value)

    def _is_on_their_inputs(self, edit: Any) -> bool:
        """Whether an edit gives theirs too where what it calls on another input runs.

        That rounds as theirs does, so it need only be much nearer to theirs than ours is.
        """
        if not self.site.stubs:
            return True
        with self.site.on_their_inputs():
            value = self.value(edit, whole=True)
        if value is None or value.shape != self.site.theirs.shape:
            return False
        near, same = rms(value - self._as_masked(value)), value.shape == self.right.shape
        return near <= max(FAR * (self.off if same else rms(value)), WORSE * self.least)

    def _as_masked(self, value: Array) -> Array:
        """Theirs, with what −100 gives where a mask of theirs is lower still."""
        theirs: Array = self.site.theirs
        return lifted(theirs, value, value <= MASKED) if self.masks else theirs

    def equals(self, edit: Any, value: Array) -> bool:
        """Whether the numbers of an edit are theirs, be they right or wrong."""
        if value.shape != self.site.theirs.shape:
            return False
        near = rms(value - self._as_masked(value))
        return near <= self.slack * self.noise(edit, value)

    def noise(self, edit: Any, value: Array) -> float:
        single = self.value(edit, "float32")
        off = 0.0 if single is None or single.shape != value.shape else rms(single - value)
        # an edit that rounds much worse than our text does would fit whatever they have
        return min(max(off * self.u / SINGLE.u, self.least), WORSE * self.rounding)

    # ── all of them ──────────────────────────────────────────────────────────────────────────────

    def run(self, edits: Iterable[Any], what: str) -> list[Answer]:
        """The answers among these edits."""
        answers: list[Answer] = []
        stop: float | None = None
        what += f" of {len(edits):,}" if isinstance(edits, list) else ""
        what += f" in {self.site.path}" if self.site.path else ""
        self.tell(f"{self.count:,} tried: {what}")
        for edit in edits:
            if self.clock.over or (stop is not None and edit.rank > stop):
                break
            self.count += 1
            if self.count % 100 == 0:
                self.tell(f"{self.count:,} tried: {what}")
            value = self.value(edit)
            if value is None or value.shape != self.site.theirs.shape:
                continue
            if self._is_right(value):
                continue
            self.tried[id(edit)] = (edit, value)
            if self.fits(edit, value):
                stop = edit.rank + (1.5 if edit.rank > 1 else 0) if stop is None else stop
                self._enter(answers, edit, value)
        return answers

    def _enter(self, answers: list[Answer], edit: Any, value: Array) -> None:
        for answer in answers:
            if rms(answer.value - value) <= EQUAL * rms(value):
                answer.edits.append(edit)
                return
        answers.append(Answer([edit], value))

    def apart(self, edits: list[Any], what: str) -> list[Answer]:
        """The same in a process of its own: what builds models may change what others build."""
        left = self.clock.left
        self.count, found = forked(lambda: self._numbered(edits, what, left)) or (self.count, [])
        answers: list[Answer] = []
        for number, value in found:
            self._enter(answers, edits[number], value)
        return answers

    def _numbered(
        self, edits: list[Any], what: str, left: float
    ) -> tuple[int, list[tuple[int, Array]]]:
        self.clock = Clock(left)  # another process counts from 0
        places = {id(edit): i for i, edit in enumerate(edits)}
        answers = self.run(edits, what)
        return self.count, [(places[id(e)], a.value) for a in answers for e in a.edits]

    def singles(self, seen: set[Any], most: float = math.inf) -> list[Edit]:
        """All edits of the functions that ran, but for those of `seen`, the likeliest first.

        most: the rank up to which they are wanted
        """
        if self.alone is None:
            self.alone = Alone(self.site)
            self.same = dict.fromkeys(self.alone.right.values(), self.right)
        texts = [t for t in self.site.texts if t.function not in seen]
        seen.update(t.function for t in texts)
        self.matter = texts_that_matter(self, texts)
        edits = edits_that_run(self.site, self.matter, most)
        for edit in edits:  # a layer's own text is told before a definition
            edit.rank += 0.2 * edit.text.name.startswith("reference")
        return sorted((e for e in edits if e.rank <= most), key=lambda e: e.cost)

    def other_spellings(self, texts: Iterable[Text]) -> list[Text]:
        """Those spellings of these texts that give here what ours give."""
        spelled = (t for text in texts for t in spellings_of(text))
        values = ((t, self.value(Edit(t, [], "", 0))) for t in spelled)
        return [t for t, v in values if v is not None and self._is_right(v)]

    def spelled_otherwise(self, *, backward: bool = False) -> list[Edit]:
        """Edits of other spellings of the texts that matter."""
        edits = [
            e
            for t in self.other_spellings(self.matter)  # one by one: two may be of one function
            for e in edits_that_run(self.site, [t], LIKELY, backward=backward, of_arrays=False)
        ]
        for edit in edits:
            edit.words += OTHERWISE
            edit.rank += 0.5
        return sorted(edits, key=lambda e: e.cost)

    def _is_right(self, value: Array) -> bool:
        same = value.shape == self.right.shape
        return value is self.right or (same and rms(value - self.right) <= EQUAL * rms(self.right))

    @cached_property
    def rebuilt(self) -> Rebuilt:
        return Rebuilt(self.site, self.right)

    def classics(self) -> list[Edit]:
        """Edits that were met in public, of the functions that run here or build the model."""
        texts = self._named_texts
        built = {t.name: t for t in map(Text, self.site.ground.builders)}
        edits = [*classic_edits(texts)]
        for edit in classic_edits({n: t for n, t in built.items() if n not in texts}):
            edit.of_building = True
            edits.append(edit)
        return edits

    def classics_here(self) -> Iterator[Edit]:
        """Those of the functions that run here."""
        return classic_edits(self._named_texts)

    @property
    def _named_texts(self) -> dict[str, Text]:
        return {t.name: t for t in self.site.texts}

    def of_building(self, seen: set[Any]) -> list[Edit]:
        """Edits of what ran while the model was built."""
        build = self.site.ground.truth.build
        assert build is not None
        functions = [f for f in self.site.ground.builders if not f.__module__.endswith(ASIDE)]
        texts = [Text(f) for f in functions if f not in seen and f.__code__ in self.rebuilt.codes]
        seen.update(functions)
        values = watch(texts, lambda: build(np.dtype("float64")))
        edits = [e for t in texts for e in edits_of(t, values, of_arrays=False)]
        for edit in edits:
            edit.of_building = True
            edit.rank += 0.5
        return sorted(self._that_matter(edits), key=lambda e: e.cost)

    def _that_matter(self, edits: list[Edit]) -> Iterator[Edit]:
        """Those that are not inside of a statement that may as well be left out."""
        idle: dict[Text, list[tuple[int, int]]] = {}
        for edit in edits:
            a, b, _ = edit.changes[0]
            of_self = edit.text.source[a:b].lstrip().startswith("self.")
            if edit.words == "a statement left out" and of_self and self.value(edit) is self.right:
                idle.setdefault(edit.text, []).append((a, b))
        for edit in edits:
            spans = idle.get(edit.text, [])
            if not all(any(a <= x and y <= b for a, b in spans) for x, y, _ in edit.changes):
                yield edit

    def loadings(self) -> list[Loaded]:
        return sorted(loadings(self._layer("float64")), key=lambda e: e.cost)

    # ── pairs ────────────────────────────────────────────────────────────────────────────────────

    def pairs(self) -> Iterator[Several]:
        """Two edits at once: a second one on top of the nearest, then the likeliest together.

        Where two edits scramble a tensor, neither alone is nearer to theirs than others are.
        """
        different = self._different()
        chosen = self.nearest()
        near = {id(edit) for edit in chosen}
        likeliest = [e for e in different if id(e) not in near]
        together = sorted(itertools.combinations(likeliest, 2), key=lambda p: p[0].rank + p[1].rank)
        on_top = itertools.product(chosen, different)
        may_be = self._may_be_one_of_two()
        for first, second in itertools.chain(on_top, together[:MOST_PAIRS]):
            if first is not second and not overlap(first, second) and may_be(first, second):
                yield Several(first, second)

    def nearest(self) -> list[Any]:
        """The edits that give what is nearest to theirs, and then up to one number."""
        theirs = self.site.theirs
        size = rms(theirs) or 1.0

        def apart(value: Array, scaled: bool) -> float:
            with np.errstate(over="ignore", invalid="ignore"):  # an edit may give any numbers
                square = float((value * value).sum())
                number = float((value * theirs).sum()) / square if scaled and square else 1.0
                return round(rms(number * value - theirs) / size, 9)

        by_cost = sorted(self.tried.values(), key=lambda t: t[0].cost)
        chosen: list[tuple[Any, Array]] = []
        for scaled, most in ((False, NEAREST), (True, NEAREST + SCALED)):
            for edit, value in sorted(by_cost, key=lambda t: apart(t[1], scaled)):
                if len(chosen) == most:
                    break
                # equal ones of two texts are not so with a second edit
                text = getattr(edit, "text", None)
                alike = (v for e, v in chosen if getattr(e, "text", None) is text)
                if all(rms(value - v) > EQUAL * rms(v) for v in alike):
                    chosen.append((edit, value))
        return [edit for edit, _ in chosen]

    def _may_be_one_of_two(self) -> Callable[[Any, Any], bool]:
        """Whether two edits that were tried change what is wrong, and leave what is right."""
        own, theirs = self.right, self.site.theirs
        if own.shape != theirs.shape:
            return lambda a, b: True
        wrong = np.abs(own - self._as_masked(own)) > WORSE * self.least

        @cache
        def not_by(edit: int) -> Array:  # what is wrong and not changed
            return wrong & (np.abs(self.tried[edit][1] - own) <= EQUAL * rms(own))

        @cache
        def spares(edit: int) -> bool:
            return bool((wrong | (np.abs(self.tried[edit][1] - own) < WORSE**2 * self.least)).all())

        def may_be(a: Any, b: Any) -> bool:
            a, b = id(a), id(b)
            return spares(a) and spares(b) and not (not_by(a) & not_by(b)).any()

        return may_be

    def _different(self) -> list[Any]:
        """The likely edits that were tried, one for each value, the likeliest first."""
        different: dict[Any, Any] = {}
        for edit, value in sorted(self.tried.values(), key=lambda t: t[0].cost):
            if edit.rank <= LIKELY:
                key = tuple(np.round(value.ravel()[:7] / (self.least + 1e-30), -3))
                different.setdefault(key, edit)
        return list(different.values())


def overlap(a: Any, b: Any) -> bool:
    if not (isinstance(a, Edit) and isinstance(b, Edit)):
        return isinstance(a, Loaded) or isinstance(b, Loaded)
    if a.text.function is not b.text.function:
        return False
    if a.text is not b.text:
        return True
    spans = itertools.product(a.changes, b.changes)
    return any((x[0] < y[1] and y[0] < x[1]) or x[:2] == y[:2] for x, y in spans)
