"""What may be written instead of an expression or a statement: the single edits of a text.

An operator is given a text, an expression of it and the value that stood there in a run, and
yields what to write in its place: a text, or a list of changes elsewhere in the function.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any, NamedTuple

import numpy as np

from minswin.autograd import Tensor
from minswin.crosscheck.edits.helpers import UNARY
from minswin.crosscheck.edits.texts import Change, Edit, Text
from minswin.crosscheck.edits.watching import Place, place
from minswin.layers.base import Layer


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


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────


@operator("another constant", 2)
def constants(s: Spot) -> Yields:
    v, n = s.value, s.node
    if type(v) not in (int, float) or not isinstance(n, (ast.Constant, ast.Name)):
        return
    if isinstance(n, ast.Name) and n.id not in s.text.function.__globals__:
        return
    new: list[Any]
    if type(v) is int:
        new = [v + 1, v - 1, -v, 2 * v, 0, 1]
    else:
        new = [0.0, -v, 2 * v, v / 2, 1.0, v + 1, v - 1]
        new += [1e-3, 1e-5, 1e-6, 1e-8, 1e-12] if 0 < abs(v) < 1e-2 else []
    yield from (repr(w) for w in dict.fromkeys(new) if w != v)


@operator("off by one", 3)
def by_one(s: Spot) -> Yields:
    v, n = s.value, s.node
    if type(v) is int and isinstance(n, (ast.Name, ast.Subscript, ast.BinOp, ast.Attribute)):
        yield from (f"({s.written} + 1)", f"({s.written} - 1)")
    if is_ints(v) and len(v) <= 3 and isinstance(n, (ast.Name, ast.Tuple, ast.Attribute)):
        yield from (f"e_bump({s.written}, {i}, {d})" for i in range(len(v)) for d in (1, -1))


@operator("doubled, halved, negated or not there", 3.5)
def scaled(s: Spot) -> Yields:
    v, n = s.value, s.node
    number = type(v) in (int, float) and isinstance(n, (ast.Name, ast.Subscript, ast.Attribute))
    if number or (isinstance(n, ast.BinOp) and type(v) in (int, float)):
        yield from (f"({s.written} * 2)", f"(-{s.written})", "0", "1")
        if type(v) is int:
            yield f"({s.written} // 2)"
    if is_ints(v) and isinstance(n, (ast.Name, ast.Attribute)) and len(v) == 2:
        yield from (f"{s.written}[::-1]", f"({s.written}[0],) * 2", f"({s.written}[1],) * 2")
        yield from (f"tuple(-x for x in {s.written})", f"tuple(0 * x for x in {s.written})")
        yield from (f"({s.written}[0], 0)", f"(0, {s.written}[1])")


# ── what is left out, exchanged, or in another order ─────────────────────────────────────────────


@operator("left out", 2)
def dropped(s: Spot) -> Yields:
    n = s.node
    if isinstance(n, ast.BinOp):
        yield from (f"({s.text.of(n.left)})", f"({s.text.of(n.right)})")
    if isinstance(n, ast.Call) and n.args and not isinstance(n.args[0], ast.Starred):
        yield s.text.of(n.args[0])
    if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and is_array(s.value):
        yield s.text.of(n.func.value)
    if isinstance(n, ast.UnaryOp):
        yield f"({s.text.of(n.operand)})"
    if isinstance(n, ast.Subscript) and is_array(s.value):
        yield s.text.of(n.value)


@operator("an argument left out", 2.5)
def arguments(s: Spot) -> Yields:
    n = s.node
    if not isinstance(n, ast.Call):
        return
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
    if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.USub):
        return
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
        a, b = s.text.span(n.left)[1], s.text.span(n.right)[0]
        yield f"(({s.text.of(n.right)}){s.text.source[a:b]}({s.text.of(n.left)}))"
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


@operator("two calls in the other order", 2)
def nesting(s: Spot) -> Yields:
    n = s.node
    if not isinstance(n, ast.Call) or len(n.args) != 1 or not isinstance(n.args[0], ast.Call):
        return
    m = n.args[0]
    if m.args:
        inner, outer = s.text.of(m.func), s.text.of(n.func)
        yield f"{inner}({outer}({s.text.of(m.args[0])})" + _rest(s.text, m) + ")"
        if len(m.args) == 1 and isinstance(m.args[0], ast.Call) and len(m.args[0].args) == 1:
            innermost = m.args[0]  # f(g(h(x))) -> g(h(f(x))) and h(f(g(x)))
            last, x = s.text.of(innermost.func), s.text.of(innermost.args[0])
            yield from (f"{inner}({last}({outer}({x})))", f"{last}({outer}({inner}({x})))")


def _rest(text: Text, call: Any) -> str:
    more = [*call.args[1:], *call.keywords]
    return "".join(f", {text.of(x)}" for x in more)


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
        sign = s.text.source[s.text.span(n.left)[1] : s.text.span(n.right)[0]]
        yield f"({s.written}{sign}({s.text.of(n.right)}))"


# ── names ────────────────────────────────────────────────────────────────────────────────────────


@operator("each by itself", 3)
def each(s: Spot) -> Yields:
    """f(xs, …) -> f([x], …) for every x: what is meant for all of them together."""
    n = s.node
    if not isinstance(n, ast.Call) or not n.args or is_array(s.value):
        return
    value = s.value_of(n.args[0])
    if isinstance(value, (list, GeneratorType)):
        xs, rest = s.text.of(n.args[0]), _rest(s.text, n)
        yield f"[{s.text.of(n.func)}([each]{rest}) for each in {xs}]"


@operator("another name", 3)
def names(s: Spot) -> Yields:
    """A name of equal role: of the same kind and shape, that the function has at this point."""
    n = s.node
    if not isinstance(n, ast.Name):
        return
    for other, (at, value) in _names_before(s).items():
        if other != n.id and _alike(value, s.value):
            yield other
            if at == n.lineno:
                continue
    yield from _attributes(s)


def _names_before(s: Spot) -> dict[str, tuple[int, Any]]:
    """Names that were read or are arguments, with a value of theirs."""
    key = id(s.text)
    found: dict[str, tuple[int, Any]] = {}
    for (text, line, column, end, last), value in s.seen.items():
        if text == key and line == end and line <= s.node.lineno + 20:
            written = s.text._rows[line - 1].encode()[column:last].decode()
            if written.isidentifier() and written not in s.text.function.__globals__:
                found.setdefault(written, (line, value))
    return found


def _attributes(s: Spot) -> Iterator[str]:
    owner = next((v for n, (_, v) in _names_before(s).items() if n == "self"), None)
    if isinstance(owner, Layer) and (is_array(s.value) or isinstance(s.value, Layer)):
        for name, value in vars(owner).items():
            if _alike(value, s.value) and value is not s.value:
                yield f"self.{name}"


@operator("a parameter added once more", 4)
def added(s: Spot) -> Yields:
    """x -> (x + self.p), for the arrays that the layer itself has and that fit x's last axes."""
    owner = next((v for n, (_, v) in _names_before(s).items() if n == "self"), None)
    if not isinstance(owner, Layer) or not is_float_array(s.value) or not _is_named_array(s):
        return
    for name, value in vars(owner).items():
        shape = getattr(value, "shape", ()) if is_float_array(value) else ()
        fits = len(shape) <= s.value.ndim and all(
            a in (1, b) for a, b in zip(shape[::-1], s.value.shape[::-1], strict=False)
        )
        if shape and fits:
            yield f"({s.written} + self.{name})"


