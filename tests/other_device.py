"""A stand-in for CuPy as the other device, what goes there, and small models here and there."""

from __future__ import annotations

import numpy as np
import pytest
import standin

from minswin import create_model, devices


@pytest.fixture
def cupy(monkeypatch):
    return standin.use(monkeypatch)


def there(x):
    """Every array inside x on the GPU; the rest as it is."""
    if isinstance(x, np.ndarray):
        return devices.to_device(x, "gpu")
    if isinstance(x, (tuple, list)):
        return type(x)(there(item) for item in x)
    return {k: there(v) for k, v in x.items()} if isinstance(x, dict) else x


def assert_same(ours, truth):
    """The same numbers to the bit, on the GPU."""
    if truth is None:
        assert ours is None
        return
    assert type(ours) is standin.ndarray
    assert ours.dtype == truth.dtype and ours.shape == np.shape(truth)
    assert np.array_equal(ours.get(), truth, equal_nan=True)


SMALL = {"img_size": (8, 8), "num_classes": 5}
SWIN = {
    "patch_size": 2,
    "embed_dim": 6,
    "depths": (2,),
    "num_heads": (2,),
    "window_size": 2,
    **SMALL,
}
VIT = {"patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2, **SMALL}
FAMILIES = {
    "swin": ("swin_shapes", {**SWIN, "drop_rate": 0.1, "attn_drop_rate": 0.1}),
    "swin padded": ("swin_shapes", {**SWIN, "img_size": (8, 12), "window_size": 3}),
    "swin merged": ("swin_shapes", {**SWIN, "depths": (2, 2), "num_heads": (2, 3)}),
    "swin v2": ("swinv2_cifar", SWIN),
    "vit relative": ("vit_cifar", {**VIT, "positions": "relative"}),
    "vit waves": ("vit_cifar", {**VIT, "positions": "sinusoidal"}),
    "vit learnt": ("vit_cifar", VIT),
    "deit": ("deit_tiny_distilled", VIT),
    "tnt": ("tnt_small", {**VIT, "inner_dim": 4, "inner_num_heads": 2}),
    "swin again": ("swin_shapes", {**SWIN, "recompute": True, "drop_path_rate": 0.5}),
    "resnet pooled": ("resnet18", {"num_classes": 5, "img_size": (32, 32), "width": 4}),
    "resnet": ("resnet20", {"num_classes": 5, "img_size": (8, 8)}),
}


def pair_of(family):
    """A model of the family on the CPU, and its equal on the GPU."""
    name, settings = FAMILIES[family]
    here, gpu = (create_model(name, rng=np.random.default_rng(3), **settings) for _ in range(2))
    return here, gpu.to("gpu")
