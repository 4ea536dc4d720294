"""An expression of a text with what stood there in a run, and the list of operators on it.

An operator is given such a spot, and yields what to write in its place: a text, or a list of
changes elsewhere in the function.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from minswin.autograd import Tensor
from minswin.crosscheck.edits.texts import Change, Text
from minswin.crosscheck.edits.watching import Place, place


class Spot(NamedTuple):
    """An expression of a text, and what stood there."""

    text: Text
    node: Any
    value: Any
    seen: dict[Place, Any]

    @property
    def written(self) -> str:
        return self.text.of(self.node)

    @property
    def up(self) -> Any:
        return self.text.parents.get(self.node)

    @property
    def in_a_layer(self) -> bool:
        """Whether it is a text on Tensors, not a definition."""
        return not self.text.name.startswith("reference")

    def value_of(self, node: Any) -> Any:
        return self.seen.get(place(self.text, node))


Yields = Iterator[str | list[Change]]
Operator = Callable[[Spot], Yields]
OPERATORS: list[tuple[str, float, Operator]] = []


def operator(words: str, rank: float) -> Callable[[Operator], Operator]:
    """Decorator: enter an operator. rank: the simplest explanation is told first."""

    def enter(f: Operator) -> Operator:
        OPERATORS.append((words, rank, f))
        return f

    return enter


def is_array(v: Any) -> bool:
    return isinstance(v, (Tensor, np.ndarray)) and v.ndim > 0


def is_float_array(v: Any) -> bool:
    return is_array(v) and v.dtype.kind == "f"


def is_ints(v: Any) -> bool:
    return isinstance(v, tuple) and len(v) > 0 and all(type(w) is int for w in v)


def is_named_array(s: Spot) -> bool:
    """Where an array is handed on by its name, or as the result of a call to another call."""
    up = s.up
    if isinstance(up, ast.Attribute) and up.attr in ("reshape", "mean"):
        return is_array(s.value) and isinstance(s.node, ast.Name)
    if not is_array(s.value) or isinstance(up, ast.Attribute):
        return False
    if isinstance(s.node, ast.Call):
        return isinstance(up, (ast.Call, ast.Return))
    return isinstance(s.node, (ast.Name, ast.Attribute)) and not isinstance(up, ast.Subscript)


def names_before(s: Spot) -> dict[str, tuple[int, Any]]:
    """Names that were read or are arguments, with a value of theirs."""
    key = id(s.text)
    found: dict[str, tuple[int, Any]] = {}
    for (text, line, column, end, last), value in s.seen.items():
        if text == key and line == end and line <= s.node.lineno + 20:
            written = s.text._rows[line - 1].encode()[column:last].decode()
            if written.isidentifier() and written not in s.text.function.__globals__:
                found.setdefault(written, (line, value))
    return found


def rest_of(text: Text, call: Any) -> str:
    more = [*call.args[1:], *call.keywords]
    return "".join(f", {text.of(x)}" for x in more)
