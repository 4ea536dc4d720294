"""A set of labelled images: what every source of data gives and every consumer takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minswin.arguments import Seed, generator, whole

Index = slice | Sequence[int] | NDArray[np.integer[Any]] | NDArray[np.bool_]
Channels = tuple[float, float, float]

# Mean and standard deviation of each channel (red, green, blue) of the training images, of 1.
STATISTICS: dict[str, tuple[Channels, Channels]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "shapes": ((0.4364, 0.4338, 0.4400), (0.2767, 0.2666, 0.2850)),
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with their labels and, where they are known, the outline of the object in each.

    images (N, 3, H, W) uint8, red green blue   labels (N,) int64, each names one of `classes`
    masks (N, H, W) bool, true on the object   boxes (N, 4) int32: x0, y0, x1, y1, half-open
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    name: str
    masks: NDArray[np.bool_] | None = None
    boxes: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(
                f"Dataset: images has shape {self.images.shape}, expected (N, 3, H, W)"
            )
        number, _, height, width = self.images.shape
        _expect("images", self.images, np.uint8, self.images.shape)
        _expect("labels", self.labels, np.int64, (number,))
        if self.masks is not None:
            _expect("masks", self.masks, np.bool_, (number, height, width))
        if self.boxes is not None:
            _expect("boxes", self.boxes, np.int32, (number, 4))
            self._check_boxes(self.boxes)
        self._check_labels()

    def _check_labels(self) -> None:
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.classes)))
        if wrong.size:
            first = int(wrong[0])
            raise ValueError(
                f"Dataset: labels[{first}] is {self.labels[first]}, expected 0 to "
                f"{len(self.classes) - 1}, for there are {len(self.classes)} classes"
            )

    def _check_boxes(self, boxes: NDArray[np.int32]) -> None:
        height, width = self.images.shape[2:]
        start, stop = boxes[:, :2], boxes[:, 2:]
        inside = (start >= 0) & (start < stop) & (stop <= (width, height))  # (N, 2)
        wrong = np.flatnonzero(~inside.all(axis=1))
        if wrong.size:
            first = int(wrong[0])
            raise ValueError(
                f"Dataset: boxes[{first}] is {boxes[first].tolist()}, expected x0, y0, x1, y1 with "
                f"0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Index) -> Dataset:
        """The samples that a slice, a list of numbers or a mask selects, in that order."""
        return replace(
            self,
            images=self.images[indices],
            labels=self.labels[indices],
            masks=None if self.masks is None else self.masks[indices],
            boxes=None if self.boxes is None else self.boxes[indices],
        )

    def split(self, holdout: int, *, rng: Seed) -> tuple[Dataset, Dataset]:
        """Part the set at random: all but `holdout` samples, and those; both keep their order."""
        if not 0 < holdout < len(self) or whole("Dataset.split", "holdout", holdout) != holdout:
            raise ValueError(
                f"Dataset.split: holdout is {holdout}, expected 1 to {len(self) - 1}, "
                f"for there are {len(self)} samples"
            )
        chosen = np.zeros(len(self), dtype=bool)
        chosen[generator("Dataset.split", rng).choice(len(self), size=holdout, replace=False)] = (
            True
        )
        return self.subset(~chosen), self.subset(chosen)


def _expect(what: str, array: NDArray[Any], dtype: DTypeLike, shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"Dataset: {what} is {array.dtype} {array.shape}, "
            f"expected {np.dtype(dtype)} {shape} to go with the images"
        )


def statistics(images: Dataset) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel, of 1: known for a named set, else measured."""
    if images.name in STATISTICS:
        return STATISTICS[images.name]
    if not len(images):
        raise ValueError(f"statistics: there is no image in {images.name}; give at least one")
    pixels = images.images.reshape(len(images), 3, -1)  # (N, 3, H·W)
    counts = np.stack([np.bincount(pixels[:, c].ravel(), minlength=256) for c in range(3)])
    values, shares = np.arange(256) / 255, counts / counts.sum(1, keepdims=True)  # (3, 256)
    mean = shares @ values  # (3,)
    spread = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(1))  # (3,)
    spread = np.where(spread > 0, spread, 1)  # of pictures that are one colour
    return (mean[0], mean[1], mean[2]), (spread[0], spread[1], spread[2])


def _statistics(mean: Any, std: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of pixels from 0 to 1, checked."""
    try:
        centre, spread = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        fits = centre.shape == spread.shape == (3,) and np.isfinite(spread).all()
        fits = fits and ((centre >= 0) & (centre <= 1) & (spread > 0)).all()
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"normalize: mean is {mean}, std is {std}; expected three numbers each, std above 0, "
            "of pixels from 0 to 1 (divide those of bytes by 255)"
        )
    return centre, spread


def normalize(
    images: NDArray[np.uint8],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: DTypeLike = np.float32,
) -> NDArray[Any]:
    """Bytes to numbers of mean 0 and deviation 1 per channel: (images / 255 - mean) / std.

    images (..., 3, H, W) uint8   mean, std (3,), of 1   gives (..., 3, H, W)
    """
    if images.dtype != np.uint8:
        raise TypeError(f"normalize: images is {images.dtype}, expected uint8 (0 to 255)")
    if images.ndim < 3 or images.shape[-3] != 3:
        raise ValueError(f"normalize: images must be (..., 3, H, W), got {images.shape}")
    centre, spread = _statistics(mean, std)
    scale = (1 / (255 * spread)).astype(dtype)[:, None, None]  # (3, 1, 1)
    shift = (centre / spread).astype(dtype)[:, None, None]  # (3, 1, 1)
    out: NDArray[Any] = np.multiply(images, scale, dtype=dtype)
    out -= shift
    return out


def stream(seed: int, *place: int) -> np.random.Generator:
    """The random numbers of one place (an epoch, a step, ...; below 2³² each) under one seed.

    Different places never share numbers, also where one is the beginning of another: plain
    `default_rng([seed, 3])` and `default_rng([seed, 3, 0])` would be one and the same.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected 0 or more")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=place))
