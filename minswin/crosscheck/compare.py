"""Walk through a pass in its order and find the first tensor of theirs that is wrong.

A tensor is judged by its own inputs where they are there: it is wrong only if it does not follow
from them, whatever went wrong before. Where inputs are missing, it is held against the truth, with
what our own pass in float32 is off as the measure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from minswin.crosscheck.align import (
    GUESSED,
    Theirs,
    align,
    losses_of,
    undecided,
    without_copies,
)
from minswin.crosscheck.bounds import EXACT, KINDS, MASKED
from minswin.crosscheck.doubts import SECONDS, Doubts, doubts
from minswin.crosscheck.findings import GOOD, TAKEN, Comparison, Finding
from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES, Trace
from minswin.crosscheck.held import Follows, Unrounded, follow
from minswin.crosscheck.layouts import windows_of
from minswin.crosscheck.names import known_layers, lines_of, resolve
from minswin.crosscheck.precision import DISTINCT, PRODUCTS, SINGLE, is_half, precisions
from minswin.crosscheck.recording import GIVEN, STARTS, Step
from minswin.crosscheck.search import rms

__all__ = ["Comparison", "Finding", "compare"]

Array = np.ndarray
OTHER_ORDER = 16  # so many times our own error in float32: sums may be taken in another order
ROUNDING = "rounding"
NEARER = 1.2  # times: less may be chance
OUTPUT = "output"  # what keep() of torch and of JAX call what the whole model gives


def compare(
    truth: Trace,
    theirs: Mapping[str, Array],
    names: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    *,
    seconds: float = SECONDS,
    tell: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Compare their tensors with a trace, forward in the order of the steps, then backward.

    names: our names to theirs, or lines of a map, see names.py   seconds: of CPU time, for what
    likely mistakes would give of a port in half precision, see doubts.py
    """
    tell("their tensors are paired with ours")
    exact = {**truth.exact, **losses_of(truth)}
    resolved = resolve(lines_of(names), exact, theirs)
    known = [n for n, step in truth.steps.items() if _is_known(step, truth)]
    windows, half = windows_of(truth.steps), is_half(theirs.values())
    weights = {n: s.value.shape for n, s in truth.steps.items() if s.op == "parameter"}
    layers = known_layers(weights, theirs)
    aligned = align(exact, theirs, resolved, windows, known=known, layers=layers, half=half)
    if OUTPUT in theirs and OUTPUT not in resolved.theirs:
        _take_output(aligned, truth, theirs[OUTPUT])
    if not aligned:
        raise ValueError(
            "compare: none of their tensors has the name, or shape and values, of one of ours; "
            f"ours are called {', '.join(list(exact)[:4])} …, theirs "
            f"{', '.join(list(theirs)[:4])} …; give a map with --names"
        )
    tell(f"{len(aligned):,} tensors are judged by what they follow from")
    with np.errstate(all="ignore"):  # theirs may hold anything
        judge = _Judge(truth, exact, aligned)
        if refuted := judge.refuted(truth.logits):
            aligned = {n: match for n, match in aligned.items() if n not in refuted}
            judge = _Judge(truth, exact, aligned)
        findings = [judge.value(step) for step in truth.steps.values()]
        findings += [*judge.backward(), *judge.losses()]
        findings += [judge.weight_after(name) for name in exact if name.startswith(AFTER)]
    chosen = _chosen(truth, resolved.choices, aligned)
    for f in findings:
        f.verdict = TAKEN if f.verdict == "wrong" and f.name in chosen else f.verdict
    first = next((f for f in findings if f.verdict not in (*GOOD, TAKEN, "missing")), None)
    doubted, hidden = None, first is None or first.name in judge.apart
    if hidden and judge.least.u > SINGLE.u and truth.build is not None:
        doubted = doubts(
            truth, judge.have, judge.unrounded, judge.precision, judge.least,
            only=first.name if first else None, seconds=seconds, tell=tell,
        )  # fmt: skip
        first = first or _first_doubted(findings, doubted)
    used = {match.name for match in aligned.values()}
    rest = {n: x for n, x in theirs.items() if n not in used | resolved.theirs}
    paired = [(m.array, windows.get(n)) for n, m in aligned.items()]
    seen = [*paired, *((theirs[n], None) for n in used if n in theirs)]
    unused = without_copies(rest, seen, [exact[n] for n in weights if n not in aligned])
    unknown = undecided(truth, exact, aligned, {name: theirs[name] for name in unused})
    idle = {line for n, line in resolved.choices.items() if n not in aligned}
    idle -= {line for n, line in resolved.choices.items() if n in aligned}
    precision = judge.precision
    wrong = {f.name for f in findings if f.verdict not in GOOD}
    follows = {n: x for n, x in judge.follows.items() if n in wrong}  # of all it is too much
    return Comparison(
        findings, first, judge.aligned, aligned, precision, unused, unknown, follows,
        resolved.absent + sorted(idle), doubted, judge.unrounded,
    )  # fmt: skip