@operator("another attribute", 2)
def attributes(s: Spot) -> Yields:
    n = s.node
    if not isinstance(n, ast.Attribute) or isinstance(s.value, type):
        return
    owner = s.value_of(n.value)
    for name, value in getattr(owner, "__dict__", {}).items():
        if name != n.attr and _alike(value, s.value):
            yield f"{s.text.of(n.value)}.{name}"


def _alike(a: Any, b: Any) -> bool:
    if is_array(a) and is_array(b):
        return bool(a.shape == b.shape and a.dtype.kind == b.dtype.kind)
    if isinstance(a, Layer) or isinstance(b, Layer):
        return type(a) is type(b)
    if type(a) is not type(b) or isinstance(a, (bool, str, type(None))):
        return False
    return isinstance(a, (int, float)) or (is_ints(a) and is_ints(b) and len(a) == len(b))


@operator("an earlier value of the name", 3)
def earlier(s: Spot) -> Yields:
    """x as it was before it was last assigned: a residual taken from further in front."""
    n = s.node
    if not isinstance(n, ast.Name) or not is_array(s.value):
        return
    for statement in ast.walk(s.text.tree):
        if not isinstance(statement, ast.Assign) or (statement.end_lineno or 0) >= n.lineno:
            continue
        targets = [t.id for t in ast.walk(statement.targets[0]) if isinstance(t, ast.Name)]
        if n.id in targets:
            start = s.text.row(statement)[0]
            indent = " " * statement.col_offset
            yield [(start, start, f"{indent}e_before = {n.id}\n"), (*s.text.span(n), "e_before")]


