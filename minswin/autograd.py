"""Reverse-mode differentiation. It knows no operation: it only records and walks.

An operation is a function on plain arrays that returns `value, vjp`. `apply` runs it on Tensors
and records a node: the vjp and the nodes of its inputs. `backward` walks the nodes from the result
to the leaves, every node once, after all its consumers. The operations are in `reference/`.
A vjp keeps the arrays that it needs, not copies: do not write into them before `backward`.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from minswin.arrays import Array, Definition, Vjp, array_module, as_array, to_numpy

__all__ = ["Tensor", "apply", "is_recording", "no_grad", "vjp"]


class Tensor:
    """An array that remembers how it was made, so that `backward` can differentiate it.

    `data` is the array. `grad` appears after `backward` on leaves with requires_grad, and adds up
    until it is set to None. The operators + - * / @ ** and indexing are attached in `ops.py`.
    Tensors are compared by identity, so that they can stand in lists, sets and as keys; numbers are
    compared through `.data`. One of a single element is a number to float(), int(), bool(), f"{}".
    """

    __slots__ = ("__weakref__", "_node", "data", "grad", "requires_grad")
    __array_ufunc__ = None  # let `array + tensor` reach Tensor.__radd__
    __hash__ = object.__hash__

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            raise TypeError("Tensor: data is already a Tensor; use it, or its .data")
        self.data: Array = as_array(data)
        if requires_grad and self.data.dtype.kind != "f":
            raise TypeError(
                f"Tensor: requires_grad needs floating-point data, got {self.data.dtype}; "
                "convert it with .astype(np.float32)"
            )
        self.requires_grad = requires_grad
        self.grad: Array | None = None
        self._node: Node | None = None  # None for a leaf

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def dtype(self) -> Any:
        return self.data.dtype

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

    def backward(self, g: Any = None) -> None:
        """Add the gradient of ⟨g, self⟩ to `.grad` of every leaf that self depends on.

        g: the cotangent, of self's shape; left out for a result of one element, where it is 1.
        """
        _backward(self, _cotangent(self, g))

    if TYPE_CHECKING:  # attached in ops.py, which knows the operations

        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __pow__(self, exponent: float) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def astype(self, dtype: Any) -> Tensor: ...
        def to(self, device: str) -> Tensor: ...
        def reshape(self, *shape: int) -> Tensor: ...
        def transpose(self, *axes: int) -> Tensor: ...
        def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def max(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...

    def __repr__(self) -> str:
        numbers = np.array2string(to_numpy(self.data), separator=", ", prefix="Tensor(")
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({numbers}, dtype={self.dtype}{grad})"


class Node:
    """One recorded operation: its vjp, and per input the node or leaf to send a gradient to."""

    __slots__ = ("name", "sources", "vjp")

    def __init__(self, name: str, vjp: Vjp, sources: tuple[Node | Tensor | None, ...]) -> None:
        self.name = name
        self.vjp: Vjp | None = vjp
        self.sources = sources


# ── recording ────────────────────────────────────────────────────────────────────────────────────


GoOn = Callable[[Definition, tuple[Any, ...], dict[str, Any]], Tensor]
Step = Callable[[GoOn, Definition, tuple[Any, ...], dict[str, Any]], Tensor]


class _State(threading.local):
    recording = True
    around: Around | None = None  # None: `apply` runs the definition, and that is all


_state = _State()


@contextmanager
def no_grad() -> Iterator[None]:
    """Record nothing inside this block (in this thread): results are leaves, memory is not held."""
    with _recording(False):
        yield


@contextmanager
def _recording(on: bool) -> Iterator[None]:
    before, _state.recording = _state.recording, on
    try:
        yield
    finally:
        _state.recording = before


def is_recording() -> bool:
    """Whether operations on this thread remember how to differentiate themselves."""
    return _state.recording


class Around:
    """A step that stands around every operation, and what it goes on to: a step further out."""

    __slots__ = ("outer", "step")

    def __init__(self, step: Step, outer: Around | None) -> None:
        self.step, self.outer = step, outer

    def __call__(
        self, definition: Definition, inputs: tuple[Any, ...], settings: dict[str, Any]
    ) -> Tensor:
        return self.step(self.outer or run, definition, inputs, settings)


@contextmanager
def around(step: Step) -> Iterator[None]:
    """Inside this block (in this thread) `step` stands around every operation; blocks nest.

    step(go, definition, inputs, settings) gives the result. Most steps end in, or begin with,
    `go(definition, inputs, settings)`, which continues with the next block outward and in the end
    runs the definition; a step that watches adds nothing, one that computes otherwise hands on
    another definition. What a definition itself runs as operations passes all steps again.
    """
    with surrounded_by(Around(step, _state.around)):
        yield


def surroundings() -> Around | None:
    """The steps around operations in this thread, the innermost block first; see `around`."""
    return _state.around


@contextmanager
def surrounded_by(steps: Around | None) -> Iterator[None]:
    """Inside this block the steps around operations are these, such as those of another thread."""
    before, _state.around = _state.around, steps
    try:
        yield
    finally:
        _state.around = before


def apply(definition: Definition, *inputs: Any, **settings: Any) -> Tensor:
    """Run `definition` on the arrays of `inputs` (Tensors, arrays or None) and record it."""
    return (_state.around or run)(definition, inputs, settings)


def run(definition: Definition, inputs: tuple[Any, ...], settings: dict[str, Any]) -> Tensor:
    """What `apply` does where no step stands around operations."""
    value, vjp = definition(*(x.data if isinstance(x, Tensor) else x for x in inputs), **settings)
    result = Tensor(value)
    if _state.recording and result.data.dtype.kind == "f":  # integers have no gradient
        sources = tuple(_source(x) for x in inputs)
        if any(source is not None for source in sources):
            name = getattr(definition, "__name__", "operation")
            result._node = Node(name, vjp, sources)
            result.requires_grad = True
    return result


def _source(x: Any) -> Node | Tensor | None:
    """Where the gradient of input `x` goes: a node, a leaf, or nowhere.

    A node does not hold the Tensors that it made, so an array that no vjp keeps is freed at once.
    """
    if not isinstance(x, Tensor) or not x.requires_grad:
        return None
    return x if x._node is None else x._node


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


def _backward(result: Tensor, g: Array) -> None:
    """Visit every node once, after all its consumers, without recursion; free it as it is used."""
    root = _source(result)
    assert root is not None
    consumers = _count_consumers(root)
    cotangents: dict[Node | Tensor, Array] = {root: g}
    given = {id(g)}  # arrays that somebody else may hold
    ready = [root]
    while ready:
        node = ready.pop()
        g = cotangents.pop(node, None)  # None: no consumer sent a gradient here
        if isinstance(node, Tensor):
            if g is not None:
                node.grad = _own(g, given) if node.grad is None else node.grad + g
            continue
        gradients = _use(node, g)
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


def _own(g: Array, given: set[int]) -> Array:
    """g itself, or a copy where it is a view or was given out before: a leaf's grad is its own."""
    shared = id(g) in given or g.base is not None
    given.add(id(g))
    return g.copy() if shared else g


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


