"""Reverse-mode differentiation: it records operations and walks back over them; it has none itself.

An operation is a function on plain arrays that returns `value, vjp`. The operations are in
`reference/`, their form on Tensors is made in `lifting/`.

A vjp is a vector–Jacobian product: if the operation gives y of x, it maps g to gᵀ ∂y/∂x, one array
for each input, without ever forming the Jacobian ∂y/∂x. Its argument g, of y's shape, is called the
cotangent of y: ∂loss/∂y, what the loss gains for each small increase of an element of y. By the
chain rule vjp(g) is then the cotangent of x, to be handed on to the operation that made x.

`record` keeps a node for each operation: its vjp and the nodes of its inputs. `backward` walks the
nodes from the result to the leaves, every node once, after all its consumers. A leaf is a Tensor
that no recorded operation made: a parameter, an input. A vjp keeps the arrays that it needs, not
copies: do not write into them before `backward`.

A first reading needs `run`, `record` and `_backward`.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from operator import attrgetter
from typing import Any

import numpy as np

from minswin.arguments import switch
from minswin.arrays import Array, Definition, Vjp, array_module, as_array, to_numpy
from minswin.operators import Operators

__all__ = ["Tensor", "apply", "is_recording", "no_grad", "vjp"]


class Tensor(Operators):
    """An array that remembers how it was made, so that `backward` can differentiate it.

    `data` is the array. `grad` appears after `backward` on leaves with requires_grad, and adds up
    until it is set to None. The operators + - * / @ ** and indexing are attached in `ops.py`.
    Tensors are compared by identity, so that they can stand in lists, sets and as keys; numbers are
    compared through `.data`. One of a single element is a number to float(), int(), bool(), f"{}".
    """

    __slots__ = ("__weakref__", "_node", "data", "grad", "made", "requires_grad")
    __array_ufunc__ = None  # let `array + tensor` reach Tensor.__radd__
    __hash__ = object.__hash__

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            raise TypeError("Tensor: data is already a Tensor; use it, or its .data")
        if requires_grad is not False:
            requires_grad = switch("Tensor", "requires_grad", requires_grad)
        self.data: Array = data if type(data) is np.ndarray else as_array(data)
        if self.data is not data and self.data.dtype.kind not in "biufc":
            raise TypeError(f"Tensor: data must be numbers, got {type(data).__name__}")
        if requires_grad and self.data.dtype.kind != "f":
            raise TypeError(
                f"Tensor: requires_grad needs floating-point data, got {self.data.dtype}; "
                "convert it with .astype(np.float32)"
            )
        self.requires_grad = requires_grad
        self.grad: Array | None = None
        self._node: Node | None = None  # None for a leaf
        self.made = False  # whether an operation made it, recorded or not

    shape: tuple[int, ...] = property(attrgetter("data.shape"))  # type: ignore[assignment]
    ndim: int = property(attrgetter("data.ndim"))  # type: ignore[assignment]
    size: int = property(attrgetter("data.size"))  # type: ignore[assignment]
    dtype: Any = property(attrgetter("data.dtype"))

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Tensor]:
        """The parts along the first axis."""
        if self.ndim == 0:
            raise TypeError("Tensor: one of no axes cannot be iterated over; use .item()")
        return (self[i] for i in range(len(self)))

    def __contains__(self, number: Any) -> bool:
        """Whether any element equals a number."""
        number = number.data if isinstance(number, Tensor) else number
        return bool((self.data == number).any())

    def __bool__(self) -> bool:
        return bool(self._only_element("bool"))

    def __float__(self) -> float:
        return float(self._only_element("float"))

    def __int__(self) -> int:
        return int(self._only_element("int"))

    def __format__(self, spec: str) -> str:
        return format(self._only_element("format"), spec) if spec else str(self)

    def _only_element(self, who: str) -> Any:
        if self.size != 1:
            raise ValueError(
                f"{who}: expected a Tensor of one element, got shape {self.shape}; "
                "reduce it with .sum(), .mean() or .max(), or compare its .data"
            )
        return self.item()

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, (int, float, complex, np.generic)) or hasattr(other, "dtype"):
            if not isinstance(other, Tensor):
                raise TypeError(
                    f"Tensor: == compares Tensors by identity, got {type(other).__name__}; "
                    "compare numbers through .data"
                )
            return self is other
        return NotImplemented

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = to_numpy(self.data)
        return np.array(array, dtype=dtype, copy=copy)

    def numpy(self) -> np.ndarray:
        """The data as a NumPy array: shared on the CPU, copied from a GPU."""
        return to_numpy(self.data)

    def item(self) -> float:
        return self.data.item()

    def detach(self) -> Tensor:
        """The same data, cut off from its history."""
        return Tensor(self.data)

    def backward(self, g: Any = None, each: Callable[[Tensor], None] | None = None) -> None:
        """Add the gradient of ⟨g, self⟩ to `.grad` of every leaf that self depends on.

        g: the cotangent, of self's shape; left out for a result of one element, where it is 1.
        each: called with a leaf as soon as its gradient is whole, while the walk goes on
        """
        _backward(self, _cotangent(self, g), each)

    def __repr__(self) -> str:
        numbers = np.array2string(to_numpy(self.data), separator=", ", prefix="Tensor(")
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({numbers}, dtype={self.dtype}{grad})"


class Node:
    """One recorded operation: its vjp, and per input the node or leaf to send a gradient to."""

    __slots__ = ("name", "sources", "vjp")
    name: str
    vjp: Vjp | None  # None once it was used
    sources: tuple[Node | Tensor | None, ...]


# ── recording ────────────────────────────────────────────────────────────────────────────────────


Run = Callable[[Definition, Sequence[Any], dict[str, Any]], Tensor]


class _State(threading.local):
    recording = True
    around: Run | None = None  # what `apply` calls instead of `run`: see around.py


state = _State()


@contextmanager
def no_grad() -> Iterator[None]:
    """Record nothing inside this block (in this thread): results are leaves, memory is not held."""
    with _recording(False):
        yield


@contextmanager
def _recording(on: bool) -> Iterator[None]:
    before, state.recording = state.recording, on
    try:
        yield
    finally:
        state.recording = before


def is_recording() -> bool:
    """Whether operations on this thread remember how to differentiate themselves."""
    return state.recording


def apply(definition: Definition, *inputs: Any, **settings: Any) -> Tensor:
    """Run `definition` on the arrays of `inputs` (Tensors, arrays or None) and record it."""
    return (state.around or run)(definition, inputs, settings)


def run(definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]) -> Tensor:
    """What `apply` does where no step stands around operations."""
    arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
    value, vjp = definition(*arrays, **settings)
    return record(getattr(definition, "__name__", "operation"), inputs, value, vjp)


def record(name: str, inputs: Sequence[Any], value: Array | Tensor, vjp: Vjp) -> Tensor:
    """The result of an operation as a Tensor, with a node if a gradient goes through it.

    value: also a Tensor that is made already, and gets its node here. A node does not hold the
    Tensors that it made, so an array that no vjp keeps is freed at once.
    """
    result = value if isinstance(value, Tensor) else Tensor(value)
    result.made = True
    if not state.recording or result.dtype.kind != "f":  # integers have no gradient
        return result
    sources: list[Node | Tensor | None] = []
    for x in inputs:
        if isinstance(x, Tensor) and x.requires_grad:
            sources.append(x if x._node is None else x._node)
            result.requires_grad = True
        else:
            sources.append(None)
    if result.requires_grad:
        node = result._node = Node()
        node.name, node.vjp, node.sources = name, vjp, tuple(sources)
    return result


# ── the walk ─────────────────────────────────────────────────────────────────────────────────────


def _cotangent(result: Tensor, g: Any) -> Array:
    if not result.requires_grad:
        raise ValueError(
            "backward: the result depends on nothing that requires_grad; "
            "create the inputs with requires_grad=True, outside of no_grad()"
        )
    if g is None:
        if result.size != 1:
            raise ValueError(
                f"backward: g is needed for a result of shape {result.shape}: only a result of one "
                "element has the default cotangent 1; pass g of that shape, or call .sum() first"
            )
        return array_module(result.data).ones_like(result.data)
    g = g.data if isinstance(g, Tensor) else g
    if not hasattr(g, "dtype"):
        g = array_module(result.data).asarray(g, dtype=result.dtype)
    if g.shape != result.shape or g.dtype != result.dtype:
        raise ValueError(
            f"backward: g must have the result's shape {result.shape} and dtype {result.dtype}, "
            f"got {g.shape} and {g.dtype}"
        )
    return g


def _backward(result: Tensor, g: Array, each: Callable[[Tensor], None] | None = None) -> None:
    """Visit every node once, after all its consumers, without recursion; free it as it is used."""
    root = result if result._node is None else result._node
    consumers = _count_consumers(root)
    cotangents: dict[Node | Tensor, Array] = {root: g}
    first = g  # held to the end: else another array may get its number, and be copied for nothing
    shared = {id(first)}  # arrays that somebody else may hold
    ready = [root]
    while ready:
        node = ready.pop()
        g = cotangents.pop(node, None)  # None: no consumer sent a gradient here
        if isinstance(node, Tensor):
            if g is not None:
                node.grad = _for_leaf(g, shared) if node.grad is None else node.grad + g
                if each is not None:
                    each(node)
            continue
        gradients = _use(node, g, cotangents)
        for source, gradient in zip(node.sources, gradients, strict=True):
            if source is None:
                continue
            if gradient is not None:  # a value used twice receives the sum
                have = cotangents.get(source)
                cotangents[source] = gradient if have is None else have + gradient
            consumers[source] -= 1
            if consumers[source] == 0:
                ready.append(source)
        node.sources = ()


def _for_leaf(g: Array, shared: set[int]) -> Array:
    """g itself, or a copy where it is a view or already in use: nobody else holds a leaf's grad."""
    if id(g) in shared or g.base is not None:
        return g.copy()
    shared.add(id(g))  # of what stays: the next array may get the number of one that goes
    return g


