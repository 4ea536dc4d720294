"""One free number: a term of our text that gives their numbers when it is multiplied by it."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minswin.crosscheck.edits.helpers import FREE
from minswin.crosscheck.edits.spots import is_float_array, place, watch
from minswin.crosscheck.edits.texts import Edit, Several, Text
from minswin.crosscheck.search import Answer, Search, overlap, rms

Array = np.ndarray
NEAR = 1e-5  # of the size
FEW, STARTS = 64, 3  # so few numbers may be those of several, which are looked for from 3 places


@contextmanager
def free(number: float) -> Iterator[None]:
    """Inside this block the term is multiplied by this number."""
    FREE["number"] = number
    try:
        yield
    finally:
        FREE["number"] = 1.0


def numbers(search: Search, judge: Search | None = None) -> Iterator[Answer]:
    """Terms that give their numbers when they are multiplied by one number.

    judge: a search for more of theirs, by which the numbers that are found are judged
    """
    judge = judge or search
    values = watch(search.site.texts, lambda: search.site.run(whole=True))
    seen: list[Array] = []  # of terms that are a factor of one product, one is enough
    for text in search.site.texts:
        for edit in _free(text, values):
            if search.clock.over:
                return
            for number in _solved(search, edit, seen, search.right):
                with free(number):
                    value = judge.value(edit)
                    good = value is not None and judge.fits(edit, value)
                # any one number fits one
                if good and value is not None and (value.size > 1 or closed_form(number)):
                    yield Answer([edit], value, number)
                    break


def on_top(search: Search) -> Iterator[Answer]:
    """An edit that was tried, and one number: where theirs is what it gives, times that number.

    A linear map with a bias may stand behind it, so the means over the tokens are taken off first.
    """
    values = watch(search.site.texts, lambda: search.site.run(whole=True))
    terms = [edit for text in search.site.texts for edit in _free(text, values)]
    theirs = _centred(search.site.theirs)
    for edit, value in sorted(search.tried.values(), key=lambda both: both[0].cost):
        one = _centred(value)
        square = float((one * one).sum())
        number = float((one * theirs).sum()) / square if square else 0.0
        near = rms(theirs - number * one) <= NEAR * rms(theirs)
        if not near or abs(number - 1) < NEAR or not closed_form(number):
            continue
        text = getattr(edit, "text", None)  # the number stands nearby if it can
        for term in sorted(terms, key=lambda term: term.text is not text):
            if search.clock.over:
                return
            both = Several(edit, term)
            with free(number):
                found = None if overlap(edit, term) else search.value(both)
                if found is not None and search.fits(both, found):
                    yield Answer([both], found, number)
                    return


def beside(search: Search) -> Iterator[Answer]:
    """One of the nearest edits, and a number elsewhere: a softmax may stand between the two."""
    values = watch(search.site.texts, lambda: search.site.run(whole=True))
    numbers = {key: value for key, value in values.items() if type(value) is float}
    terms = [edit for text in search.site.texts for edit in _free(text, numbers)]
    for edit in search.nearest():
        seen: list[Array] = []
        for both in (Several(edit, term) for term in terms if not overlap(edit, term)):
            if search.clock.over:
                return
            for number in _solved(search, both, seen, search.tried[id(edit)][1]):
                with free(number):
                    found = search.value(both)
                    good = found is not None and search.fits(both, found)
                if good and found is not None and closed_form(number):
                    yield Answer([both], found, number)
                    return


def _centred(x: Array) -> Array:
    """Without the mean over all but the last axis."""
    return x - x.mean(axis=tuple(range(x.ndim - 1)), keepdims=True) if x.ndim > 1 else x


def _solved(
    search: Search, edit: Edit | Several, seen: list[Array], right: Array
) -> Iterator[float]:
    """The numbers at which an edit is nearest to theirs, if it comes near; of few numbers, some.

    seen: what other edits gave for 1.01; right: what this one gives for 1
    """
    theirs = search.site.theirs

    def at(number: float) -> Array | None:
        with free(number):
            value = search.value(edit)
        return value if value is not None and value.shape == theirs.shape else None

    if (start := at(1.01)) is None or rms(start - right) <= 1e-11 * rms(right):
        return
    if any(rms(start - other) <= 1e-13 * rms(right) for other in seen):
        return
    seen.append(start)
    every = [(number, at(number)) for number in (2.0, 0.5, -1.0, 0.1, 8.0)]
    points = [(1.0, right), *((n, value) for n, value in every if value is not None)]
    points.sort(key=lambda point: rms(point[1] - theirs))
    for number, value in points[: STARTS if theirs.size < FEW else 1]:
        before = (1.01, start) if number == 1 else (1.0, right)
        if (found := _nearest(at, theirs, before, (number, value), search.off)) is not None:
            yield found


def _nearest(
    at: Callable[[float], Array | None],
    theirs: Array,
    before: tuple[float, Array],
    now: tuple[float, Array],
    off: float,
) -> float | None:
    """The number at which theirs is nearest, by secants through the last two points."""
    distance = rms(now[1] - theirs)
    for i in range(14):
        slope = (now[1] - before[1]) / (now[0] - before[0])
        if not (length := float((slope * slope).sum())):
            return None
        move = float((slope * (theirs - now[1])).sum()) / length
        if abs(move) <= 1e-9 * abs(now[0]):
            return now[0]
        if (value := at(now[0] + move)) is None:
            return None
        before, now = now, (now[0] + move, value)
        left = rms(value - theirs)
        if left > 0.7 * distance and left > 1e-3 * off and i >= 3:
            return None
        distance = min(left, distance)
    return now[0]


def _free(text: Text, values: dict[Any, Any]) -> Iterator[Edit]:
    """Every factor and term of a text times the number that is looked for."""
    for n in text.parents:
        if not isinstance(n, ast.expr) or isinstance(n, (ast.Constant, ast.Tuple)):
            continue
        value = values.get(place(text, n))
        up = text.parents.get(n)
        holders = (ast.BinOp, ast.UnaryOp, ast.Return, ast.Call, ast.Assign, ast.keyword)
        inside = isinstance(up, holders)
        callee = isinstance(up, ast.Call) and up.func is n
        if inside and not callee and (type(value) is float or is_float_array(value)):
            yield Edit(text, [(*text.span(n), f"e_free({text.of(n)})")], "one number", 4)


CLOSED: dict[str, float] = {}


def closed_form(x: float) -> str:
    """ln 8 for 2.0794…: the simplest expression that is this number to six digits, or ""."""
    if not CLOSED:
        for a in range(1, 65):
            CLOSED.setdefault(str(a), float(a))
            CLOSED.setdefault(f"1/{a}", 1 / a)
            CLOSED.setdefault(f"√{a}", a**0.5)
            CLOSED.setdefault(f"1/√{a}", a**-0.5)
            if a > 1:
                CLOSED.setdefault(f"ln {a}", float(np.log(a)))
                CLOSED.setdefault(f"1/ln {a}", 1 / float(np.log(a)))
                CLOSED.setdefault(f"log₂ {a}", float(np.log2(a)))
        for a in (2**n for n in range(7, 17)):  # of which a loss is multiplied in half precision
            CLOSED.setdefault(str(a), float(a))
            CLOSED.setdefault(f"1/{a}", 1 / a)
        for a, b in itertools.product(range(1, 20), range(2, 20)):
            CLOSED.setdefault(f"{a}/{b}", a / b)
            CLOSED.setdefault(f"√({a}/{b})", (a / b) ** 0.5)
        CLOSED["π"] = float(np.pi)
    near = [name for name, value in CLOSED.items() if abs(value / abs(x) - 1) < 2e-6] if x else []
    sign = "−" if x < 0 else ""
    return sign + min(near, key=len) if near else ""
