"""Scenes: pictures of several of the built-in objects, with a box, a class and the pixels of each.

For detection and segmentation. The objects, textures, colours and light are those of the built-in
set; sizes vary by a factor of three, and neighbours may touch and cover each other a little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minswin.data.dataset import Index, stream
from minswin.data.shapes import (
    BLOCK,
    KINDS,
    LUMA,
    SPLITS,
    Floats,
    boxes_of,
    colours,
    draw,
    light,
    textures,
)

RADII = (0.08, 0.24)  # of an object, as a share of the picture's side
CLOSE = 0.85  # nearer than this share of the sum of their radii, two objects do not come
IGNORED = 255  # the mask's label of pixels that do not count


@dataclass(frozen=True, eq=False)
class Scenes:
    """Pictures with any number of objects, none included.

    images (N, 3, H, W) uint8   masks (N, H, W) uint8: 0 the background, k + 1 class k, 255 ignored
    boxes, labels: for each picture (n, 4) float32, x0, y0, x1, y1 half-open, and (n,) int64
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    boxes: tuple[NDArray[np.float32], ...]
    labels: tuple[NDArray[np.int64], ...]
    classes: tuple[str, ...] = KINDS

    def __post_init__(self) -> None:
        number, _, *size = self.images.shape
        if self.masks.shape != (number, *size) or self.masks.dtype != np.uint8:
            raise ValueError(
                f"Scenes: masks is {self.masks.dtype} {self.masks.shape}, expected uint8 "
                f"{(number, *size)} to go with the images"
            )
        counts = len(self.boxes), len(self.labels)
        if counts != (number, number):
            raise ValueError(
                f"Scenes: {number} images need as many arrays of boxes and of labels, got "
                f"{counts[0]} and {counts[1]}"
            )
        for i, (boxes, labels) in enumerate(zip(self.boxes, self.labels, strict=True)):
            check_objects(f"Scenes: image {i}", boxes, labels, (size[0], size[1]))
            for first in np.flatnonzero((labels < 0) | (labels >= len(self.classes)))[:1]:
                raise ValueError(
                    f"Scenes: image {i}: labels[{first}] is {labels[first]}, expected 0 to "
                    f"{len(self.classes) - 1}, for there are {len(self.classes)} classes"
                )

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Index) -> Scenes:
        """The pictures that a slice, a list of numbers or a mask selects, in that order."""
        chosen = np.arange(len(self))[indices]
        return Scenes(
            self.images[chosen],
            self.masks[chosen],
            tuple(self.boxes[i] for i in chosen),
            tuple(self.labels[i] for i in chosen),
            self.classes,
        )


def check_objects(
    who: str, boxes: NDArray[Any], labels: NDArray[Any], size: tuple[int, int]
) -> None:
    """Raise unless boxes (n, 4) lie inside a picture of (H, W), with labels (n,)."""
    if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
        raise ValueError(
            f"{who}: expected boxes (n, 4) and labels (n,), got {boxes.shape} and {labels.shape}; "
            "a picture without objects has boxes (0, 4)"
        )
    height, width = size
    start, stop = boxes[:, :2], boxes[:, 2:]
    inside = (start >= 0) & (start < stop) & (stop <= (width, height))  # (n, 2); false for NaN
    for first in np.flatnonzero(~inside.all(axis=1))[:1]:
        raise ValueError(
            f"{who}: boxes[{first}] is {boxes[first].tolist()}, expected x0, y0, x1, y1 with "
            f"0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height}; clip it to the image, and "
            "leave it out if nothing remains"
        )


def scenes(count: int, *, seed: int, size: int = 96, most: int = 5, split: str = "train") -> Scenes:
    """Make `count` pictures of size×size with 1 to `most` objects each.

    The same arguments give the same bytes; the first k pictures do not depend on `count`; a split
    never shares random numbers with the other.
    """
    if count < 1:
        raise ValueError(f"scenes: count is {count}, expected 1 or more")
    if size < 48:
        raise ValueError(f"scenes: size is {size}, expected 48 or more pixels")
    if not 1 <= most <= 20:
        raise ValueError(f"scenes: most is {most}, expected 1 to 20 objects")
    if split not in SPLITS:
        raise ValueError(f"scenes: split is {split!r}, expected 'train' or 'test'")
    images = np.empty((count, 3, size, size), np.uint8)
    masks = np.empty((count, size, size), np.uint8)
    boxes: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.int64]] = []
    for number, start in enumerate(range(0, count, BLOCK)):
        block_slice = slice(start, min(start + BLOCK, count))
        rng = stream(seed, len(SPLITS) + SPLITS.index(split), number)  # not those of `shapes`
        block = _block(rng, size, most, block_slice.stop - start)
        images[block_slice], masks[block_slice] = block[:2]
        boxes += block[2]
        labels += block[3]
    return Scenes(images, masks, tuple(boxes), tuple(labels))


