"""The configurations of the race: model, batch and image, and their data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Setup(NamedTuple):
    """One configuration of the race."""

    model: str  # a name of list_models()
    batch: int
    img_size: int
    classes: int
    precision: str = "float32"  # of products: see training/precision.py


SETUPS = {
    "cifar": Setup("swin_cifar", 128, 32, 10),
    "tiny": Setup("swin_tiny", 8, 224, 1000),
    "vit": Setup("vit_small", 8, 224, 1000),
}


def check_model(name: str) -> None:
    from minswin.models import list_models

    if name not in list_models():
        raise ValueError(f"bench: this version of minswin has no model {name!r}")


def data(setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    """Noise and labels: images (B, 3, H, W), labels (B,)."""
    rng = np.random.default_rng(0)
    shape = setup.batch, 3, setup.img_size, setup.img_size
    images = rng.standard_normal(shape, dtype=np.float32)
    return images, rng.integers(0, setup.classes, setup.batch)


def our_model(setup: Setup, rng: Any) -> Any:
    """Ours, without stochastic depth."""
    from minswin import create_model

    settings: dict[str, Any] = {"img_size": setup.img_size, "num_classes": setup.classes}
    return create_model(setup.model, rng=rng, drop_path_rate=0.0, **settings)
