"""What another implementation computed in, which its files do not always say, and what that does.

Hooks and lists of Python numbers widen: float32 may hold what was float16 or bfloat16, float64 what
was float32. A right tensor is then farther off than its dtype allows, so the numbers are asked.

Bounds of half precision are wide: a worst case of K roundings hides whole mistakes. What rounding
gives on these very numbers is known by doing it, in several ways: to the nearest number after every
operation, around products alone, and up or down by chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from minswin.around import Run, around
from minswin.arrays import Array, Definition
from minswin.autograd import Tensor
from minswin.crosscheck.bounds import EXACT
from minswin.crosscheck.recording import STARTS, Step

PRODUCTS = ("linear", "matmul", "conv2d")
BY_CHANCE = 4  # draws
Weights = dict[str, Array]
DISTINCT = 16  # numbers that differ, or all but one of a few: wrong ones may be simple, as 0 and 1
FEW = 4  # numbers of float32: by chance one in 2¹³ is of float16, one in 2¹⁶ of bfloat16
SHARE = 4  # one in so many of what they computed is narrow: then it was meant to be


class Precision(NamedTuple):
    """A kind of floating-point number."""

    name: str
    u: float  # the unit roundoff: half the distance from 1 to the next number
    smallest: float  # the smallest normal number

    def round(self, x: Array) -> Array:
        """The nearest numbers of this kind, in float64."""
        if self.name != "bfloat16":  # the upper half of a float32
            with np.errstate(over="ignore"):  # what is too large becomes infinite
                return x.astype(self.name).astype(np.float64)
        bits: Array = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000  # ties go to the even number
        return bits.astype(np.uint32).view(np.float32).astype(np.float64).reshape(x.shape)

    def may_be(self, y: Array, x: Array, off: float) -> bool:
        """Whether y is what numbers within `off` of x are rounded to."""
        rounded = (self.round(x - off) <= y) & (y <= self.round(x + off))
        return bool((rounded | (np.abs(y - x) <= off)).all())

    def holds(self, x: Array) -> bool:
        """Whether all elements are numbers of this kind."""
        part = x.ravel()[:1024]  # nearly always enough to say no
        return all(np.array_equal(self.round(p), p.astype(np.float64)) for p in (part, x))


FLOAT16 = Precision("float16", 2.0**-11, 2.0**-14)
BFLOAT16 = Precision("bfloat16", 2.0**-8, 2.0**-126)
SINGLE = Precision("float32", 2.0**-24, 2.0**-126)
DOUBLE = Precision("float64", 2.0**-53, 2.0**-1022)
NARROW = (BFLOAT16, FLOAT16)  # in this order: most numbers of the first are of the second too


def stored(x: Array) -> Precision:
    """As the file says, but float64 is float32 where it holds nothing else."""
    if x.dtype.kind != "f" or x.dtype.itemsize > 4:
        single = x.dtype.kind == "f" and x.size > 1 and SINGLE.holds(x)
        return SINGLE if single else DOUBLE
    return FLOAT16 if x.dtype.itemsize == 2 else SINGLE


def is_half(theirs: Iterable[Array]) -> bool:
    """Whether a quarter of their tensors or more are in half precision, whatever they came as."""
    shown = [x for x in theirs if x.dtype.kind == "f" and x.size >= FEW]
    narrow = [x for x in shown if any(kind.holds(x) for kind in NARROW) and _has_many(x)]
    return SHARE * len(narrow) >= max(len(shown), 1)


def _has_many(x: Array) -> bool:
    return len(np.unique(x.ravel()[:1024])) >= min(DISTINCT, max(x.size - 1, FEW))


def precisions(
    theirs: Mapping[str, Array],
    exact: Mapping[str, Array],
    computed: set[str],
    numbers: set[str],
    products: Iterable[str] = (),
) -> tuple[dict[str, Precision], Precision]:
    """The precision of each of their tensors, by our names, and the least that they passed through.

    computed: names of what is neither given nor only moved; they show what is usual, and a tensor
    is narrower than its file says only if many of these are, or all products. numbers: names of
    single numbers, the losses; Python keeps them in float64, whatever they came from. products:
    names of what matrix products give. With mixed precision a tensor in float32 comes from products
    in half precision: the second result says so.
    """
    least = DOUBLE
    found = {name: stored(x) for name, x in theirs.items()}
    floats = {n: x for n, x in theirs.items() if x.dtype.kind == "f"}
    shown = [n for n, x in floats.items() if n in computed and x.size > 1]
    narrow = {n: kind for n in shown if (kind := _narrow(floats[n], exact[n])) is not None}
    multiplied = [n in narrow for n in shown if n in products and _has_many(floats[n])]
    if narrow and (SHARE * len(narrow) >= len(shown) or (all(multiplied) and len(multiplied) > 2)):
        ((least, _),) = Counter(narrow.values()).most_common(1)
        found |= {n: least for n, x in floats.items() if least.holds(x)} | narrow
    if shown:
        ((usual, _),) = Counter(found[n] for n in shown).most_common(1)
        wide = [n for n in numbers & floats.keys() if found[n] == DOUBLE]
        found |= dict.fromkeys(wide, usual)
    return found, least


def _narrow(x: Array, exact: Array) -> Precision | None:
    """The half precision that a tensor is in, if numbers of the truth would not fit into it."""
    for narrow in NARROW:
        if narrow.holds(x) and not narrow.holds(exact) and (x.dtype.itemsize == 2 or _has_many(x)):
            return narrow  # the numbers say it, or the file
    return None


# ── what rounding really does: our own text, with every result rounded as a port may round it ─────


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
        name = getattr(definition, "__name__", "")
        chosen = name in self.only if self.only else name not in EXACT
        if self.only and chosen:
            inputs = [self._narrowed(x) for x in inputs]
        result = go(definition, inputs, settings)
        if chosen and result.data.dtype.kind == "f":
            result.data = self.rounding(result.data).astype(result.data.dtype)
        return result

    def _narrowed(self, x: Any) -> Any:
        """What a product takes under autocast: wide numbers are rounded in front of it."""
        if not isinstance(x, Tensor) or x.data.dtype.kind != "f":
            return x
        return Tensor(self.rounding(x.data).astype(x.data.dtype))


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

    As they are; all rounded, as by `module.half()`; those of products, as by autocast. Nothing
    where all were handed out.
    """
    given = {n: s.value for n, s in steps.items() if s.op in STARTS}
    given = {n: x for n, x in given.items() if n not in have and x.dtype.kind == "f"}
    if not given:
        return
    every = {n: kind.round(x) for n, x in given.items()}
    matrices = {n.rpartition(".")[0] for n, x in given.items() if x.ndim > 1}
    yield {}
    yield every
    yield {n: x for n, x in every.items() if n.rpartition(".")[0] in matrices or n == "image"}
