"""What runs at a site and does not matter there: an edit of it cannot be the cause.

A function is idle if it has given its arrays before the tensor is there, and the tensor stays the
same to the last bit whatever it gives: other numbers, an axis that is longer, nothing at all. So is
a parameter of which any numbers give the same tensor. A function that gives numbers, or nothing, or
that makes the tensor itself, is never idle; but statements of it that come later change nothing.
"""

from __future__ import annotations

import ast
import inspect
import math
from bisect import bisect_left
from collections.abc import Iterator
from types import CodeType, FrameType, FunctionType
from typing import Any

import numpy as np

from minswin.autograd import Tensor
from minswin.crosscheck.edits.functions import forget, watched
from minswin.crosscheck.edits.helpers import helper
from minswin.crosscheck.edits.loading import Loaded
from minswin.crosscheck.edits.operators import edits_of
from minswin.crosscheck.edits.spots import SEEN, Place, is_array, watch
from minswin.crosscheck.edits.texts import Edit, Text

Array = np.ndarray
NUMBERS, NOTHING, AXES = "other numbers", "nothing", (0, 1, 2, 3)  # what is given instead
GIVEN: dict[str, Any] = {"instead": NUMBERS}


def texts_that_matter(search: Any, texts: list[Text]) -> list[Text]:
    """Those texts whose results the tensor of a search depends on."""
    if search.site.is_empty:  # then all goes into it
        return texts
    arrays = _giving_arrays(search)
    return [t for t in texts if t.right[0] not in arrays or not _is_idle(search, t)]


def weights_that_matter(search: Any) -> list[Loaded]:
    """The changes of those parameters that the tensor depends on."""
    loadings = search.loadings()
    names = {e.name: e.layer for e in loadings if type(e) is Loaded}
    others = (Loaded(layer, name, "", _other, 0) for name, layer in names.items())
    idle = {e.name for e in others if _is_right(search, search.value(e))}
    return [e for e in loadings if type(e) is not Loaded or e.name not in idle]


def _giving_arrays(search: Any) -> set[CodeType]:
    """The codes of functions that have all returned when the tensor is there, and gave arrays."""
    found: dict[CodeType, bool] = {}

    def see(frame: FrameType, event: str, result: Any) -> None:
        if event == "return":  # of None, where the tensor has ended it
            found[frame.f_code] = found.get(frame.f_code, True) and _is_of_arrays(result)

    forget()  # what was kept does not run
    watched(search.site.run, see)
    return {
        code for code, good in found.items() if good and not code.co_flags & inspect.CO_GENERATOR
    }


def _is_of_arrays(result: Any) -> bool:
    """Whether it is an array, or arrays, with vjps or without."""
    parts = result if isinstance(result, tuple) else (result,)
    good = all(is_array(p) or isinstance(p, FunctionType) for p in parts)
    return good and any(is_array(p) for p in parts)


def _is_idle(search: Any, text: Text) -> bool:
    edit = of_other_numbers(text)
    for instead in (NUMBERS, *AXES, NOTHING):
        GIVEN["instead"] = instead
        value = search.value(edit)
        if not (_is_right(search, value) or (value is None and instead != NUMBERS)):
            return False
    return bool(edit.changes)


def of_other_numbers(text: Text) -> Edit:
    """A text that gives something else instead: other numbers, if nothing is chosen."""
    GIVEN["instead"] = NUMBERS
    spans = [text.span(n.value) for n in _returns(text.tree.body) if n.value is not None]
    return Edit(text, [(a, b, f"e_instead(({text.source[a:b]}))") for a, b in spans], "", 0)


def _is_right(search: Any, value: Array | None) -> bool:
    return value is not None and np.array_equal(value, search.right)


def _returns(body: list[Any]) -> Iterator[ast.Return]:
    """Those of a function, not of functions inside it."""
    for n in body:
        if isinstance(n, ast.Return):
            yield n
        elif not isinstance(n, ast.FunctionDef):
            yield from _returns([c for c in ast.iter_child_nodes(n) if isinstance(c, ast.stmt)])


# ── statements that have not begun when the tensor is there ──────────────────────────────────────

WITH_VALUES = (
    ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.Return, ast.For, ast.With, ast.If,
)  # fmt: skip


def edits_that_run(
    site: Any,
    texts: list[Text],
    most: float = math.inf,
    *,
    backward: bool = False,
    of_arrays: bool = True,
) -> list[Edit]:
    """All edits of these texts up to a rank, but for those of what has not begun.

    backward: vjps run too   of_arrays: also those of what arrays hold
    """
    reached: set[Place] = set()

    def run() -> None:
        site.run()
        reached.update(SEEN)
        site.run(whole=True)

    values = watch(texts, run)
    edits = ((t, edits_of(t, values, most=most, of_arrays=of_arrays)) for t in texts)
    return [e for text, those in edits for e in _begun(text, reached, those, backward)]


def _begun(text: Text, reached: set[Place], edits: list[Edit], backward: bool) -> list[Edit]:
    """reached: the places of expressions that had a value when the tensor was there."""
    begun = sorted(text._at(line, column) for t, line, column, *_ in reached if t == id(text))
    if not begun:  # it could not be watched
        return edits
    rows = [text.row(n) for n in _statements(text.tree, vjps=not backward)]
    later = [(a, b) for a, b in rows if bisect_left(begun, a) == bisect_left(begun, b)]

    def is_later(a: int, b: int) -> bool:
        """Inside such lines; what is put between two statements may belong to others."""
        return any(c <= a < b <= d or c < a == b < d for c, d in later)

    return [e for e in edits if not all(is_later(a, b) for a, b, _ in e.changes)]


def _statements(body: Any, *, vjps: bool) -> Iterator[Any]:
    """Those that report their values, which statements of functions inside do not, and of vjps."""
    for n in ast.iter_child_nodes(body):
        if isinstance(n, ast.FunctionDef) and not (vjps and n.name == "vjp"):
            continue
        if isinstance(n, WITH_VALUES):
            yield n
        yield from _statements(n, vjps=vjps)


# ── what stands in the place of an array ─────────────────────────────────────────────────────────


@helper("")
def e_instead(result: Any) -> Any:
    """What stands in the place of what a function gives."""
    if isinstance(result, tuple):
        return tuple(_instead(x) if is_array(x) else x for x in result)
    return None if GIVEN["instead"] == NOTHING else _instead(result)


def _instead(x: Any) -> Any:
    if isinstance(x, Tensor):
        return Tensor(_instead(x.data))
    axis = GIVEN["instead"]
    if axis in AXES:
        return np.concatenate([x, x.take([0], axis)], axis) if axis < x.ndim else x
    return _other(x)


def _other(x: Array) -> Array:
    """Other numbers, as many and of the same kind; of whole ones the same in the other order."""
    if x.dtype.kind == "f":
        return np.random.default_rng(0).standard_normal(x.shape).astype(x.dtype)
    other = ~x if x.dtype.kind == "b" else np.ascontiguousarray(x.ravel()[::-1]).reshape(x.shape)
    if np.array_equal(other, x):
        raise ValueError("no other numbers are known")
    return other