# ── other functions ──────────────────────────────────────────────────────────────────────────────

SIBLINGS = {
    "gelu": ("gelu_tanh", "relu", "silu", "gelu_sigmoid", "tanh", "sigmoid", "elu", "softplus",
             "mish", "leaky", "relu6", "hard_swish"),
    "relu": ("abs", "silu", "leaky", "relu6", "sigmoid", "tanh", "elu", "softplus", "square"),
    "tanh": ("sigmoid", "relu"), "sigmoid": ("tanh", "hard_sigmoid", "exp", "softplus"),
    "exp": ("softplus", "sigmoid", "square"), "sqrt": ("square", "log1p", "abs"),
    "log2": ("log", "log10", "log1p", "sqrt"), "log": ("log2", "log10", "log1p"),
    "sign": ("tanh", "abs"), "erf": ("tanh",), "cos": ("line",),
}  # fmt: skip
REDUCTIONS = ("sum", "mean", "max", "min", "first", "last", "median", "length", "std", "var")


@operator("another function", 2)
def siblings(s: Spot) -> Yields:
    n = s.node
    if not isinstance(n, ast.Call):
        return
    name = n.func.attr if isinstance(n.func, ast.Attribute) else getattr(n.func, "id", "")
    if name == "clip_gradients" and len(n.args) == 2:
        yield f"e_clamped({s.text.of(n.args[0])}, {s.text.of(n.args[1])})"
    if name in SIBLINGS and n.args:
        x = s.text.of(n.args[0])
        yield from (f"e_unary({x}, {other!r})" for other in SIBLINGS[name])
        if name == "gelu":
            yield from (f"ops.gelu_tanh({x})",) if "gelu_tanh" in UNARY else ()
    if name in ("sum", "mean", "max", "var") and isinstance(n.func, ast.Attribute):
        module = s.text.of(n.func.value) in ("np", "xp", "ops")
        x = s.text.of(n.args[0]) if module else s.text.of(n.func.value)
        rest = [*(n.args[1:] if module else n.args), *n.keywords]
        more = "".join(f", {s.text.of(r)}" for r in rest)
        yield from (f"e_reduced({x}, {other!r}{more})" for other in REDUCTIONS if other != name)
    if name == "softmax" and n.args and is_array(s.value):
        x = s.text.of(n.args[0])
        yield from (f"e_softmax({x}, {axis})" for axis in range(s.value.ndim - 1))
        yield f"e_softmax({x}, -1, True)"
    if name == "transpose" and isinstance(n.func, ast.Attribute):
        yield f"e_as_shape({s.text.of(n.func.value)}, {s.written})"


@operator("a reduction in the place of an element", 3)
def reduced(s: Spot) -> Yields:
    """x[:, 0] -> x.mean(axis=1), or that of all but the first or the last."""
    n = s.node
    if not isinstance(n, ast.Subscript) or not is_float_array(s.value):
        return
    index = n.slice.elts if isinstance(n.slice, ast.Tuple) else [n.slice]
    axis = len(index) - 1
    if not isinstance(index[-1], ast.Constant) or type(index[-1].value) is not int:
        return
    if not all(isinstance(i, ast.Slice) and i.lower is i.upper is None for i in index[:-1]):
        return
    x = s.text.of(n.value)
    for y in (x, f"e_without({x}, {axis}, False)", f"e_without({x}, {axis}, True)"):
        yield from (f"e_reduced({y}, {name!r}, axis={axis})" for name in ("mean", "max", "sum"))


