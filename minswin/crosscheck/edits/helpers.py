"""Functions that edited texts may call, in whatever module they stand, and their words."""

from __future__ import annotations

import ast
import builtins
import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from minswin.autograd import Tensor, record
from minswin.crosscheck.bounds import MASK, MASKED
from minswin.reference.elementwise import gelu

FREE = {"number": 1.0}  # what e_free multiplies by, while one number is looked for


Says = str | Callable[..., str]
SAID: dict[str, Says] = {}  # what told.py writes for a call of it, given its arguments as written
OTHERWISE = {"'sigmoid'": "sigmoid", "'log'": "log_softmax"}


def helper(says: Says) -> Callable[[Any], Any]:
    """Decorator: what an edited text may call, and how we say it."""

    def enter(f: Callable[..., Any]) -> Callable[..., Any]:
        SAID[f.__name__] = says
        setattr(builtins, f.__name__, f)
        return f

    return enter


def on_arrays(says: Says) -> Callable[[Any], Any]:
    """The same for a function on arrays; of a Tensor it changes the data, without a gradient."""

    def enter(f: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(f)
        def g(x: Any, *rest: Any, **settings: Any) -> Any:
            rest = tuple(r.data if isinstance(r, Tensor) else r for r in rest)
            if isinstance(x, Tensor):
                return Tensor(np.array(f(x.data, *rest, **settings)))
            return f(x, *rest, **settings)

        return helper(says)(g)

    return enter


@on_arrays("{}.swapaxes({}, {})")
def e_swapped(x: Any, i: int, j: int) -> Any:
    return np.ascontiguousarray(x.swapaxes(i, j))


@on_arrays("{0}.swapaxes({1}, {2}).reshape({0}.shape)")
def e_reread(x: Any, i: int, j: int) -> Any:
    """The numbers of x, written with two axes exchanged, in the shape of x."""
    return x.swapaxes(i, j).reshape(x.shape)


@on_arrays("{0}.reshape(axes {1} and {2} exchanged).swapaxes({1}, {2})")
def e_written(x: Any, i: int, j: int) -> Any:
    """The same, towards: x read as if its two axes were exchanged."""
    shape = list(x.shape)
    shape[i], shape[j] = shape[j], shape[i]
    return np.ascontiguousarray(x.reshape(shape).swapaxes(i, j))


@on_arrays("{}.transpose({})")
def e_ordered(x: Any, order: tuple[int, ...]) -> Any:
    return np.ascontiguousarray(x.transpose(order))


@helper(lambda f, order, *x: f"{f}({', '.join(x)}) of axes {order}")
def e_along(f: Any, order: tuple[int, ...], *given: Any) -> Any:
    """f of arrays like the first with their axes in this order, and in their own again."""
    alike = (getattr(x, "shape", 0) == given[0].shape for x in given)
    given = tuple(e_ordered(x, order) if a else x for x, a in zip(given, alike, strict=True))
    return e_ordered(f(*given), tuple(int(i) for i in np.argsort(order)))


@on_arrays(
    lambda x, *cut: (
        f"{x}.reshape(…, {', '.join(cut)}, -1).swapaxes(-{len(cut) + 1}, -{len(cut)})"
        f".reshape({x}.shape)"
    )
)
def e_interleaved(x: Any, *cut: int) -> Any:
    """The last axis as (n, …), written as (…, n); as (n, m, …), written as (m, n, …)."""
    parts = x.reshape(*x.shape[:-1], *cut, -1)
    return parts.swapaxes(-len(cut) - 1, -len(cut)).reshape(x.shape)


@on_arrays("roll({}, {}, axis={})")
def e_rolled(x: Any, n: int, axis: int) -> Any:
    return np.roll(x, n, axis)


@on_arrays("flip({}, axis={})")
def e_flipped(x: Any, axis: int) -> Any:
    return np.flip(x, axis).copy()


@on_arrays("{}.take([0], axis={})")
def e_first_for_all(x: Any, axis: int) -> Any:
    return np.broadcast_to(np.take(x, [0], axis), x.shape).copy()


@on_arrays(lambda x, i, last: f"{x}[{':, ' * int(i)}{':-1' if last == 'True' else '1:'}]")
def e_without(x: Any, axis: int, last: bool) -> Any:
    end = slice(None, -1) if last else slice(1, None)
    return x[(slice(None),) * axis + (end,)]


@on_arrays("{}")
def e_alone(x: Any, y: Any) -> Any:
    """One channel in the shape of y: products add up zeros, and a width that is asked stays."""
    return np.concatenate([x, np.zeros((*y.shape[:-1], y.shape[-1] - 1), x.dtype)], -1)


@on_arrays(lambda x, i, n: f"({x} with {':, ' * int(i)}{n} set to 0)")
def e_zeroed(x: Any, axis: int, i: int) -> Any:
    x = np.array(x)
    x[(slice(None),) * axis + (i,)] = 0
    return x


@on_arrays("{}.astype(float16)")
def e_half(x: Any) -> Any:
    return x.astype(np.float16).astype(x.dtype)


@on_arrays("{}.astype(bfloat16)")
def e_brain(x: Any) -> Any:
    from minswin.crosscheck.precision import BFLOAT16

    return BFLOAT16.round(x).astype(x.dtype)


@on_arrays("({} - mean) / std")
def e_normalized(x: Any) -> Any:
    mean, spread = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return ((x - mean[:, None, None]) / spread[:, None, None]).astype(x.dtype)


@on_arrays(
    lambda x, low, high: (
        f"relu({x})" if (low, high) == ("0", "np.inf") else f"clip({x}, {low}, {high})"
    )
)
def e_clipped(x: Any, low: float, high: float) -> Any:
    return np.clip(x, low, high)


@on_arrays("({}, 0 where it is masked)")
def e_unmasked(x: Any) -> Any:
    """0 for what a mask of −100 is in."""
    return np.where(x <= -50, x.dtype.type(0), x)


@helper(
    lambda f, before, *more: (
        f"{f}({', '.join(more)}) with {'none' if before == '0' else before} of the padding in front"
    )
)
def e_padded(f: Any, before: int, x: Any, *rest: Any, padding: Any, **settings: Any) -> Any:
    """f of a map (B, C, H, W) with so much of its padding in front of rows and columns."""
    data = x.data if isinstance(x, Tensor) else x
    around = [(0, 0), (0, 0), *((min(before, p), 2 * p - min(before, p)) for p in padding)]
    outside = -np.inf if "pool" in getattr(f, "__name__", "") else 0
    padded = np.pad(data, around, constant_values=outside)
    return f(Tensor(padded) if isinstance(x, Tensor) else padded, *rest, padding=(0, 0), **settings)


@helper(
    lambda f, x, add: (
        f"{f}({x} without its mask)" + (" + mask" if add == "True" else ", 0 where it is masked")
    )
)
def e_masked_late(f: Any, x: Any, add: bool) -> Any:
    """f of what a mask of −100 was added to, without it; the mask is added, or sets to 0, later."""
    data = x.data if isinstance(x, Tensor) else x
    masked = data <= MASKED
    free = np.where(masked, data - MASK, data)
    y = f(Tensor(free) if isinstance(x, Tensor) else free)
    p = y.data if isinstance(y, Tensor) else y
    p = np.where(masked, p + MASK if add else 0, p).astype(p.dtype)
    return Tensor(p) if isinstance(y, Tensor) else p


@on_arrays("{0}.reshape(…, {2}, -1, {3}, -1, …).swapaxes(…).reshape({0}.shape)")
def e_far_apart(x: Any, i: int, h: int, w: int) -> Any:
    """Axes i and i + 1 cut into blocks of h×w elements that stand far apart, as if they did not."""
    *lead, H, W = x.shape[: i + 2]
    x = x.reshape(*lead, h, H // h, w, W // w, *x.shape[i + 2 :])
    return x.swapaxes(i, i + 1).swapaxes(i + 2, i + 3).reshape(*lead, H, W, *x.shape[i + 4 :])


@on_arrays(lambda x, *other: f"{x} where key {'≥' if other else '≤'} query, else −∞")
def e_causal(x: Any, behind: bool = False) -> Any:
    """Logits (..., N, N) of which a token sees none behind it, or none in front of it."""
    seen = np.tri(x.shape[-2], x.shape[-1], dtype=bool)
    return np.where(seen[::-1, ::-1] if behind else seen, x, x.dtype.type(-1e9))


@on_arrays(lambda x, name: f"{name[1:-1]}({x})")
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


@on_arrays(lambda x, name, *more: f"{x}.{name[1:-1]}({', '.join(more)})")
def e_reduced(x: Any, name: str, axis: Any = None, keepdims: bool = False) -> Any:
    """A reduction in the place of another; "first" and "last" take one element."""
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(a % x.ndim for a in axes)
    if name in ("first", "last"):
        at = 0 if name == "first" else -1
        return x[tuple(at if i in axes else slice(None) for i in range(x.ndim))]
    if name == "length":
        return np.sqrt(np.square(x).sum(axis=axes, keepdims=keepdims))
    return getattr(np, name)(x, axis=axes, keepdims=keepdims)


@on_arrays(
    lambda x, i, *other: (
        f"{OTHERWISE[other[0]]}({x})"
        if other and other[0] in OTHERWISE
        else f"softmax({x}, axis={i})" + (" with one more key of logit 0" if other else "")
    )
)
def e_softmax(x: Any, axis: int, otherwise: str = "") -> Any:
    """Over another axis, or otherwise: "sigmoid"; "quiet": with one more key of logit 0; "log"."""
    if otherwise == "sigmoid":
        return _sigmoid(x)
    quiet = otherwise == "quiet"
    top = np.maximum(x.max(axis=axis, keepdims=True), 0 if quiet else -np.inf)
    p = np.exp(x - top)
    total = p.sum(axis=axis, keepdims=True) + (np.exp(-top) if quiet else 0)
    return x - top - np.log(total) if otherwise == "log" else p / total


@helper(lambda how, *given: f"pad({', '.join(given)}, mode={how})")
def e_filled(how: Any, x: Any, *, width: Any) -> Any:
    """Padded by what stands at the end, or at the other end, not by zeros."""
    padded = np.pad(getattr(x, "data", x), width, mode=how)
    return Tensor(padded) if isinstance(x, Tensor) else padded


@helper("{}.reshape({}.shape)")
def e_as_shape(x: Any, y: Any) -> Any:
    """x in the shape of y: a reshape in the place of a transposition."""
    return x.reshape(*y.shape)


@helper(lambda t, i, d: f"({'…, ' * int(i)}{t}[{i}] {d[0] if d[0] == '-' else '+'} 1, …)")
def e_bump(t: Any, i: int, d: int) -> Any:
    return tuple(v + d * (i == j) for j, v in enumerate(t))


@helper("clip({}.grad, ±{})")
def e_clamped(parameters: Any, longest: float) -> None:
    """Every element of every gradient cut off by itself."""
    for p in parameters:
        p.grad = np.clip(p.grad, -longest, longest)


@helper(lambda f, to, x, *more: f"{to}({f}({', '.join((f'{to}({x})', *more))}))")
def e_cast(f: Any, rounding: Any, x: Any, *rest: Any, **settings: Any) -> Any:
    """A function of which input and result are rounded."""
    return rounding(f(rounding(x), *rest, **settings))


def _is_a_sum(text: str) -> bool:
    try:
        return isinstance(ast.parse(text, mode="eval").body, (ast.BinOp, ast.UnaryOp))
    except SyntaxError:
        return True


@helper(lambda x: f"c * ({x})" if _is_a_sum(x) else f"c * {x}")
def e_free(x: Any) -> Any:
    return x * FREE["number"]


@helper("({}, its gradient times c)")
def e_pulled(x: Any) -> Any:
    """x, whose gradient is multiplied by the number that is looked for."""
    number = FREE["number"]
    return record("e_pulled", (x,), x.data, lambda g: (number * g,))


@helper("{}.detach()")
def e_detached(x: Any) -> Any:
    return Tensor(x.data) if isinstance(x, Tensor) else x
