"""FCOS: every token predicts which object it lies on and how far the object's edges are.

Tian et al. 2019. No anchor boxes: a token predicts one class, four distances, and how near to the
centre of its object it is, since boxes predicted from the rim of an object are poor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minswin import ops
from minswin.arguments import Seed
from minswin.arrays import Array, to_numpy
from minswin.autograd import Tensor, no_grad
from minswin.dense.backbones import Backbone
from minswin.dense.boxes import clip_boxes, nms
from minswin.dense.layers import Conv, FeaturePyramid
from minswin.dense.locations import Aims, Locations
from minswin.layers import Layer, Linear
from minswin.layers.parameters import Dtype, Init
from minswin.parallel import data_parallel

PRIOR = 0.01  # probability of each class at each token in a fresh model: most lie on no object


class Detector(Layer):
    """A backbone, a feature pyramid, and two towers of convolutions, the same on all its maps.

    Takes   images (B, 3, H, W)        Gives (B, P, K + 5) for the P tokens of all maps, fine to
    coarse: K logits of classes, the logarithms of the distances to the left, upper, right and lower
    edge in tokens, the logit of centre-ness
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        *,
        width: int = 32,
        depth: int = 2,
        rng: Seed = None,
        dtype: Dtype = np.float32,
    ) -> None:
        init = Init(rng, dtype, type(self).__name__)
        self.backbone = backbone
        self.pyramid = FeaturePyramid(backbone.channels, width, init=init)
        self.what: list[Layer] = [Conv(width, width, 3, init=init) for _ in range(depth)]
        self.where: list[Layer] = [Conv(width, width, 3, init=init) for _ in range(depth)]
        self.classify, self.measure = Linear(width, classes, init=init), Linear(width, 5, init=init)
        assert self.classify.bias is not None
        self.classify.bias.data[...] = -math.log(1 / PRIOR - 1)

    @property
    def classes(self) -> int:
        return int(self.classify.weight.shape[0])

    def __call__(self, x: Tensor | Array) -> Tensor:
        maps = self.pyramid(self.backbone(x))  # (B, H_i, W_i, width)
        return ops.concatenate(*(self._read(y) for y in maps), axis=1)  # (B, P, K + 5)

    def _read(self, x: Tensor) -> Tensor:
        what, where = x, x
        for left, right in zip(self.what, self.where, strict=True):
            what, where = left(what), right(where)
        y = ops.concatenate(self.classify(what), self.measure(where), axis=-1)  # (B, H, W, K + 5)
        return y.reshape(x.shape[0], -1, y.shape[-1])  # (B, H·W, K + 5)

    def locations(self, size: tuple[int, int]) -> Locations:
        """Where the tokens of an image of (H, W) are."""
        return Locations.of(size, self.backbone.strides)


# ── learning ─────────────────────────────────────────────────────────────────────────────────────


class Losses(NamedTuple):
    """Of a batch, 0-d: their sum, and the parts."""

    total: Tensor
    what: Tensor
    where: Tensor
    centre: Tensor


def detection_losses(output: Tensor, aims: Aims, locations: Locations) -> Losses:
    """Focal loss of the classes, GIoU loss of the boxes, cross-entropy of the centre-ness.

    output (B, P, K + 5)   aims: what each token should predict, see Locations.aims
    Boxes and centre-ness count where a token has an object, boxes in proportion to its centre-ness.
    Without any object only the focal loss is left, and its target is that there is none.
    """
    B, P, width = output.shape
    K, rows = width - 5, output.reshape(B * P, width)
    _require_aims(aims, (B, P), K)
    labels = aims.labels.reshape(-1)  # (B·P,), −1 for none
    (on_object,) = np.nonzero(labels >= 0)  # (n,)
    one_hot = labels[:, None] == np.arange(K)  # (B·P, K)
    what = ops.focal_loss(rows[:, :K], one_hot).sum() / max(len(on_object), 1)
    if not len(on_object):
        return Losses(what, what, what * 0, what * 0)
    answers = ops.take(rows, on_object)  # (n, K + 5)
    places, strides = (np.tile(a, (B, 1))[on_object] for a in (locations.places, locations.strides))
    boxes = boxes_at(answers[:, K : K + 4], places, strides)  # (n, 4)
    true = aims.boxes.reshape(-1, 4)[on_object].astype(output.dtype)
    centre = aims.centre.reshape(-1)[on_object].astype(output.dtype)  # (n,)
    where = ((1 - ops.giou(boxes, true)) * centre).sum() / float(centre.sum())
    near = ops.binary_cross_entropy(answers[:, K + 4], centre).mean()
    return Losses(what + where + near, what, where, near)


