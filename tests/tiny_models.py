"""Models that run in milliseconds and leave no bias at zero, and batches for them."""

from __future__ import annotations

import numpy as np

from minswin import ops
from minswin.models import create_model

TINY = {
    "swin_shapes": {
        "img_size": (8, 12),
        "patch_size": 2,
        "embed_dim": 6,
        "depths": (2,),
        "num_heads": (2,),
        "window_size": 2,
        "num_classes": 5,
    },
    "vit_cifar": {
        "img_size": (8, 12),
        "patch_size": 4,
        "embed_dim": 6,
        "depth": 2,
        "num_heads": 2,
        "num_classes": 5,
        "positions": "relative",
    },
}


def tiny_model(name="swin_shapes", *, rate=0.0, dtype=np.float64, **settings):
    """rate: of dropped paths; more of create_model's settings by name."""
    rng = np.random.default_rng(3)
    own = {**TINY[name], "drop_path_rate": rate, **settings}
    model = create_model(name, rng=rng, dtype=dtype, **own)
    for p in model.parameters():
        p.data += (0.3 * rng.standard_normal(p.shape)).astype(dtype)
    return model


def batch(number, dtype=np.float64):
    rng = np.random.default_rng(4)
    return rng.standard_normal((number, 3, 8, 12)).astype(dtype), rng.integers(0, 5, number)


def differentiate(model, forward, x, targets):
    """Loss, logits and gradients by name of forward(x), from no gradients; those are cleared."""
    model.zero_grad()
    logits = forward(x)
    loss = ops.cross_entropy(logits, targets, smoothing=0.1)
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    return loss.item(), logits.data, gradients


def assert_close(one, other):
    """What `differentiate` gave agrees up to the rounding of float64."""
    assert abs(one[0] - other[0]) < 1e-12
    assert np.abs(one[1] - other[1]).max() < 1e-12
    assert one[2].keys() == other[2].keys()
    for name, g in one[2].items():
        assert np.abs(g - other[2][name]).max() < 1e-12, name
