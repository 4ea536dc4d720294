"""Small edits of an expression: another number, left out, exchanged, in another order."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from minswin.crosscheck.bounds import MASKED
from minswin.crosscheck.edits.spots import (
    SIGNS,
    Spot,
    Yields,
    is_array,
    is_float_array,
    is_ints,
    is_number,
    operator,
    rest_of,
)
from minswin.crosscheck.edits.texts import Change

# ── numbers ──────────────────────────────────────────────────────────────────────────────────────


@operator("another constant", 2, ast.Constant, ast.Name, of=is_number)
def constants(s: Spot) -> Yields:
    v, n = s.value, s.node
    if isinstance(n, ast.Name) and n.id not in s.text.function.__globals__:
        return
    new: list[Any]
    if type(v) is int:
        new = [v + 1, v - 1, -v, 2 * v, 0, 1]
    else:
        new = [0.0, -v, 2 * v, v / 2, 1.0, v + 1, v - 1]
        new += [1e-3, 1e-5, 1e-6, 1e-8, 1e-12] if 0 < abs(v) < 1e-2 else []
    yield from (repr(w) for w in dict.fromkeys(new) if w != v)


@operator("another axis of a shape", 2.5, ast.Subscript, of=is_number)
def axes_of_shapes(s: Spot) -> Yields:
    """x.shape[i] -> x.shape[j], j counted from the end where i is."""
    n = s.node
    if isinstance(n.value, ast.Attribute):
        shape, own = s.value_of(n.value), s.value_of(n.slice)
        if n.value.attr == "shape" and is_ints(shape) and type(own) is int:
            every = range(-len(shape), 0) if own < 0 else range(len(shape))
            yield from ([(*s.text.span(n.slice), str(i))] for i in every if shape[i] != s.value)


@operator("padded at the bottom and the right", 3, ast.Call, of=is_float_array)
def one_sided(s: Spot) -> Yields:
    """f(x, padding=(p, q)), of which none, or p - 1, is in front of x: SAME of TensorFlow."""
    n = s.node
    sides: Any = {k.arg: s.value_of(k.value) for k in n.keywords}.get("padding")
    if n.args and is_ints(sides):
        f, inside = s.text.of(n.func), s.written[len(s.text.of(n.func)) + 1 :]
        least = sorted({0, max(min(sides) - 1, 0)})
        yield from (f"e_padded({f}, {before}, {inside}" for before in least if max(sides) > 0)


@operator("off by one", 3)
def by_one(s: Spot) -> Yields:
    v, n = s.value, s.node
    if type(v) is int and isinstance(n, (ast.Name, ast.Subscript, ast.BinOp, ast.Attribute)):
        yield from (f"({s.written} + 1)", f"({s.written} - 1)")
    if is_ints(v) and len(v) <= 3 and isinstance(n, (ast.Name, ast.Tuple, ast.Attribute)):
        yield from (f"e_bump({s.whole}, {i}, {d})" for i in range(len(v)) for d in (1, -1))


@operator("doubled, halved, negated or not there", 3.5)
def scaled(s: Spot) -> Yields:
    v, n = s.value, s.node
    if is_number(v) and isinstance(n, (ast.Name, ast.Subscript, ast.Attribute, ast.BinOp)):
        yield from (f"({s.whole} * 2)", f"(-{s.whole})", "0", "1")
        if type(v) is int:
            yield f"({s.whole} // 2)"
    if is_ints(v) and isinstance(n, (ast.Name, ast.Attribute)) and len(v) == 2:
        yield from (f"{s.written}[::-1]", f"(({s.written}[0],) * 2)", f"(({s.written}[1],) * 2)")
        yield from (f"tuple(-x for x in {s.written})", f"tuple(0 * x for x in {s.written})")
        yield from (f"({s.written}[0], 0)", f"(0, {s.written}[1])")


# ── what is left out, exchanged, or in another order ─────────────────────────────────────────────


@operator("left out", 2)
def dropped(s: Spot) -> Yields:
    n = s.node
    if isinstance(n, ast.BinOp) and not isinstance(n.op, ast.MatMult):
        yield from (f"({s.text.of(n.left)})", f"({s.text.of(n.right)})")
    if isinstance(n, ast.Call) and n.args and not isinstance(n.args[0], ast.Starred):
        yield s.in_place(n.args[0])
    if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and is_array(s.value):
        yield s.in_place(n.func.value)
    if isinstance(n, ast.UnaryOp):
        yield f"({s.text.of(n.operand)})"
    if isinstance(n, ast.Subscript) and is_array(s.value):
        yield s.text.of(n.value)


@operator("the length for what is divided by it", 3, ast.BinOp, of=is_array)
def lengths(s: Spot) -> Yields:
    """x / ‖x‖ -> ‖x‖, as a function that is called norm gives it."""
    if isinstance(s.node.op, ast.Div):
        x, length = (s.value_of(n) for n in (s.node.left, s.node.right))
        if is_array(x) and is_array(length) and length.shape == (*x.shape[:-1], 1) != x.shape:
            yield f"e_alone({s.text.of(s.node.right)}, {s.text.of(s.node.left)})"


@operator("its numbers left out", 3.5, ast.BinOp, of=is_array)
def bare(s: Spot) -> Yields:
    """(x + a) * b + (y + c) -> x + y: in an array, whatever is one number alone."""
    if not isinstance(s.up, ast.BinOp):
        sums = [n for n in ast.walk(s.node) if isinstance(n, ast.BinOp)]
        if sum(is_array(s.value_of(n.left)) != is_array(s.value_of(n.right)) for n in sums) > 1:
            yield _bare(s, s.node)


def _bare(s: Spot, n: ast.expr) -> str:
    if not isinstance(n, ast.BinOp) or isinstance(n.op, ast.MatMult):
        return s.text.whole(n)
    parts = [x for x in (n.left, n.right) if is_array(s.value_of(x))]
    if len(parts) == 1:
        return _bare(s, parts[0])
    return f"({_bare(s, n.left)} {SIGNS[type(n.op)]} {_bare(s, n.right)})"


@operator("a matrix product left out", 2.5, ast.BinOp)
def products(s: Spot) -> Yields:
    if isinstance(s.node.op, ast.MatMult):
        yield from (f"({s.text.of(s.node.left)})", f"({s.text.of(s.node.right)})")


@operator("an argument left out", 2.5, ast.Call)
def arguments(s: Spot) -> Yields:
    n = s.node
    for argument in n.args[1:]:
        if is_array(s.value_of(argument)):
            yield [(*s.text.span(argument), "None")]
    parts = [*n.args, *n.keywords]
    for i, keyword in enumerate(parts):
        if isinstance(keyword, ast.keyword) and i:
            before = s.text.span(parts[i - 1])[1]
            yield [(before, s.text.span(keyword)[1], "")]


@operator("another operation", 2)
def operations(s: Spot) -> Yields:
    n = s.node
    if isinstance(n, ast.BinOp):
        new = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "%", "%": "//", "**": "*"}
        yield from _with_sign(s, n.left, n.right, new)
    if isinstance(n, ast.Compare) and len(n.ops) == 1:
        new = {"==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">"}
        yield from _with_sign(s, n.left, n.comparators[0], new)


def _with_sign(s: Spot, left: Any, right: Any, new: dict[str, str]) -> Iterator[list[Change]]:
    a, b = s.text.span(left)[1], s.text.span(right)[0]
    between = s.text.source[a:b]
    for sign in sorted(new, key=len, reverse=True):
        if sign in between:
            yield [(a, b, between.replace(sign, new[sign], 1))]
            return


@operator("a product for a sum", 2.5, ast.BinOp)
def sums_and_products(s: Spot) -> Yields:
    """x + y -> x * y of two arrays, and the other way."""
    n = s.node
    if all(is_array(s.value_of(x)) for x in (n.left, n.right)):
        yield from _with_sign(s, n.left, n.right, {"+": "*", "*": "+"})


@operator("a condition", 3)
def conditions(s: Spot) -> Yields:
    up = s.up
    if isinstance(up, (ast.If, ast.IfExp)) and up.test is s.node:
        yield from ("True", "False", f"not ({s.written})")
    elif isinstance(s.value, bool) and isinstance(s.node, (ast.Compare, ast.Name, ast.Attribute)):
        yield from (f"(not {s.written})", "True", "False")
    if isinstance(s.node, ast.BoolOp):
        yield from (s.text.of(v) for v in s.node.values)


@operator("exchanged", 3)
def exchanged(s: Spot) -> Yields:
    n = s.node
    if isinstance(n, ast.BinOp):
        yield f"(({s.text.of(n.right)}) {SIGNS[type(n.op)]} ({s.text.of(n.left)}))"
    several = n.args if isinstance(n, ast.Call) else getattr(n, "elts", [])
    several = [x for x in several if not isinstance(x, ast.Starred)]
    for x, y in itertools.combinations(several, 2):
        if s.text.of(x) != s.text.of(y):
            yield [(*s.text.span(x), s.text.of(y)), (*s.text.span(y), s.text.of(x))]


@operator("one for both", 3)
def repeated(s: Spot) -> Yields:
    several = getattr(s.node, "elts", []) if isinstance(s.node, (ast.Tuple, ast.List)) else []
    several = s.node.args if isinstance(s.node, ast.Call) else several
    for x, y in itertools.permutations(several, 2):
        if not isinstance(x, ast.Starred) and s.text.of(x) != s.text.of(y):
            yield [(*s.text.span(x), s.text.of(y))]


@operator("two calls in the other order", 2, ast.Call)
def nesting(s: Spot) -> Yields:
    n = s.node
    if len(n.args) != 1 or not isinstance(n.args[0], ast.Call):
        return
    m = n.args[0]
    if m.args:
        inner, outer = s.text.of(m.func), s.text.of(n.func)
        yield f"{inner}({outer}({s.text.of(m.args[0])})" + rest_of(s.text, m) + ")"
        if len(m.args) == 1 and isinstance(m.args[0], ast.Call) and len(m.args[0].args) == 1:
            innermost = m.args[0]  # f(g(h(x))) -> g(h(f(x))) and h(f(g(x)))
            last, x = s.text.of(innermost.func), s.text.of(innermost.args[0])
            yield from (f"{inner}({last}({outer}({x})))", f"{last}({outer}({inner}({x})))")


@operator("twice", 3)
def twice(s: Spot) -> Yields:
    n = s.node
    if isinstance(n, ast.Call) and n.args and not isinstance(n.args[0], ast.Starred):
        same = getattr(s.value_of(n.args[0]), "shape", 0) == getattr(s.value, "shape", 1)
        if same and is_float_array(s.value):
            a, b = s.text.span(n.args[0])
            start, end = s.text.span(n)
            yield s.text.source[start:a] + s.written + s.text.source[b:end]
    if isinstance(n, ast.BinOp) and is_float_array(s.value):
        yield f"({s.whole} {SIGNS[type(n.op)]} ({s.text.of(n.right)}))"


@operator("a residual counted twice", 3, ast.BinOp, of=is_float_array)
def doubled(s: Spot) -> Yields:
    """x + f(x) -> x + x + f(x), or f(x) + f(x)."""
    n = s.node
    if isinstance(n.op, ast.Add) and isinstance(n.left, ast.Name):
        start, _ = s.text.span(n)
        yield [(start, start, f"{n.left.id} + ")]
        yield [(start, s.text.span(n.right)[0], "2 * ")]


@operator("0 where it is masked", 3, ast.BinOp, of=is_float_array)
def unmasked(s: Spot) -> Yields:
    """Scores that a mask of zeros and ones multiplies, where one of −100 should be added."""
    x = np.asarray(getattr(s.value, "data", s.value))
    if x.min(initial=0) <= MASKED < x.max(initial=MASKED):
        yield f"e_unmasked({s.written})"


@operator("masked behind the softmax", 3, ast.Call, of=is_float_array)
def masked_late(s: Spot) -> Yields:
    """softmax(x + mask) -> softmax(x) + mask, or softmax(x), 0 where it is masked."""
    n = s.node
    if len(n.args) == 1:
        x = np.asarray(getattr(s.value_of(n.args[0]), "data", None))
        if x.dtype.kind == "f" and x.shape == s.value.shape and x.min(initial=0) <= MASKED:
            f, inside = s.text.of(n.func), s.text.of(n.args[0])
            yield from (f"e_masked_late({f}, {inside}, {add})" for add in (True, False))


# ── what is there once more ──────────────────────────────────────────────────────────────────────

LIMITS = (1, 5, 10, 50, 100)


@operator("cut off", 3.5, ast.BinOp, ast.Call, of=is_float_array)
def clipped(s: Spot) -> Yields:
    """x -> clip(x, ±c), where that changes anything."""
    x = np.asarray(getattr(s.value, "data", s.value))
    largest = float(np.max(np.abs(x), initial=0))
    yield from (f"e_clipped({s.written}, -{c}, {c})" for c in LIMITS if c < largest)
    if x.min(initial=0) < 0:
        yield f"e_clipped({s.written}, 0, np.inf)"
    if x.max(initial=0) > 1 and x.min(initial=0) >= 0:
        yield f"e_clipped({s.written}, 0, 1)"


@operator("an activation once more", 4, ast.Call, of=is_float_array)
def activated(s: Spot) -> Yields:
    if s.in_a_layer:
        yield from (f"e_unary({s.written}, {f!r})" for f in ("gelu", "tanh", "sigmoid"))


@operator("a softmax behind it", 4, ast.Call, of=is_float_array)
def made_probabilities(s: Spot) -> Yields:
    """f(x) -> softmax(f(x)), or its logarithm, of one vector for each image: of logits."""
    if s.value.ndim == 2 and s.in_a_layer:
        yield from (f"e_softmax({s.written}, -1{how})" for how in ("", ", 'log'"))


@operator("a residual once more", 3.5, ast.Call, of=is_float_array)
def added_to_itself(s: Spot) -> Yields:
    """f(x) -> x + f(x), where both have one shape."""
    for argument in s.node.args[:1]:
        x = s.value_of(argument)
        if is_float_array(x) and x.shape == s.value.shape:
            yield f"({s.text.whole(argument)} + {s.written})"


@operator("one more, or less", 4, ast.BinOp, ast.Call, of=is_float_array)
def one_more(s: Spot) -> Yields:
    if not s.in_a_layer:
        yield from (f"({s.written} + 1)", f"({s.written} - 1)")


@operator("a square or a root once more", 4, ast.BinOp, ast.Call)
def to_a_power(s: Spot) -> Yields:
    """x -> x², √x of a number, or in a definition"""
    if type(s.value) is float or (is_float_array(s.value) and not s.in_a_layer):
        yield from (f"({s.whole} ** 2)", f"({s.whole} ** 0.5)")
