"""Watch what a model runs: every operation, with the layer that it stands in.

    operations: list[Operation] = []
    with watching(operations.append, model):
        model(images)
    operations[3].name, operations[3].layer     # "linear", "layers.0.blocks.0.attn.qkv"

No layer takes part in this: `around` shows the operations, the call stack shows the layer.
"""

from __future__ import annotations

import linecache
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from minswin.around import around, goes_alone, surroundings
from minswin.arrays import Array, Definition, Vjp
from minswin.autograd import Run, Tensor, wrap_vjp

__all__ = ["Operation", "is_watched", "watching"]

PACKAGE = Path(__file__).parent
# Runs operations, and says nothing about a model; all other files are texts.
MACHINERY = (
    "around.py", "autograd.py", "lifting/", "ops.py", "watch.py", "kernels/", "reference/",
    "crosscheck/recording.py",
)  # fmt: skip


class Operation(NamedTuple):
    """One operation that has run."""

    name: str  # of its definition: "attention"
    layer: str | None  # whose it is: "layers.0.blocks.1.attn"; "" is the model; None: no layer's
    inputs: Sequence[Any]  # as they were passed: Tensors, arrays or None
    settings: dict[str, Any]
    result: Tensor

    @property
    def arrays(self) -> tuple[Any, ...]:
        """The inputs as arrays (or None)."""
        return tuple(x.data if isinstance(x, Tensor) else x for x in self.inputs)

    @property
    def value(self) -> Array:
        """The result as an array."""
        return self.result.data

    def on_backward(self, call: Callable[[Array], Any]) -> None:
        """Let `call(g)` see the cotangent of the result when `backward` passes it."""

        def calling(vjp: Vjp) -> Vjp:
            def pull(g: Array) -> tuple[Any, ...]:
                call(g)
                return vjp(g)

            return pull

        wrap_vjp(self.result, calling)


@contextmanager
def watching(report: Callable[[Operation], Any], model: Any = None) -> Iterator[None]:
    """Call `report(operation)` after every operation inside this block (in this thread).

    model: its layers are named in `Operation.layer`. The kernels that are chosen run, and a kernel
    is one operation: choose "reference" with `kernels.using` to see the steps of each. Definitions
    that run other operations are left out, since these are reported. Every operation is reported
    once: a layer that would be computed again in backward (`layers.recompute`) keeps its values.
    """
    with around(_Watch(report, paths_of(model) if model is not None else {})):
        yield


def is_watched() -> bool:
    """Whether somebody watches the operations of this thread."""
    steps = surroundings()
    while steps is not None:
        if getattr(steps.step, "watches", False):
            return True
        steps = steps.outer
    return False


class _Watch:
    """The step around operations that reports them."""

    watches = True  # see is_watched

    def __init__(self, report: Callable[[Operation], Any], layers: dict[int, str]) -> None:
        self.report, self.layers = report, layers

    def __call__(
        self, go: Run, definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]
    ) -> Tensor:
        result, alone = goes_alone(self, go, definition, inputs, settings)
        if alone:  # else its own operations have been reported
            name = getattr(definition, "__name__", "operation")
            layer = Place(text_of(sys._getframe(1)), self.layers).layer if self.layers else None
            self.report(Operation(name, layer, inputs, settings, result))
        return result


# ── where an operation stands ────────────────────────────────────────────────────────────────────


class Place:
    """One call of a text, such as a method of a layer, and the layer that it works for.

    layers: the names of layers by their ids, see `paths_of`
    """

    def __init__(self, call: FrameType, layers: Mapping[int, str]) -> None:
        self.call = call
        self.count: Counter[str] = Counter()  # of its operations so far, for who keeps count
        self.layer: str | None = None  # the name of the innermost layer whose method is running
        self.kind = ""  # the class of that layer
        self.text = call.f_code.co_name  # of a layer's method "Mlp.__call__"
        outer: FrameType | None = call
        while outer is not None and self.layer is None:
            owner = _owner(outer)
            self.layer = layers.get(id(owner))
            if self.layer is not None:
                self.kind = type(owner).__name__
                self.text = f"{self.kind}.{self.text}" if outer is call else self.text
            outer = outer.f_back

    @property
    def line(self) -> str:
        """File and number of the line that is running: from the package on, if it is one of ours.

        minswin/composites.py:109, or mine.py:7
        """
        path = Path(self.call.f_code.co_filename)
        ours = path.is_relative_to(PACKAGE)
        file = path.relative_to(PACKAGE.parent).as_posix() if ours else path.name
        return f"{file}:{self.call.f_lineno}"

    @property
    def code(self) -> str:
        """The text of that line."""
        return linecache.getline(self.call.f_code.co_filename, self.call.f_lineno).strip()


def text_of(frame: FrameType) -> FrameType:
    """The innermost call of a text around a call."""
    while not _is_text(frame.f_code.co_filename) and frame.f_back is not None:
        frame = frame.f_back
    return frame


@cache
def _is_text(file: str) -> bool:
    path = Path(file)
    ours = path.is_relative_to(PACKAGE)
    return not (ours and path.relative_to(PACKAGE).as_posix().startswith(MACHINERY))


def _owner(call: FrameType) -> Any:
    """The object whose method a call of a text is, or None."""
    code = call.f_code
    if not code.co_argcount or not _is_text(code.co_filename):
        return None
    first = call.f_locals.get(code.co_varnames[0])
    return first if hasattr(type(first), code.co_name) else None


def paths_of(model: Any) -> dict[int, str]:
    """The names of a model's layers, by their ids."""
    return {id(layer): path for path, layer in model.named_layers()}
