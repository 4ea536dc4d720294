"""Batches to learn from: random pictures, about half of them mirrored, with masks or boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minswin.data.dataset import STATISTICS, Dataset, normalize
from minswin.data.scenes import check_objects
from minswin.dense.locations import Aims, Locations

Random = np.random.Generator
Floats = NDArray[np.float32]


def as_input(images: NDArray[np.uint8]) -> Floats:
    """Pictures of the built-in sets as a model wants them: mean 0, deviation 1."""
    mean, std = STATISTICS["shapes"]
    return normalize(images, mean=mean, std=std)


def class_masks(images: Dataset) -> NDArray[np.uint8]:
    """0 for the background, k + 1 for an object of class k.        (N, H, W)"""
    if images.masks is None:
        raise ValueError(f"class_masks: the set {images.name!r} has no masks; use 'shapes'")
    return np.where(images.masks, images.labels[:, None, None] + 1, 0).astype(np.uint8)


def segmentation_batches(
    images: NDArray[np.uint8], masks: NDArray[np.integer[Any]], size: int
) -> Callable[[Random], tuple[Floats, NDArray[Any]]]:
    """For `fit`: draw `size` of the images (N, 3, H, W) and their masks (N, H, W)."""
    if masks.shape != (len(images), *images.shape[2:]):
        raise ValueError(
            f"segmentation_batches: masks must be {(len(images), *images.shape[2:])} to go with "
            f"the images, got {masks.shape}"
        )

    def batch(rng: Random) -> tuple[Floats, NDArray[Any]]:
        chosen, flipped = _draw(rng, len(images), size)
        return _flip(as_input(images[chosen]), flipped), _flip(masks[chosen], flipped)

    return batch


def detection_batches(
    images: NDArray[np.uint8],
    boxes: Sequence[NDArray[Any]],
    labels: Sequence[NDArray[Any]],
    size: int,
    *,
    locations: Locations,
) -> Callable[[Random], tuple[Floats, Aims]]:
    """For `fit`: draw `size` images (N, 3, H, W), and what every token should predict of them."""
    if not len(images) == len(boxes) == len(labels):
        raise ValueError(
            f"detection_batches: {len(images)} images need as many arrays of boxes and of labels, "
            f"got {len(boxes)} and {len(labels)}"
        )
    height, width = images.shape[2:]
    for i, objects in enumerate(zip(boxes, labels, strict=True)):
        check_objects(f"detection_batches: image {i}", *objects, (height, width))

    def batch(rng: Random) -> tuple[Floats, Aims]:
        chosen, flipped = _draw(rng, len(images), size)
        pairs = zip(chosen, flipped, strict=True)
        turned = [mirrored(boxes[i], width) if f else boxes[i] for i, f in pairs]
        x = _flip(as_input(images[chosen]), flipped)  # (B, 3, H, W)
        return x, locations.aims(turned, [labels[i] for i in chosen])

    return batch


def mirrored(boxes: NDArray[Any], width: int) -> NDArray[Any]:
    """Boxes (n, 4) as they lie in the picture that is mirrored left to right."""
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def _draw(rng: Random, count: int, size: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Which pictures, each once if there are enough, and which of them are mirrored."""
    return rng.choice(count, size, replace=size > count), rng.random(size) < 0.5


def _flip(x: NDArray[Any], flipped: NDArray[np.bool_]) -> NDArray[Any]:
    """Mirror those of a batch (B, ..., W)."""
    out = x.copy()
    out[flipped] = x[flipped][..., ::-1]
    return out
