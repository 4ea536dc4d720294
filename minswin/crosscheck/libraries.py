"""Which layer of ours a layer of a known library is: its weights have the layer's name in them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from minswin.weights.families import FAMILIES, TABLES
from minswin.weights.families.rows import THEIRS, translate

Shape = tuple[int, ...]
NUMBERED = re.compile(r"(.*\.\d+)\..")  # a block or a stage, and what is in it


def known_layers(weights: Mapping[str, Shape], theirs: Collection[str]) -> dict[str, str]:
    """Their names of layers, blocks and stages to ours, of the library that most of them are of.

    weights: the shapes of ours   theirs: names of tensors; those that are no layer's are left out
    """
    state = {n: np.broadcast_to(np.float32(i), s) for i, (n, s) in enumerate(weights.items())}
    found: dict[str, str] = {}
    for family, dialect in TABLES:
        if FAMILIES[family].may_be(state):
            named = {t: n for t, n in _layers(state, family, dialect) if t in theirs}
            found = max(found, named, key=len)
    return found


def _layers(
    state: Mapping[str, np.ndarray], family: str, dialect: str
) -> Iterator[tuple[str, str]]:
    try:
        named, _ = translate(state, family, dialect, towards=THEIRS)
    except ValueError:  # words of TNT that are no square
        return
    ours = list(state)
    numbers = {t: int(x.flat[0]) for t, x in named.items() if t.endswith(".weight")}
    once = Counter(numbers.values())  # of q, k and v there are three
    for their, number in numbers.items():
        layer, mine = (n.removesuffix(".weight") for n in (their, ours[number]))
        while once[number] == 1:
            yield layer, mine
            a, b = NUMBERED.match(layer), NUMBERED.match(mine)
            if not (a and b):
                break
            layer, mine = a[1], b[1]
