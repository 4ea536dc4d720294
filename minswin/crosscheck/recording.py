"""Watch an ordinary forward and backward pass: every step by name, its value and its cotangent.

No model knows of this. `recording(model)` watches the operations that run, and looks up in the
call stack which layer and which line of the model's code an operation stands in.
"""

from __future__ import annotations

import linecache
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np

from minswin.around import around, goes_alone
from minswin.arrays import Array, Definition, Vjp
from minswin.autograd import Run, Tensor, wrap_vjp
from minswin.composites import spelled_out
from minswin.crosscheck.bounds import EXACT
from minswin.crosscheck.vocabulary import CONSTANTS, Word, axes_of, word
from minswin.layers.base import Layer
from minswin.watch import Operation

GIVEN = ("input", "parameter", "constant")  # known to both sides
PACKAGE = Path(__file__).parents[1]
# All other files are texts.
MACHINERY = {"around.py", "autograd.py", "lifting", "ops.py", "watch.py", "kernels", "reference"}
GEOMETRY = ("grid", "window", "shift", "heads", "table_window", "H", "W")


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
    geometry: dict[str, Any] = field(default_factory=dict)  # grid, window, shift, heads
    cotangent: Array | None = None  # ∂loss / ∂value, after backward


Hold = Callable[["Step", Operation | None], "Array | None"]