@operator("a reduction over another axis", 2.5)
def other_axes(s: Spot) -> Yields:
    up = s.up
    if not (isinstance(up, ast.keyword) and up.arg == "axis"):
        return
    axes = [-1, -2, 0, 1, 2, (1, 2), (0, 1), None]
    yield from (repr(a) for a in axes if a != s.value)


# ── an operation at another place ────────────────────────────────────────────────────────────────

SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


@operator("an operation comes later", 3)
def later(s: Spot) -> Yields:
    n = s.node
    if isinstance(n, ast.BinOp) and type(n.op) in SIGNS and is_array(s.value):
        sign = SIGNS[type(n.op)]
        yield from _later(s, n, s.text.of(n.left), f" {sign} ({s.text.of(n.right)})")
        if sign in "+*":
            yield from _later(s, n, s.text.of(n.right), f" {sign} ({s.text.of(n.left)})")
    if isinstance(n, ast.Call):  # f(g(x, bias)) -> f(g(x, None)) + bias
        for argument in n.args[1:]:
            if is_array(s.value_of(argument)):
                yield from _later(s, argument, "None", f" + {s.text.of(argument)}", start=n)
        if len(n.args) == 1 and not n.keywords and is_float_array(s.value):
            yield from _around(s, n, s.text.of(n.func), s.text.of(n.args[0]))


def _around(s: Spot, n: Any, f: str, x: str) -> Iterator[list[Change]]:
    """x + g(f(x)) -> f(x + g(x)), or f(x + g(f(x))), around each expression that it stands in."""
    (a, b), around = s.text.span(n), s.text.parents.get(n)
    while isinstance(around, ast.expr):
        (c, d) = s.text.span(around)
        if is_float_array(s.value_of(around)):
            for inner in (x, s.written):
                yield [(c, d, f"{f}({s.text.source[c:a]}{inner}{s.text.source[b:d]})")]
        around = s.text.parents.get(around)


def _later(s: Spot, n: Any, stays: str, moved: str, start: Any = None) -> Iterator[list[Change]]:
    """The operation behind each expression around it, and behind each statement that follows."""
    (a, b), around = s.text.span(n), s.text.parents.get(start or n)
    while isinstance(around, ast.expr):
        (c, d) = s.text.span(around)
        inside = s.text.source[c:a] + stays + s.text.source[b:d]
        yield [(c, d, f"(({inside}){moved})")]
        around = s.text.parents.get(around)
    line = n.lineno
    for statement in ast.walk(s.text.tree):
        value = getattr(statement, "value", None)
        follows = isinstance(statement, (ast.Assign, ast.Return)) and statement.lineno > line
        if follows and value is not None and is_float_array(s.value_of(value)):
            c, d = s.text.span(value)
            yield [(a, b, stays), (c, d, f"(({s.text.source[c:d]}){moved})")]


@operator("an operation comes earlier", 3)
def sooner(s: Spot) -> Yields:
    """f(x) + c -> f(x + c), for every x in it of the same shape."""
    n = s.node
    if not isinstance(n, ast.BinOp) or type(n.op) not in SIGNS or not is_float_array(s.value):
        return
    sign, (a, b) = SIGNS[type(n.op)], s.text.span(n)
    for inner in ast.walk(n.left):
        if inner is not n.left and isinstance(inner, ast.expr):
            value = s.value_of(inner)
            if is_float_array(value) and not isinstance(s.text.parents.get(inner), ast.Attribute):
                c, d = s.text.span(inner)
                left = s.text.span(n.left)
                new = f"({s.text.source[c:d]} {sign} ({s.text.of(n.right)}))"
                yield [(a, b, s.text.source[left[0] : c] + new + s.text.source[d : left[1]])]


# ── arrays ───────────────────────────────────────────────────────────────────────────────────────


def _is_named_array(s: Spot) -> bool:
    """Where an array is handed on by its name, or as the result of a call to another call."""
    up = s.up
    if isinstance(up, ast.Attribute) and up.attr in ("reshape", "mean"):
        return is_array(s.value) and isinstance(s.node, ast.Name)
    if not is_array(s.value) or isinstance(up, ast.Attribute):
        return False
    if isinstance(s.node, ast.Call):
        return isinstance(up, (ast.Call, ast.Return))
    return isinstance(s.node, (ast.Name, ast.Attribute)) and not isinstance(up, ast.Subscript)


