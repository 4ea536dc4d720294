"""What rounding really does: our own text, with every result rounded as a port may round it.

Bounds of half precision are wide: a worst case of K roundings hides whole mistakes. What rounding
gives on these very numbers is known by doing it, in several ways: to the nearest number after every
operation, after products alone, and up or down by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minswin.around import Run, around
from minswin.arrays import Array, Definition
from minswin.autograd import Tensor
from minswin.crosscheck.bounds import EXACT
from minswin.crosscheck.precision import Precision
from minswin.crosscheck.recording import Step

PRODUCTS = ("linear", "matmul", "conv2d")
BY_CHANCE = 4  # draws
Weights = dict[str, Array]


def draws(kind: Precision) -> list[Callable[[], Any]]:
    """Blocks in which the operations of this thread are rounded, one for each way of rounding."""
    ways = [_Rounded(kind.round, ()), _Rounded(kind.round, PRODUCTS)]
    ways += [_Rounded(_by_chance(kind, seed), ()) for seed in range(BY_CHANCE)]
    return [lambda way=way: around(way) for way in ways]  # type: ignore[misc]


class _Rounded:
    """A step around operations; only: the names of those whose results are rounded, () for all."""

    def __init__(self, rounding: Callable[[Array], Array], only: tuple[str, ...]) -> None:
        self.rounding, self.only = rounding, only

    def __call__(
        self, go: Run, definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]
    ) -> Tensor:
        result = go(definition, inputs, settings)
        name = getattr(definition, "__name__", "")
        chosen = name in self.only if self.only else name not in EXACT
        if chosen and result.data.dtype.kind == "f":
            result.data = self.rounding(result.data).astype(result.data.dtype)
        return result


def _by_chance(kind: Precision, seed: int) -> Callable[[Array], Array]:
    rng = np.random.default_rng(seed)

    def rounded(x: Array) -> Array:
        _, exponent = np.frexp(np.maximum(np.abs(x), kind.smallest))
        unit = np.ldexp(kind.u, exponent)  # the distance of neighbouring numbers
        return np.asarray(np.floor(x / unit + rng.random(x.shape)) * unit)

    return rounded


# ── weights ──────────────────────────────────────────────────────────────────────────────────────


def rounded_weights(
    steps: Mapping[str, Step], have: Mapping[str, Array], kind: Precision
) -> Iterator[Weights]:
    """What a port may have made of weights that it did not hand out, and of the image.

    As they are; all rounded, as by `module.half()`; those of products, as by autocast.
    """
    given = {n: s.value for n, s in steps.items() if s.op in ("parameter", "input")}
    given = {n: x for n, x in given.items() if n not in have and x.dtype.kind == "f"}
    every = {n: kind.round(x) for n, x in given.items()}
    matrices = {n.rpartition(".")[0] for n, x in given.items() if x.ndim > 1}
    yield {}
    yield every
    yield {n: x for n, x in every.items() if n.rpartition(".")[0] in matrices or n == "image"}