def _count_consumers(root: Node | Tensor) -> dict[Node | Tensor, int]:
    consumers: dict[Node | Tensor, int] = defaultdict(int)
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, Tensor):
            continue
        if node.vjp is None:
            raise ValueError(
                f"backward: the graph through '{node.name}' was already used, and its memory freed;"
                " compute the result again before a second backward"
            )
        for source in node.sources:
            if source is not None:
                consumers[source] += 1
                if consumers[source] == 1:
                    stack.append(source)
    return consumers


def _use(node: Node, g: Array | None, cotangents: dict[Any, Array]) -> tuple[Any, ...]:
    """The gradients of a node's inputs; that of the first with what it had (see arrays.adding)."""
    vjp, node.vjp = node.vjp, None  # what the vjp kept is freed when this function returns
    if g is None or vjp is None:
        return (None,) * len(node.sources)
    onto = cotangents.pop(node.sources[0], None) if hasattr(vjp, "adds") else None
    gradients = vjp(g) if onto is None else vjp(g, onto)  # type: ignore[call-arg]
    if not isinstance(gradients, tuple) or len(gradients) != len(node.sources):
        raise TypeError(
            f"backward: the vjp of '{node.name}' must return a tuple of {len(node.sources)} "
            "gradients, one per positional argument (None where there is none)"
        )
    return gradients


