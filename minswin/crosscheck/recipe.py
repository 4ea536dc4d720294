"""Numbers that any language makes from a name: the same image and weights without reading a file.

In C, with 32-bit unsigned integers that wrap around (`hash` starts at 2166136261):

    for (const char *c = name; *c; c++) hash = (hash ^ (unsigned char)*c) * 16777619u;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t x = hash + i * 2654435769u;
        x = (x ^ (x >> 16)) * 2246822507u;
        x = (x ^ (x >> 13)) * 3266489909u;
        x = (x ^ (x >> 16)) >> 12;               // 0 … 2^20 − 1
        label[i] = x % classes;                  // of the name "labels"
        value[i] = ((float)x + 0.5f) / 524288.0f - 1.0f;   // between −1 and 1
    }

The images are the values of "image". A weight is made of those of its own name, its number of axes
and its `inputs`, the product of all axes but the first:

    int is_weight = ends_with(name, "weight");
    int is_gain = axes == 1 && (is_weight || ends_with(name, "running_var"));
    float scale = 2;
    while (scale * scale * inputs > 6) scale /= 2;         // near √(3 / inputs)
    if (!is_weight) scale = 0.5f;                          // tables, positions, tokens
    if (axes == 1) scale = 0.25f;
    for (uint32_t i = 0; i < count; i++) weight[i] = value[i] * scale + is_gain;

Whole numbers, such as counters, are 0. All is exact in float32 and in float64, so both start from
the same numbers. Elements are numbered in C order, the last axis fastest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minswin.arguments import whole
from minswin.arrays import Array
from minswin.layers import Layer
from minswin.layers.loading import left_out

__all__ = ["array", "images", "integers", "is_gain", "labels", "scale_of", "weight", "weights"]

_WORD = 0xFFFFFFFF
_STEP = 2.0**-19  # of a value: x is a whole number of 0 … 2²⁰ − 1


def integers(name: str, count: int) -> np.ndarray:
    """`count` numbers of 0…2²⁰ − 1 that belong to `name` (FNV-1a, then a mixing of the bits).

    >>> integers("image", 4).tolist()
    [772951, 349269, 248516, 324124]
    """
    start = 2166136261
    for byte in name.encode():
        start = (start ^ byte) * 16777619 & _WORD
    x = (np.arange(count, dtype=np.uint64) * 2654435769 + start) & _WORD
    x = (x ^ (x >> np.uint64(16))) * 2246822507 & _WORD
    x = (x ^ (x >> np.uint64(13))) * 3266489909 & _WORD
    return ((x ^ (x >> np.uint64(16))) >> np.uint64(12)).astype(np.int64)


def array(name: str, shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    """The values of `name` in an array of `shape`: between −1 and 1, exact in every float dtype."""
    flat = (integers(name, int(np.prod(shape))) + 0.5) * _STEP - 1
    return flat.reshape(shape).astype(dtype)


def images(batch: int, channels: int, size: tuple[int, int], dtype: Any = np.float64) -> np.ndarray:
    """The images (B, C, H, W) of the recipe."""
    return array("image", (batch, channels, *size), dtype)


def labels(batch: int, classes: int) -> np.ndarray:
    """The labels (B,) of the recipe: the numbers of "labels" modulo the classes."""
    return integers("labels", batch) % whole("labels", "classes", classes)


def weights(state: Mapping[str, Array], dtype: Any = np.float64) -> dict[str, np.ndarray]:
    """Weights for every name of `state`, by its shape: see `weight`. Whole numbers become zero."""
    return {
        name: weight(name, np.shape(old), dtype)
        if np.asarray(old).dtype.kind == "f"
        else np.zeros_like(old)
        for name, old in state.items()
    }


def weights_of(model: Layer) -> dict[str, np.ndarray]:
    """Weights for a model; zeros for what it is built without (see Parameter.leave_out)."""
    made = weights(model.state_dict())
    for name in left_out(model.named_parameters(), made):
        made[name][...] = 0
    return made


def weight(name: str, shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    """One weight of the recipe. The gain of a norm is 1 + value / 4, all else value · scale."""
    values = array(name, shape, dtype)
    if is_gain(name, shape):
        return (1 + values * 0.25).astype(dtype)
    return (values * scale_of(name, shape)).astype(dtype)


def is_gain(name: str, shape: tuple[int, ...]) -> bool:
    """Whether `name` is the gain of a norm, or a variance: numbers of one axis around 1."""
    return len(shape) == 1 and name.endswith(("weight", "running_var"))


def scale_of(name: str, shape: tuple[int, ...]) -> float:
    """A power of two near √(3 / inputs) for matrices; 1/4 for biases, 1/2 for everything else.

    Values are spread evenly over −1…1, with variance 1/3: so a product keeps the variance.
    """
    if len(shape) == 1:
        return 0.25
    if not name.endswith("weight"):
        return 0.5  # bias tables, position embeddings, class tokens
    inputs, scale = int(np.prod(shape[1:])), 2.0
    while scale * scale * inputs > 6:
        scale /= 2
    return scale
