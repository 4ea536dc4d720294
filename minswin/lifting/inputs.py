"""What an operation takes: Tensors, arrays, lists and numbers, brought to one floating dtype.

A number has no dtype of its own, and neither has a list of them: it takes that of the arrays
beside it. Integers and bools beside floating arrays become floating too, unless the shape line of
the definition marks them as indices or flags (see `shapes`). Without floating arrays they stay what
they are, but where the answer is no integer, as of a softmax, they become float64: NumPy would
compute with half precision, and differences of unsigned integers wrap around.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain, repeat
from typing import Any

import numpy as np

from minswin.arrays import Array, array_module, as_array
from minswin.autograd import Tensor
from minswin.devices import device_of
from minswin.lifting.shapes import KINDS, Argument

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

Unwrapped = tuple[Sequence[Any], list[Any], tuple[Any, ...]]  # inputs, their arrays, the shapes


def unwrapping(arguments: Sequence[Argument], *, real: bool = False) -> Callable[..., Unwrapped]:
    """`unwrap`, or `convert` for an operation on indices or flags.

    real: the operation computes no integers
    """
    kinds = {form.kind for argument in arguments for form in argument.forms}
    return partial(unwrap if kinds <= {"numbers", "floats"} else convert, real=real)


def unwrap(
    who: str,
    arguments: Sequence[Argument],
    inputs: Sequence[Any],
    hints: Mapping[str, str],
    *,
    real: bool = False,
) -> Unwrapped:
    """The inputs, each a Tensor, an array or None; their arrays; and the shapes of these."""
    arrays: list[Any] = []
    shapes: list[Any] = []
    dtype = None
    if float in map(type, inputs):
        inputs = _with_arrays(inputs)
    for x in inputs:
        array = x.data if isinstance(x, Tensor) else x
        if array is not None:
            if type(array) is not np.ndarray or array.dtype is not (dtype or array.dtype):
                return convert(who, arguments, inputs, hints, real=real)
            dtype = array.dtype
        arrays.append(array)
        shapes.append(None if array is None else array.shape)
    if dtype not in FLOATS:
        return convert(who, arguments, inputs, hints, real=real)
    return inputs, arrays, tuple(shapes)


def _with_arrays(inputs: Sequence[Any]) -> Sequence[Any]:
    """Inputs with Python's floats as arrays, where the first array is NumPy's and floating."""
    first = next((x for x in inputs if isinstance(x, (Tensor, np.ndarray))), None)
    array = first.data if isinstance(first, Tensor) else first
    if type(array) is not np.ndarray or array.dtype not in FLOATS:
        return inputs
    return [np.asarray(x, array.dtype) if type(x) is float else x for x in inputs]


def convert(
    who: str,
    arguments: Sequence[Argument],
    inputs: Sequence[Any],
    hints: Mapping[str, str],
    *,
    real: bool = False,
) -> Unwrapped:
    """`unwrap` where not all inputs are NumPy arrays of one floating dtype, or may not be."""
    typed = [_array(who, x) for x in inputs if _has_dtype(x)]
    floating = _require_one_dtype(who, [x for x in typed if x.dtype.kind == "f"])
    _require_one_device(who, typed)
    like = (floating or typed or [np.empty(0, np.int64)])[0]
    if real and like.dtype.kind in "iub":
        like = array_module(like).empty(0, np.float64)
    names = chain(arguments, repeat(Argument("inputs")))
    converted = [
        None if x is None else _beside(like, who, argument, x, hints)
        for x, argument in zip(inputs, names, strict=False)
    ]
    arrays = [x.data if isinstance(x, Tensor) else x for x in converted]
    shapes = [None if a is None else a.shape for a in arrays]
    return converted, arrays, tuple(shapes)


def _has_dtype(x: Any) -> bool:
    """Whether x has a dtype that counts: a NumPy number takes that of others, like Python's."""
    return hasattr(x, "dtype") and not isinstance(x, np.generic)


def _array(who: str, x: Any) -> Array:
    try:
        return x.data if isinstance(x, Tensor) else as_array(x)
    except TypeError as error:
        raise TypeError(f"{who}: {error}") from None


def _beside(
    like: Array, who: str, argument: Argument, x: Any, hints: Mapping[str, str]
) -> Tensor | Array:
    """An input as the operation takes it, where `like` is the array that decides."""
    array = _array(who, x)
    kind = argument.form(array.ndim).kind
    weak = array.dtype.kind == "f" and not _has_dtype(x)
    converted = like.dtype.kind == "f" and (kind == "numbers" or (kind == "floats" and weak))
    _require_kind(who, argument.name, array, kind, hints)
    dtype = like.dtype if converted else array.dtype
    if _has_dtype(x):
        if array.dtype != dtype:
            return array.astype(dtype)
        return x if isinstance(x, Tensor) else array
    if type(like) is not np.ndarray and array.ndim == 0:  # filled in on the GPU, copied nowhere
        return array_module(like).full((), x, dtype)
    return array_module(like).asarray(array.astype(dtype, copy=False))


# ── what does not fit ────────────────────────────────────────────────────────────────────────────

_IN_WORDS = {"floats": "floating-point numbers", "flags": "bool or integers"}


def _require_kind(who: str, name: str, array: Array, kind: str, hints: Mapping[str, str]) -> None:
    if array.dtype.kind not in KINDS[kind]:
        hint = f"; {hints[name]}" if name in hints else ""
        raise TypeError(
            f"{who}: {name} must be {_IN_WORDS.get(kind, kind)}, got {array.dtype}{hint}"
        )


def _require_one_dtype(who: str, floating: list[Array]) -> list[Array]:
    for x in floating:
        if x.dtype != floating[0].dtype:
            raise TypeError(
                f"{who}: the inputs must share one floating dtype, got {floating[0].dtype} and "
                f"{x.dtype}; convert one with .astype"
            )
    if floating and floating[0].dtype not in FLOATS:
        raise TypeError(
            f"{who}: expected float32 or float64 data, got {floating[0].dtype}; use .astype"
        )
    return floating


def _require_one_device(who: str, arrays: list[Array]) -> None:
    if {*map(type, arrays)} <= {np.ndarray}:
        return
    devices = [device_of(x) for x in arrays]
    other = next((device for device in devices if device != devices[0]), None)
    if other is not None:
        raise ValueError(
            f"{who}: the inputs lie on two devices, {devices[0]} and {other}; move one with "
            f".to({devices[0]!r}), a plain array with devices.to_device, a model with model.to"
        )