def _use(node: Node, g: Array | None) -> tuple[Any, ...]:
    vjp, node.vjp = node.vjp, None  # what the vjp kept is freed when this function returns
    if g is None or vjp is None:
        return (None,) * len(node.sources)
    gradients = vjp(g)
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


# ── from a text on Tensors to the form of a definition ───────────────────────────────────────────


def vjp(function: Callable[..., Tensor]) -> Definition:
    """Turn a function on Tensors into `value, vjp = f(*arrays, **settings)`, as definitions are.

    Unlike a definition's, this vjp can be called once: it frees what it used.

    >>> square = vjp(lambda x: x * x)
    >>> value, pull = square(np.array([3.0]))
    >>> value, pull(np.array([1.0]))
    (array([9.]), (array([6.]),))
    """

    def definition(*arrays: Array, **settings: Any) -> tuple[Array, Vjp]:
        inputs = [_leaf(x) for x in arrays]
        with _recording(True):
            result = function(*inputs, **settings)

        def pull(g: Array) -> tuple[Any, ...]:
            if result.requires_grad:
                result.backward(g)
            return tuple(x.grad if isinstance(x, Tensor) else None for x in inputs)

        return result.data, pull

    definition.__name__ = getattr(function, "__name__", "composite")
    definition.__doc__ = function.__doc__
    return definition


def _leaf(x: Any) -> Any:
    floating = hasattr(x, "dtype") and x.dtype.kind == "f"
    return Tensor(x, requires_grad=True) if floating else x
