"""Watch an ordinary forward and backward pass: every step by name, its value and its cotangent.

No model knows of this. Where an operation stands is asked of the run (see watch.Place); what a step
is called there, `vocabulary` tells.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from minswin.around import goes_alone
from minswin.arrays import Array, Definition, Vjp
from minswin.autograd import Run, Tensor, wrap_vjp
from minswin.composites import spelled_out
from minswin.crosscheck.vocabulary import CONSTANTS, Word, axes_of, word
from minswin.layers.base import Layer
from minswin.watch import Operation, Place, paths_of, text_of

STARTS = ("input", "parameter")  # what a pass begins with
GIVEN = (*STARTS, "constant")  # known to both sides


@dataclass
class Step:
    """One named array of a pass, and how it came about."""

    name: str  # layers.0.blocks.1.attn.logits
    kind: str  # logits: what it is, wherever it stands
    op: str  # add: the operation, or "input", "parameter", "constant"
    value: Array
    inputs: tuple[str, ...] = ()  # the named steps that it was made of
    axes: tuple[str, ...] = ()  # the meaning of each axis
    formula: str = ""
    line: str = ""  # minswin/composites.py:109
    code: str = ""  # the text of that line
    settings: dict[str, Any] = field(default_factory=dict)  # of the operation, such as eps
    cotangent: Array | None = None  # ∂loss / ∂value, after backward


Hold = Callable[[Step, "Operation | None"], "Array | None"]
HoldGradient = Callable[[Step, Array], Array]


class Naming:
    """A step around operations: each result has a name, and another may stand in its place.

    layers: names by ids, see watch.paths_of   hold: is shown each named step as it is made, with
    its operation, None for constants; what it gives back stands in the place of the step's value
    from there on   hold_gradient: the same for a cotangent, before it is handed back   known:
    values of steps, which are not computed
    """

    watches = True  # so that no layer is computed, and named, twice: see watch.is_watched

    def __init__(
        self,
        layers: Mapping[int, str],
        *,
        hold: Hold = lambda *_: None,
        hold_gradient: HoldGradient = lambda _, g: g,
        known: Mapping[str, Array] | None = None,
    ) -> None:
        self.steps: dict[str, Step] = {}
        self._layers, self._known = layers, known or {}
        self._hold, self._hold_gradient = hold, hold_gradient
        self._places: dict[int, Place] = {}  # by the ids of calls, which they keep alive

    def __call__(
        self, go: Run, definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]
    ) -> Tensor:
        op = getattr(definition, "__name__", "operation")
        call = text_of(sys._getframe(1))
        place = self._places.get(id(call))
        if place is None:
            place = self._places[id(call)] = Place(call, self._layers)
        inputs = tuple(self._constant(place, op, i, x) for i, x in enumerate(inputs))
        found = word(place, op)
        name = self._unused(place, found, op) if found is not None else ""
        if name in self._known:
            go = partial(_taken, Tensor(self._known[name]))
        result, alone = goes_alone(self, go, definition, inputs, settings)
        if alone:  # else its own operations have been seen
            place.count[op] += 1
            self._made(place, name, found, Operation(op, place.layer, inputs, settings, result))
        return result

    def _made(self, place: Place, name: str, found: Word | None, operation: Operation) -> None:
        if found is None:
            return
        step, result = self._step(place, name, found, operation), operation.result
        held = self._enter(step, operation)
        result.data = result.data if held is None else held
        wrap_vjp(result, partial(self._seeing_gradient, step))

    def _constant(self, place: Place, op: str, position: int, x: Any) -> Any:
        """An input, named where it is a constant, and as it is held where it is."""
        found = CONSTANTS.get((place.text, op, position))
        if found is None or isinstance(x, Tensor):
            return x
        constant = Operation("constant", place.layer, (), {}, Tensor(x))
        name = self._unused(place, found, op)
        held = self._enter(self._step(place, name, found, constant), None)
        return x if held is None else held

    def _step(self, place: Place, name: str, found: Word, operation: Operation) -> Step:
        return Step(name, found.name, operation.name, operation.value)

    def _enter(self, step: Step, operation: Operation | None) -> Array | None:
        self.steps[step.name] = step
        return self._hold(step, operation)

    def _seeing_gradient(self, step: Step, vjp: Vjp) -> Vjp:
        def pull(g: Array) -> tuple[Any, ...]:
            step.cotangent = g
            return vjp(self._hold_gradient(step, g))

        return pull

    def _unused(self, place: Place, found: Word, op: str) -> str:
        """The name in the layer, or with a number behind it where the layer is called again."""
        name = f"{place.layer or ''}.{found.name}".strip(".") or op
        if name not in self.steps:
            return name
        return next(n for i in range(2, sys.maxsize) if (n := f"{name}#{i}") not in self.steps)


def _taken(result: Tensor, *_: Any) -> Tensor:
    """In the place of an operation whose result is known."""
    return result


class Recording(Naming):
    """The steps of a pass in the order in which they were made: inputs and parameters first.

    held: see Naming
    """

    def __init__(self, model: Layer, **held: Any) -> None:
        super().__init__(paths_of(model), **held)
        # the named steps behind an array, by its id; the array is held, so that its id stays
        self._sources: dict[int, tuple[Array, tuple[str, ...]]] = {}
        self._tensors: list[tuple[Step, Tensor]] = []
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self.given(name, tensor, "parameter")

    def given(
        self, name: str, x: Tensor | Array, op: str = "input", axes: tuple[str, ...] = ()
    ) -> None:
        """Name an array that the pass starts from."""
        array = x.data if isinstance(x, Tensor) else x
        self.steps[name] = step = Step(name, name.rsplit(".", 1)[-1], op, array, axes=axes)
        self._sources[id(array)] = array, (name,)
        if isinstance(x, Tensor):
            self._tensors.append((step, x))

    def end(self) -> None:
        """Take over the gradients of inputs and parameters, and let the calls and theirs go."""
        for step, tensor in self._tensors:
            step.cotangent = tensor.grad
        self._places.clear()

    def behind(self, *inputs: Any) -> tuple[str, ...]:
        """The named steps that Tensors or arrays are, or were made of without another name."""
        arrays = (x.data if isinstance(x, Tensor) else x for x in inputs)
        known = (self._sources.get(id(x), (x, ()))[1] for x in arrays)
        return tuple(dict.fromkeys(name for names in known for name in names))

    def _made(self, place: Place, name: str, found: Word | None, operation: Operation) -> None:
        if found is None:  # hidden: it stands for what it was made of
            self._sources[id(operation.value)] = operation.value, self.behind(*operation.inputs)
        super()._made(place, name, found, operation)

    def _step(self, place: Place, name: str, found: Word, operation: Operation) -> Step:
        axes = axes_of(found, operation.value.shape)
        plain = {k: v for k, v in operation.settings.items() if _is_plain(v)}
        return Step(
            name, found.name or place.kind, operation.name, operation.value,
            self.behind(*operation.inputs), axes, found.formula, place.line, place.code, plain,
        )  # fmt: skip

    def _enter(self, step: Step, operation: Operation | None) -> Array | None:
        held = super()._enter(step, operation)
        for x in (step.value, step.value if held is None else held):
            self._sources[id(x)] = x, (step.name,)
        return held


def spell_out(
    go: Run, definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]
) -> Tensor:
    """The step around operations that runs attention as several: logits and probabilities show."""
    if getattr(definition, "__name__", "") == "attention":
        return spelled_out(*inputs)
    return go(definition, inputs, settings)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(part) for part in value)
    return isinstance(value, (int, float, str)) and not isinstance(value, np.generic)
