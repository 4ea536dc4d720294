"""What another implementation computed in, which its files do not always say.

Hooks and lists of Python numbers widen: float32 may hold what was float16 or bfloat16, float64 what
was float32. A right tensor is then farther off than its dtype allows, so the numbers are asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

Array = np.ndarray
DISTINCT = 16  # numbers that differ: of fewer, all may fit into few bits by chance
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
    shown = [x for x in theirs if x.dtype.kind == "f" and x.size >= DISTINCT]
    narrow = [x for x in shown if any(kind.holds(x) for kind in NARROW) and _has_many(x)]
    return SHARE * len(narrow) >= max(len(shown), 1)


def _has_many(x: Array) -> bool:
    return len(np.unique(x.ravel()[:1024])) >= DISTINCT


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
        many = x.dtype.itemsize == 2 or len(np.unique(x)) >= DISTINCT  # or the file says it
        if many and narrow.holds(x) and not narrow.holds(exact):
            return narrow
    return None
