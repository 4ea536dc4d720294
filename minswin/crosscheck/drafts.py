"""A draft of a map of names: lines with patterns that hold the pairs which were found."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping

import numpy as np

from minswin.crosscheck.folder import AFTER, COTANGENT
from minswin.crosscheck.names import NOTHING
from minswin.crosscheck.patterns import filled, matches

Array = np.ndarray
_INDEX = re.compile(r"(?<![^.])\d+(?![^.])")  # of a stage or block: not the 1 of norm1


def draft(
    pairs: Mapping[str, str], ours: Mapping[str, Array], theirs: Mapping[str, Array]
) -> Iterator[str]:
    """Lines of a map that holds these pairs, with patterns where the numbers in them allow it.

    A pattern pairs the tensors of wrong blocks too, which have the values of none of ours. What is
    still left is written as comments, with those of ours that have such sizes.
    """
    pairs = {a: b for a, b in pairs.items() if not a.startswith((COTANGENT, AFTER))}
    waiting, lines = dict(pairs), []
    covered: dict[str, str] = {}
    while waiting:
        a, b = next(iter(waiting.items()))
        every = ((line, _covered(line, ours, theirs, pairs)) for line in _generalised(a, b))
        line, held = max(every, key=lambda one: (len(one[1]), _in_order(*one[0])))
        line, held = (line, held) if len(held) > 1 else ((a, b), {a: b})
        lines.append(line)
        covered |= held
        waiting = {x: y for x, y in waiting.items() if x not in covered}
    width = max((len(left) for left, _ in lines), default=0)
    yield "# our name = their name"
    yield from (f"{left:{width}} = {right}" for left, right in lines)
    free = {n: x for n, x in theirs.items() if n not in covered.values()}
    free = {n: x for n, x in free.items() if not n.startswith((COTANGENT, AFTER))}
    twins = [theirs[n] for n in covered.values()]
    free = {n: x for n, x in free.items() if not any(_equal(x, y) for y in twins)}
    if free:
        yield "# theirs with the values of none of ours; those of ours whose sizes fit:"
        yield from _left_over({n: x for n, x in ours.items() if n not in covered}, free)


def _equal(x: Array, y: Array) -> bool:
    return x.size == y.size and np.array_equal(np.ravel(x), np.ravel(y))


def _generalised(a: str, b: str) -> Iterator[tuple[str, str]]:
    """Patterns of which two names are one case: the numbers of theirs come from those of ours."""
    numbers = _INDEX.findall(a)
    left = _numbered(a)
    choices = []
    for text in re.findall(r"\d+", b):
        gaps = [(w, int(text) - int(n)) for w, n in zip("ijkl", numbers, strict=False)]
        near = [f"{{{w}{gap:+d}}}" if gap else f"{{{w}}}" for w, gap in gaps if abs(gap) <= 1]
        choices.append([*near, text])
    for chosen in itertools.product(*choices):
        filling = iter(chosen)
        yield left, re.sub(r"\d+", lambda _, f=filling: next(f), b)  # type: ignore[misc]
    yield a, b


def _numbered(name: str) -> str:
    """layers.{i}.blocks.{j}.norm1 for layers.0.blocks.1.norm1"""
    places = iter("ijkl")
    return _INDEX.sub(lambda _: f"{{{next(places)}}}", name)


def _in_order(left: str, right: str) -> bool:
    """Whether both sides have the same letters, each once."""
    return re.findall(r"\{(\w)", left) == re.findall(r"\{(\w)", right)


def _covered(
    line: tuple[str, str],
    ours: Mapping[str, Array],
    theirs: Mapping[str, Array],
    pairs: Mapping[str, str],
) -> dict[str, str]:
    """What a pattern pairs; nothing if it pairs what cannot be, or what is paired otherwise."""
    left, right = line
    every = {name: filled(right, values, left) for name, values in matches(left, ours)}
    found = {a: b for a, b in every.items() if b in theirs}
    bad = any(ours[a].size != theirs[b].size or pairs.get(a, b) != b for a, b in found.items())
    return {} if bad or len(set(found.values())) < len(found) else found


def _left_over(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> Iterator[str]:
    """A comment for each kind of their names, to be uncommented, or answered with "-"."""
    kinds = {_numbered(n): None for n in ours if not n.startswith((COTANGENT, AFTER))}
    for right in dict.fromkeys(map(_numbered, theirs)):
        group = {n for n in theirs if _numbered(n) == right}
        fits = [
            left
            for left in kinds
            if _in_order(left, right)
            if set(_covered((left, right), ours, theirs, {}).values()) == group
        ]
        word = right.rpartition(".")[2]
        fits.sort(key=lambda n: -difflib.SequenceMatcher(None, n.rpartition(".")[2], word).ratio())
        others = ", ".join(n.rpartition(".")[2] for n in fits[1:5])
        yield f"#   {fits[0] if fits else NOTHING} = {right}" + (f"   (or {others})" * bool(others))
