"""One call of one layer on their tensors, run again and again with other texts.

The layer is called with what it got from them; layers inside it whose output is theirs, and right,
give that output without running; and the run ends as soon as the wrong tensor is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import numpy as np

from minswin import kernels
from minswin.around import around, surroundings
from minswin.autograd import Tensor, no_grad
from minswin.crosscheck.edits.repeats import Repeats
from minswin.crosscheck.ground import DTYPES, Call, Ground, _frozen, limited, unchecked
from minswin.crosscheck.recording import Recording, Step, spell_out
from minswin.crosscheck.trace import loss
from minswin.layers.base import Layer
from minswin.watch import Operation

Array = np.ndarray


class _Reached(BaseException):
    """The tensor that is looked for is there."""


class Site:
    """A call of a layer, and the tensor that is wrong in it."""

    def __init__(
        self,
        ground: Ground,
        call: Call,
        target: str,
        way: set[str],
        *,
        theirs: Array | None = None,
    ) -> None:
        self.ground, self.call, self.target, self.way = ground, call, target, way
        self.known = {n: x for n, x in ground.have.items() if n != target and n in ground.inputs}
        outer = {p for name in way for p in _prefixes(name)}
        inside = [c for c in ground.calls if call.first <= c.first and c.end <= call.end]
        self.stubs: dict[str, list[str]] = {}
        for c in inside:
            mine = c.path not in outer and c.path != call.path and c.path.startswith(call.path)
            made = ground.order[c.first : c.end]
            if mine and made:
                self.stubs.setdefault(c.path, []).append(c.output if c.output in made else "")
        self.stubs = {p: n for p, n in self.stubs.items() if all(x in self.known for x in n)}
        # nothing of theirs stands inside: what the call gives is all that is asked for
        self.is_bare = call.output == target and not self.stubs
        self.is_bare &= self.known.keys().isdisjoint(ground.order[call.first : call.end])
        theirs = ground.have[target] if theirs is None else theirs
        self.theirs = np.asarray(theirs, np.float64)
        self.others: list[Array] = []
        self.looks_up = False  # what runs is asked of a run that computes all
        self.repeats = {dtype: Repeats() for dtype in DTYPES}
        self.kind = target.rpartition(".")[2]
        self._arguments = {d: [_cast(x, d) for x in call.arguments] for d in DTYPES}
        self._paths = {
            dtype: {id(layer): path for path, layer in layers.items()}
            for dtype, layers in ground.layers.items()
        }

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────

    def value(self, dtype: str = "float64", model: Layer | None = None) -> Array | None:
        """The target as the present texts give it; None where they cannot."""
        # a step that stands around operations already, as rounding does, computes otherwise
        self.looks_up = model is None and surroundings() is None
        try:
            with limited(), np.errstate(all="ignore"):
                value = self.run(dtype, model)
        except Exception:
            return None
        finally:
            self.looks_up = False
        good = value is not None and value.dtype.kind in "fiub" and np.isfinite(value).all()
        return np.asarray(value, np.float64) if good else None

    def run(
        self, dtype: str = "float64", model: Layer | None = None, *, whole: bool = False
    ) -> Array | None:
        """The same, with exceptions; whole: go on to the end of the call."""
        mine = model is None
        model = self.ground.models[dtype] if model is None else model
        found: list[Array] = []
        others: list[Array] = []

        def hold(step: Step, operation: Operation | None) -> Array | None:
            if step.name == self.target:
                found.append(step.value)
                if not whole:
                    raise _Reached
            theirs = self.known.get(step.name)
            if theirs is not None and theirs.shape == step.value.shape:
                return self.ground.held(step.name, dtype)
            if step.value.shape == self.theirs.shape:
                others.append(step.value)
            return None

        layers = self.ground.layers[dtype] if mine else dict(model.named_layers())
        arguments = self._arguments[dtype]
        if self.is_bare:
            with self._plain(dtype):
                return np.asarray(layers[self.call.path](*arguments).data)
        paths = None if mine else {id(layer): path for path, layer in layers.items()}
        known = {n: self.ground.held(n, dtype) for n in self.known if n not in self.way}
        record = Recording(model, hold=hold, known=known, brief=True)
        record._layers = self._paths[dtype] if paths is None else paths
        with self._plain(dtype, record), self._stubbed(layers, dtype, record):
            try:
                result = layers[self.call.path](*arguments)
            except _Reached:
                return found[0]
        if found:
            return found[0]
        if isinstance(result, Tensor) and result.shape == self.theirs.shape:
            others.append(result.data)
        self.others = others
        off = [float(np.mean(np.abs(x - self.theirs))) for x in others]
        return others[int(np.argmin(off))] if others else None

    @contextmanager
    def _plain(self, dtype: str, record: Recording | None = None) -> Iterator[None]:
        """Inside this block the definitions run, attention step by step, and nothing is checked."""
        with ExitStack() as stack:
            stack.enter_context(unchecked())
            stack.enter_context(kernels.using("reference"))
            stack.enter_context(no_grad())
            if self.looks_up:
                stack.enter_context(around(self.repeats[dtype]))
            if record is not None:
                stack.enter_context(around(record))
            stack.enter_context(around(spell_out))
            try:
                yield
            finally:
                self.repeats[dtype].filling &= not self.looks_up

    @contextmanager
    def _stubbed(
        self, layers: Mapping[str, Layer], dtype: str, record: Recording
    ) -> Iterator[None]:
        """Inside this block the layers whose output is theirs give it, at their first calls."""
        before: list[tuple[Layer, type]] = []
        try:
            for path, outputs in self.stubs.items():
                layer = layers[path]
                before.append((layer, type(layer)))
                layer.__class__ = _stub(type(layer))
                values = [(n, self.ground.held(n, dtype), record) for n in outputs]
                layer.__dict__["_given_outputs"] = values
            yield
        finally:
            for layer, kind in before:
                layer.__class__ = kind
                layer.__dict__.pop("_given_outputs", None)


class OfTheLoss(Site):
    """The loss, which no layer computes: from their logits, or else from the image."""

    def run(
        self, dtype: str = "float64", model: Layer | None = None, *, whole: bool = False
    ) -> Array | None:
        model = self.ground.models[dtype] if model is None else model
        logits = self.ground.inputs[self.target][0]
        labels = self.ground.truth.steps["labels"].value[: self.ground.images]
        with unchecked(), kernels.using("reference"), no_grad():
            if logits in self.known:
                x = Tensor(self.ground.held(logits, dtype))
            else:
                x = model(Tensor(self.ground.image(dtype)))
            return loss(lambda y: y, x, labels).data


@cache  # a class is slow to make, and there is a stub in every run
def sites_of(ground: Ground, target: str) -> list[Site]:
    """The calls that the way to the target lies in, the innermost first."""
    way = ground.between(target)
    if not way:
        return []
    numbers = [ground.order.index(name) for name in way]
    around = [c for c in ground.calls if c.first <= min(numbers) and max(numbers) < c.end]
    around.sort(key=lambda c: (c.end - c.first, -len(c.path)))
    if target == "loss":
        root = next(c for c in ground.calls if not c.path)
        return [OfTheLoss(ground, root, target, set(way))]
    return [Site(ground, call, target, set(way)) for call in around]


def _stub(kind: type) -> type:
    def call(self: Any, *arguments: Any, **settings: Any) -> Any:
        outputs = self.__dict__.get("_given_outputs")
        if outputs:
            name, value, record = outputs.pop(0)
            record.steps[name] = Step(name, "", "", value)  # a second call has another name
            return Tensor(value)
        return kind.__call__(self, *arguments, **settings)

    return type(kind.__name__, (kind,), {"__call__": call})


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    for i in range(len(parts) + 1):
        yield ".".join(parts[:i])


def _cast(x: Any, dtype: str) -> Any:
    if isinstance(x, Tensor):
        return Tensor(_frozen(x.data.astype(dtype))) if x.data.dtype.kind == "f" else x
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        return _frozen(x.astype(dtype))
    return x
