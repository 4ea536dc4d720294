"""Other names, attributes and functions in the place of those of a text."""

from __future__ import annotations

import ast
from types import GeneratorType
from typing import Any

from minswin.crosscheck.edits.helpers import UNARY
from minswin.crosscheck.edits.spots import (
    Spot,
    Yields,
    is_array,
    is_float_array,
    is_ints,
    is_layer,
    is_number,
    names_before,
    operator,
    parts_of_layer,
    rest_of,
)
from minswin.layers.base import Layer

# ── names ────────────────────────────────────────────────────────────────────────────────────────


@operator("each by itself", 3, ast.Call)
def each(s: Spot) -> Yields:
    """f(xs, …) -> f([x], …) for every x: what is meant for all of them together."""
    n = s.node
    if is_array(s.value) or not n.args:
        return
    if isinstance(s.value_of(n.args[0]), (list, GeneratorType)):
        xs, rest = s.text.of(n.args[0]), rest_of(s.text, n)
        yield f"[{s.text.of(n.func)}([each]{rest}) for each in {xs}]"


@operator("another name", 3, ast.Name)
def names(s: Spot) -> Yields:
    """A name of equal role: of the same kind and shape, that the function has at this point."""
    for other, value in names_before(s).items():
        if other != s.node.id and _alike(value, s.value):
            yield other
    if is_array(s.value) or isinstance(s.value, Layer):
        for name, value in parts_of_layer(s).items():
            if _alike(value, s.value) and value is not s.value:
                yield f"self.{name}"


@operator("an array in the place of a number", 3.5, of=is_number)
def arrays_for_numbers(s: Spot) -> Yields:
    """c * f(x) -> x * f(x)"""
    up, n = s.up, s.node
    if isinstance(up, ast.BinOp):
        whole, other = s.value_of(up), up.right if up.left is n else up.left
        inside = {m.id: s.value_of(m) for m in ast.walk(other) if isinstance(m, ast.Name)}
        yield from (x for x, v in inside.items() if is_float_array(whole) and _alike(v, whole))


@operator("a parameter added once more", 4, of=is_float_array, named=True, of_arrays=True)
def added(s: Spot) -> Yields:
    """x -> (x + self.p), for the arrays that the layer itself has and that fit x's last axes."""
    for name, value in parts_of_layer(s).items():
        shape = getattr(value, "shape", ()) if is_float_array(value) else ()
        fits = len(shape) <= s.value.ndim and all(
            a in (1, b) for a, b in zip(shape[::-1], s.value.shape[::-1], strict=False)
        )
        if shape and fits:
            yield f"({s.written} + self.{name})"


@operator("normed once more", 4, of=is_float_array, named=True)
def normed(s: Spot) -> Yields:
    """x -> self.norm(x), for the norms that the layer has and that fit x's last axis."""
    for name, layer in parts_of_layer(s).items():
        weight = getattr(layer, "weight", None)
        if isinstance(layer, Layer) and getattr(weight, "shape", ()) == s.value.shape[-1:]:
            yield f"self.{name}({s.written})"


@operator("another attribute", 2, ast.Attribute)
def attributes(s: Spot) -> Yields:
    n = s.node
    for name, value in getattr(s.value_of(n.value), "__dict__", {}).items():
        if name != n.attr and _alike(value, s.value):
            yield f"{s.text.of(n.value)}.{name}"


@operator("another layer", 3, ast.Attribute, of=is_layer)
def layers(s: Spot) -> Yields:
    """self.f(x) -> self.g(x), for layers of other kinds: what gives another shape does not run."""
    n = s.node
    if isinstance(s.up, ast.Call):
        for name, value in getattr(s.value_of(n.value), "__dict__", {}).items():
            if isinstance(value, Layer) and type(value) is not type(s.value):
                yield f"{s.text.of(n.value)}.{name}"


def _alike(a: Any, b: Any) -> bool:
    if is_array(a) and is_array(b):
        return bool(a.shape == b.shape and a.dtype.kind == b.dtype.kind)
    if isinstance(a, Layer) or isinstance(b, Layer):
        return type(a) is type(b)
    if type(a) is not type(b) or isinstance(a, (bool, str, type(None))):
        return False
    return isinstance(a, (int, float)) or (is_ints(a) and is_ints(b) and len(a) == len(b))


@operator("an earlier value of the name", 3, ast.Name, of=is_array)
def earlier(s: Spot) -> Yields:
    """x as it was before it was last assigned: a residual taken from further in front."""
    n = s.node
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
    "relu": ("min_0", "abs", "silu", "leaky", "relu6", "sigmoid", "tanh", "elu", "softplus",
             "square"),
    "tanh": ("sigmoid", "relu"), "sigmoid": ("tanh", "hard_sigmoid", "exp", "softplus"),
    "exp": ("exp2", "softplus", "sigmoid", "square"), "sqrt": ("square", "log1p", "abs"),
    "log2": ("log", "log10", "log1p", "sqrt"), "log": ("log2", "log10", "log1p"),
    "sign": ("tanh", "abs"), "erf": ("tanh",), "cos": ("line",),
}  # fmt: skip
REDUCTIONS = ("sum", "mean", "max", "min", "first", "last", "median", "length", "std", "var")


@operator("another function", 2, ast.Call)
def siblings(s: Spot) -> Yields:
    n = s.node
    name = n.func.attr if isinstance(n.func, ast.Attribute) else getattr(n.func, "id", "")
    if name == "clip_gradients" and len(n.args) == 2:
        yield f"e_clamped({s.text.of(n.args[0])}, {s.text.of(n.args[1])})"
    if name == "pad" and n.args and is_float_array(s.value):
        inside = s.written[len(s.text.of(n.func)) + 1 :]
        yield from (f"e_filled({how!r}, {inside}" for how in ("edge", "reflect", "wrap"))
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
        yield from (f"e_softmax({x}, -1, {other!r})" for other in ("sigmoid", "quiet"))
        if s.value.shape[-1] == s.value.shape[-2]:
            yield from (f"ops.softmax(e_causal({x}))", f"ops.softmax(e_causal({x}, True))")
    if name == "transpose" and isinstance(n.func, ast.Attribute):
        yield f"e_as_shape({s.text.of(n.func.value)}, {s.written})"


@operator("a reduction in the place of an element", 3, ast.Subscript, of=is_float_array)
def reduced(s: Spot) -> Yields:
    """x[:, 0] -> x.mean(axis=1), or that of all but the first or the last."""
    n = s.node
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
    axes = [-1, -2, 0, 1, 2, (1, 2), (0, 1), (-3, -1), None]
    yield from (repr(a) for a in axes if a != s.value)