# ---- one block of pictures -------------------------------------------------------------------


def _block(
    rng: np.random.Generator, size: int, most: int, wanted: int
) -> tuple[Any, Any, Any, Any]:
    """The first `wanted` pictures of a block, of which all random numbers are drawn."""
    low, high, _ = colours(rng)  # (B, 3, 1, 1) each
    image = low + (high - low) * textures(rng, size)[:, None]  # (B, 3, H, W)
    dark = _lightness(low) < 0.5  # (B, 1, 1, 1): such a background has light objects
    centre, radius, present = _places(rng, size, most)  # (B, K, 2), (B, K), (B, K)
    kinds = rng.integers(0, len(KINDS), present.shape)
    angle = np.deg2rad(rng.uniform(-20, 20, present.shape))
    owner = np.zeros((BLOCK, size, size), np.uint8)  # which object a pixel shows: 0 none, k + 1
    for k in range(present.shape[1]):
        colour = _contrasting(rng, dark)  # (B, 3, 1, 1)
        for number, kind in enumerate(KINDS):
            (at,) = np.nonzero(present[:, k] & (kinds[:, k] == number))
            place = {"centre": centre[at, k], "radius": radius[at, k], "angle": angle[at, k]}
            coverage = draw(kind, (size, size), **place)  # (b, H, W)
            image[at] += (colour[at] - image[at]) * coverage[:, None]
            owner[at] = np.where(coverage >= 0.5, k + 1, owner[at])  # the later lies in front
    image *= light(rng, size)[:, None]
    spread = rng.uniform(0, 0.04, (BLOCK, 1, 1, 1)).astype(np.float32)
    image += spread * rng.standard_normal(image.shape, dtype=np.float32)
    pixels = np.clip(np.rint(image[:wanted] * 255), 0, 255).astype(np.uint8)
    boxes, labels = [], []
    for i in range(wanted):
        (objects,) = np.nonzero(present[i])
        boxes.append(boxes_of(owner[i] == objects[:, None, None] + 1).astype(np.float32))
        labels.append(kinds[i, objects])
    classes = np.concatenate([np.zeros((BLOCK, 1), np.int64), kinds + 1], axis=1).astype(np.uint8)
    masks = np.take_along_axis(classes, owner.reshape(BLOCK, -1), axis=1).reshape(owner.shape)
    return pixels, masks[:wanted], boxes, labels


def _places(rng: np.random.Generator, size: int, most: int) -> tuple[Any, Any, Any]:
    """Objects that lie inside and hardly cover each other: centres, radii, and which there are.

    Twice as many are tried as a picture may have; those that come too close to an earlier one, or
    are more than its picture wants, are left out. The first never is.
    """
    low, high = np.log(RADII)
    radius = size * np.exp(rng.uniform(low, high, (BLOCK, 2 * most)))
    room = (size / 2 - radius - 0.5)[..., None]
    centre = size / 2 + room * rng.uniform(-1, 1, (BLOCK, 2 * most, 2))
    number = rng.integers(1, most + 1, BLOCK)
    present = np.zeros(radius.shape, np.bool_)
    for k in range(2 * most):
        apart = np.linalg.norm(centre[:, :k] - centre[:, k : k + 1], axis=-1)  # (B, k)
        close = apart < CLOSE * (radius[:, :k] + radius[:, k : k + 1])
        free = ~(close & present[:, :k]).any(axis=1)
        present[:, k] = free & (present.sum(axis=1) < number)
    return centre, radius, present


def _contrasting(rng: np.random.Generator, dark: NDArray[np.bool_]) -> Floats:
    """A colour for an object in each picture: light on a dark background, dark on a light one."""
    low, _, top = colours(rng)  # one of them is dark and one is light
    lighter = np.where(_lightness(low) > _lightness(top), low, top)
    darker = np.where(_lightness(low) > _lightness(top), top, low)
    return np.where(dark, lighter, darker)


def _lightness(colour: Floats) -> Floats:
    """(B, 3, 1, 1) to (B, 1, 1, 1)"""
    return np.einsum("bcij,c->bij", colour, LUMA)[:, None]