class Recording:
    """The steps of a pass in the order in which they were made: inputs and parameters first.

    It is a step around operations (see autograd.around). hold: is shown each named step as it is
    made, with its operation, None for constants; what it gives back stands in the place of the
    step's value from there on. hold_gradient: the same for a cotangent, before it is handed back.
    known: values of steps, which are not computed where they would be. brief: steps have a name
    and a value, and nothing else.
    """

    watches = True  # so that no layer is computed, and recorded, twice: see watch.is_watched

    def __init__(
        self,
        model: Layer,
        *,
        hold: Hold | None = None,
        hold_gradient: Callable[[Step, Array], Array] | None = None,
        known: Mapping[str, Array] | None = None,
        brief: bool = False,
    ) -> None:
        self.steps: dict[str, Step] = {}
        self.rough: set[int] = set()  # ids of arrays behind which something was computed unnamed
        self._hold, self._hold_gradient, self._known = hold, hold_gradient, known or {}
        self._layers = {} if brief else {id(layer): path for path, layer in model.named_layers()}
        self._sources: dict[int, tuple[str, ...]] = {}  # id of an array -> named steps behind it
        self._alive: list[Any] = []  # nothing that is known by its id may go
        self._calls: Counter[tuple[int, str]] = Counter()
        self._tensors: list[tuple[Step, Tensor]] = []
        self._places: dict[int, Place] = {}  # by the ids of frames
        self._brief = brief
        if brief:
            return
        for name, parameter in model.named_parameters():
            self.given(name, parameter, "parameter")
        for name, buffer in model.named_buffers():
            self.given(name, buffer, "parameter")

    def given(
        self, name: str, x: Tensor | Array, op: str = "input", axes: tuple[str, ...] = ()
    ) -> None:
        """Name an array that the pass starts from."""
        array = x.data if isinstance(x, Tensor) else x
        step = self._enter(Step(name, name.rsplit(".", 1)[-1], op, array, axes=axes))
        if isinstance(x, Tensor):
            self._tensors.append((step, x))

    def gather_gradients(self) -> None:
        """Take the gradients of inputs and parameters over, after backward."""
        for step, tensor in self._tensors:
            step.cotangent = tensor.grad

    def forget(self) -> None:
        """Let all go but the steps, when nothing more is recorded: it is as much again."""
        for held in (self._alive, self._sources, self._tensors, self._places, self.rough):
            held.clear()

    # ── one operation ────────────────────────────────────────────────────────────────────────────

    def __call__(
        self, go: Run, definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]
    ) -> Tensor:
        op = getattr(definition, "__name__", "operation")
        place = self._place(sys._getframe(1))
        nth = self._calls[id(place.frame), op]
        inputs = tuple(self._constant(place, op, i, x) for i, x in enumerate(inputs))
        found = word(place.function, op, nth, lambda: place.geometry.get("shift", ()))
        name = ""
        if found is not None:
            name = self._unused(".".join(part for part in (place.layer, found.name) if part)) or op
        known = self._known.get(name)
        if known is not None:
            go = partial(_taken, Tensor(known))
        result, alone = goes_alone(self, go, definition, inputs, settings)
        if alone:  # else its own operations have been recorded
            self._calls[id(place.frame), op] += 1
            operation = Operation(op, place.layer, inputs, settings, result)
            self._record(place, name, found, operation)
        return result

    def _place(self, frame: FrameType | None) -> Place:
        """Of the text that an operation stands in; it keeps the frame, so that its id stays."""
        while frame is not None and not is_text(frame):
            frame = frame.f_back
        assert frame is not None  # somebody calls the operations
        if id(frame) not in self._places:
            self._places[id(frame)] = Place(frame, self._layers)
        return self._places[id(frame)]

    def _record(self, place: Place, name: str, found: Word | None, operation: Operation) -> None:
        op, inputs, settings, result = operation.name, *operation[2:]
        if self._brief:
            if found is not None:
                self.steps[name] = step = Step(name, found.name, op, result.data)
                held = self._hold(step, operation) if self._hold is not None else None
                result.data = result.data if held is None else held
                if self._hold_gradient is not None:
                    wrap_vjp(result, partial(self._seeing_gradient, step))
            return
        self._alive += [result, result.data]
        behind = tuple(dict.fromkeys(s for x in inputs for s in self._behind(x)))
        scaled = op == "multiply" and any(np.size(x) == 1 for x in operation.arrays)
        rough = op not in EXACT and not scaled
        rough = rough or any(id(x) in self.rough for x in operation.arrays)
        if found is None:  # hidden: it stands for what it was made of
            self._sources[id(result.data)] = behind
            self.rough |= {id(result.data)} if rough else set()
            return
        kind = found.name or type(place.self).__name__
        plain = {k: v for k, v in settings.items() if is_plain(v)}
        step = Step(
            name, kind, op, result.data, behind, axes_of(found, result.shape), found.formula,
            place.line, place.code, plain, place.geometry,
        )  # fmt: skip
        held = self._hold(step, operation) if self._hold is not None else None
        if held is not None:
            result.data = held
            self._alive.append(held)
        elif rough:
            self.rough.add(id(result.data))
        self._enter(step)
        self._sources[id(result.data)] = (step.name,)
        wrap_vjp(result, partial(self._seeing_gradient, step))

    def _seeing_gradient(self, step: Step, vjp: Vjp) -> Vjp:
        def pull(g: Array) -> tuple[Any, ...]:
            step.cotangent = g
            return vjp(g if self._hold_gradient is None else self._hold_gradient(step, g))

        return pull

    def _constant(self, place: Place, op: str, position: int, x: Any) -> Any:
        """An input, named where it is a constant, and as it is held where it is."""
        constant = CONSTANTS.get((place.function, op, position))
        if constant is None or isinstance(x, Tensor):
            return x
        name = self._unused(f"{place.layer}.{constant.name}".lstrip("."))
        step = Step(name, constant.name, "constant", x, (), constant.axes, constant.formula)
        if not self._brief:
            step.line, step.code, step.geometry = place.line, place.code, place.geometry
        held = self._hold(step, None) if self._hold is not None else None
        self._enter(step)
        if held is None:
            return x
        self._alive.append(held)
        self._sources[id(held)] = (name,)
        return held

    def _behind(self, x: Any) -> tuple[str, ...]:
        array = x.data if isinstance(x, Tensor) else x
        return self._sources.get(id(array), ())

    def _enter(self, step: Step) -> Step:
        self.steps[step.name] = step
        self._sources[id(step.value)] = (step.name,)
        self._alive.append(step.value)
        return step

    def _unused(self, name: str) -> str:
        """The name, or with a number behind it where a layer is called again."""
        if name not in self.steps:
            return name
        return next(n for i in range(2, sys.maxsize) if (n := f"{name}#{i}") not in self.steps)


