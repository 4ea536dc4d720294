"""Watch what a model runs: every operation, with the layer that it stands in.

    operations: list[Operation] = []
    with watching(operations.append, model):
        model(images)
    operations[3].name, operations[3].layer     # "linear", "layers.0.blocks.0.attn.qkv"

No layer takes part in this: `around` shows the operations, the call stack shows the layer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from minswin.around import around, goes_alone, surroundings
from minswin.arrays import Array, Definition, Vjp
from minswin.autograd import Run, Tensor, wrap_vjp

__all__ = ["Operation", "is_watched", "watching"]


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
    with around(_Watch(report, dict(_paths(model)) if model is not None else {})):
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

    def __init__(self, report: Callable[[Operation], Any], paths: dict[int, str]) -> None:
        self.report, self.paths = report, paths

    def __call__(
        self, go: Run, definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]
    ) -> Tensor:
        result, alone = goes_alone(self, go, definition, inputs, settings)
        if alone:  # else its own operations have been reported
            name = getattr(definition, "__name__", "operation")
            self.report(Operation(name, self._layer(), inputs, settings, result))
        return result

    def _layer(self) -> str | None:
        """The path of the innermost layer whose method is being called."""
        frame = sys._getframe(2) if self.paths else None
        while frame is not None:
            code = frame.f_code
            if code.co_argcount:
                path = self.paths.get(id(frame.f_locals.get(code.co_varnames[0])))
                if path is not None:
                    return path
            frame = frame.f_back
        return None


def _paths(layer: Any, path: str = "") -> Iterator[tuple[int, str]]:
    """The id of every layer, with its name in the model."""
    yield id(layer), path
    for name, child in layer.children():
        yield from _paths(child, f"{path}.{name}".lstrip("."))
