"""Name the mistake: try every known one at the first wrong tensor and see which gives theirs.

A mistake is named only if its result equals theirs within the tolerance of a right result, and
differs from the right one by far more. If several fit, all are named: these inputs cannot tell them
apart. If none fits, what is nevertheless true of their tensor is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from minswin.crosscheck.compare import GOOD, Comparison, Finding
from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES, Trace
from minswin.crosscheck.masked import KINDS, MASKED, legible, lifted, masked_pairs
from minswin.crosscheck.mistakes import Mistake, Sign, known, signs
from minswin.crosscheck.mistakes.derivatives import errors
from minswin.crosscheck.observations import observe
from minswin.crosscheck.recording import Step
from minswin.crosscheck.replay import GIVEN, between, replay

__all__ = ["Diagnosis", "diagnose"]

Array = np.ndarray
SLACK = 64  # roundings of the largest element, for each step of the way
TOLD_APART = 100  # a mistake must be so many times farther from right than theirs is from it


ZERO = Mistake(
    "the derivative is zero", (), lambda *_: np.zeros(()), "backward of this step does nothing"
)


@dataclass
class Diagnosis:
    """What was found out about the first wrong tensor."""

    finding: Finding
    mistakes: list[tuple[Mistake, Step]]  # those that give their tensor, and at which step
    observations: list[str]  # what else is true of their tensor, where no mistake fits
    tried: int  # mistakes that were tried

    @property
    def named(self) -> bool:
        return bool(self.mistakes)


def diagnose(truth: Trace, comparison: Comparison) -> Diagnosis | None:
    """Why the first wrong tensor is wrong; None where nothing is."""
    finding = comparison.first
    if finding is None:
        return None
    match = comparison.given.get(finding.name)
    if finding.name.startswith(AFTER) or finding.name == LOSSES:
        return Diagnosis(finding, [], list(_of_the_optimizer(comparison)), 0)
    if match is None or not _can_be_diagnosed(finding, match.array):
        return Diagnosis(finding, [], [], 0)
    y = match.array.astype(np.float64)
    if finding.name.startswith(COTANGENT):
        return _derivative(truth, comparison, y)
    return _value(truth, comparison, y)


def _can_be_diagnosed(finding: Finding, y: Array) -> bool:
    """Whether it is numbers, of which a mask may be −∞."""
    if finding.verdict == "not finite" and finding.step.kind in KINDS:
        return not (np.isnan(y) | (y == np.inf)).any()
    return finding.verdict == "wrong"


def _value(truth: Trace, comparison: Comparison, y: Array) -> Diagnosis:
    """The mistake that gives y, on the way from the nearest tensors before it."""
    finding = comparison.first
    assert finding is not None
    step = finding.step
    have = {
        n: m.array
        for n, m in comparison.aligned.items()
        if n in truth.steps and m.array.shape == truth.steps[n].value.shape
    }
    chain = between(step, truth.steps, have)
    right = replay(chain, truth.steps, have)
    if right is None:
        return Diagnosis(finding, [], _observed(truth, finding, y, step.value), 0)
    u = comparison.precision[finding.name].u
    fits, tried = [], 0
    for candidate, at, value in _attempts(chain, truth.steps, have):
        tried += 1
        off = _distance(value, _as_masked(step, y, value))
        slack = SLACK * len(chain) * u * max(_size(right), _size(value))
        if off <= slack and _distance(value, right) > TOLD_APART * max(off, slack / SLACK):
            fits.append((candidate, at))
    if not fits and len(chain) == 1:
        inputs = [np.asarray(have.get(n, truth.steps[n].value)) for n in step.inputs]
        fits = [(s.mistake, step) for s in signs() if _shows(s, step, y, right, inputs)]
    return Diagnosis(finding, fits, [] if fits else _observed(truth, finding, y, right), tried)


def _observed(truth: Trace, finding: Finding, y: Array, right: Array) -> list[str]:
    step = finding.step
    if step.kind in KINDS:
        y = legible(y, right, masked_pairs(step, truth.steps))
    return list(observe(step, y, right, finding.limit))


def _as_masked(step: Step, y: Array, value: Array) -> Array:
    """A mask of −1000 or −∞ is that of −100 where a mistake masks as well."""
    return lifted(y, value, value <= MASKED) if step.kind in KINDS else y


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


def _shows(sign: Sign, step: Step, y: Array, right: Array, inputs: list[Array]) -> bool:
    return step.kind in sign.mistake.kinds and sign.seen(step, y, right, *inputs)


def _derivative(truth: Trace, comparison: Comparison, y: Array) -> Diagnosis:
    """The mistake in the derivative of a step by the first tensor whose cotangent is wrong."""
    finding = comparison.first
    assert finding is not None
    exact = next(iter(truth.arrays.values()))
    right = exact[finding.name].astype(np.float64)
    slack = finding.absolute / max(finding.off, 1)  # the tolerance that it was judged by
    fits, tried = [], 1
    if not y.any():
        fits.append((ZERO, finding.step))
    for consumer in truth.steps.values():
        g = exact.get(COTANGENT + consumer.name)
        if finding.step.name not in consumer.inputs or g is None:
            continue
        inputs = [truth.steps[n].value.astype(np.float64) for n in consumer.inputs]
        position = consumer.inputs.index(finding.step.name)
        for candidate, error in errors(consumer, position, g.astype(np.float64), inputs):
            tried += 1
            if _size(error) > TOLD_APART * slack and _distance(right + error, y) <= slack:
                fits.append((candidate, consumer))
    seen = [] if fits else list(observe(finding.step, y, right, finding.limit))
    return Diagnosis(finding, fits, seen, tried)


def _attempts(
    chain: list[Step], steps: Mapping[str, Step], have: Mapping[str, Array]
) -> Iterator[tuple[Mistake, Step, Array]]:
    """Every known mistake at every step of the way, and the tensor that it leads to."""
    for at in chain:
        if at.op in GIVEN and at.op != "constant":
            continue
        for candidate in known():
            if at.kind not in candidate.kinds:
                continue
            value = _try(candidate, at, chain, steps, have)
            if value is not None and np.isfinite(value).all():
                yield candidate, at, value


def _try(
    candidate: Mistake,
    at: Step,
    chain: list[Step],
    steps: Mapping[str, Step],
    have: Mapping[str, Array],
) -> Array | None:
    """Some mistakes are only possible on some shapes, or where there is a bias."""
    try:
        with np.errstate(all="ignore"):
            instead = {at.name: candidate.formula}
            return replay(chain, steps, have, instead=instead, also=candidate.also)
    except (ValueError, IndexError, ZeroDivisionError, TypeError, KeyError):
        return None


def _size(x: Array) -> float:
    return float(np.max(np.abs(x), initial=0))


def _distance(a: Array, b: Array) -> float:
    return float(np.max(np.abs(a - b), initial=0))
