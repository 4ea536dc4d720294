"""Layer: an object that holds parameters and other layers, found by walking vars(self) in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minswin.arrays import Array
from minswin.autograd import Tensor
from minswin.devices import device_of, to_device

SAID = 3  # names of each kind that an error lists
_NUMBERS = {"f": "floating-point numbers", "i": "integers"}  # by the kind of a dtype


class Parameter(Tensor):
    """A Tensor that training changes."""

    __slots__ = ()

    def __init__(self, data: Any) -> None:
        super().__init__(data, requires_grad=True)


class Buffer(Tensor):
    """Numbers that belong to the weights, though no gradient changes them: the layer itself does.

    They are saved and loaded like parameters; optimizers and `parameter_count` do not see them.
    """

    __slots__ = ()


class Layer:
    """Base of everything with parameters: assign Parameters and Layers as attributes, define call.

    A list of layers counts by position, so names are those of the original implementation:
    `layers.0.blocks.1.attn.qkv.weight`.
    """

    training: bool = True
    whole_batch: bool = False  # True: it looks at all samples at once; do not split the batch

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not define __call__")

    # ── what is inside ───────────────────────────────────────────────────────────────────────────

    def children(self) -> Iterator[tuple[str, Layer]]:
        """(name, layer) of the layers directly inside this one, in the order of definition."""
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                yield name, value
            elif isinstance(value, list):
                yield from (
                    (f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, Layer)
                )

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """(name, parameter): a layer's own parameters first, then those of its children."""
        return self._named(Parameter, prefix)

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Buffer]]:
        """(name, buffer), in the same order."""
        return self._named(Buffer, prefix)

    def _named(self, kind: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
        for name, value in vars(self).items():
            if isinstance(value, kind):
                yield prefix + name, value
        for name, child in self.children():
            yield from child._named(kind, f"{prefix}{name}.")

    def parameters(self) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters())

    def parameter_count(self) -> int:
        """Number of learnt numbers."""
        return sum(parameter.size for parameter in self.parameters())

    def layers_within(self) -> Iterator[Layer]:
        """This layer and every layer below it."""
        yield self
        for _, child in self.children():
            yield from child.layers_within()

    # ── modes and gradients ──────────────────────────────────────────────────────────────────────

    def train(self, mode: bool = True) -> Layer:
        """Switch dropout and drop path on (or off) in this layer and all below."""
        for layer in self.layers_within():
            layer.training = mode
        return self

    def eval(self) -> Layer:
        return self.train(False)

    def zero_grad(self) -> None:
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, device: str) -> Layer:
        """Move parameters, buffers, gradients to "cpu", "gpu" or "gpu:1"; gives the layer itself.

        The Parameters stay the same objects with other arrays, so optimizers keep hold of them;
        what an optimizer has already gathered is moved with its own `to`. A GPU other than the
        first computes inside `with devices.working_on(device):`.
        """
        tensors = list(dict.fromkeys(t for _, t in self._named((Parameter, Buffer))))
        gradients = [None if t.grad is None else to_device(t.grad, device) for t in tensors]
        moved = [to_device(t.data, device) for t in tensors]  # nothing is changed unless all fits
        for t, data, grad in zip(tensors, moved, gradients, strict=True):
            t.data, t.grad = data, grad
        return self

    # ── weights ──────────────────────────────────────────────────────────────────────────────────

    def state_dict(self) -> dict[str, Array]:
        """The arrays of all parameters and buffers by name: the live arrays, not copies."""
        return {name: tensor.data for name, tensor in self._named((Parameter, Buffer))}

    def load_state_dict(self, state: Mapping[str, Array], strict: bool = True) -> None:
        """Copy the arrays of `state` into the parameters and buffers of the same names.

        Nothing is changed unless all fits; an error counts all that does not, and names three of
        each kind. strict=False leaves out missing and unexpected names; a wrong shape is always an
        error.
        """
        own = self.state_dict()
        missing = [name for name in own if name not in state] if strict else []
        unexpected = [name for name in state if name not in own] if strict else []
        arrays = {n: _array(state[n]) for n in own if n in state}
        misshapen = [
            f"{name}: expected {own[name].shape}, got {array.shape}"
            for name, array in arrays.items()
            if array.shape != own[name].shape
        ]
        mistyped = [
            f"{name}: expected {_NUMBERS[own[name].dtype.kind]}, got {array.dtype}"
            for name, array in arrays.items()
            if array.dtype.kind != own[name].dtype.kind
        ]
        problems = {
            "missing": missing,
            "unexpected": unexpected,
            "wrong shape": misshapen,
            "wrong dtype": mistyped,
        }
        found = [f"{what} ({len(n)}): {_some(n)}" for what, n in problems.items() if n]
        if found:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: the names do not fit; "
                + "; ".join(found)
                + ". Was it saved from another model or configuration?"
            )
        for name, array in arrays.items():
            own[name][...] = to_device(array, device_of(own[name]))


def _some(names: list[str]) -> str:
    more = f", … and {len(names) - SAID:,} more" if len(names) > SAID else ""
    return ", ".join(names[:SAID]) + more


def _array(x: Array) -> Array:
    return x if hasattr(x, "dtype") else np.asarray(x)
