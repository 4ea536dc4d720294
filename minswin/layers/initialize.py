"""First values of the parameters, as the original draws them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Dtype = Any  # whatever np.dtype() accepts


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: Dtype) -> np.ndarray:
    """Normal, mean 0, σ = 0.02: linear weights, bias tables, position embeddings.

    The original calls this "truncated normal" with bounds at ±2, which is ±100 σ: no truncation.
    """
    return (0.02 * rng.standard_normal(shape)).astype(dtype)


def uniform_by_fan_in(
    rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, dtype: Dtype
) -> np.ndarray:
    """Uniform in ±1/√fan_in: the patch convolution keeps this default of PyTorch's."""
    bound = 1 / math.sqrt(fan_in)
    return rng.uniform(-bound, bound, shape).astype(dtype)
