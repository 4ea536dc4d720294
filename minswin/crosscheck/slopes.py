"""The same search for derivatives: edits of vjps, and of what lets no gradient through."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

from minswin import kernels, ops
from minswin.around import around
from minswin.autograd import Tensor
from minswin.crosscheck.edits.classics import classic_edits
from minswin.crosscheck.edits.functions import functions_of
from minswin.crosscheck.edits.operators import edits_of
from minswin.crosscheck.edits.texts import Edit, Text
from minswin.crosscheck.edits.watching import place, watch
from minswin.crosscheck.folder import COTANGENT, Trace
from minswin.crosscheck.ground import Call, Ground
from minswin.crosscheck.held import Have, Held
from minswin.crosscheck.precision import Precision
from minswin.crosscheck.recording import Recording, Step, spell_out
from minswin.crosscheck.site import Site
from minswin.layers.base import Layer
from minswin.watch import Operation

Array = np.ndarray
Derivatives = dict[str, Array]


class Slope(Site):
    """A call of a layer, and a cotangent that is wrong in it."""

    def __init__(
        self, ground: Ground, call: Call, name: str, theirs: Array, cotangents: Derivatives
    ) -> None:
        super().__init__(ground, call, "", set(), theirs=theirs)
        self.name, self.cotangents = name, cotangents
        self.stubs = {}

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

        record = Recording(model, hold=hold, hold_gradient=hold_gradient, brief=True)
        record._layers = {id(layer): path for path, layer in layers.items()}
        for p in model.parameters():
            p.grad = None
        arguments = [_leaf(x, dtype) for x in self.call.arguments]
        with ExitStack() as stack:
            stack.enter_context(kernels.using("reference"))
            stack.enter_context(around(record))
            stack.enter_context(around(spell_out))
            result = layers[self.call.path](*arguments)
            if self.call.path:
                result.backward(self.cotangents[self.call.output].astype(dtype))
            else:
                ops.cross_entropy(result, self.ground.truth.steps["labels"].value).backward()
        if self.name in record.steps:
            return record.steps[self.name].cotangent
        for argument, name in zip(arguments, self.call.given, strict=True):
            if name == self.name:
                return argument.grad
        found: Array | None = dict(model.named_parameters())[self.name].grad
        return found

    # ── hypotheses ───────────────────────────────────────────────────────────────────────────────

    def edits(self) -> list[Edit]:
        """Edits of the vjps of what ran, and places where no gradient passes."""
        texts = [Text(f) for f in functions_of(self.run)]
        values = watch(texts, self.run, nested=True)
        found = [*classic_edits({t.name: t for t in texts}, of="cotangent")]
        for text in texts:
            if any(isinstance(n, ast.FunctionDef) for n in text.tree.body):
                found += edits_of(text, values, nested=True)
            found += _detached(text, values)
        return sorted(found, key=lambda e: e.cost)


def _detached(text: Text, values: dict[Any, Any]) -> Iterator[Edit]:
    for n in text.parents:
        value = values.get(place(text, n)) if isinstance(n, (ast.Name, ast.Call)) else None
        called = getattr(text.parents.get(n), "func", None) is n
        if isinstance(value, Tensor) and value.requires_grad and not called:
            yield Edit(text, [(*text.span(n), f"e_detached({text.of(n)})")], "no gradient", 3)


def _leaf(x: Any, dtype: str) -> Any:
    if isinstance(x, Tensor) and x.data.dtype.kind == "f":
        return Tensor(x.data.astype(dtype), requires_grad=True)
    return x


def slopes(truth: Trace, have: Have, precision: dict[str, Precision], name: str) -> list[Slope]:
    """The calls that all uses of a tensor lie in, whose cotangent is wrong; innermost first."""
    target = name.removeprefix(COTANGENT)
    values = {n: x for n, x in have.items() if not n.startswith(COTANGENT)}
    ground = Ground(truth, values)
    held = Held(truth, have, precision, "float64").run(grad=True)
    cotangents = {
        n: np.asarray(have.get(COTANGENT + n, step.cotangent))
        for n, step in held.record.steps.items()
        if step.cotangent is not None
    }
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
