"""Tiny backbones, a detector on one of them, boxes drawn at random, and how much two overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
from drawn import fill

from minswin.dense import Backbone, Detector
from minswin.models import ResNet, SwinTransformer

TINY: dict[str, Any] = {"img_size": (10, 14), "num_classes": 1, "dtype": np.float64}
SWIN: dict[str, Any] = {
    "patch_size": 2,
    "embed_dim": 4,
    "depths": (1, 2),
    "num_heads": (1, 2),
    "window_size": 3,
    "drop_path_rate": 0.0,
}


def backbone(kind: str, rng: np.random.Generator) -> Backbone:
    if kind == "swin":
        return Backbone(SwinTransformer(**TINY, **SWIN, rng=rng))
    return Backbone(ResNet(**TINY, depths=(1, 1, 1), width=3, stem="cifar", rng=rng), keep=2)


NONE = np.zeros((0, 4), np.float32)
SIZE, STRIDES = (26, 34), (4, 8)


def some(rng: np.random.Generator, count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Boxes inside an image."""
    sides = rng.uniform(3, 24, (count, 2))
    start = rng.random((count, 2)) * (np.array(size[::-1]) - sides)
    return np.concatenate([start, start + sides], axis=1).astype(np.float32)


def slow_iou(a: Any, b: Any) -> float:
    a, b = np.asarray(a).tolist(), np.asarray(b).tolist()
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * high
    return wide * high / union if union else 0.0


def detector(kind: str, rng: np.random.Generator) -> Detector:
    own = {"width": 9, "depth": 1, "rng": rng, "dtype": np.float64}
    return fill(Detector(backbone(kind, rng), 3, **own), rng)
