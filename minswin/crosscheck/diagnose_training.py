"""Why a derivative, or what comes of a training step, is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from minswin.crosscheck.causes import Cause, Diagnosis, cause_of_answer, observed
from minswin.crosscheck.compare import GOOD, Comparison
from minswin.crosscheck.folder import AFTER, LOSSES, Trace
from minswin.crosscheck.number import numbers
from minswin.crosscheck.precision import SINGLE
from minswin.crosscheck.search import Clock, Search, Tell
from minswin.crosscheck.slopes import slopes
from minswin.crosscheck.training import Training, TrainingSearch


def of_a_derivative(truth: Trace, comparison: Comparison, clock: Clock, tell: Tell) -> Diagnosis:
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
        causes = [cause_of_answer(a) for a in answers[:3]]
        if causes or clock.over:
            break
    seen = [] if causes else observed(truth, comparison, finding)
    return Diagnosis(finding, causes, seen, tried, clock.over and not causes)


def of_training(truth: Trace, comparison: Comparison, clock: Clock, tell: Tell) -> Diagnosis:
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
        found = numbers(Search(site.of_all_losses(), u, clock, tell), site.texts)
        answers = [*islice(found, 1)]
    causes = [cause_of_answer(a) for a in answers[:3]]
    return Diagnosis(finding, causes, [] if causes else seen, search.count, clock.over)


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
