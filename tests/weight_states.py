"""A small Swin and small ViTs, and the Swin's weights under our names and under timm's."""

from __future__ import annotations

import numpy as np

from minswin.models import create_model
from minswin.weights import rename

SMALL = {"embed_dim": 6, "depths": (2, 1), "num_heads": (2, 3), "num_classes": 5}
VIT = {"img_size": 16, "embed_dim": 12, "depth": 2, "num_heads": 2, "num_classes": 5}


def swin(seed: int = 0):
    return create_model("swin_shapes", rng=np.random.default_rng(seed), **SMALL)


def vit(name: str = "vit_cifar", seed: int = 0, **settings):
    return create_model(name, rng=np.random.default_rng(seed), **{**VIT, **settings})


STATE = swin().state_dict()
TIMM = rename(STATE, "minswin", "timm")


def doubled() -> dict[str, np.ndarray]:
    return {name: 2 * x for name, x in STATE.items()}
