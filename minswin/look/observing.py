"""Look over the shoulder of a forward: be told of every operation that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from minswin import autograd, kernels
from minswin.arrays import Array, Definition
from minswin.autograd import Tensor

Seen = Callable[[str, tuple[Any, ...], dict[str, Any], Array], None]


@contextmanager
def observing(seen: Seen) -> Iterator[None]:
    """Call `seen(name, arrays, settings, value)` after each operation inside this block.

    The definitions run, so that a shifted window is told step by step and not as one kernel.
    """

    def observer(definition: Definition, inputs: tuple[Any, ...], settings: Any) -> Tensor:
        result = autograd.run(definition, inputs, settings)
        arrays = tuple(x.data if isinstance(x, Tensor) else x for x in inputs)
        seen(definition.__name__, arrays, settings, result.data)
        return result

    with kernels.using("reference"), autograd.observing(observer):
        yield
