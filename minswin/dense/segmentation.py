"""Semantic segmentation: a class for every pixel, by one of two heads on a pyramid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minswin import ops
from minswin.arguments import Seed, one_of
from minswin.arrays import Array, to_numpy
from minswin.autograd import Tensor, no_grad
from minswin.data.scenes import IGNORED
from minswin.dense.backbones import Backbone
from minswin.dense.layers import Conv, FeaturePyramid, PyramidPooling, enlarged
from minswin.layers import Layer, Linear
from minswin.layers.parameters import Dtype, Init
from minswin.parallel import data_parallel

HEADS = ("fpn", "uper")


class Segmenter(Layer):
    """A backbone, a feature pyramid, and a linear classifier of pixels.

    head "fpn": the maps of the pyramid, enlarged to the finest, are added  (Kirillov et al. 2019)
    head "uper": pyramid pooling on the coarsest map first; the maps are set side by side and
    brought together by a convolution                                       (Xiao et al. 2018)
    Takes   images (B, 3, H, W)        Gives logits (B, H, W, classes)
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        *,
        head: str = "fpn",
        width: int = 48,
        rng: Seed = None,
        dtype: Dtype = np.float32,
    ) -> None:
        one_of(type(self).__name__, "head", head, HEADS)
        self.backbone = backbone
        init = Init(rng, dtype, type(self).__name__)
        self.pooling = PyramidPooling(backbone.channels[-1], init=init) if head == "uper" else None
        self.pyramid = FeaturePyramid(backbone.channels, width, init=init)
        together = width * len(backbone.channels)
        self.fuse = Conv(together, width, 3, init=init) if head == "uper" else None
        self.classifier = Linear(width, classes, init=init)

    def __call__(self, x: Tensor | Array) -> Tensor:
        *maps, coarsest = self.backbone(x)  # (B, H_i, W_i, C_i)
        if self.pooling is not None:
            coarsest = self.pooling(coarsest)
        maps = self.pyramid([*maps, coarsest])  # (B, H_i, W_i, width)
        maps = [enlarged(y, maps[0]) for y in maps]  # (B, H_0, W_0, width)
        if self.fuse is not None:
            y = self.fuse(ops.concatenate(*maps, axis=-1))
        else:
            y = maps[0]
            for other in maps[1:]:
                y = y + other
        logits = self.classifier(y)  # (B, H_0, W_0, classes)
        return ops.resize(logits, size=(x.shape[2], x.shape[3]))  # (B, H, W, classes)


def pixel_cross_entropy(logits: Tensor, masks: NDArray[Any], *, ignore: int = IGNORED) -> Tensor:
    """Mean cross-entropy of all pixels, but for those whose label is `ignore`.

    logits (B, H, W, K)   masks (B, H, W) integers, 0 to K − 1 or `ignore`   gives a 0-d Tensor
    """
    K = logits.shape[-1]
    check_masks("pixel_cross_entropy", masks, logits.shape[:-1], K, ignore)
    counted = (masks != ignore).reshape(-1)  # (P,), P = B·H·W
    if not counted.any():
        raise ValueError(
            f"pixel_cross_entropy: every pixel has the label {ignore}, which is ignored; leave "
            "such a batch out"
        )
    labels = np.where(masks == ignore, 0, masks).reshape(-1)
    targets = np.eye(K, dtype=logits.dtype)[labels] * counted[:, None]  # (P, K): ignored are zeros
    mean = ops.cross_entropy(logits.reshape(-1, K), targets)  # over all P pixels
    return mean * (counted.size / int(counted.sum()))


def check_masks(
    who: str, masks: NDArray[Any], shape: tuple[int, ...], classes: int, ignore: int
) -> None:
    if masks.shape != shape:
        raise ValueError(f"{who}: masks must be {shape}, a label for each pixel, got {masks.shape}")
    if masks.dtype.kind not in "iu":
        raise TypeError(f"{who}: masks must hold integers, got {masks.dtype}")
    wrong = masks[(masks != ignore) & ((masks < 0) | (masks >= classes))]
    if wrong.size:
        raise ValueError(
            f"{who}: masks must hold 0…{classes - 1}, or {ignore} where a pixel is ignored, "
            f"got {int(wrong[0])}"
        )


def segment(model: Segmenter, images: Array, *, batch: int = 64) -> NDArray[np.int64]:
    """The most likely class of every pixel.        images (N, 3, H, W)        gives (N, H, W)"""
    classes = []
    with model.evaluating(), no_grad():
        forward = data_parallel(model)
        for start in range(0, len(images), batch):
            logits = to_numpy(forward(images[start : start + batch]).data)
            classes.append(logits.argmax(axis=-1))
    return np.concatenate(classes)
