"""Which array library an array belongs to: NumPy, or CuPy if somebody has imported it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Array", "Definition", "Vjp", "adding", "array_module", "sliding_windows", "to_numpy"]

Array = Any  # a NumPy or a CuPy array: the definitions are the same for both
INSTALL_CUPY = "pip install cupy-cuda13x (for CUDA 12: cupy-cuda12x)"
Vjp = Callable[[Array], tuple[Any, ...]]  # cotangent of the result -> one gradient per argument
Definition = Callable[..., tuple[Array, Vjp]]  # value, vjp = definition(*arrays, **settings)


def adding(vjp: Vjp) -> Vjp:
    """Mark a kernel's vjp that can add as it writes: vjp(g, onto) gives `onto` + dx as its first.

    onto: what the first input has got from others so far, as of a block's residual; do not write
    into it. Walking back over the operations calls it so, which saves one pass over the array.
    """
    vjp.adds = True  # type: ignore[attr-defined]
    return vjp


def array_module(x: Array) -> Any:
    """The module (numpy or cupy) whose functions work on `x`; cupy is never imported here.

    >>> array_module(np.zeros(3)).__name__
    'numpy'
    """
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(x, cupy.ndarray) else np


def as_array(x: Any) -> Array:
    """x as a NumPy or CuPy array: itself, or the array of what is a list, a number or a subclass.

    A subclass of NumPy's array may compute otherwise (np.matrix has another *), so it is left. A
    tensor of torch may be on a GPU, need a gradient, or be bfloat16, which becomes float32.
    """
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError("a masked array: its mask would be lost; use .filled(number), or .data")
    if type(x) is np.ndarray or array_module(x) is not np:
        return x
    try:
        if type(x).__module__.partition(".")[0] == "torch" and hasattr(x, "detach"):
            x = x.detach().cpu().resolve_conj().resolve_neg()
            x = x.float() if str(x.dtype) == "torch.bfloat16" else x
        return _asarray(x)
    except (TypeError, RuntimeError, NotImplementedError) as error:
        if isinstance(x, (list, tuple)):
            raise
        kind = f"{type(x).__module__.partition('.')[0]}.{type(x).__name__}"
        raise TypeError(f"a {kind} cannot be read as an array: {error}") from None


def _asarray(x: Any) -> np.ndarray:
    """np.asarray, which would cut what lies in a list off from its history: that is an error."""
    if isinstance(x, (list, tuple)) and _needs_gradient(x):
        raise TypeError(
            "a list of Tensors has no gradient; give the Tensors one by one, as in "
            "stack(*tensors), or leave the gradient out on purpose with .data"
        )
    return np.asarray(x)


def _needs_gradient(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return any(map(_needs_gradient, x))
    return getattr(x, "requires_grad", False) is True


def sliding_windows(x: Array, window: tuple[int, int]) -> Array:
    """Every window of the last two axes, as a view: (..., H, W) gives (..., H', W', kh, kw).

    window (kh, kw)   H' = H − kh + 1   W' = W − kw + 1
    CuPy's own function of this kind waits for the GPU. Raises ValueError: a view that reaches
    beyond the array would read what is not its own.
    """
    (H, W), (kh, kw) = x.shape[-2:], window
    if not (1 <= kh <= H and 1 <= kw <= W):
        raise ValueError(f"sliding_windows: window {window} must lie in the map, which is {(H, W)}")
    shape = *x.shape[:-2], H - kh + 1, W - kw + 1, kh, kw
    view = array_module(x).lib.stride_tricks.as_strided
    return view(x, shape, (*x.strides, *x.strides[-2:]))


def to_numpy(x: Array) -> np.ndarray:
    """`x` as a NumPy array; a CuPy array is copied from the GPU."""
    return x.get() if array_module(x) is not np else np.asarray(x)
