"""Edits of whole statements and of a whole function."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator

from minswin.crosscheck.edits.texts import Change, Text

# ── statements ───────────────────────────────────────────────────────────────────────────────────


def statements(text: Text) -> Iterator[tuple[list[Change], str, float]]:
    plain = (ast.Assign, ast.AugAssign, ast.If, ast.Expr)
    body = [n for n in ast.walk(text.tree) if isinstance(n, plain)]
    docstring = text.tree.body[0] if text.tree.body else None
    body = [n for n in body if n is not docstring]
    top = [n for n in text.tree.body if n in body]
    for n in body:
        a, b = text.row(n)
        yield [(a, b, " " * n.col_offset + "pass\n")], "a statement left out", 3
        if isinstance(n, (ast.AugAssign, ast.Expr)):
            yield [(b, b, text.source[a:b])], "a statement twice", 3
        if isinstance(n, ast.AugAssign):
            s, e = text.span(n.target)[1], text.span(n.value)[0]
            sign = text.source[s:e]
            yield [(s, e, " = ")], "assigned, not added", 3
            for old, new in (("+=", "-="), ("-=", "+="), ("*=", "/="), ("/=", "*=")):
                if old in sign:
                    yield [(s, e, sign.replace(old, new))], "another operation", 2
    blocks = [n.body for n in ast.walk(text.tree) if isinstance(n, (ast.For, ast.With, ast.If))]
    inside = [
        pair for b in blocks for pair in itertools.permutations([n for n in b if n in body], 2)
    ]
    for n, other in (*itertools.permutations(top, 2), *inside):
        a, b = text.row(n)
        c, d = text.row(other)
        line = text.source[a:b]
        to = d if c > a else c
        side, (first, *_) = "behind" if c > a else "in front of", text.source[c:d].splitlines()
        yield [(a, b, ""), (to, to, line)], f"a statement {side} `{first.strip()}`", 4
        if c > a and isinstance(n, ast.Assign):
            yield [(to, to, line)], "a statement again", 4.5


def terms(text: Text) -> Iterator[tuple[list[Change], str, float]]:
    """What two statements add, in the other order: the MLP before attention."""
    values = (n.value for n in text.tree.body if isinstance(n, (ast.Assign, ast.Return)))
    sums = [v for v in values if isinstance(v, ast.BinOp) and isinstance(v.op, ast.Add)]
    for x, y in itertools.combinations([v.right for v in sums if isinstance(v.right, ast.Call)], 2):
        new = [(*text.span(x), text.of(y)), (*text.span(y), text.of(x))]
        yield new, "two added terms in the other order", 3.5


def factors(text: Text) -> Iterator[tuple[list[Change], str, float]]:
    """v += g; p -= c * v  ->  v += c * g; p -= v"""
    changed = [n for n in ast.walk(text.tree) if isinstance(n, ast.AugAssign)]
    for first, last in itertools.combinations(changed, 2):
        n = last.value
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mult):
            for factor, rest in ((n.left, n.right), (n.right, n.left)):
                new = f"{text.whole(factor)} * {text.whole(first.value)}"
                changes = [(*text.span(first.value), new), (*text.span(n), text.of(rest))]
                yield changes, "a factor of a later statement", 3


def throughout(text: Text) -> Iterator[tuple[list[Change], str, float]]:
    """The same exchange at every place of a statement, or of the function."""
    for n in ast.walk(text.tree):
        if not isinstance(n, (ast.Assign, ast.Return, ast.AugAssign)):
            continue
        loads = [m for m in ast.walk(n) if isinstance(m, ast.Name) and isinstance(m.ctx, ast.Load)]
        for one, other in itertools.permutations(sorted({m.id for m in loads}), 2):
            where = [m for m in loads if m.id == one]
            if len(where) > 1:
                yield [(*text.span(m), other) for m in where], "the same name throughout", 4
            if one < other:
                both = [m for m in loads if m.id in (one, other)]
                swapped = {one: other, other: one}
                new = [(*text.span(m), swapped[m.id]) for m in both]
                yield new, "two names exchanged throughout", 3.5
        if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Tuple):
            for x, y in itertools.combinations(n.targets[0].elts, 2):
                new = [(*text.span(x), text.of(y)), (*text.span(y), text.of(x))]
                yield new, "two results exchanged", 3


def handed_on(text: Text) -> Iterator[tuple[list[Change], str, float]]:
    """An argument of one call is that of another call of the same function instead."""
    calls: dict[str, list[ast.Call]] = {}
    for n in ast.walk(text.tree):
        if isinstance(n, ast.Call) and n.args:
            calls.setdefault(text.of(n.func), []).append(n)
    for alike in calls.values():
        for one, other in itertools.permutations(alike, 2):
            there = {k.arg for k in other.keywords}
            for k in one.keywords:
                if k.arg is not None and k.arg not in there:
                    last = text.span(other.args[-1])[1]
                    start = text.source.rindex(",", 0, text.span(k)[0])
                    gone = (start, text.span(k)[1], "")
                    yield [gone, (last, last, f", {text.of(k)}")], "an argument of another call", 3


def mirrored(text: Text) -> Iterator[tuple[list[Change], str, float]]:
    """Everything from the other end: [1:] is [:-1], [:1] is [-1:], and parts are joined turned."""
    slices: list[Change] = []
    for n in ast.walk(text.tree):
        if isinstance(n, ast.Slice) and (n.lower is None) != (n.upper is None) and n.step is None:
            side = n.lower or n.upper
            if isinstance(side, ast.Constant) and type(side.value) is int:
                end = f":{-side.value}" if n.lower is not None else f"{-side.value}:"
                slices.append((*text.span(n), end))

    def turned(n: ast.expr) -> str:
        start, end = text.span(n)
        written = text.source[start:end]
        for a, b, new in sorted(slices, reverse=True):
            if start <= a and b <= end:
                written = written[: a - start] + new + written[b - start :]
        return written

    changes: list[Change] = []
    for n in ast.walk(text.tree):
        if not isinstance(n, ast.Call) or getattr(n.func, "attr", "") != "concatenate":
            continue
        if len(n.args) == 2 and not any(isinstance(x, ast.Starred) for x in n.args):
            (a, b), (c, d) = (text.span(x) for x in n.args)
            changes.append((a, d, turned(n.args[1]) + text.source[b:c] + turned(n.args[0])))
    if changes:
        rest = [s for s in slices if not any(c[0] <= s[0] and s[1] <= c[1] for c in changes)]
        yield changes + rest, "everything from the other end", 4


def of_defaults(text: Text) -> Iterator[tuple[list[Change], str, float]]:
    """Other axes where nobody gives them: a default that is a tuple of whole numbers."""
    arguments = text.tree.args
    for default in (*arguments.defaults, *arguments.kw_defaults):
        if not isinstance(default, ast.Tuple):
            continue
        try:
            value = ast.literal_eval(default)
        except ValueError:
            continue
        if value and all(type(v) is int for v in value):
            moved = [tuple(v + d for v in value) for d in (-1, 1)]
            twice = [(v,) * len(value) for v in value] if len(value) > 1 else []
            for new in (value[::-1], *moved, tuple(v - 3 for v in value), (value[0],), *twice):
                if new != value:
                    yield [(*text.span(default), repr(new))], "other axes", 3