def _require_aims(aims: Aims, shape: tuple[int, int], classes: int) -> None:
    if aims.labels.shape != shape:
        raise ValueError(
            f"detection_losses: aims must be for {shape} images and tokens, got "
            f"{aims.labels.shape}; take them from model.locations of this image size"
        )
    if aims.labels.max() >= classes:
        raise ValueError(
            f"detection_losses: labels must lie in 0…{classes - 1}, got {aims.labels.max()}; "
            "build the Detector for more classes"
        )


def boxes_at(logs: Tensor, places: NDArray[Any], strides: NDArray[Any]) -> Tensor:
    """Corners from the logarithms of distances in tokens.     (n, 4), (n, 2), (n, 1) to (n, 4)"""
    distances = ops.exp(logs) * strides.astype(logs.dtype)  # (n, 4), in pixels
    places = places.astype(logs.dtype)
    return ops.concatenate(places - distances[:, :2], places + distances[:, 2:], axis=1)


# ── detecting ────────────────────────────────────────────────────────────────────────────────────


class Detections(NamedTuple):
    """The objects of one image, best first: boxes (n, 4), scores (n,), labels (n,)."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


def detect(
    model: Detector,
    images: Array,
    *,
    threshold: float = 0.05,
    overlap: float = 0.5,
    most: int = 100,
    batch: int = 32,
) -> list[Detections]:
    """Find the objects in images (N, 3, H, W).

    threshold: the least score, √(probability of the class · centre-ness)
    overlap: of boxes of one class, above which the worse is dropped   most: objects in an image
    """
    locations = model.locations((images.shape[2], images.shape[3]))
    detections: list[Detections] = []
    for output in _outputs(model, images, batch):  # (P, K + 5)
        boxes, scores, labels = _candidates(output, model.classes, locations, threshold, 5 * most)
        boxes, real = clip_boxes(boxes, (images.shape[2], images.shape[3]))
        boxes, scores, labels = boxes[real], scores[real], labels[real]
        kept = nms(boxes, scores, labels, overlap=overlap)[:most]
        detections.append(Detections(boxes[kept], scores[kept], labels[kept]))
    return detections


def _outputs(model: Detector, images: Array, batch: int) -> Iterator[NDArray[Any]]:
    with model.evaluating(), no_grad():
        forward = data_parallel(model)
        for start in range(0, len(images), batch):
            yield from to_numpy(forward(images[start : start + batch]).data)


def _candidates(
    output: NDArray[Any], classes: int, locations: Locations, threshold: float, most: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The `most` best pairs of a token and a class with a score above the threshold."""
    chances = 1 / (1 + np.exp(-output.clip(-60, 60)))  # (P, K + 5)
    scores = np.sqrt(chances[:, :classes] * chances[:, -1:])  # (P, K)
    token, label = np.nonzero(scores > threshold)
    best = np.argsort(-scores[token, label], kind="stable")[:most]
    token, label = token[best], label[best]
    logs = output[token, classes : classes + 4]
    with no_grad():
        boxes = boxes_at(Tensor(logs), locations.places[token], locations.strides[token]).data
    return boxes, scores[token, label], label
