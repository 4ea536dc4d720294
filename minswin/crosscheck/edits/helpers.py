"""Functions that edited texts may call, in whatever module they stand."""

from __future__ import annotations

import ast
import builtins
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minswin.autograd import Tensor
from minswin.reference.elementwise import gelu

FREE = {"number": 1.0}  # what e_free multiplies by, while one number is looked for


def helper(f: Callable[..., Any]) -> Callable[..., Any]:
    setattr(builtins, f.__name__, f)
    return f


def on_arrays(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function on arrays; of a Tensor it changes the data, without a gradient."""

    def g(x: Any, *rest: Any) -> Any:
        rest = tuple(r.data if isinstance(r, Tensor) else r for r in rest)
        return Tensor(np.array(f(x.data, *rest))) if isinstance(x, Tensor) else f(x, *rest)

    g.__name__ = f.__name__
    return helper(g)


@on_arrays
def e_swapped(x: Any, i: int, j: int) -> Any:
    return np.ascontiguousarray(x.swapaxes(i, j))


@on_arrays
def e_reread(x: Any, i: int, j: int) -> Any:
    """The numbers of x, written with two axes exchanged, in the shape of x."""
    return x.swapaxes(i, j).reshape(x.shape)


@on_arrays
def e_written(x: Any, i: int, j: int) -> Any:
    """The same, towards: x read as if its two axes were exchanged."""
    shape = list(x.shape)
    shape[i], shape[j] = shape[j], shape[i]
    return np.ascontiguousarray(x.reshape(shape).swapaxes(i, j))


@on_arrays
def e_interleaved(x: Any, n: int) -> Any:
    """The last axis as (n, …), written as (…, n)."""
    return x.reshape(*x.shape[:-1], n, -1).swapaxes(-1, -2).reshape(x.shape)


@on_arrays
def e_rolled(x: Any, n: int, axis: int) -> Any:
    return np.roll(x, n, axis)


@on_arrays
def e_flipped(x: Any, axis: int) -> Any:
    return np.flip(x, axis).copy()


@on_arrays
def e_first_for_all(x: Any, axis: int) -> Any:
    return np.broadcast_to(np.take(x, [0], axis), x.shape).copy()


@on_arrays
def e_without(x: Any, axis: int, last: bool) -> Any:
    end = slice(None, -1) if last else slice(1, None)
    return x[(slice(None),) * axis + (end,)]


@on_arrays
def e_zeroed(x: Any, axis: int, i: int) -> Any:
    x = np.array(x)
    x[(slice(None),) * axis + (i,)] = 0
    return x


@on_arrays
def e_half(x: Any) -> Any:
    return x.astype(np.float16).astype(x.dtype)


@on_arrays
def e_brain(x: Any) -> Any:
    from minswin.crosscheck.precision import BFLOAT16

    return BFLOAT16.round(x).astype(x.dtype)


@on_arrays
def e_normalized(x: Any) -> Any:
    mean, spread = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return ((x - mean[:, None, None]) / spread[:, None, None]).astype(x.dtype)


@on_arrays
def e_clipped(x: Any, low: float, high: float) -> Any:
    return np.clip(x, low, high)


@on_arrays
def e_causal(x: Any, behind: bool = False) -> Any:
    """Logits (..., N, N) of which a token sees none behind it, or none in front of it."""
    seen = np.tri(x.shape[-2], x.shape[-1], dtype=bool)
    return np.where(seen[::-1, ::-1] if behind else seen, x, x.dtype.type(-1e9))


@on_arrays
def e_unary(x: Any, name: str) -> Any:
    with np.errstate(all="ignore"):
        return np.asarray(_UNARY[name](x), getattr(x, "dtype", float))


def _softplus(x: Any) -> Any:
    return np.logaddexp(0, x)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


_UNARY: dict[str, Callable[[Any], Any]] = {
    "gelu": lambda x: gelu(x)[0],
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "gelu_sigmoid": lambda x: x * _sigmoid(1.702 * x),
    "silu": lambda x: x * _sigmoid(x),
    "relu": lambda x: np.maximum(x, 0),
    "min_0": lambda x: np.minimum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "softplus": _softplus,
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "square": np.square,
    "abs": np.abs,
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "log1p": np.log1p,
    "log10": np.log10,
    "log2": np.log2,
    "sqrt": np.sqrt,
    "sign": np.sign,
    "line": lambda x: 1 - 2 * x / math.pi,  # cos at 0, π/2 and π
}
UNARY = tuple(_UNARY)


@helper
def e_reduced(x: Any, name: str, axis: Any = None, keepdims: bool = False) -> Any:
    """A reduction in the place of another; "first" and "last" take one element."""
    data = x.data if isinstance(x, Tensor) else x
    axes = tuple(range(data.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(a % data.ndim for a in axes)
    if name in ("first", "last"):
        at = 0 if name == "first" else -1
        y = data[tuple(at if i in axes else slice(None) for i in range(data.ndim))]
    elif name == "length":
        y = np.sqrt(np.square(data).sum(axis=axes, keepdims=keepdims))
    else:
        y = getattr(np, name)(data, axis=axes, keepdims=keepdims)
    return Tensor(np.array(y)) if isinstance(x, Tensor) else y


@helper
def e_softmax(x: Any, axis: int, otherwise: str = "") -> Any:
    """Over another axis, or otherwise: "sigmoid"; "quiet": with one more key of logit 0."""
    data = x.data if isinstance(x, Tensor) else x
    if otherwise == "sigmoid":
        p = _sigmoid(data)
    else:
        top = np.maximum(data.max(axis=axis, keepdims=True), -np.inf if not otherwise else 0)
        p = np.exp(data - top)
        p = p / (p.sum(axis=axis, keepdims=True) + (np.exp(-top) if otherwise else 0))
    return Tensor(p) if isinstance(x, Tensor) else p


@helper
def e_as_shape(x: Any, y: Any) -> Any:
    """x in the shape of y: a reshape in the place of a transposition."""
    return x.reshape(*y.shape)


@helper
def e_bump(t: Any, i: int, d: int) -> Any:
    return tuple(v + d * (i == j) for j, v in enumerate(t))


@helper
def e_clamped(parameters: Any, longest: float) -> None:
    """Every element of every gradient cut off by itself."""
    for p in parameters:
        p.grad = np.clip(p.grad, -longest, longest)


@helper
def e_cast(f: Any, rounding: Any, x: Any, *rest: Any, **settings: Any) -> Any:
    """A function of which input and result are rounded."""
    return rounding(f(rounding(x), *rest, **settings))


@helper
def e_free(x: Any) -> Any:
    return x * FREE["number"]


@helper
def e_detached(x: Any) -> Any:
    return Tensor(x.data) if isinstance(x, Tensor) else x


# ── in our words ─────────────────────────────────────────────────────────────────────────────────

SAID: dict[str, str | Callable[..., str]] = {
    "e_swapped": "{}.swapaxes({}, {})",
    "e_reread": "{0}.swapaxes({1}, {2}).reshape({0}.shape)",
    "e_written": "{0}.reshape(axes {1} and {2} exchanged).swapaxes({1}, {2})",
    "e_interleaved": "{0}.reshape(…, {1}, -1).swapaxes(-1, -2).reshape({0}.shape)",
    "e_rolled": "roll({}, {}, axis={})",
    "e_flipped": "flip({}, axis={})",
    "e_first_for_all": "{}.take([0], axis={})",
    "e_without": lambda x, i, last: f"{x}[{':, ' * int(i)}{':-1' if last == 'True' else '1:'}]",
    "e_zeroed": lambda x, i, n: f"({x} with {':, ' * int(i)}{n} set to 0)",
    "e_half": "{}.astype(float16)",
    "e_brain": "{}.astype(bfloat16)",
    "e_normalized": "({} - mean) / std",
    "e_unary": lambda x, name: f"{name[1:-1]}({x})",
    "e_reduced": lambda x, name, *more: f"{x}.{name[1:-1]}({', '.join(more)})",
    "e_softmax": lambda x, i, *other: (
        f"{other[0][1:-1]}({x})"
        if other == ("'sigmoid'",)
        else f"softmax({x}, axis={i})" + (" with one more key of logit 0" if other else "")
    ),
    "e_clipped": "clip({}, {}, {})",
    "e_causal": lambda x, *other: f"{x} where key {'≥' if other else '≤'} query, else −∞",
    "e_as_shape": "{}.reshape({}.shape)",
    "e_bump": lambda t, i, d: f"({'…, ' * int(i)}{t}[{i}] {d[0] if d[0] == '-' else '+'} 1, …)",
    "e_cast": lambda f, to, x, *more: said(f"{to}({f}({', '.join((f'{to}({x})', *more))}))"),
    "e_free": lambda x: f"c * ({x})" if _is_a_sum(x) else f"c * {x}",
    "e_clamped": "clip({}.grad, ±{})",
    "e_detached": "{}.detach()",
}


def _is_a_sum(text: str) -> bool:
    try:
        return isinstance(ast.parse(text, mode="eval").body, (ast.BinOp, ast.UnaryOp))
    except SyntaxError:
        return True


def said(text: str) -> str:
    """A text with the helpers in it written out, as a reader of our own code would write them."""
    text = text.replace("e_before", "before")
    while (call := re.search(r"\b(e_[a-z_]+)\(", text)) is not None:
        *parts, end = _arguments(text, call.end())
        if not end:  # it goes on in a line that is not shown
            rest = text[call.start() + len("e_") :]
            text = text[: call.start()] + re.sub(r"\be_([a-z_]+)\b(?!\()", r"\1", rest)
            continue
        says = SAID[call[1]]
        parts = [said(part) for part in parts]
        new = says(*parts) if callable(says) else says.format(*parts)
        text = text[: call.start()] + new + text[int(end) :]
    return text


def _arguments(text: str, at: int) -> Iterator[str]:
    """The arguments of the call whose bracket was opened in front of `at`, then where it ends.

    "" where it does not end.
    """
    depth, start = 0, at
    for i in range(at, len(text)):
        if (text[i] in ")]}" and not depth) or (text[i] == "," and not depth):
            yield text[start:i].strip()
            start = i + 1
            if text[i] != ",":
                yield str(i + 1)
                return
        depth += (text[i] in "([{") - (text[i] in ")]}")
    yield ""
