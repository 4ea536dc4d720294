"""The single changes that a source can have: another operator, constant, condition, order, …"""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from typing import NamedTuple


class Change(NamedTuple):
    """Bytes `start` to `end` of a file become `new`."""

    file: str
    line: int
    start: int
    end: int
    new: str
    kind: str
    where: str  # the function, "Class.method", or ""
    runs: tuple[int, int]  # lines of which one runs if the change does

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.new.encode() + source[self.end :]

    def lines(self, source: bytes) -> tuple[str, str]:
        """What the lines were, and what they become, each as one line without its indentation."""
        first = source.rfind(b"\n", 0, self.start) + 1
        last = source.find(b"\n", self.end)
        last = len(source) if last < 0 else last
        after = self.apply(source)
        moved = last + len(after) - len(source)
        return _one_line(source[first:last]), _one_line(after[first:moved])


def _one_line(text: bytes) -> str:
    return re.sub(r"\s+", " ", text.decode()).strip()


OPERATORS = {
    ast.Add: ["-"], ast.Sub: ["+"], ast.Mult: ["/"], ast.Div: ["*"], ast.FloorDiv: ["/"],
    ast.Mod: ["*"], ast.Pow: ["*"], ast.BitAnd: ["|"], ast.BitOr: ["&"],
    ast.Lt: ["<=", ">"], ast.LtE: ["<", ">="], ast.Gt: [">=", "<"], ast.GtE: [">", "<="],
    ast.Eq: ["!="], ast.NotEq: ["=="], ast.Is: ["is not"], ast.IsNot: ["is"],
    ast.In: ["not in"], ast.NotIn: ["in"], ast.And: ["or"], ast.Or: ["and"],
}  # fmt: skip
SIGNS = {
    ast.Add: r"\+", ast.Sub: "-", ast.Mult: r"\*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.Pow: r"\*\*", ast.BitAnd: "&", ast.BitOr: r"\|", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">",
    ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is", ast.IsNot: r"is\s+not",
    ast.In: "in", ast.NotIn: r"not\s+in", ast.And: "and", ast.Or: "or",
}  # fmt: skip
# Texts, names and types: a change there changes a message, or nothing that runs.
UNTOUCHED = (ast.JoinedStr, ast.Raise, ast.Import, ast.ImportFrom, ast.Assert, ast.Global)

SYMMETRIC = {"min", "max", "minimum", "maximum", "gcd", "logaddexp", "array_equal"}


def changes(file: str, source: bytes) -> list[Change]:
    """All changes of a file, in the order of its lines."""
    return sorted(_Finder(file, source).found, key=lambda change: (change.start, change.new))


