"""Watch an ordinary forward and backward pass: every step by name, its value and its cotangent.

No model knows of this. `recording(model)` watches the operations that run, and looks up in the
call stack which layer and which line of the model's code an operation stands in.
"""

from __future__ import annotations

import linecache
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from minswin.arrays import Array, Definition
from minswin.autograd import GoOn, Tensor, around
from minswin.crosscheck.vocabulary import CONSTANTS, word
from minswin.layers.attention import spelled_out
from minswin.layers.base import Layer
from minswin.watch import Operation, watching

PACKAGE = Path(__file__).parents[1]
MACHINERY = {
    "autograd.py",
    "lifting",
    "ops.py",
    "watch.py",
    "kernels",
    "reference",
}  # all other files are texts
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
    line: str = ""  # minswin/layers/attention.py:62
    code: str = ""  # the text of that line
    settings: dict[str, Any] = field(default_factory=dict)  # of the operation, such as eps
    geometry: dict[str, Any] = field(default_factory=dict)  # grid, window, shift, heads
    cotangent: Array | None = None  # ∂loss / ∂value, after backward


class Recording:
    """The steps of a pass in the order in which they were made: inputs and parameters first."""

    def __init__(self, model: Layer) -> None:
        self.steps: dict[str, Step] = {}
        self._layers = {id(layer): path for path, layer in model.named_layers()}
        self._sources: dict[int, tuple[str, ...]] = {}  # id of an array -> named steps behind it
        self._alive: list[Any] = []  # nothing that is known by its id may go
        self._calls: Counter[tuple[int, str]] = Counter()
        self._tensors: list[tuple[Step, Tensor]] = []
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

    # ── one operation ────────────────────────────────────────────────────────────────────────────

    def observe(self, operation: Operation) -> None:
        """What `watching` calls after each operation."""
        place = _Place(sys._getframe(1), self._layers)
        nth = self._calls[id(place.frame), operation.name]
        self._calls[id(place.frame), operation.name] += 1
        self._alive.append(place.frame)  # so that its id is not given to another call
        self._name_constants(place, operation.name, operation.inputs)
        self._record(place, nth, operation)

    def _record(self, place: _Place, nth: int, operation: Operation) -> None:
        op, inputs, settings, result = operation.name, *operation[2:]
        behind = tuple(dict.fromkeys(s for x in inputs for s in self._behind(x)))
        found = word(place.function, op, nth, result.shape, place.geometry)
        if found is None:  # hidden: it stands for what it was made of
            self._sources[id(result.data)] = behind
            self._alive.append(result)
            return
        name = ".".join(part for part in (place.layer, found.name) if part)
        kind = found.name or type(place.self).__name__
        plain = {k: v for k, v in settings.items() if _is_plain(v)}
        step = Step(
            self._unused(name), kind, op, result.data, behind, found.axes, found.formula,
            place.line, place.code, plain, place.geometry,
        )  # fmt: skip
        self._enter(step)
        self._alive.append(result)
        operation.on_backward(partial(setattr, step, "cotangent"))

    def _name_constants(self, place: _Place, op: str, inputs: Sequence[Any]) -> None:
        for position, x in enumerate(inputs):
            constant = CONSTANTS.get((place.function, op, position))
            if constant is not None and not isinstance(x, Tensor):
                name = self._unused(f"{place.layer}.{constant.name}".lstrip("."))
                self._enter(
                    Step(name, constant.name, "constant", x, (), constant.axes, constant.formula,
                         place.line, place.code, {}, place.geometry)
                )  # fmt: skip

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


@contextmanager
def recording(model: Layer, *, explain: bool = True) -> Iterator[Recording]:
    """Record the passes of `model` inside this block (in this thread).

    explain: attention is run step by step, so that logits and probabilities are seen. Choose the
    kernels with `kernels.using`: a kernel is one step, the definitions of "reference" are many.
    """
    record = Recording(model)
    with watching(record.observe), around(_spell_out) if explain else nullcontext():
        yield record


def _spell_out(
    go: GoOn, definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]
) -> Tensor:
    """The step around operations that runs attention as several of them."""
    if getattr(definition, "__name__", "") == "attention":
        return spelled_out(*inputs)
    return go(definition, inputs, settings)


class _Place:
    """Where an operation stands: the layer, the function of the model's text, the line."""

    def __init__(self, frame: FrameType | None, layers: dict[int, str]) -> None:
        while frame is not None and not _is_text(frame):
            frame = frame.f_back
        assert frame is not None  # somebody calls the operations
        self.frame = frame
        file, line = frame.f_code.co_filename, frame.f_lineno
        self.line = f"{_short(file)}:{line}"
        self.code = linecache.getline(file, line).strip()
        self.geometry: dict[str, Any] = {}
        self.self: Any = None
        self.layer = ""
        own = frame.f_locals.get("self")
        prefix = f"{type(own).__name__}." if isinstance(own, Layer) else ""
        self.function = prefix + frame.f_code.co_name
        outer: FrameType | None = frame
        while outer is not None:
            values, owner = outer.f_locals, outer.f_locals.get("self")
            if self.self is not None and owner is not self.self:
                break  # above the calls of this layer
            if _is_text(outer):
                known = {k: values[k] for k in GEOMETRY if _is_plain(values.get(k))}
                self.geometry = {**known, **self.geometry}
            if id(owner) in layers:
                self.self, self.layer = owner, layers[id(owner)]
            outer = outer.f_back


def _is_text(frame: FrameType) -> bool:
    file = Path(frame.f_code.co_filename)
    if not file.is_relative_to(PACKAGE):
        return True
    return file.relative_to(PACKAGE).parts[0] not in MACHINERY and file != Path(__file__)


def _short(file: str) -> str:
    """The path of a file of minswin from the package on; of any other file the name."""
    path = Path(file)
    return (
        path.relative_to(PACKAGE.parent).as_posix() if path.is_relative_to(PACKAGE) else path.name
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(part) for part in value)
    return isinstance(value, (int, float, str)) and not isinstance(value, np.generic)
