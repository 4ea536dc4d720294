"""What may be written instead of an expression or a statement: the single edits of a text.

spots.py       an expression and what stood there; the list of operators
small.py       another number, left out, exchanged
names.py       another name, attribute, function
moves.py       an operation elsewhere, an array in another order
statements.py  whole statements
repeats.py     one edit at all places of its kind
"""

from __future__ import annotations

import ast
import math
from typing import Any

from minswin.crosscheck.edits import moves, names, small
from minswin.crosscheck.edits.repeats import everywhere
from minswin.crosscheck.edits.spots import OPERATORS, Place, Spot, place
from minswin.crosscheck.edits.statements import (
    factors,
    handed_on,
    mirrored,
    of_defaults,
    statements,
    terms,
    throughout,
)
from minswin.crosscheck.edits.texts import Change, Edit, Text

MODULES = (small, names, moves)  # of two equal edits the first is told
IN_ORDER = [o for m in MODULES for o in OPERATORS if o.make.__module__ == m.__name__]


def edits_of(
    text: Text,
    seen: dict[Place, Any],
    *,
    of_arrays: bool = True,
    nested: bool = False,
    most: float = math.inf,
) -> list[Edit]:
    """All edits of what was run, one for each new text, the simplest first.

    most: the rank up to which they are wanted
    """
    found: dict[str, Edit] = {}

    def enter(changes: list[Change], words: str, rank: float) -> None:
        if rank > most:
            return
        edit = Edit(text, changes, words, rank)
        if edit.source != text.source and rank < getattr(found.get(edit.source), "rank", 99):
            found[edit.source] = edit

    inner = {m for n in text.tree.body for f in ast.walk(n) if isinstance(f, ast.FunctionDef)
             for m in ast.walk(f)}  # fmt: skip
    for n in text.parents:
        if not isinstance(n, ast.expr) or (key := place(text, n)) not in seen:
            continue
        if nested and n not in inner:
            continue
        spot = Spot(text, n, seen[key], seen)
        for o in IN_ORDER:
            if o.rank <= most and (of_arrays or not o.of_arrays) and o.fits(spot):
                for new in o.make(spot):
                    enter(new if isinstance(new, list) else [(*text.span(n), new)], o.words, o.rank)
    for make_all in (statements, terms, factors, throughout, mirrored, of_defaults, handed_on):
        for changes, words, rank in make_all(text):
            enter(changes, words, rank)
    for changes, words, rank in everywhere(text, list(found.values())):
        enter(changes, words, rank)
    return sorted(found.values(), key=lambda e: e.cost)
