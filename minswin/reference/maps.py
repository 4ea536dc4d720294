"""Maps of another size: bilinear interpolation and mean pooling, one matrix for each axis."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from minswin.arguments import Pair
from minswin.arrays import Array, Vjp, array_module

__all__ = ["mean", "resize"]


def resize(x: Array, *, size: Pair, method: str = "bilinear") -> tuple[Array, Vjp]:
    """Bring a map to another size, by one small matrix for each axis.

        Y = R X Sᵀ  of every image and channel,    so    dX = Rᵀ dY S

    x (B, H, W, C)   gives (B, *size, C)
    "bilinear" weighs the two nearest pixel centres (PyTorch's align_corners=False; no smoothing
    where the map shrinks); "mean" is the mean of the pixels that a new one touches (adaptive
    pooling).
    """
    xp = array_module(x)
    R, S = (
        xp.asarray(METHODS[method](before, after)).astype(x.dtype)
        for before, after in zip(x.shape[1:3], size, strict=True)
    )
    return _along_both(R, S, x), lambda g: (_along_both(R.T, S.T, g),)


def _along_both(R: Array, S: Array, x: Array) -> Array:
    B, H, W, C = x.shape
    x = R @ x.reshape(B, H, W * C)  # (B, H', W·C)
    x = S @ x.reshape(-1, W, C)  # (B·H', W', C)
    return x.reshape(B, len(R), len(S), C)


@lru_cache(maxsize=256)
def bilinear(before: int, after: int) -> np.ndarray:
    """How much of each old pixel a new one takes; each row sums to 1.        (after, before)

    >>> bilinear(2, 4)
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.  , 1.  ]])
    """
    centres = (np.arange(after) + 0.5) * (before / after) - 0.5  # counted in old pixels
    centres = centres.clip(0, before - 1)  # beyond the outermost centres nothing changes
    left = np.floor(centres).astype(int)
    right = np.minimum(left + 1, before - 1)
    matrix, rows = np.zeros((after, before)), np.arange(after)
    matrix[rows, left] = 1 - (centres - left)
    matrix[rows, right] += centres - left
    return matrix


@lru_cache(maxsize=256)
def mean(before: int, after: int) -> np.ndarray:
    """New pixel i is the mean of the old ones from ⌊i n/m⌋ to below ⌈(i+1) n/m⌉.  (after, before)

    >>> mean(3, 2)
    array([[0.5, 0.5, 0. ],
           [0. , 0.5, 0.5]])
    """
    new, old = np.arange(after)[:, None], np.arange(before)
    first, end = new * before // after, -(-(new + 1) * before // after)  # (after, 1)
    touched = (first <= old) & (old < end)
    return touched / touched.sum(axis=1, keepdims=True)


METHODS = {"bilinear": bilinear, "mean": mean}