def wrap_vjp(result: Tensor, wrap: Callable[[Vjp], Vjp]) -> None:
    """Let backward call wrap(vjp) instead of the vjp of the operation that gave `result`."""
    node = result._node
    if node is not None and node.vjp is not None:
        node.vjp = wrap(node.vjp)


# ── from a function on Tensors to the form of a definition ───────────────────────────────────────


def vjp(function: Callable[..., Tensor]) -> Definition:
    """Turn a function on Tensors into `value, vjp = f(*arrays, **settings)`, as definitions are.

    Unlike a definition's, this vjp can be called once: it frees what it used.

    >>> square = vjp(lambda x: x * x)
    >>> value, pull = square(np.array([3.0]))
    >>> value, pull(np.array([1.0]))
    (array([9.]), (array([6.]),))
    """

    @wraps(function)
    def definition(*arrays: Array, **settings: Any) -> tuple[Array, Vjp]:
        inputs = [_leaf(x) for x in arrays]
        with _recording(True):
            result = function(*inputs, **settings)

        def pull(g: Array) -> tuple[Any, ...]:
            if result.requires_grad:
                result.backward(g)
            return tuple(x.grad if isinstance(x, Tensor) else None for x in inputs)

        return result.data, pull

    return definition


def _leaf(x: Any) -> Any:
    floating = hasattr(x, "dtype") and x.dtype.kind == "f"
    return Tensor(x, requires_grad=True) if floating else x
