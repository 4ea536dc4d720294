"""One free number: a term of our text that gives their numbers when it is multiplied by it."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minswin.crosscheck.edits.helpers import FREE
from minswin.crosscheck.edits.spots import is_float_array, place, watch
from minswin.crosscheck.edits.texts import Edit, Several, Text
from minswin.crosscheck.search import Answer, Search, overlap, rms

Array = np.ndarray
NEAR = 1e-5  # of the size


@contextmanager
def free(number: float) -> Iterator[None]:
    """Inside this block the term is multiplied by this number."""
    FREE["number"] = number
    try:
        yield
    finally:
        FREE["number"] = 1.0


def numbers(search: Search) -> Iterator[Answer]:
    """Terms that give their numbers when they are multiplied by one number."""
    values = watch(search.site.texts, lambda: search.site.run(whole=True))
    for text in search.site.texts:
        for edit in _free(text, values):
            if search.clock.over:
                return
            number = _solved(search, edit)
            if number is None:
                continue
            with free(number):
                value = search.value(edit)
                good = value is not None and search.fits(edit, value)
            told = search.site.theirs.size > 1 or closed_form(number)  # any one number fits one
            if good and told and value is not None:
                yield Answer([edit], value, number)


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
        for term in terms:
            if search.clock.over:
                return
            both = Several(edit, term)
            with free(number):
                found = None if overlap(edit, term) else search.value(both)
                if found is not None and search.fits(both, found):
                    yield Answer([both], found, number)
                    return


def _centred(x: Array) -> Array:
    """Without the mean over all but the last axis."""
    return x - x.mean(axis=tuple(range(x.ndim - 1)), keepdims=True) if x.ndim > 1 else x


def _solved(search: Search, edit: Edit) -> float | None:
    """The number at which an edit is nearest to their numbers, if it comes near."""

    def at(number: float) -> Array | None:
        with free(number):
            value = search.value(edit)
        return value if value is not None and value.shape == search.site.theirs.shape else None

    if (start := at(1.01)) is None or rms(start - search.right) <= 1e-11 * rms(search.right):
        return None
    best, a, distance = 1.0, search.right, search.off
    for number in (2.0, 0.5, -1.0, 0.1, 8.0):
        value = at(number)
        if value is not None and rms(value - search.site.theirs) < distance:
            best, a, distance = number, value, rms(value - search.site.theirs)
    for _ in range(7):  # Gauss and Newton
        step = max(1e-6 * abs(best), 1e-9)
        b = at(best + step)
        if b is None:
            return None
        slope, left = (b - a) / step, search.site.theirs - a
        if not (length := float((slope * slope).sum())):
            return None
        move = float((slope * left).sum()) / length
        best += move
        value = at(best)
        if value is None:
            return None
        a, now = value, rms(value - search.site.theirs)
        if now > 0.7 * distance and now > 1e-3 * search.off and _ >= 2:
            return None
        distance = min(now, distance)
        if abs(move) <= 1e-9 * abs(best):
            break
    return best


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