class _Finder:
    """Walks the tree and collects changes, with the function and the statement they are in."""

    def __init__(self, file: str, source: bytes) -> None:
        self.file, self.source, self.found = file, source, list[Change]()
        lengths = [len(line) for line in source.splitlines(keepends=True)]
        self._starts = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
        self._where: list[str] = []
        self._runs = (1, 1)
        for statement in ast.parse(source).body:
            self._statement(statement)

    # ── places ───────────────────────────────────────────────────────────────────────────────────

    def _start(self, node: ast.AST) -> int:
        return self._starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]

    def _end(self, node: ast.AST) -> int:
        return self._starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def _text(self, node: ast.AST) -> str:
        return self.source[self._start(node) : self._end(node)].decode()

    def _add(self, start: int, end: int, new: str, kind: str) -> None:
        line = self.source.count(b"\n", 0, start) + 1
        where = ".".join(self._where)
        self.found.append(Change(self.file, line, start, end, new, kind, where, self._runs))

    def _replace(self, node: ast.AST, new: str, kind: str) -> None:
        self._add(self._start(node), self._end(node), new, kind)

    # ── walking ──────────────────────────────────────────────────────────────────────────────────

    def _statement(self, node: ast.stmt) -> None:
        before = self._runs
        named = isinstance(node, (ast.FunctionDef, ast.ClassDef))
        body = getattr(node, "body", None)
        end = (body[0].lineno - 1 if body else node.end_lineno) or node.lineno
        self._runs = (node.lineno, max(node.lineno, end))
        if named:  # defaults show when the function runs
            self._where.append(node.name)  # type: ignore[attr-defined]
            self._runs = (node.lineno, node.end_lineno or node.lineno)
        self._visit_statement(node)
        for part in ("body", "orelse", "finalbody"):
            for child in getattr(node, part, []):
                self._statement(child)
        for handler in getattr(node, "handlers", []):
            for child in handler.body:
                self._statement(child)
        if named:
            self._where.pop()
        self._runs = before

    def _visit_statement(self, node: ast.stmt) -> None:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, (ast.Raise, ast.AugAssign)) or (
            isinstance(node, ast.Expr) and not docstring
        ):
            self._replace(node, "pass", "statement dropped")
        if isinstance(node, (ast.Break, ast.Continue)):
            new = "continue" if isinstance(node, ast.Break) else "break"
            self._replace(node, new, "jump")
        if docstring or isinstance(node, UNTOUCHED):
            return
        if isinstance(node, ast.AugAssign):
            self._operator(node.op, self._end(node.target), self._start(node.value))
        if isinstance(node, (ast.If, ast.While)):
            self._condition(node.test)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            self._swaps(node.value.elts, "returned values swapped")
        if isinstance(node, ast.FunctionDef):
            for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
                self._expression(default)
            return
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "bases", "decorator_list"):
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, (ast.expr, ast.withitem)):
                        self._expression(child)

    def _expression(self, node: ast.AST) -> None:
        if isinstance(node, UNTOUCHED):
            return
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            self._operator(node.op, self._end(node.left), self._start(node.right))
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for op, left, right in zip(node.ops, sides, sides[1:], strict=False):
                self._operator(op, self._end(left), self._start(right))
        if isinstance(node, ast.BoolOp):
            for left, right in pairwise(node.values):
                self._operator(node.op, self._end(left), self._start(right))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
            self._replace(node, f"({self._text(node.operand)})", "sign or not")
        if isinstance(node, ast.IfExp):
            self._condition(node.test)
        if isinstance(node, ast.comprehension):
            for test in node.ifs:
                self._condition(test)
        if isinstance(node, ast.Call) and self._text(node.func).split(".")[-1] not in SYMMETRIC:
            self._swaps(node.args, "arguments swapped")
        if isinstance(node, ast.keyword) and node.arg == "strict":
            return  # of zip: it shows where lengths differ, which they never do
        if isinstance(node, ast.Constant):
            self._constant(node)
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, (ast.arguments, ast.arg)):
                self._expression(child)

    # ── kinds ────────────────────────────────────────────────────────────────────────────────────

    def _operator(self, op: ast.AST, start: int, end: int) -> None:
        match = re.search(SIGNS[type(op)], self.source[start:end].decode())
        if match is None:
            return
        for new in OPERATORS[type(op)]:
            self._add(start + match.start(), start + match.end(), new, "operator")

    def _condition(self, node: ast.expr) -> None:
        self._replace(node, f"(not ({self._text(node)}))", "condition negated")

    def _swaps(self, nodes: list[ast.expr], kind: str) -> None:
        for left, right in pairwise(nodes):
            starred = isinstance(left, ast.Starred) or isinstance(right, ast.Starred)
            a, b = self._text(left), self._text(right)
            if a != b and not starred:
                between = self.source[self._end(left) : self._start(right)].decode()
                self._add(self._start(left), self._end(right), b + between + a, kind)

    def _constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._replace(node, str(not value), "constant")
        elif isinstance(value, int):
            for new in (value + 1, value - 1):
                self._replace(node, f"({new})" if new < 0 else str(new), "constant")
        elif isinstance(value, float):
            self._replace(node, repr(value * 2 if value else 1.0), "constant")
