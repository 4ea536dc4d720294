"""A small model of each family, with random numbers in all of its weights."""

from __future__ import annotations

import numpy as np

from minswin.models import create_model, list_models
from minswin.models.registry import CLASSES

SWIN = {
    "img_size": 32,
    "patch_size": 2,
    "window_size": 4,
    "embed_dim": 6,
    "depths": (2, 1, 2),
    "num_heads": (1, 3, 2),
    "num_classes": 5,
}
VIT = {
    "img_size": (8, 20),
    "patch_size": 4,
    "embed_dim": 6,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 5,
}
TNT = {"img_size": 8, "embed_dim": 6, "inner_dim": 4, "depth": 2, "num_heads": 2}
MODELS = {
    "swin": ("swin_cifar", SWIN),
    "swinv2": ("swinv2_cifar", SWIN),
    "vit": ("vit_cifar", VIT),
    "deit": ("deit_cifar_distilled", VIT),
    "tnt": ("tnt_cifar", TNT),
    "resnet": ("resnet18", {"width": 4, "depths": (1, 2), "num_classes": 5}),
}


def small(family):
    """A name and settings; of a family without a line above, the last name of its class."""
    last = [name for name in list_models() if CLASSES[name].family == family][-1]
    return MODELS.get(family, (last, {}))


def model(family, **more):
    name, settings = small(family)
    rng = np.random.default_rng(3)
    made = create_model(name, rng=rng, **{**settings, **more})
    for array in made.state_dict().values():
        if array.dtype.kind == "f":
            array += rng.standard_normal(array.shape).astype(array.dtype)
    return made
