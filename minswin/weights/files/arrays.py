"""Arrays and tensors of other libraries as NumPy's; none of the libraries is imported."""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin import arrays
from minswin.arrays import to_numpy
from minswin.autograd import Tensor


def is_array(value: object) -> bool:
    """Whether NumPy, CuPy, torch, JAX, TensorFlow or the like made it."""
    return isinstance(value, (np.ndarray, np.generic, Tensor)) or hasattr(value, "__array__")


def as_array(value: Any, *, who: str, name: str) -> np.ndarray:
    """One array as NumPy's. Raises TypeError for what is none."""
    if not is_array(value):
        raise TypeError(
            f"{who}: {name} is a {type(value).__name__}, expected an array; "
            "leave out what is no weight"
        )
    return to_numpy(arrays.as_array(value.data if isinstance(value, Tensor) else value))
