"""Backbones: models that give a pyramid of maps, in one form for all heads."""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin.arguments import Seed, one_of
from minswin.arrays import Array
from minswin.autograd import Tensor
from minswin.layers import Layer
from minswin.layers.parameters import Dtype
from minswin.models import ResNet, SwinTransformer
from minswin.models.base import Model


class Backbone(Layer):
    """The maps of a model with stages (Swin, ResNet), fine to coarse, as (B, H, W, C).

    keep: how many of the coarsest maps; None for all
    channels, strides: of each map, what a token has, and how many pixels of the image it is wide
    """

    def __init__(self, model: Model, *, keep: int | None = None) -> None:
        rows = [row for row in model.summary() if row.is_stage] if isinstance(model, Model) else []
        if not rows:
            raise TypeError(
                f"Backbone: a {type(model).__name__} gives no pyramid of maps; use a Swin or ResNet"
            )
        self.model = model
        if keep is not None and not 1 <= keep <= len(rows):
            raise ValueError(f"Backbone: keep must be 1 to {len(rows)} of the maps, got {keep}")
        first = _first_stride(model)
        self.dropped = len(rows) - (keep or len(rows))
        self.channels = tuple(row.shape[2] for row in rows)[self.dropped :]
        self.strides = tuple(first * 2**i for i in range(len(rows)))[self.dropped :]

    def __call__(self, x: Tensor | Array) -> list[Tensor]:  # type: ignore[override]
        return self.model.feature_maps(x)[self.dropped :]

    def macs(self, img_size: int | tuple[int, int] | None = None) -> int:
        """Multiply-adds of one image, without the classifier."""
        return sum(row.macs for row in self.model.summary(img_size) if row.name != "head")


def _first_stride(model: Model) -> int:
    """How many pixels a token of the finest map is wide; on each further map, twice as many."""
    height, width = model.first_stride
    if height != width:
        raise ValueError(
            f"Backbone: the tokens of a pyramid must be squares, got patch_size {height}×{width}; "
            "build the model with one number"
        )
    return height


# Three maps each, with tokens 2, 4, 8 or 4, 8, 16 pixels wide, and about the same multiply-adds.
_SWIN: dict[str, Any] = {
    "embed_dim": 32,
    "depths": (2, 2, 2),
    "num_heads": (2, 4, 8),
    "window_size": 4,
    "drop_path_rate": 0.0,
}
SMALL: dict[str, dict[int, dict[str, Any]]] = {
    "swin": {2: {**_SWIN, "patch_size": 2}, 4: {**_SWIN, "patch_size": 4}},
    "resnet": {
        2: {"stem": "cifar", "depths": (1, 1, 2, 1), "width": 16},
        4: {"stem": "imagenet", "depths": (1, 1, 2), "width": 33},
    },
}


def small_backbone(
    kind: str,
    *,
    img_size: int | tuple[int, int],
    stride: int,
    rng: Seed = None,
    dtype: Dtype = np.float32,
) -> Backbone:
    """A small "swin" or "resnet" with three maps, the finest of tokens `stride` (2 or 4) wide."""
    one_of("small_backbone", "kind", kind, (*SMALL,))
    if stride not in SMALL[kind]:
        raise ValueError(f"small_backbone: stride must be 2 or 4, got {stride}")
    family: type[Any] = SwinTransformer if kind == "swin" else ResNet
    settings = {**SMALL[kind][stride], "num_classes": 1, "img_size": img_size}
    return Backbone(family(**settings, rng=rng, dtype=dtype), keep=3)