def _taken(result: Tensor, *_: Any) -> Tensor:
    """In the place of an operation whose result is known."""
    return result


@contextmanager
def recording(model: Layer, **held: Any) -> Iterator[Recording]:
    """Record the passes of `model` inside this block (in this thread).

    Attention is run step by step, so that logits and probabilities are seen. Choose the kernels
    with `kernels.using`: a kernel is one step, the definitions of "reference" are many.
    held: see Recording
    """
    record = Recording(model, **held)
    with around(record), around(spell_out):
        yield record
    record.forget()


def spell_out(
    go: Run, definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]
) -> Tensor:
    """The step around operations that runs attention as several of them."""
    if getattr(definition, "__name__", "") == "attention":
        return spelled_out(*inputs)
    return go(definition, inputs, settings)


# ── where an operation stands ────────────────────────────────────────────────────────────────────


class Place:
    """Where an operation stands: the layer, the function of the model's text, the line."""

    def __init__(self, frame: FrameType, layers: dict[int, str]) -> None:
        self.frame = frame
        own = _self_of(frame)
        prefix = f"{type(own).__name__}." if isinstance(own, Layer) else ""
        self.function = prefix + frame.f_code.co_name
        self.self: Any = None
        self.layer = ""
        outer: FrameType | None = frame
        while outer is not None:
            owner = _self_of(outer)
            if owner is not None and id(owner) in layers:
                self.self, self.layer = owner, layers[id(owner)]
                break
            outer = outer.f_back

    @property
    def line(self) -> str:
        return f"{_short(self.frame.f_code.co_filename)}:{self.frame.f_lineno}"

    @property
    def code(self) -> str:
        return linecache.getline(self.frame.f_code.co_filename, self.frame.f_lineno).strip()

    @property
    def geometry(self) -> dict[str, Any]:
        """Grid, window, shift and heads, as the texts of this layer know them."""
        found: dict[str, Any] = {}
        outer: FrameType | None = self.frame
        met = False  # a text of this layer
        while outer is not None:
            owner = _self_of(outer)
            if met and owner is not None and owner is not self.self:
                break  # above the calls of this layer: Swin V2 hands a method to a function
            if names := _names(outer.f_code, GEOMETRY):
                values = outer.f_locals  # a new dict each time, which takes long
                known = {k: values[k] for k in names if is_plain(values.get(k))}
                found = {**known, **found}
            met = met or (self.self is not None and owner is self.self)
            outer = outer.f_back
        return found


def _self_of(frame: FrameType) -> Any:
    """The `self` of a text, or None."""
    return frame.f_locals.get("self") if _names(frame.f_code, ("self",)) else None


@lru_cache(maxsize=1024)
def _names(code: CodeType, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Those of these names that variables of a text have; none of another function."""
    own = {*code.co_varnames, *code.co_cellvars, *code.co_freevars}
    return tuple(name for name in wanted if name in own and _is_file_of_texts(code.co_filename))


def is_text(frame: FrameType) -> bool:
    return _is_file_of_texts(frame.f_code.co_filename)


@lru_cache
def _is_file_of_texts(name: str) -> bool:
    file = Path(name)
    if not file.is_relative_to(PACKAGE):
        return True
    return file.relative_to(PACKAGE).parts[0] not in MACHINERY and file.name != "recording.py"


@lru_cache
def _short(file: str) -> str:
    """The path of a file of minswin from the package on; of any other file the name."""
    path = Path(file)
    return (
        path.relative_to(PACKAGE.parent).as_posix() if path.is_relative_to(PACKAGE) else path.name
    )


def is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(is_plain(part) for part in value)
    return isinstance(value, (int, float, str)) and not isinstance(value, np.generic)
