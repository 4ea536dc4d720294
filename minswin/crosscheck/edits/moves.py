"""Operations at another place, and arrays in another order."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from typing import Any

from minswin.crosscheck.edits.spots import (
    SIGNS,
    Place,
    Spot,
    Yields,
    is_array,
    is_float_array,
    is_ints,
    operator,
    place,
)
from minswin.crosscheck.edits.texts import CLOSED, Change, Edit, Text

# ── an operation at another place ────────────────────────────────────────────────────────────────

PLAIN = ("+", "-", "*", "/")


@operator("an operation comes later", 3)
def later(s: Spot) -> Yields:
    n = s.node
    sign = SIGNS[type(n.op)] if isinstance(n, ast.BinOp) else ""
    if sign in PLAIN and is_array(s.value):
        yield from _later(s, n, s.text.whole(n.left), f" {sign} ({s.text.of(n.right)})")
        if sign in "+*":
            yield from _later(s, n, s.text.whole(n.right), f" {sign} ({s.text.of(n.left)})")
    if isinstance(n, ast.Call):  # f(g(x, bias)) -> f(g(x, None)) + bias
        for argument in n.args[1:]:
            if is_array(s.value_of(argument)):
                yield from _later(s, argument, "None", f" + {s.text.of(argument)}", start=n)
        whole = len(n.args) == 1 and not n.keywords and is_float_array(s.value)
        if whole and is_float_array(s.value_of(n.args[0])):
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
        if is_array(s.value_of(around)):
            inside = s.text.source[c:a] + stays + s.text.source[b:d]
            yield [(c, d, f"(({inside}){moved})")]
        around = s.text.parents.get(around)
    line = n.lineno
    for statement in ast.walk(s.text.tree):
        if not isinstance(statement, (ast.Assign, ast.Return)) or statement.lineno <= line:
            continue
        value = statement.value  # or each of those that are given together: return y, vjp
        for one in value.elts if isinstance(value, ast.Tuple) else [value]:
            if one is not None and is_float_array(s.value_of(one)):  # None: a bare return
                c, d = s.text.span(one)
                yield [(a, b, stays), (c, d, f"(({s.text.source[c:d]}){moved})")]


@operator("an operation comes earlier", 3, ast.BinOp, of=is_float_array)
def sooner(s: Spot) -> Yields:
    """f(x) + c -> f(x + c), for every x in it of the same shape."""
    n = s.node
    sign = SIGNS[type(n.op)]
    if sign not in PLAIN:
        return
    a, b = s.text.span(n)
    for inner in ast.walk(n.left):
        if inner is not n.left and isinstance(inner, ast.expr):
            value = s.value_of(inner)
            if is_float_array(value) and not isinstance(s.text.parents.get(inner), ast.Attribute):
                c, d = s.text.span(inner)
                left = s.text.span(n.left)
                new = f"({s.text.whole(inner)} {sign} ({s.text.of(n.right)}))"
                moved = s.text.source[left[0] : c] + new + s.text.source[d : left[1]]
                yield [(a, b, moved if isinstance(n.left, CLOSED) else f"({moved})")]


@operator("an operation on another argument too", 3, ast.Call, of=is_float_array)
def on_others(s: Spot) -> Yields:
    """f(a * x, b) -> f(a * x, b * x); f(g(a), b) -> f(g(a), g(b))."""
    for _, there in _of_another(s):
        yield [there]


@operator("an operation of another argument", 3.5, ast.Call, of=is_float_array)
def of_others(s: Spot) -> Yields:
    """f(a * x, b) -> f(a, b * x); f(g(a), b) -> f(a, g(b))."""
    for here, there in _of_another(s):
        yield [here, there]


def _of_another(s: Spot) -> Iterator[tuple[Change, Change]]:
    """What takes an operation away from an argument, and what does it to another."""
    for one, other in itertools.permutations(s.node.args, 2):
        if not is_float_array(s.value_of(other)):
            continue
        sign = SIGNS[type(one.op)] if isinstance(one, ast.BinOp) else ""
        if isinstance(one, ast.BinOp) and sign in ("*", "/"):
            new = f"{s.text.whole(other)} {sign} ({s.text.of(one.right)})"
            yield (*s.text.span(one), s.text.of(one.left)), (*s.text.span(other), new)
        for call in (m for m in ast.walk(one) if isinstance(m, ast.Call)):
            if len(call.args) == 1 and not call.keywords and is_float_array(s.value_of(call)):
                new = f"{s.text.of(call.func)}({s.text.of(other)})"
                yield (*s.text.span(call), s.text.of(call.args[0])), (*s.text.span(other), new)


# ── arrays ───────────────────────────────────────────────────────────────────────────────────────


@operator("another order of an array", 4.5, named=True, of_arrays=True)
def orders(s: Spot) -> Yields:
    axes = s.axes
    for i, j in itertools.combinations(axes, 2):
        yield f"e_reread({s.written}, {i}, {j})"
        if s.value.shape[i] == s.value.shape[j] or len(axes) == 2:
            yield f"e_swapped({s.written}, {i}, {j})"
    for i in axes:
        yield from (f"e_without({s.written}, {i}, True)", f"e_first_for_all({s.written}, {i})")


@operator("a reshape in the place of a part of a transposition", 3, ast.Call, of=is_array)
def partly_transposed(s: Spot) -> Yields:
    """Two axes that are exchanged, and lie side by side afterwards, are read as if they were not.

    x.transpose(2, 0, 3, 1, 4) -> x.transpose(2, 0, 1, 3, 4).reshape(…): heads cut by a reshape.
    """
    n = s.node
    if getattr(n.func, "attr", "") != "transpose" or s.value.ndim < 4:
        return
    axes = s.value_of(n.args[0].value if isinstance(n.args[0], ast.Starred) else n.args[0])
    axes = axes if is_ints(axes) else tuple(s.value_of(a) for a in n.args)
    if not is_ints(axes) or sorted(axes) != list(range(s.value.ndim)):
        return
    for i in range(len(axes) - 1):
        if axes[i] > axes[i + 1] and sum(a > b for a, b in itertools.pairwise(axes)) > 1:
            other = (*axes[:i], axes[i + 1], axes[i], *axes[i + 2 :])
            yield f"e_as_shape({s.text.of(n.func.value)}.transpose{other}, {s.written})"


@operator("channels interleaved", 4.5, of=is_float_array, named=True, of_arrays=True)
def interleaved(s: Spot) -> Yields:
    """The last axis as (n, C/n), written as (C/n, n): heads that are taken apart the other way.

    Or as (n, 3, …), written as (3, n, …): q, k and v of one head side by side; so of two.
    """
    channels, seen = s.value.shape[-1], (v for p, v in s.seen.items() if p[0] == id(s.text))
    for n in sorted({v for v in seen if type(v) is int and 1 < v < channels and not channels % v}):
        yield from (f"e_interleaved({s.written}, {m})" for m in (n, channels // n))
        for parts in (p for p in (2, 3) if not channels % (n * p) and n * p < channels):
            for a, b in ((n, parts), (parts, n)):
                yield f"e_interleaved({s.written}, {a}, {b})"


@operator(
    "blocks of elements that stand far apart", 4.5, of=is_float_array, named=True, of_arrays=True
)
def far_apart(s: Spot) -> Yields:
    """Patches, windows or neighbours of a map cut as (h, H/h), where (H/h, h) is meant."""
    if s.value.ndim != 4:
        return
    seen = {v for p, v in s.seen.items() if p[0] == id(s.text) and is_ints(v) and len(v) == 2}
    for i in (1, 2):
        H, W = s.value.shape[i : i + 2]
        for h, w in sorted(p for p in seen if min(p) > 1 and not (H % p[0] or W % p[1])):
            if (h, w) != (H, W):
                yield f"e_far_apart({s.written}, {i}, {h}, {w})"


@operator("another place of an array", 6, ast.Name, ast.Attribute, named=True, of_arrays=True)
def places(s: Spot) -> Yields:
    yield from read_otherwise(s)
    for i in s.axes:
        yield from (f"e_flipped({s.written}, {i})", f"e_rolled({s.written}, 1, {i})")
        yield from (f"e_rolled({s.written}, -1, {i})", f"e_without({s.written}, {i}, False)")
        yield f"e_zeroed({s.written}, {i}, 0)"


@operator(
    "read as if two axes were exchanged",
    4.5,
    ast.Call,
    of=is_float_array,
    named=True,
    of_arrays=True,
)
def read_otherwise(s: Spot) -> Yields:
    """What a call gives, channels last, taken for channels first: places() has it for names."""
    pairs = itertools.combinations(s.axes, 2)
    yield from (f"e_written({s.written}, {i}, {j})" for i, j in pairs)


@operator("another range of the image", 4, ast.Name, of=is_float_array, of_arrays=True)
def ranges(s: Spot) -> Yields:
    if s.value.ndim == 4 and s.value.shape[1] == 3:
        yield f"e_normalized({s.written})"
        yield from (f"(({s.written} + 1) / 2)", f"({s.written} * 2 - 1)")


@operator("in half precision", 4, ast.Call, ast.BinOp, of=is_float_array, of_arrays=True)
def half(s: Spot) -> Yields:
    n = s.node
    if isinstance(n, ast.Call) and n.args:
        inside = s.written[len(s.text.of(n.func)) + 1 :]
        if is_float_array(s.value_of(n.args[0])):
            yield from (f"e_cast({s.text.of(n.func)}, {r}, {inside}" for r in ("e_half", "e_brain"))
    elif isinstance(n, ast.BinOp):
        yield from (f"e_half({s.written})", f"e_brain({s.written})")


@operator("along other axes", 4, ast.Call, of=is_float_array)
def along_others(s: Spot) -> Yields:
    """f(q, k, v) of heads for tokens, or of channels for tokens."""
    n, shape = s.node, s.value.shape
    alike = [x for x in map(s.value_of, n.args) if getattr(x, "shape", 0) == shape]
    if len(shape) == 4 and len(alike) > 1:
        rest = s.written[len(s.text.of(n.func)) + 1 :]
        for order in itertools.permutations((1, 2, 3)):
            if order != (1, 2, 3):
                yield f"e_along({s.text.of(n.func)}, {(0, *order)}, {rest}"


# ── along the images: one image alone shows nothing of these ─────────────────────────────────────


def along_images(texts: list[Text], seen: dict[Place, Any], images: int) -> Iterator[Edit]:
    """f(x, …) with the axis of images and another one exchanged: it takes images for tokens.

    Or a reduction goes over all that there is.
    """
    for text in texts:
        for k in (k for k in text.parents if isinstance(k, ast.keyword) and k.arg == "axis"):
            yield Edit(text, [(*text.span(k.value), "None")], "over all images", 4)
        for n in (n for n in text.parents if isinstance(n, ast.Call) and n.args):
            x, y = (seen.get(place(text, m)) for m in (n.args[0], n))
            shape: Any = getattr(y, "shape", ()) if is_float_array(y) else ()
            if len(shape) > 2 and getattr(x, "shape", 0) == shape and shape[0] == images:
                a, b = text.span(n.func)
                for i in (i for i in range(1, len(shape) - 1) if shape[i] > 1):
                    order = (i, *range(1, i), 0, *range(i + 1, len(shape)))
                    change = a, b + 1, f"e_along({text.of(n.func)}, {order}, "
                    yield Edit(text, [change], "along the images", 4)