@operator("another order of an array", 4.5)
def orders(s: Spot) -> Yields:
    if not _is_named_array(s):
        return
    axes = [i for i in range(s.value.ndim) if s.value.shape[i] > 1]
    for i, j in itertools.combinations(axes, 2):
        yield f"e_reread({s.written}, {i}, {j})"
        if s.value.shape[i] == s.value.shape[j] or len(axes) == 2:
            yield f"e_swapped({s.written}, {i}, {j})"
    for i in axes:
        yield from (f"e_without({s.written}, {i}, True)", f"e_first_for_all({s.written}, {i})")


@operator("channels interleaved", 4.5)
def interleaved(s: Spot) -> Yields:
    """The last axis as (n, C/n), written as (C/n, n): heads that are taken apart the other way."""
    if not is_float_array(s.value) or not _is_named_array(s):
        return
    channels, seen = s.value.shape[-1], (v for p, v in s.seen.items() if p[0] == id(s.text))
    for n in {v for v in seen if type(v) is int and 1 < v < channels and channels % v == 0}:
        yield from (
            f"e_interleaved({s.written}, {n})",
            f"e_interleaved({s.written}, {channels // n})",
        )


@operator("another place of an array", 6)
def places(s: Spot) -> Yields:
    if not _is_named_array(s) or isinstance(s.node, ast.Call):
        return
    axes = [i for i in range(s.value.ndim) if s.value.shape[i] > 1]
    yield from (f"e_written({s.written}, {i}, {j})" for i, j in itertools.combinations(axes, 2))
    for i in axes:
        yield from (f"e_flipped({s.written}, {i})", f"e_rolled({s.written}, 1, {i})")
        yield from (f"e_rolled({s.written}, -1, {i})", f"e_without({s.written}, {i}, False)")
        yield f"e_zeroed({s.written}, {i}, 0)"


@operator("another range of the image", 4)
def ranges(s: Spot) -> Yields:
    image = is_float_array(s.value) and s.value.ndim == 4 and s.value.shape[1] == 3
    if image and isinstance(s.node, ast.Name):
        yield f"e_normalized({s.written})"
        yield from (f"(({s.written} + 1) / 2)", f"({s.written} * 2 - 1)")


@operator("in half precision", 4)
def half(s: Spot) -> Yields:
    n = s.node
    if isinstance(n, ast.Call) and is_float_array(s.value) and n.args:
        inside = s.written[len(s.text.of(n.func)) + 1 :]
        if is_float_array(s.value_of(n.args[0])):
            yield from (f"e_cast({s.text.of(n.func)}, {r}, {inside}" for r in ("e_half", "e_brain"))
    elif isinstance(n, ast.BinOp) and is_float_array(s.value):
        yield from (f"e_half({s.written})", f"e_brain({s.written})")


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


def throughout(text: Text) -> Iterator[tuple[list[Change], str, float]]:
    """The same exchange at every place of a statement, or of the function."""
    for n in ast.walk(text.tree):
        if not isinstance(n, (ast.Assign, ast.Return, ast.AugAssign)):
            continue
        loads = [m for m in ast.walk(n) if isinstance(m, ast.Name) and isinstance(m.ctx, ast.Load)]
        for one, other in itertools.permutations({m.id for m in loads}, 2):
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


ARRAYS = (orders, interleaved, places, ranges, half, added)


def edits_of(
    text: Text, seen: dict[Place, Any], *, of_arrays: bool = True, nested: bool = False
) -> list[Edit]:
    """All edits of what was run, one for each new text, the simplest first."""
    found: dict[str, Edit] = {}

    def enter(changes: list[Change], words: str, rank: float) -> None:
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
        for words, rank, make in OPERATORS:
            if make in ARRAYS and not of_arrays:
                continue
            for new in make(spot):
                enter(new if isinstance(new, list) else [(*text.span(n), new)], words, rank)
    for changes, words, rank in (*statements(text), *throughout(text), *mirrored(text)):
        enter(changes, words, rank)
    return sorted(found.values(), key=lambda e: e.cost)
