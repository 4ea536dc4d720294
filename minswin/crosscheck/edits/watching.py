"""One run of a text in which every expression reports its value."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from minswin.crosscheck.edits.functions import forget
from minswin.crosscheck.edits.helpers import helper
from minswin.crosscheck.edits.texts import Text

Place = tuple[Any, ...]
SEEN: dict[Place, Any] = {}  # place in a text -> the first value that stood there


@helper
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
