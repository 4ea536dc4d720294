"""The same search for derivatives: edits of vjps, and of what lets no gradient through."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

import numpy as np

from minswin import kernels, ops
from minswin.around import around
from minswin.autograd import Tensor
from minswin.crosscheck.compare import Comparison
from minswin.crosscheck.edits.classics import classic_edits
from minswin.crosscheck.edits.operators import edits_of
from minswin.crosscheck.edits.spots import place, watch
from minswin.crosscheck.edits.texts import Edit, Text
from minswin.crosscheck.findings import Cause, Diagnosis, cause_of_answer, observed
from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES, Trace
from minswin.crosscheck.ground import Call, Ground
from minswin.crosscheck.held import Have
from minswin.crosscheck.number import NEAR, free
from minswin.crosscheck.precision import Precision
from minswin.crosscheck.recording import Naming, Step, spell_out
from minswin.crosscheck.search import LIKELY, Answer, Clock, Search, Tell, rms
from minswin.crosscheck.site import Trial
from minswin.crosscheck.weighing import ALIKE
from minswin.layers.base import Layer
from minswin.watch import Operation, paths_of

Array = np.ndarray
Derivatives = dict[str, Array]
OTHERS = 3  # wrong cotangents elsewhere that an edit is tried on as well


def of_a_derivative(truth: Trace, comparison: Comparison, clock: Clock, tell: Tell) -> Diagnosis:
    """The edit of a vjp that gives their cotangent, from those nearer to the loss."""
    finding = comparison.first
    assert finding is not None
    have = {
        n: m.array
        for n, m in comparison.aligned.items()
        if not n.startswith(AFTER) and n != LOSSES and np.isfinite(m.array).all()
        if m.array.shape == truth.exact[n].shape
    }
    if finding.name not in have:  # of another shape, or no numbers
        return Diagnosis(finding, [], [], 0)
    precision = dict(comparison.precision)
    causes: list[Cause] = []
    tried = 0
    for site in slopes(truth, have, finding.name):
        search = Search(site, precision[finding.name].u, clock, tell)
        edits = site.edits()
        likely = [e for e in edits if e.rank <= LIKELY]
        answers = search.run(likely, "edits of derivatives") or [*islice(_numbers(search), 1)]
        answers = answers or search.run([e for e in edits if e.rank > LIKELY], "edits")
        tried += search.count
        if any(len(a.edits) > 1 for a in answers):
            _weigh(answers, _others(truth, comparison, have, precision, clock))
        causes = [cause_of_answer(a) for a in answers[:3]]
        if causes or clock.over:
            break
    seen = [] if causes else observed(truth, comparison, finding)
    return Diagnosis(finding, causes, seen, tried, clock.over and not causes)


def _others(
    truth: Trace, comparison: Comparison, have: Have, precision: dict[str, Precision], clock: Clock
) -> list[Search]:
    """Other wrong cotangents, those of the same layer first: the right edit gives them too."""
    assert comparison.first is not None
    first = comparison.first.name
    layer = first.rpartition(".")[0]
    wrong = [f.name for f in comparison.findings if f.verdict == "wrong" and f.name in have]
    wrong = [n for n in wrong if n.startswith(COTANGENT) and n != first]
    wrong.sort(key=lambda n: n.rpartition(".")[0] != layer)
    sites = [slopes(truth, have, n)[:1] for n in wrong[:OTHERS]]
    return [Search(s, precision[COTANGENT + s.name].u, clock) for each in sites for s in each]


def _weigh(answers: list[Answer], others: list[Search]) -> None:
    """Put first the edit of an answer that gives most of the other cotangents."""

    def given(edit: Edit) -> int:
        values = ((search, search.value(edit)) for search in others)
        return sum(v is not None and search.equals(edit, v) for search, v in values)

    for answer in answers:
        answer.edits[:ALIKE] = sorted(answer.edits[:ALIKE], key=given, reverse=True)


class Slope(Trial):
    """A call of a layer, and a cotangent that is wrong in it."""

    def __init__(
        self, ground: Ground, call: Call, name: str, theirs: Array, cotangents: Derivatives
    ) -> None:
        self.ground, self.call, self.path = ground, call, call.path
        self.name, self.theirs, self.cotangents = name, np.asarray(theirs, np.float64), cotangents

    def run(
        self, dtype: str = "float64", model: Layer | None = None, *, whole: bool = False
    ) -> Array | None:
        model = self.ground.models[dtype] if model is None else model
        layers = dict(model.named_layers())

        def hold(step: Step, operation: Operation | None) -> Array | None:
            theirs = self.ground.have.get(step.name)
            good = theirs is not None and theirs.shape == step.value.shape
            return self.ground.held(step.name, dtype) if good else None

        def hold_gradient(step: Step, g: Array) -> Array:
            theirs = self.cotangents.get(step.name) if step.name != self.name else None
            return g if theirs is None or theirs.shape != g.shape else theirs.astype(g.dtype)

        naming = Naming(paths_of(model), hold=hold, hold_gradient=hold_gradient)
        for p in model.parameters():
            p.grad = None
        arguments = [_leaf(x, dtype) for x in self.call.arguments]
        with ExitStack() as stack:
            stack.enter_context(kernels.using("reference"))
            stack.enter_context(around(naming))
            stack.enter_context(around(spell_out))
            result = layers[self.call.path](*arguments)
            if self.call.path:
                result.backward(self.cotangents[self.call.output].astype(dtype))
            else:
                ops.cross_entropy(result, self.ground.given("labels", np.int64)).backward()
        if self.name in naming.steps:
            return naming.steps[self.name].cotangent
        for argument, name in zip(arguments, self.call.given, strict=True):
            if name == self.name:
                return argument.grad
        found: Array | None = dict(model.named_parameters())[self.name].grad
        return found

    # ── hypotheses ───────────────────────────────────────────────────────────────────────────────

    def edits(self) -> list[Edit]:
        """Edits of the vjps of what ran, and places where no gradient passes."""
        values = watch(self.texts, self.run, nested=True)
        found = [*classic_edits({t.name: t for t in self.texts}, of="cotangent")]
        for text in self.texts:
            if any(isinstance(n, ast.FunctionDef) for n in text.tree.body):
                found += edits_of(text, values, nested=True)
            found += _at_tensors(text, values, "e_detached", "no gradient")
        return sorted(found, key=lambda e: e.cost)


def _at_tensors(text: Text, values: dict[Any, Any], helper: str, words: str) -> Iterator[Edit]:
    for n in text.parents:
        kinds = (ast.Name, ast.Call, ast.BinOp)
        value = values.get(place(text, n)) if isinstance(n, kinds) else None
        called = getattr(text.parents.get(n), "func", None) is n
        if isinstance(value, Tensor) and value.requires_grad and not called:
            yield Edit(text, [(*text.span(n), f"{helper}({text.of(n)})")], words, 3)


def _numbers(search: Search) -> Iterator[Answer]:
    """Tensors whose gradient, times one number, gives theirs: it goes into theirs in a line."""
    site = search.site
    values = watch(site.texts, site.run, nested=True)
    for edit in (e for t in site.texts for e in _at_tensors(t, values, "e_pulled", "one number")):
        if search.clock.over:
            return
        with free(0.0):
            none = search.value(edit)
        if none is None or none.shape != site.theirs.shape:
            continue
        slope = search.right - none
        square = float((slope * slope).sum())
        number = float((slope * (site.theirs - none)).sum()) / square if square else 0.0
        if rms(none + number * slope - site.theirs) > NEAR * search.off:
            continue
        with free(number):
            value = search.value(edit)
            if value is not None and search.fits(edit, value):
                yield Answer([edit], value, number)


def _leaf(x: Any, dtype: str) -> Any:
    if isinstance(x, Tensor) and x.data.dtype.kind == "f":
        return Tensor(x.data.astype(dtype), requires_grad=True)
    return x


def slopes(truth: Trace, have: Have, name: str) -> list[Slope]:
    """The calls that all uses of a tensor lie in, whose cotangent is wrong; innermost first."""
    target = name.removeprefix(COTANGENT)
    values = {n: x for n, x in have.items() if not n.startswith(COTANGENT)}
    ground = Ground(truth, values)
    cotangents = {n: have[COTANGENT + n] for n in ground.order if COTANGENT + n in have}
    users = [i for i, n in enumerate(ground.order) if target in ground.inputs.get(n, ())]
    if not users:
        return []
    around = [c for c in ground.calls if c.first <= min(users) and max(users) < c.end]
    if target in ground.order and not around:
        around = [c for c in ground.calls if not c.path]
    good = [c for c in around if not c.path or c.output in cotangents]
    good = [c for c in good if _holds(c, target, ground)]
    good.sort(key=lambda c: (c.end - c.first, -len(c.path)))
    theirs = have[name]
    return [Slope(ground, c, target, theirs, cotangents) for c in good]


def _holds(call: Call, target: str, ground: Ground) -> bool:
    """Whether a call makes the tensor, is given it, or holds it as a parameter."""
    made = target in ground.order[call.first : call.end] or target in call.given
    return made or target.startswith(call.path)