def _chosen(truth: Trace, choices: Iterable[str], aligned: Mapping[str, Theirs]) -> set[str]:
    """Choices of theirs, and the cotangents of what may be another function there.

    These are of what a choice is made of, up to the nearest tensors of theirs.
    """
    found, steps = set(choices), truth.steps
    waiting = [n for n in found if n in steps]
    while waiting:
        for n in steps[waiting.pop()].inputs:
            if COTANGENT + n not in found:
                found.add(COTANGENT + n)
                waiting += [n] if n not in aligned else []
    return found


def _take_output(aligned: dict[str, Theirs], truth: Trace, given: Array) -> None:
    """Judge what a model gives in the place of its last layer's output, if it is another one."""
    match = aligned.get(truth.logits)
    if match is None or OUTPUT in {m.name for m in aligned.values()}:
        return
    if given.shape == match.array.shape and not np.array_equal(given, match.array, equal_nan=True):
        aligned[truth.logits] = Theirs(OUTPUT, given, f"not {match.name}: what the model gives")


def _is_known(step: Step, truth: Trace) -> bool:
    """Whether it was given, or repeats a weight, as a class token for every image does."""
    repeats = step.op == "broadcast_to" and all(truth.steps[n].op in GIVEN for n in step.inputs)
    return step.op in GIVEN or repeats


def _first_doubted(findings: list[Finding], doubted: Doubts) -> Finding | None:
    """Mark what hypotheses explain better than rounding does as wrong; the first of these."""
    marked = [f for f in findings if f.name in doubted.wrong]
    for finding in marked:
        finding.verdict, finding.given = "wrong", ROUNDING
        finding.off = doubted.sizes[finding.name]
    return marked[0] if marked else None


