"""Half precision: is another text a better explanation of their numbers than rounding is?

Every tensor of theirs is held against what our text gives on what they had in front of it. The
error of a right port is what rounding does (precision.py), in size and in direction; the error of a
wrong one points where an edit of our text points. An edit of the direction d explains the part
c = ⟨e, d⟩ / ⟨d, d⟩ of an error e: about 1 of a port that has this mistake, about 0 of one that has
not. How far c strays by rounding alone is measured on the draws; where that is too far, the two
cannot be told apart at this precision, which is said.

Of what their file alone rounds (held.py) the numbers in front of the rounding are known, and it is
one rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from minswin.crosscheck.folder import Trace
from minswin.crosscheck.ground import Ground
from minswin.crosscheck.held import Have, Held
from minswin.crosscheck.precision import Precision, draws, rounded_weights
from minswin.crosscheck.recording import GIVEN
from minswin.crosscheck.search import Clock, Search, Tell, rms
from minswin.crosscheck.site import Site, sites_of

Array = np.ndarray
SECONDS = 60.0  # of CPU time for all hypotheses
STRAYS = 0.25  # c of a right port; beyond it a mistake and rounding cannot be told apart
FLOOR = 0.05  # of the rounding's size: what is below is too near to how a library really rounds
HUGE = 1e100  # no port gives it, and its square is no number
PLACES = 3  # tensors of one role that are looked at together
LIKELY = 2.3  # rank: the mistakes that are easily made
MANY = 400  # edits of a role


class Hypothesis(NamedTuple):
    """An edit of our text, and how it stands to their numbers."""

    edit: Any
    role: str
    explains: float  # c
    strays: float  # of c, by rounding alone
    size: float  # of the edit, in units of the rounding
    left: float  # of the error, if the edit is taken off, in units of the rounding
    numbers: int  # that were looked at


def larger(count: int) -> float:
    """So many times the draws is more than rounding, in the root mean square of so many numbers.

    Rounding by chance is √2 times that to the nearest; few numbers stray, by 1/√(2 count).
    """
    return 2**0.5 * (1 + (2 * count) ** -0.5)


@dataclass
class Doubts:
    """What hypotheses say of a port in half precision.

    wrong: the edits that explain their numbers, by the first tensor of theirs that is so; none
    where an error is larger than rounding makes it and no likely edit explains it
    """

    wrong: dict[str, list[Hypothesis]] = field(default_factory=dict)  # by our name
    sizes: dict[str, float] = field(default_factory=dict)  # of errors, in units of the rounding
    alike: list[Hypothesis] = field(default_factory=list)  # that cannot be told apart from right
    tried: int = 0
    finished: bool = True


class _Spot:
    """One tensor of theirs, with what rounding gives there."""

    def __init__(self, site: Site, theirs: Array, kind: Precision, *, once: bool) -> None:
        """once: it was computed in a wider kind, and rounded when all was done."""
        site.theirs = np.asarray(theirs, np.float64)
        self.search = Search(site, kind.u, Clock(SECONDS))
        self.error = site.theirs - self.search.right
        self.rounded = []
        for way in draws(kind):
            with nullcontext() if once else way():
                value = self.search.right if once else site.value()
            if value is not None and value.shape == self.error.shape:
                self.rounded.append(kind.round(value) - self.search.right)
        self.size = max((rms(x) for x in self.rounded), default=0.0)

    @property
    def ratio(self) -> float:
        return rms(self.error) / self.size if self.size else 0.0


def doubts(
    truth: Trace,
    have: Have,
    unrounded: Have,
    precision: Mapping[str, Precision],
    kind: Precision,
    *,
    only: str | None = None,
    seconds: float = SECONDS,
    tell: Tell = lambda line: None,
) -> Doubts:
    """Hold their values in half precision against rounding, and against likely mistakes.

    unrounded: what those were that their file alone has rounded   only: of one tensor, which
    their file alone would have rounded as well
    """
    values = {n: x for n, x in have.items() if n in truth.steps and np.isfinite(x).all()}
    ground = Ground(truth, {**values, **_weights(truth, values, precision, kind)}, images=2)
    before = Ground(truth, {**values, **unrounded}, images=2) if unrounded else ground
    found, clock, seen = Doubts(), Clock(seconds), set[str]()
    roles: dict[str, list[str]] = {}
    for name in ground.order:
        step = truth.steps.get(name)
        if name not in values or step is None or step.op in GIVEN or only not in (None, name):
            continue
        if step.value.size > 1 and step.value.dtype.kind == "f":
            roles.setdefault(role_of(name), []).append(name)
    for i, (role, names) in enumerate(roles.items()):
        if clock.over:
            found.finished = False
            break
        tell(f"half precision: {i + 1} of {len(roles)} kinds of tensors, {found.tried:,} edits")
        chosen = [names[j] for j in np.linspace(0, len(names) - 1, PLACES).round().astype(int)]
        spots = {}
        for name in dict.fromkeys(chosen):
            once = name in unrounded or name == only
            places = [before] if once else dict.fromkeys((ground, before))
            with np.errstate(all="ignore"):
                tried = [
                    _Spot(sites[0], ground.have[name], kind, once=once)
                    for place in places
                    if (sites := sites_of(place, name))
                ]
            if tried := [spot for spot in tried if spot.size]:
                spots[name] = min(tried, key=lambda spot: rms(spot.error))
        if spots:
            _examine(role, spots, found, clock, seen)
    return found


def role_of(name: str) -> str:
    """blocks.attn.proj: the name without the numbers of stages and blocks."""
    return ".".join(part for part in name.split(".") if not part.isdecimal())


def _weights(
    truth: Trace, have: Have, precision: Mapping[str, Precision], kind: Precision
) -> dict[str, Array]:
    """Their weights, where they did not hand them out: rounded as fits their numbers best."""
    best, least = {}, np.inf
    for weights in rounded_weights(truth.steps, have, kind):
        kinds = {**precision, **dict.fromkeys(weights, kind)}
        with np.errstate(all="ignore"):
            held = Held(truth, {**have, **weights}, kinds, "float64").run(grad=False)
        off = [
            rms(np.asarray(have[n], np.float64) - x) / (kind.u * rms(x) or 1)
            for n, x in held.expected.items()
            if n in have and np.shape(x) == np.shape(have[n])
            if np.asarray(x).dtype.kind == "f" and np.isfinite(have[n]).all()
        ]
        if (sum_of := float(np.sum(np.square(off)))) < least:
            best, least = weights, sum_of
    return best


def _examine(
    role: str, spots: dict[str, _Spot], found: Doubts, clock: Clock, seen: set[str]
) -> None:
    for name, spot in spots.items():
        found.sizes[name] = spot.ratio
    hypotheses = []
    for edit in _edits(next(iter(spots.values())).search):
        if clock.over:
            found.finished = False
            break
        found.tried += 1
        if (hypothesis := _held_against(edit, role, spots)) is not None:
            hypotheses.append(hypothesis)
    mistaken = [h for h in hypotheses if h.strays <= STRAYS and 0.5 < h.explains < 1.5]
    over = [name for name, spot in spots.items() if spot.ratio > larger(spot.error.size)]
    if mistaken or over:
        least = min((h.left for h in mistaken), default=0.0)
        exact = [h for h in mistaken if h.left <= min(1.02 * least, larger(h.numbers))]
        first = next(iter(spots)) if mistaken else over[0]  # a mistake is in all of a role
        found.wrong[first] = sorted(exact, key=lambda h: h.edit.cost)
    # an edit is everywhere: what one tensor tells apart is told apart
    told = {h.edit.source for h in hypotheses if h.strays <= STRAYS}
    seen |= told
    found.alike = [h for h in found.alike if h.edit.source not in told]
    for h in hypotheses:
        if h.edit.source not in seen:
            seen.add(h.edit.source)
            found.alike.append(h)


def _edits(search: Search) -> Iterator[Any]:
    """The known mistakes of what runs here, then the likely ones."""
    yield from search.classics_here()
    yield from search.singles(set(), LIKELY)[:MANY]


def _held_against(edit: Any, role: str, spots: Mapping[str, _Spot]) -> Hypothesis | None:
    """How an edit stands to the errors at several places; None where it changes nothing.

    One place is enough where rounding cannot explain it, and their numbers do not show it.
    """
    length, along, size, left, count = 0.0, 0.0, 0.0, 0.0, 0
    strays = np.zeros(min(len(s.rounded) for s in spots.values()))
    for spot in spots.values():
        value = spot.search.value(edit)
        if value is None or value.shape != spot.error.shape:
            return None
        if np.max(np.abs(value), initial=0) > HUGE:
            return None
        d, weight = value - spot.search.right, spot.size**-2
        length += weight * float((d * d).sum())
        if length <= 1e-18 * d.size:
            return None
        along += weight * float((spot.error * d).sum())
        strays += [weight * float((x * d).sum()) for x in spot.rounded[: len(strays)]]
        size = max(size, rms(d) / spot.size)
        left, count = left + weight * float(np.square(spot.error - d).sum()), count + d.size
        spread = max(float(np.max(np.abs(strays))) / length, length**-0.5)
        spread = spread if size > FLOOR else np.inf
        if spread <= STRAYS / 2 and abs(along / length) < STRAYS:
            break
    return Hypothesis(edit, role, along / length, spread, size, (left / count) ** 0.5, count)
