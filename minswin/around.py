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
from typing import Any, cast

from minswin.arrays import Definition
from minswin.autograd import Run, Tensor, run, state

__all__ = ["around"]

Step = Callable[[Run, Definition, Sequence[Any], dict[str, Any]], Tensor]


class Around:
    """A step that stands around every operation, and what it goes on to: a step further out."""

    __slots__ = ("outer", "step")

    def __init__(self, step: Step, outer: Around | None) -> None:
        self.step, self.outer = step, outer

    def __call__(
        self, definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]
    ) -> Tensor:
        return self.step(self.outer or run, definition, inputs, settings)


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
