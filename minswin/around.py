"""Steps around every operation: they watch it, or compute it otherwise; blocks of them nest.

    def printing(go, definition, inputs, settings):
        print(definition.__name__)
        return go(definition, inputs, settings)

    with around(printing):
        model(images)

Without a block an operation costs one look at `state.around`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from minswin.arrays import Definition
from minswin.autograd import Run, Tensor, run, state

__all__ = ["around"]

Step = Callable[[Run, Definition, Sequence[Any], dict[str, Any]], Tensor]


class Around:
    """A step that stands around every operation, and what it goes on to: a step further out."""

    __slots__ = ("fusible", "outer", "step")

    def __init__(self, step: Step, outer: Around | None) -> None:
        self.step, self.outer = step, outer
        # whether sums and norms may run as one kernel, since nobody looks at them one by one
        only_products = getattr(step, "only_products", False)
        self.fusible: bool = only_products and (outer is None or outer.fusible)

    def __call__(
        self, definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]
    ) -> Tensor:
        return self.step(self.outer or run, definition, inputs, settings)


class _Running:
    """An operation that is running, as one of the steps around it knows it."""

    def __init__(self, step: object, outer: _Running | None) -> None:
        self.step, self.outer, self.ran_others = step, outer, False


_RUNNING: ContextVar[_Running | None] = ContextVar("running", default=None)


def goes_alone(
    step: object, go: Run, definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]
) -> tuple[Tensor, bool]:
    """The result of `go`, and whether it ran no operation that `step` stood around in its turn.

    So a step reports each operation once: those that a definition runs, and not the definition.
    They may run in other threads, which take the context of this one over (parallel.py).
    """
    running = _Running(step, _RUNNING.get())
    token = _RUNNING.set(running)
    try:
        result = go(definition, inputs, settings)
    finally:
        _RUNNING.reset(token)
    outer = running.outer
    while outer is not None:  # all of them: one in between may end in an error
        outer.ran_others |= outer.step is step
        outer = outer.outer
    return result, not running.ran_others


@contextmanager
def around(step: Step) -> Iterator[None]:
    """Inside this block (in this thread) `step` stands around every operation; blocks nest.

    step(go, definition, inputs, settings) gives the result. Most steps end in, or begin with,
    `go(definition, inputs, settings)`, which continues with the next block outward and in the end
    runs the definition; a step that watches adds nothing, one that computes otherwise hands on
    another definition. What a definition itself runs as operations passes all steps again.
    """
    with surrounded_by(Around(step, surroundings())):
        yield


def surroundings() -> Around | None:
    """The steps around operations in this thread, the innermost block first; see `around`."""
    return cast("Around | None", state.around)


@contextmanager
def surrounded_by(steps: Around | None) -> Iterator[None]:
    """Inside this block the steps around operations are these, such as those of another thread."""
    before, state.around = state.around, steps
    try:
        yield
    finally:
        state.around = before
