"""Layer: an object that holds parameters and other layers, found by walking vars(self) in order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FunctionType, GeneratorType, MethodType
from typing import Any

import numpy as np

from minswin.arguments import switch
from minswin.arrays import Array
from minswin.autograd import Tensor
from minswin.devices import to_device
from minswin.layers.building import Built
from minswin.layers.loading import copy_state
from minswin.layers.parameters import Buffer, Parameter


class Layer(metaclass=Built):
    """Base of everything with parameters: assign Parameters and Layers as attributes, define call.

    Lists, tuples and dicts of them, nested as well, count by position and key, so names are those
    of the original implementation: `layers.0.blocks.1.attn.qkv.weight`. Parameters that are held in
    another way alone (in a set, by an object that is no Layer) would not be trained: an error.
    A parameter or layer in several places is one, under the first of its names.
    A constructor that takes `init` (see Init) may also be called with `rng` and `dtype`.
    """

    training: bool = True
    whole_batch: bool = False  # True: it looks at all samples at once; do not split the batch

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not define __call__")

    def __repr__(self) -> str:
        """The layers inside, one on a line, with the shapes of their parameters."""
        count = self.parameter_count()
        return "\n".join([f"{type(self).__name__}, {count:,} learnt numbers", *self._lines("  ")])

    def _lines(self, indent: str) -> Iterator[str]:
        for name, tensor in vars(self).items():
            if isinstance(tensor, (Parameter, Buffer)):
                yield f"{indent}{name} {tensor.shape}"
        for name, child in self.children():
            yield f"{indent}{name}: {type(child).__name__}"
            yield from child._lines(indent + "  ")

    # ── what is inside ───────────────────────────────────────────────────────────────────────────

    def _members(self) -> Iterator[tuple[str, Any]]:
        """(name, Parameter, Buffer or Layer) directly inside: this layer's own tensors first."""
        others = []
        for name, value in vars(self).items():
            if isinstance(value, (Parameter, Buffer)):
                yield name, value
            elif type(value) not in _PLAIN:
                others.append((name, value))
        for name, value in others:
            yield from members(name, value)

    def _walk(self, every_name: bool = False) -> list[tuple[str, Any]]:
        """(name, Layer, Parameter or Buffer): this layer, named "", and all that lies below.

        Each layer once; or, with `every_name`, under each name that it has.
        """
        found: list[tuple[str, Any]] = []
        seen: set[int] = set()
        hidden: list[tuple[str, Any]] = []

        def walk(layer: Layer, name: str, above: tuple[int, ...]) -> None:
            if id(layer) in above or (id(layer) in seen and not every_name):
                return
            seen.add(id(layer))
            hidden.extend(layer._hidden())
            found.append((name, layer))
            for key, x in layer._members():
                inner = f"{name}.{key}" if name else key
                if isinstance(x, Layer):
                    walk(x, inner, (*above, id(layer)))
                else:
                    seen.add(id(x))
                    found.append((inner, x))

        walk(self, "", ())
        for place, x in hidden:
            if id(x) not in seen:
                raise TypeError(
                    f"{place}: nothing looks for parameters there, so those of this "
                    f"{type(x).__name__} would be neither trained, saved nor moved; hold it in a "
                    "list, tuple or dict, or make the object that holds it a Layer"
                )
        return found

    def _hidden(self) -> Iterator[tuple[str, Any]]:
        """(place, Layer, Parameter or Buffer) that an attribute holds where nobody looks."""
        for name, value in vars(self).items():
            if type(value) not in _PLAIN:
                yield from hidden_members(f"{type(self).__name__}.{name}", value)

    def _check(self) -> None:
        """Raise where the constructor put parameters that would not be found."""
        classes = type(self).__mro__[:-1]  # the last is object
        of_classes = {k: v for c in classes for k, v in vars(c).items()}
        for name, value in {**of_classes, **vars(self)}.items():
            if type(value) in _ASIDE:
                continue
            of_class = name not in vars(self) and isinstance(value, (Layer, Parameter, Buffer))
            leaf = isinstance(value, Tensor) and value.requires_grad and value._node is None
            if of_class or (leaf and not isinstance(value, Parameter)):
                raise TypeError(
                    f"{type(self).__name__}.{name}: no optimizer would see it; make it a Parameter "
                    "or a Layer, and assign it to self in __init__"
                )
            if isinstance(value, _CONTAINERS) and _holds_generator(value):
                raise TypeError(
                    f"{type(self).__name__}.{name}: a Generator in a {type(value).__name__} would "
                    "be neither saved nor split over threads; make it an attribute of its own"
                )
        if any(True for _ in self._hidden()):
            self._walk()

    def children(self) -> Iterator[tuple[str, Layer]]:
        """(name, layer) of the layers directly inside this one, in the order of definition."""
        return ((name, x) for name, x in self._members() if isinstance(x, Layer))

    def named_layers(self) -> Iterator[tuple[str, Layer]]:
        """(name, layer) of this layer, named "", and of every layer below it."""
        return ((name, x) for name, x in self._walk() if isinstance(x, Layer))

    def layers_within(self) -> Iterator[Layer]:
        """This layer and every layer below it."""
        return (layer for _, layer in self.named_layers())

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """(name, parameter): a layer's own parameters first, then those of what is inside it."""
        return self._named(Parameter, prefix)

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Buffer]]:
        """(name, buffer), in the same order."""
        return self._named(Buffer, prefix)

    def _named(self, kind: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
        return once((prefix + name, x) for name, x in self._walk() if isinstance(x, kind))

    def parameters(self) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters())

    def parameter_count(self) -> int:
        """Number of learnt numbers: without those of a part that the model is built without."""
        return sum(p.size for p in self.parameters() if not getattr(p, "left_out", False))

    def generators(self) -> list[np.random.Generator]:
        """The random generators of this layer and those below, each once."""
        values = (v for layer in self.layers_within() for v in vars(layer).values())
        return list({id(v): v for v in values if hasattr(v, "bit_generator")}.values())

    @contextmanager
    def drawing_from(self, stands: Iterable[tuple[np.random.Generator, Any]]) -> Iterator[None]:
        """Inside this block, layers draw from the second of each pair instead of the first."""
        instead = {id(rng): stand for rng, stand in stands}
        places = [
            (layer, name, value)
            for layer in self.layers_within()
            for name, value in vars(layer).items()
            if id(value) in instead
        ]
        for layer, name, value in places:
            setattr(layer, name, instead[id(value)])
        try:
            yield
        finally:
            for layer, name, value in places:
                setattr(layer, name, value)

    # ── modes and gradients ──────────────────────────────────────────────────────────────────────

    def train(self, mode: bool = True) -> Layer:
        """Switch dropout and drop path on (or off) in this layer and all below."""
        mode = switch(f"{type(self).__name__}.train", "mode", mode)
        for layer in self.layers_within():
            layer.training = mode
        return self

    def eval(self) -> Layer:
        return self.train(False)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode inside this block; afterwards each layer has its own mode again."""
        before = [(layer, layer.training) for layer in self.layers_within()]
        self.eval()
        try:
            yield
        finally:
            for layer, mode in before:
                layer.training = mode

    def zero_grad(self) -> None:
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, device: str) -> Layer:
        """Move parameters, buffers, gradients to "cpu", "gpu" or "gpu:1"; gives the layer itself.

        The Parameters stay the same objects with other arrays, so optimizers keep hold of them;
        what an optimizer has already gathered is moved with its own `to`. A GPU other than the
        first computes inside `with devices.working_on(device):`.
        """
        tensors = [t for _, t in self._named((Parameter, Buffer))]
        gradients = [None if t.grad is None else to_device(t.grad, device) for t in tensors]
        moved = [to_device(t.data, device) for t in tensors]  # nothing is changed unless all fits
        for t, data, grad in zip(tensors, moved, gradients, strict=True):
            t.data, t.grad = data, grad
        return self

    # ── weights ──────────────────────────────────────────────────────────────────────────────────

    def state_dict(self) -> dict[str, Array]:
        """The arrays of all parameters and buffers by name: the live arrays, not copies."""
        return {n: t.data for n, t in self._named((Parameter, Buffer))}

    def load_state_dict(self, state: Mapping[str, Array], strict: bool = True) -> None:
        """Copy the arrays of `state` into the parameters and buffers of the same names.

        Nothing is changed unless all fits; an error counts all that does not, and names three of
        each kind. strict=False leaves out missing and unexpected names; a wrong shape is always an
        error. Of a parameter in several places `state` may hold any of its names.
        """
        switch(f"{type(self).__name__}.load_state_dict", "strict", strict)
        copy_state(self, state, strict=strict)

    def _tensors(self) -> dict[str, Any]:
        """The parameters and buffers, each under all names that it has."""
        return {n: x for n, x in self._walk(every_name=True) if not isinstance(x, Layer)}


# ── where parameters may lie ─────────────────────────────────────────────────────────────────────

_CONTAINERS = (list, tuple, set, frozenset, Mapping)
_PLAIN = {type(None), bool, int, float, str, np.random.Generator, Parameter, Buffer}
_ASIDE = {type(None), bool, int, float, str, FunctionType, property}  # most of what a class has


def once(named: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """(name, x), each x under the first of its names only."""
    seen: set[int] = set()
    for name, x in named:
        if id(x) not in seen:
            seen.add(id(x))
            yield name, x


def members(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(name, Layer, Parameter or Buffer) of all that an attribute holds, in order."""
    if isinstance(value, (Layer, Parameter, Buffer)):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from members(f"{name}.{i}", item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            inside = list(members(f"{name}.{key}", item))
            if inside and (not isinstance(key, (str, int)) or "." in str(key) or key == ""):
                raise TypeError(
                    f"{name}: the key {key!r} makes no name for a parameter; use words without a "
                    "dot, or ints"
                )
            yield from inside


def _holds_generator(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_generator, value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(_holds_generator, value))
    return isinstance(value, np.random.Generator)


def hidden_members(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(place, Layer, Parameter or Buffer) that a value holds where `members` does not look."""
    if type(value) in _PLAIN:
        return
    if isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from hidden_members(f"{place}.{i}", item)
    elif isinstance(value, Mapping):
        yield from ((place, key) for key in value if isinstance(key, (Layer, Parameter, Buffer)))
        for key, item in value.items():
            yield from hidden_members(f"{place}.{key}", item)
    elif isinstance(value, partial):
        inside = [value.func, *value.args, *value.keywords.values()]
        yield from ((place, x) for _, x in members("", inside))
        yield from hidden_members(place, inside)
    elif isinstance(value, MethodType):
        yield from ((place, x) for _, x in members("", value.__self__))
    elif isinstance(value, (GeneratorType, map, filter, zip)):
        raise TypeError(
            f"{place}: what a {type(value).__name__} will give cannot be looked through for "
            "parameters; make it a list"
        )
    elif not isinstance(value, (str, bytes, range, type, Tensor, Layer)):
        objects = isinstance(value, np.ndarray) and value.dtype == object
        several = isinstance(value, Collection) and not isinstance(value, np.ndarray)
        attributes = getattr(value, "__dict__", {}).values()
        for item in value.flat if objects else value if several else attributes:
            yield from ((place, x) for _, x in members("", item))