class _Judge:
    def __init__(
        self, truth: Trace, exact: Mapping[str, Array], aligned: Mapping[str, Theirs]
    ) -> None:
        self.steps, self.exact, self.aligned = truth.steps, exact, dict(aligned)
        self.off = truth.off  # of our own pass in float32
        self.single_losses = losses_of(truth, "float32").get(LOSSES)
        have = {n: x.array for n, x in aligned.items() if x.array.shape == exact[n].shape}
        given = {n for n, step in self.steps.items() if step.op in (*GIVEN, *EXACT)}
        numbers = {n for n, x in exact.items() if x.size == 1 or n == LOSSES}
        computed = exact.keys() - given - numbers
        products = {n for n, step in self.steps.items() if step.op in PRODUCTS}
        self.precision, self.least = precisions(have, exact, computed, numbers, products)
        for name, precision in self.precision.items():
            y = have[name]
            if y.dtype.kind == "f" and precision.u > max(np.finfo(y.dtype).eps, SINGLE.u):
                self._note(name, f"numbers of {precision.name}")
        self.follows: Mapping[str, Follows] = {}
        self.unrounded: Mapping[str, Array] = {}  # theirs that are ours, rounded once
        self.apart: dict[str, Array] = {}  # ours, where theirs should be that, rounded once
        self.freely: Mapping[str, Follows] = {}  # what follows where these go on as they were
        self.have: Mapping[str, Array] = have
        if truth.build is not None:
            grad = any(name.startswith(COTANGENT) for name in have)
            self.follows, self.have = follow(truth, have, self.precision, grad=grad)
            self._unround(truth, grad)
        for name, y in self.have.items():
            if name in self.steps and self.steps[name].kind in KINDS:
                self._take_masked_pairs(name, y)

    def _unround(self, truth: Trace, grad: bool) -> None:
        """Look for what their file alone rounds: they had it wider in front of the next step."""
        half = [n for n, kind in self.precision.items() if kind.u > SINGLE.u and n in self.steps]
        off = {n: self._spread(n, SINGLE.u) for n in half}
        if not off:
            return
        passed = Unrounded(truth, self.have, self.precision, off)
        passed.run(grad=False)
        self.unrounded = passed.found
        if not self.unrounded:
            return
        rest = {n: x for n, x in self.have.items() if n not in self.unrounded}
        self.freely, _ = follow(truth, rest, self.precision, grad=grad)
        seen = False  # that rounding stands behind a step, and not in front of the next one
        for name, step in self.steps.items():
            if name in off and passed.rough.isdisjoint(step.inputs):
                nearer = self._nearer(name, passed.expected.get(name))
                if name in self.unrounded:
                    seen |= nearer > NEARER or (nearer > 0 and self._multiplies_wide(step))
                elif seen and nearer > 1 / NEARER:
                    self.apart[name] = passed.expected[name]

    def _multiplies_wide(self, step: Step) -> bool:
        """Whether it is a product of what half precision rounds, and they did not hand out."""
        given = [n for n in step.inputs if self.steps[n].op in STARTS and n not in self.have]
        kind = self.precision[step.name]
        return step.op in PRODUCTS and not all(kind.holds(self.exact[n]) for n in given)

    def _nearer(self, name: str, wide: Array | None) -> float:
        """How many times as near theirs is to this as to what follows from rounded numbers."""
        if wide is None or name not in self.follows or wide.size < DISTINCT:
            return 0.0
        y = self.have[name]
        return rms(y - self.follows[name].value) / (rms(y - wide) or 1.0)

    def _note(self, name: str, note: str) -> None:
        match = self.aligned[name]
        self.aligned[name] = match._replace(note=", ".join(filter(None, (match.note, note))))

    def _take_masked_pairs(self, name: str, held: Array) -> None:
        """Judge what is lower than −100 makes it as that, where a pair is masked, and say so."""
        y = self.aligned[name].array
        follows = self.follows.get(name)
        right = self.exact[name] if follows is None else follows.value
        raised = np.where((y == -np.inf) & (right > MASKED), y, held)  # there it is no mask
        if y.dtype.kind == "f" and not np.array_equal(raised, y, equal_nan=True):
            self._note(name, "its masked pairs are lower still")
            self.aligned[name] = self.aligned[name]._replace(array=raised)

    def refuted(self, logits: str) -> set[str]:
        """Guessed tensors that are far from ours, though the logits, made of them, are right.

        A layer with our weights may give them scaled, or rolled: that is another tensor than ours.
        """
        if self.least.u > SINGLE.u or not self._is_true(logits):  # half hides a mistake in logits
            return set()
        guessed = {n for n, match in self.aligned.items() if match.note.startswith(GUESSED)}
        return {n for n in guessed & self.steps.keys() if not self._is_true(n)}

    def _is_true(self, name: str) -> bool:
        """Whether theirs is ours, but for what rounding is off by after all steps before."""
        y = self.have.get(name)
        if y is None:
            return False
        off = np.abs(y.astype(np.float64) - self.exact[name])
        return bool((off <= self._spread(name)).all())

    # ── values in the order of the steps, then cotangents from the loss backwards ────────────────

    def value(self, step: Step) -> Finding:
        found = self._measured(step.name, step)
        if found.verdict:
            return found
        y, precision = self.aligned[step.name].array, self.precision[step.name]
        wide = self.unrounded.get(step.name, self.apart.get(step.name))
        if wide is not None:
            found.given = "earlier tensors"
            off = self._spread(step.name, SINGLE.u) + precision.smallest
            return self._marked(self._decided(found, y, wide, np.full(y.shape, off)))
        if step.op in STARTS:
            given = self.exact[step.name]
            given = precision.round(given) if given.dtype.kind == "f" else given
            return self._decided(found, y, given, np.zeros(y.shape))
        return self._judged(found, y)

    def _judged(self, found: Finding, y: Array) -> Finding:
        """By what it follows from; by the truth where nothing of theirs stands in front of it."""
        wide = self.precision[found.name].u <= SINGLE.u  # a step behind some that were rounded
        passes = (self.follows, self.freely) if wide else (self.follows,)
        ways = [way[found.name] for way in passes if found.name in way]
        if not ways:
            return self._held_against_truth(found, y)
        return min((self._held(replace(found), y, way) for way in ways), key=lambda f: f.off)

    def _held(self, found: Finding, y: Array, follows: Follows) -> Finding:
        wanted, allowed, u = follows.value, follows.allowed, self._on_the_way(found.name)
        if found.name.startswith(COTANGENT):
            rounding = 16 * u * float(np.max(np.abs(wanted), initial=0))
            limit = OTHER_ORDER * max(follows.noise * u / SINGLE.u, rounding)
            allowed = np.full(y.shape, limit)
        elif not follows.direct:
            allowed = allowed + OTHER_ORDER * (u / SINGLE.u) * follows.noise
        if wanted.dtype.kind == "f" and not allowed.any():
            wanted = self.precision[found.name].round(wanted)  # weights that they rounded, say
        found.given = "its own inputs" if follows.direct else "earlier tensors"
        return self._marked(self._decided(found, y, wanted, allowed))

    def _marked(self, found: Finding) -> Finding:
        if found.verdict == "right" and found.absolute > self._spread(found.name):
            found.verdict = "follows"
        return found

    def backward(self) -> Iterator[Finding]:
        """A step's cotangent, then those of its parameters, from the last step to the first."""
        done = set()
        for step in reversed(self.steps.values()):
            parameters = [self.steps[n] for n in step.inputs if self.steps[n].op in STARTS]
            own = [step] if step.op not in STARTS else []
            for one in (*own, *parameters):
                name = COTANGENT + one.name
                if name in self.exact and name not in done:
                    done.add(name)
                    found = self._measured(name, one)
                    yield found if found.verdict else self._judged(found, self.aligned[name].array)

    def losses(self) -> Iterator[Finding]:
        """All losses as one tensor; an error grows from step to step, and so does its limit."""
        if LOSSES not in self.exact:
            return
        ours = self.exact[LOSSES]
        found = self._measured(LOSSES, Step(LOSSES, LOSSES, LOSSES, ours, axes=("optimizer step",)))
        if found.verdict:
            yield found
            return
        y = self.aligned[LOSSES].array
        yield self._decided(found, y, ours, self.limits_of_losses())

    def limits_of_losses(self) -> Array:
        ours, u = self.exact[LOSSES], self._on_the_way(LOSSES)
        off = 1024 * u * np.abs(ours)  # where nobody measured it
        if self.single_losses is not None:
            off = np.abs(self.single_losses - ours) * u / SINGLE.u
            off = OTHER_ORDER * np.maximum(off, 4 * u * np.abs(ours))
        return np.maximum.accumulate(off)

    def weight_after(self, name: str) -> Finding:
        found = self._measured(name, self.steps[name.removeprefix(AFTER)])
        return found if found.verdict else self._held_against_truth(found, self.aligned[name].array)

    # ── one tensor ───────────────────────────────────────────────────────────────────────────────

    def _measured(self, name: str, step: Step) -> Finding:
        """The row with its numbers; the verdict is open unless the tensor cannot be judged."""
        ours, match = self.exact[name], self.aligned.get(name)
        if match is None:
            return Finding(name, step, "missing", shape=ours.shape)
        y = match.array
        found = Finding(name, step, "", match.name, match.note, y.shape)
        if y.shape != ours.shape or y.dtype.kind not in "fiub":
            found.verdict, found.note = "shape", f"expected {ours.shape}, got {y.shape} {y.dtype}"
            return found
        bad = ~np.isfinite(y.astype(np.float64)) & np.isfinite(ours)
        if bad.any():
            found.verdict, found.worst = "not finite", _index(bad, y.shape)
            found.note = f"{int(bad.sum()):,} of {y.size:,} elements are NaN or infinite"
            return found
        a, b = ours.astype(np.float64).ravel(), y.astype(np.float64).ravel()
        error = np.abs(a - b)
        found.absolute = float(np.max(error, initial=0))
        found.relative = found.absolute / max(float(np.max(np.abs(a), initial=0)), 1e-300)
        norm = float(np.linalg.norm(a) * np.linalg.norm(b))
        found.cosine = float(a @ b) / norm if norm else float(np.array_equal(a, b))
        if y.dtype.kind == "f":
            largest = float(np.max(np.abs(a), initial=0)) or 1.0
            found.ulps = found.absolute / (2 * self.precision[name].u * largest)
        return found

    def _held_against_truth(self, found: Finding, y: Array) -> Finding:
        ours = self.exact[found.name].astype(np.float64)
        return self._decided(found, y, ours, np.full(y.shape, self._spread(found.name)))

    def _on_the_way(self, name: str) -> float:
        """The coarsest rounding that a tensor may have gone through."""
        return max(self.precision[name].u, self.least.u)

    def _spread(self, name: str, u: float | None = None) -> float:
        """How far from the truth a right implementation may be here after all steps before.

        u: the coarsest rounding of these steps, where it is known
        """
        ours, u = self.exact[name].astype(np.float64), u or self._on_the_way(name)
        floor = u * float(np.max(np.abs(ours), initial=0))
        gradient = name.startswith((COTANGENT, AFTER))  # of long sums, whose terms cancel
        if name not in self.off:
            return 1024 * floor  # nobody measured it: about as much as a deep model is off
        off = self.off[name]
        return OTHER_ORDER * max(off * u / SINGLE.u, (16 if gradient else 4) * floor)

    def _decided(self, found: Finding, y: Array, wanted: Array, allowed: Array) -> Finding:
        error = np.abs(y.astype(np.float64) - wanted.astype(np.float64))
        error = np.where(np.isnan(error), np.inf, error)  # the truth itself is no number
        rounding = self.precision[found.name].u * np.abs(wanted)  # to write the result down
        allowed = allowed + np.where(allowed > 0, rounding, 0)
        over, found.limit = ~(error <= allowed), float(np.max(allowed, initial=0))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(error > 0, error / allowed, 0)
        ratio = np.where(np.isnan(ratio), np.inf, ratio)
        found.off = float(np.max(ratio, initial=0))
        if not over.any():
            found.verdict = "equal" if found.absolute == 0 else "right"
            return found
        chosen = error if np.isinf(found.off) else ratio
        found.verdict, found.worst = "wrong", _index(np.where(over, chosen, 0), y.shape)
        return found


def _index(x: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(x)), shape))
