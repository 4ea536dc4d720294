"""Four small parameters, of which two are weights that decay, and random gradients for them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

SHAPES = {"layer.weight": (3, 5), "layer.bias": (5,), "norm.weight": (4,), "head.weight": (2, 3)}


def make_parameters(rng, dtype=np.float64):
    return {
        name: SimpleNamespace(data=rng.standard_normal(shape).astype(dtype), shape=shape, grad=None)
        for name, shape in SHAPES.items()
    }


def give_gradients(parameters, rng):
    for p in parameters.values():
        p.grad = rng.standard_normal(p.shape).astype(p.data.dtype)
