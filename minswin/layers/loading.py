"""A saved state, copied into the parameters and buffers of a layer: all of it, or nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from minswin.arrays import Array, as_array
from minswin.autograd import Tensor
from minswin.devices import device_of, to_device

MOST_NAMES = 3  # of each kind that an error lists
_NUMBERS = {"f": "floating-point numbers", "i": "integers"}  # by the kind of a dtype


def copy_state(layer: Any, state: Mapping[str, Array], *, strict: bool) -> None:
    """Copy the arrays of `state` into the tensors of a layer; see Layer.load_state_dict.

    What the model is built without (Parameter.leave_out) stays 0; a warning says what it was not.
    """
    who, tensors = type(layer).__name__, layer._tensors()
    arrays = fitting_arrays(layer, state, strict=strict)
    for name, array in arrays.items():
        if not getattr(tensors[name], "left_out", False):
            tensors[name].data[...] = to_device(array, device_of(tensors[name].data))
    if without := left_out(tensors.items(), arrays):
        warnings.warn(
            f"{who}.load_state_dict: left out, since the model is built without it: "
            f"{_some(without)}; answers differ from those of a model that has it",
            stacklevel=3,
        )


def fitting_arrays(
    layer: Any, state: Mapping[str, Array], *, strict: bool = True
) -> dict[str, Array]:
    """The arrays of `state` that a layer takes, by its names; raises where they do not fit."""
    who = type(layer).__name__
    if not isinstance(state, Mapping):
        raise TypeError(
            f"{who}.load_state_dict: expected arrays by name, got {type(state).__name__}; "
            "a file is read by minswin.weights.load"
        )
    tensors: dict[str, Tensor] = layer._tensors()
    names: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), []).append(name)
    arrays = {name: _array(who, name, state[name]) for name in tensors if name in state}
    problems: dict[str, list[str]] = {"missing": [], "unexpected": []}
    if strict:
        problems["missing"] = [n[0] for n in names.values() if not any(x in arrays for x in n)]
        problems["unexpected"] = [name for name in state if name not in tensors]
    for name, array in arrays.items():
        for what, text in _misfits(array, tensors[name].data):
            problems.setdefault(what, []).append(f"{name}: {text}")
    for same in names.values():
        if not _agree([arrays[name] for name in same if name in arrays]):
            problems.setdefault("one parameter, other numbers", []).append(" and ".join(same))
    wrong = [f"{what} ({len(n)}): {_some(n)}" for what, n in problems.items() if n]
    if wrong:
        raise ValueError(
            f"{who}.load_state_dict: the names do not fit; {'; '.join(wrong)}. "
            "Was it saved from another model or configuration?"
        )
    return arrays


def left_out(named: Iterable[tuple[str, Tensor]], state: Mapping[str, Any]) -> list[str]:
    """The names of what a model is built without, and of which `state` has more than zeros."""
    without = (name for name, x in named if getattr(x, "left_out", False))
    return [name for name in without if name in state and bool((state[name] != 0).any())]


def _misfits(array: Array, wanted: Array) -> Iterable[tuple[str, str]]:
    if array.shape != wanted.shape:
        yield "wrong shape", f"expected {wanted.shape}, got {array.shape}"
    if array.dtype.kind != wanted.dtype.kind:
        yield "wrong dtype", f"expected {_NUMBERS[wanted.dtype.kind]}, got {array.dtype}"


def _agree(arrays: list[Array]) -> bool:
    return all(bool((x == arrays[0]).all()) for x in arrays[1:] if x.shape == arrays[0].shape)


def _some(names: list[str]) -> str:
    more = f", … and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _array(who: str, name: str, x: Any) -> Array:
    try:
        return as_array(x.data if isinstance(x, Tensor) else x)
    except TypeError as error:
        raise TypeError(f"{who}.load_state_dict: {name}: {error}") from None
