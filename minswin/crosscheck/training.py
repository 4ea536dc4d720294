"""The same search for training: edits of what an optimizer, its loop and the loss do."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from copy import copy
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from minswin import kernels
from minswin.autograd import Tensor, apply
from minswin.crosscheck.align import losses_of
from minswin.crosscheck.compare import GOOD, OTHER_ORDER, Comparison
from minswin.crosscheck.edits.classics import classic_edits
from minswin.crosscheck.edits.functions import functions_of
from minswin.crosscheck.edits.texts import Edit, Text
from minswin.crosscheck.findings import Diagnosis, cause_of_answer
from minswin.crosscheck.folder import AFTER, LOSSES, Trace
from minswin.crosscheck.ground import DTYPES, content
from minswin.crosscheck.held import model_of
from minswin.crosscheck.idle import edits_that_run
from minswin.crosscheck.loop import loss, run_steps
from minswin.crosscheck.number import numbers
from minswin.crosscheck.precision import SINGLE
from minswin.crosscheck.search import Clock, Search, Tell, rms
from minswin.crosscheck.site import Trial
from minswin.layers.base import Layer, Parameter

Array = np.ndarray
TEXTS = ("optimizers.py", "updates.py", "losses.py", "ema.py", "crosscheck/loop.py")
KEPT = 2**28  # bytes of gradients that a search remembers
NEARER = 0.5  # of what ours is off: an edit that is no nearer with our gradients is none
OPEN = 1e-2  # of itself: a gradient that float32 leaves open by more is no evidence


def of_training(truth: Trace, comparison: Comparison, clock: Clock, tell: Tell) -> Diagnosis:
    """All gradients are right: the edit of the optimizer, or of the loop, that gives the rest."""
    finding = comparison.first
    assert finding is not None
    if finding.verdict == "shape":
        return Diagnosis(finding, [], [], 0)
    seen = list(_of_the_optimizer(comparison))
    if truth.build is None or "optimizer" not in truth.header:
        return Diagnosis(finding, [], seen, 0)
    weights = {n: x.shape for n, x in truth.exact.items()}
    have = {
        n: m.array
        for n, m in comparison.aligned.items()
        if n == LOSSES or (n.startswith(AFTER) and m.array.shape == weights[n])
    }
    site = Training(truth, have, finding.name)
    u = max(comparison.precision[finding.name].u, SINGLE.u)
    search = Search(site, u, clock, tell)
    known, edits = site.edits()
    answers = search.run(known, "known mistakes") or search.run(edits, "edits of the training")
    if not answers:
        search.matter = site.texts
        otherwise = search.spelled_otherwise(backward=True)
        answers = search.run(otherwise, "edits of other spellings")
    if not answers:
        judge = Search(site.of_all_losses(), u, clock)
        answers = [*islice(numbers(search, judge), 1)]
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


class Remembered:
    """A model whose passes are computed once for equal weights: no edit here is of its text."""

    def __init__(self, model: Layer, inner: Layer) -> None:
        self.inner = inner
        self.passes: dict[bytes, Any] = {}
        self.named = list(model.named_parameters())  # looked for once: a search runs thousands
        self.own = list(inner.parameters())
        self.made: list[list[Any]] = []  # the logits and gradients of the present run, in order
        self.ahead: list[list[Any]] = []  # those that are given in turn, whatever the weights

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        return iter(self.named)

    def parameters(self) -> Iterator[Parameter]:
        return (p for _, p in self.named)

    def zero_grad(self) -> None:
        for p in self.parameters():
            p.grad = None

    def __call__(self, x: Tensor) -> Tensor:
        given = self.ahead.pop(0) if self.ahead else []

        def forward(*arrays: Array) -> tuple[Array, Any]:
            if len(given) == 2:
                return given[0].copy(), lambda g: tuple(map(np.array, given[1]))
            key = _key(*arrays)
            if key not in self.passes:
                self._keep(key, self._logits(x, arrays).data)

            def vjp(g: Array) -> tuple[Array, ...]:
                both = key + _key(g)
                if both not in self.passes:
                    for p in self.own:
                        p.grad = None
                    self._logits(x, arrays).backward(g)
                    self._keep(both, [p.grad for p in self.own])
                made.append(self.passes[both])
                return tuple(np.array(a) for a in self.passes[both])

            made = [self.passes[key]]
            self.made.append(made)
            return self.passes[key].copy(), vjp

        return apply(forward, *self.parameters())

    def _logits(self, x: Tensor, arrays: tuple[Array, ...]) -> Tensor:
        for p, array in zip(self.own, arrays, strict=True):
            p.data = array.copy()  # the update is in place
        result: Tensor = self.inner(x)
        return result

    def _keep(self, key: bytes, what: Any) -> None:
        size = sum(p.data.nbytes for p in self.own)
        if len(self.passes) >= 2 * KEPT // max(size, 1):
            self.passes.clear()
        self.passes[key] = what


def _key(*arrays: Array) -> bytes:
    return b"".join(map(content, arrays))


class Training(Trial):
    """The optimizer's steps of a trace, and what they gave: losses, or weights behind them."""

    def __init__(self, truth: Trace, have: Mapping[str, Array], name: str) -> None:
        self.truth, self.name = truth, name
        self.told = dict(truth.header["optimizer"])
        self.told.setdefault("planned", self.told["steps"])
        self.models: dict[str, Remembered] = {}
        self.right: list[list[Any]] = []  # logits and gradients of the right run
        self.off = 0.0  # of its weights
        self.chosen = sorted((n for n in have if n.startswith(AFTER)), key=lambda n: have[n].size)
        ours = losses_of(truth)[LOSSES]
        losses = np.ravel(have[LOSSES]) if LOSSES in have else ours
        off = np.abs(losses - ours) > 1e-5 * np.abs(ours) if len(losses) == len(ours) else ours > 0
        self.at = int(np.argmax(off)) if off.any() else -1  # the first wrong loss
        self.sure = np.ones(1, bool)
        if self.at < 0:
            self.sure = self._sure()
        self.losses = losses
        self.theirs = self._chosen({n: have[n] for n in self.chosen}, losses)

    def of_all_losses(self) -> Training:
        """The same with all losses: one wrong loss alone is what any free number gives."""
        every = copy(self)
        if self.at >= 0:
            every.at = len(self.losses) - 1
            every.theirs = every._chosen({}, self.losses)
        return every

    def _chosen(self, weights: Mapping[str, Array], losses: Any) -> Array:
        """The losses up to the first wrong one; where none is wrong the weights."""
        if self.at >= 0:
            return np.ravel(np.asarray(losses, np.float64))[: self.at + 1]
        every = [np.ravel(weights[n]).astype(np.float64) for n in self.chosen]
        return np.concatenate(every)[self.sure] if self.sure.size > 1 else np.concatenate(every)

    def _sure(self) -> Array:
        """Which weights say something. Adam moves by ±lr where a gradient is nothing but rounding:
        keys have no gradient of their bias, since a softmax is blind to what all logits share.
        """
        gradients = []
        for dtype in ("float64", "float32"):
            model = self._model(dtype)
            loss(model, self._images(dtype), self._labels(), self.told).backward()
            named: dict[str, Any] = {AFTER + n: p.grad for n, p in model.named_parameters()}
            each = [np.ravel(named[n]).astype(np.float64) for n in self.chosen]
            gradients.append(np.concatenate(each))
        exact, single = gradients
        found: Array = np.abs(single - exact) <= OPEN * np.abs(exact)
        return found

    def _model(self, dtype: str) -> Remembered:
        """The model before the first step."""
        if dtype not in self.models:
            self.models[dtype] = Remembered(*(model_of(self.truth, dtype) for _ in range(2)))
        model = self.models[dtype]
        for name, p in model.named_parameters():
            p.data, p.grad = self.truth.steps[name].value.astype(dtype), None
        model.made, model.ahead = [], []
        return model

    def _images(self, dtype: str) -> Array:
        return np.asarray(self.truth.steps["image"].value).astype(dtype)

    def _labels(self) -> Array:
        return self.truth.steps["labels"].value

    def run(
        self, dtype: str = "float64", model: Layer | None = None, *, whole: bool = False
    ) -> Array:
        of_weights = self.at < 0 and dtype == "float64" and not whole
        if of_weights and self.right:  # the gradients of later steps change little
            value = self._after(dtype, whole, self.right)
            if value.shape != self.theirs.shape or rms(value - self.theirs) > NEARER * self.off:
                return value
        value = self._after(dtype, whole, [])
        if of_weights and not self.right:
            self.right, self.off = self.models[dtype].made, rms(value - self.theirs)
        return value

    def _after(self, dtype: str, whole: bool, given: list[list[Any]]) -> Array:
        """What the steps give; given: logits and gradients that need not be computed."""
        moved, steps = self._model(dtype), self.told["steps"]
        steps = min(self.at, steps) if self.at >= 0 and not whole else steps
        moved.ahead = [*given]
        with kernels.using("reference"):
            losses = run_steps(
                moved, self._images(dtype), self._labels(), {**self.told, "steps": steps}
            )
        after = {AFTER + n: p.data for n, p in moved.named_parameters()}
        return self._chosen(after, losses)

    def gives_all(self, edit: Any) -> bool:
        """Whether all losses of an edit are theirs, of which only the first were searched."""
        if self.at < 0:
            return True
        ours, single = (losses_of(self.truth, dtype).get(LOSSES) for dtype in DTYPES)
        if ours is None:
            return True
        off = np.abs(single - ours) if single is not None else 0 * ours
        limit = np.maximum.accumulate(OTHER_ORDER * np.maximum(off, 4 * SINGLE.u * np.abs(ours)))
        model = self._model("float64")
        with edit.planted(), kernels.using("reference"), np.errstate(all="ignore"):
            found = run_steps(model, self._images("float64"), self._labels(), self.told)
        return bool((np.abs(np.array(found) - self.losses) <= limit).all())

    @cached_property
    def texts(self) -> list[Text]:
        """Of the optimizer, the loop and the loss."""
        functions = functions_of(lambda: self.run(whole=True), also=TEXTS[-1:])
        return [Text(f) for f in functions if f.__code__.co_filename.endswith(TEXTS)]

    def edits(self) -> tuple[list[Edit], list[Edit]]:
        """Edits of what the optimizer, the loop and the loss do: those met before, and all."""
        found = edits_that_run(self, self.texts, backward=True)
        found += [edit for text in self.texts for edit in _defaults(text)]
        for edit in found:  # the loop is a page, and easily gets a line too few
            # but settings are theirs as well: another number there is no likely line
            in_the_loop = edit.text.name.endswith(".run_steps") and "told[" not in edit.diff
            edit.rank -= 2 * (in_the_loop or edit.words == "another default")
        known = [*classic_edits({t.name: t for t in self.texts}, of="after")]
        return known, sorted(found, key=lambda e: e.cost)


def _defaults(text: Text) -> Iterator[Edit]:
    """Other values of settings that nobody gives."""
    arguments = text.tree.args
    for default in (*arguments.defaults, *arguments.kw_defaults):
        for n in ast.walk(default) if default is not None else ():
            if isinstance(n, ast.Constant) and type(n.value) in (int, float, bool):
                for new in _others(n.value):
                    yield Edit(text, [(*text.span(n), repr(new))], "another default", 2)


def _others(v: Any) -> list[Any]:
    if isinstance(v, bool):
        return [not v]
    new = [0.0, 2 * v, v / 2, 10 * v, v / 10, 0.9, 0.95, 0.98, 0.99, 0.999, 0.5, 1e-5, 1e-6, 1e-7]
    return [w for w in dict.fromkeys([*new, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.3]) if w != v]
