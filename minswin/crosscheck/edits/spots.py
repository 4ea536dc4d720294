"""One run in which every expression of a text reports its value; the list of operators on them.

An operator is given such a spot, and yields what to write in its place: a text, or a list of
changes elsewhere in the function.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from minswin.autograd import Tensor
from minswin.crosscheck.edits.functions import forget
from minswin.crosscheck.edits.helpers import helper
from minswin.crosscheck.edits.texts import Change, Text
from minswin.layers.base import Layer

Place = tuple[Any, ...]
SEEN: dict[Place, Any] = {}  # place in a text -> the first value that stood there


@helper("")
def e_see(place: Place, value: Any) -> Any:
    SEEN.setdefault(place, value)
    return value


def place(text: Text, n: Any) -> Place:
    return id(text), n.lineno, n.col_offset, n.end_lineno, n.end_col_offset


class _Watch(ast.NodeTransformer):
    def __init__(self, text: Text, nested: bool) -> None:
        self.text, self.nested, self.depth = text, nested, 0

    def visit_FunctionDef(self, n: Any) -> Any:
        self.depth += 1
        if self.depth == 1 or self.nested:  # a nested function is a vjp
            n.body = [self.visit(s) for s in n.body]
        self.depth -= 1
        return n

    def generic_visit(self, n: Any) -> Any:
        if isinstance(n, (ast.JoinedStr, ast.Raise, ast.Assert, ast.arguments, ast.AnnAssign)):
            if isinstance(n, ast.AnnAssign) and n.value is not None:
                n.value = self.visit(n.value)
            return n
        super().generic_visit(n)
        plain = isinstance(n, ast.expr) and not isinstance(n, (ast.Starred, ast.Slice, ast.Lambda))
        if plain and isinstance(getattr(n, "ctx", None), (ast.Load, type(None))):
            key = ast.Constant(place(self.text, n))  # type: ignore[arg-type]
            see = ast.Call(ast.Name("e_see", ast.Load()), [key, n], [])
            return ast.copy_location(see, n)
        return n


def watch(texts: list[Text], run: Callable[[], Any], *, nested: bool = False) -> dict[Place, Any]:
    """The value of every expression of these texts in a run, by its place."""
    SEEN.clear()
    try:
        for text in texts:
            tree = ast.parse(text.source)
            tree.body[0] = _Watch(text, nested).visit(tree.body[0])
            try:
                text.put_tree(tree)
            except (ValueError, SyntaxError):  # another number of free variables
                text.restore()
        forget()
        run()
    finally:
        for text in texts:
            text.restore()
        forget()
    found = dict(SEEN)
    SEEN.clear()
    return found


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
    def whole(self) -> str:
        """What is written there, to stand inside another expression."""
        return self.text.whole(self.node)

    def in_place(self, node: Any) -> str:
        """What is written at another node, to stand in the place of this one."""
        inside = isinstance(self.up, (ast.BinOp, ast.UnaryOp, ast.Attribute, ast.Subscript))
        return self.text.whole(node) if inside else self.text.of(node)

    @property
    def up(self) -> Any:
        return self.text.parents.get(self.node)

    @property
    def in_a_layer(self) -> bool:
        """Whether it is a text on Tensors, not a definition."""
        return not self.text.name.startswith("reference")

    def value_of(self, node: Any) -> Any:
        return self.seen.get(place(self.text, node))

    @property
    def axes(self) -> list[int]:
        """Those of the array that stood there, that are longer than 1."""
        return [i for i, n in enumerate(self.value.shape) if n > 1]


SIGNS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.Pow: "**", ast.MatMult: "@",
}  # fmt: skip
Yields = Iterator[str | list[Change]]


class Operator(NamedTuple):
    """What may be written at a spot, for one of `nodes` whose value is `of` a kind."""

    words: str
    rank: float  # the simplest explanation is told first
    make: Callable[[Spot], Yields]
    nodes: Any
    of: Callable[[Any], bool]
    named: bool  # of arrays that are handed on
    of_arrays: bool  # it changes what an array holds: left out while a model is built

    def fits(self, s: Spot) -> bool:
        plain = isinstance(s.node, self.nodes) and self.of(s.value)
        return plain and (not self.named or is_named_array(s))


OPERATORS: list[Operator] = []


def operator(
    words: str,
    rank: float,
    *nodes: type[ast.expr],
    of: Callable[[Any], bool] = lambda v: True,
    named: bool = False,
    of_arrays: bool = False,
) -> Callable[[Callable[[Spot], Yields]], Callable[[Spot], Yields]]:
    """Decorator: enter an operator; see Operator."""

    def enter(make: Callable[[Spot], Yields]) -> Callable[[Spot], Yields]:
        OPERATORS.append(Operator(words, rank, make, nodes or ast.expr, of, named, of_arrays))
        return make

    return enter


def is_array(v: Any) -> bool:
    return isinstance(v, (Tensor, np.ndarray)) and v.ndim > 0


def is_float_array(v: Any) -> bool:
    return is_array(v) and v.dtype.kind == "f"


def is_layer(v: Any) -> bool:
    return isinstance(v, Layer)


def is_number(v: Any) -> bool:
    return type(v) in (int, float)


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


def names_before(s: Spot) -> dict[str, Any]:
    """Names that were read or are arguments, with a value of theirs."""
    key = id(s.text)
    found: dict[str, Any] = {}
    for (text, line, column, end, last), value in s.seen.items():
        if text == key and line == end and line <= s.node.lineno + 20:
            written = s.text._rows[line - 1].encode()[column:last].decode()
            if written.isidentifier() and written not in s.text.function.__globals__:
                found.setdefault(written, value)
    return found


def parts_of_layer(s: Spot) -> dict[str, Any]:
    """What the layer whose text it is has, by name; nothing in other texts."""
    owner = names_before(s).get("self")
    return vars(owner) if isinstance(owner, Layer) else {}


def rest_of(text: Text, call: Any) -> str:
    more = [*call.args[1:], *call.keywords]
    return "".join(f", {text.of(x)}" for x in more)
