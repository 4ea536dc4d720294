"""Random changes to a batch of images that leave its meaning alone, and mixtures of images.

Every function takes a whole batch, draws from the `rng` it is given, keeps the dtype, and never
writes into its input. Flip, crop, rand_augment, random_erasing and mixup together take about
10 ms of one core for 128 images of 32×32, most of it rand_augment.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minswin.arguments import Seed, fraction, generator, positive, whole
from minswin.data.operations import OPERATIONS, to_bytes

Images = NDArray[Any]  # (B, 3, H, W)
Bytes = NDArray[np.uint8]
Random = Seed

# ---- moving ----------------------------------------------------------------------------------


def flip(images: Images, *, rng: Random) -> Images:
    """Mirror every other image, by chance, left to right."""
    rng = generator("flip", rng)
    chosen = rng.random(len(images)) < 0.5
    out = images.copy()
    out[chosen] = images[chosen, :, :, ::-1]
    return out


def crop(images: Images, *, padding: int, rng: Random, mode: str = "constant") -> Images:
    """Cut a piece of the old size at a random place out of each image, widened on all sides.

    `mode` is what the margin holds: "constant" zeros, "reflect" the mirrored image.
    """
    rng, padding = generator("crop", rng), whole("crop", "padding", padding, 0)
    if mode not in ("constant", "reflect"):
        raise ValueError(f"crop: mode is {mode!r}, expected 'constant' or 'reflect'")
    number, _, height, width = images.shape
    if padding < 0 or (mode == "reflect" and padding >= min(height, width)):
        raise ValueError(f"crop: padding is {padding}, which a {height}×{width} image cannot have")
    margin = (padding, padding)
    wide = np.pad(images, ((0, 0), (0, 0), margin, margin), mode=mode)  # type: ignore[call-overload]
    y, x = rng.integers(0, 2 * padding + 1, (2, number))
    return _cut(wide, y, x, height, width)


def piece(images: Images, *, side: int, rng: Random) -> Images:
    """Cut a square at a random place out of each image: gives (B, 3, side, side).

    Smaller images cost less: progressive resizing shows them first, and whole ones in the end.
    """
    rng = generator("piece", rng)
    number, _, height, width = images.shape
    if not 1 <= side <= min(height, width):
        raise ValueError(f"piece: side is {side}, expected 1 to {min(height, width)}, the image's")
    y = rng.integers(0, height - side + 1, number)
    x = rng.integers(0, width - side + 1, number)
    return _cut(images, y, x, side, side)


def _cut(images: Images, y: Any, x: Any, height: int, width: int) -> Images:
    """The box of each image whose first pixel is (y, x), each (B,): gives (B, 3, height, width)."""
    places = np.lib.stride_tricks.sliding_window_view(images, (height, width), axis=(2, 3))
    return places[np.arange(len(images)), :, y, x]


# ---- erasing ---------------------------------------------------------------------------------


def random_erasing(
    images: Images,
    *,
    rng: Random,
    probability: float = 0.25,
    area: tuple[float, float] = (0.02, 1 / 3),
    aspect: float = 0.3,
) -> Images:
    """Put noise into one random box of some images.            Zhong et al. 2020, algorithm 1

    `area` is that of the box, of 1; its sides are as `aspect` to 1 at most. Every pixel of the box
    gets its own noise: normal in normalized images (floats), even between 0 and 255 in bytes.
    """
    rng = generator("random_erasing", rng)
    fraction("random_erasing", "probability", probability)
    if not (0 < area[0] <= area[1] <= 1 and 0 < aspect <= 1):
        raise ValueError(
            "random_erasing: expected an area that rises within (0, 1] and an aspect in (0, 1], "
            f"got {area} and {aspect}"
        )
    number, _, height, width = images.shape
    chosen = np.flatnonzero(rng.random(number) < probability)
    inside = _random_boxes(len(chosen), height, width, area, aspect, rng)  # (b, H, W)
    out = images.copy()
    which, y, x = np.nonzero(inside)
    size = (len(which), images.shape[1])
    if images.dtype == np.uint8:
        out[chosen[which], :, y, x] = rng.integers(0, 256, size, dtype=np.uint8)
    else:
        out[chosen[which], :, y, x] = rng.standard_normal(size, dtype=np.float32)
    return out


def _random_boxes(
    number: int,
    height: int,
    width: int,
    area: tuple[float, float],
    aspect: float,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """True inside one box per image; of ten tries the first that fits counts.   (b, H, W)"""
    target = rng.uniform(*area, (number, 10)) * height * width
    most = abs(np.log(aspect))  # 0, and not -0, for squares alone
    ratio = np.exp(rng.uniform(-most, most, (number, 10)))
    tall = np.rint(np.sqrt(target * ratio)).astype(np.int64)  # (b, 10)
    wide = np.rint(np.sqrt(target / ratio)).astype(np.int64)  # (b, 10)
    fits = (tall < height) & (wide < width) & (tall > 0) & (wide > 0)
    first = np.arange(number), fits.argmax(axis=1)
    tall, wide = tall[first] * fits[first], wide[first]  # (b,); nothing fits: 0 rows
    y0 = rng.integers(0, height - tall + 1)[:, None]
    x0 = rng.integers(0, width - np.minimum(wide, width) + 1)[:, None]
    y, x = np.arange(height), np.arange(width)
    rows = (y >= y0) & (y < y0 + tall[:, None])  # (b, H)
    columns = (x >= x0) & (x < x0 + wide[:, None])  # (b, W)
    return rows[:, :, None] & columns[:, None, :]


# ---- RandAugment -----------------------------------------------------------------------------


def rand_augment(
    images: Bytes, *, rng: Random, operations: int = 2, magnitude: float = 9.0
) -> Bytes:
    """Do some of fourteen operations to each image, drawn by chance.     Cubuk et al. 2020, §3

    Each image gets its own `operations` and directions; `magnitude` runs from 0 to 10, and the
    table OPERATIONS says how strong each operation is at 10.
    """
    rng, operations = (
        generator("rand_augment", rng),
        whole("rand_augment", "operations", operations, 0),
    )
    if images.dtype != np.uint8:
        raise TypeError(f"rand_augment: images is {images.dtype}, expected uint8 (0 to 255)")
    if not 0 <= magnitude <= 10:
        raise ValueError(f"rand_augment: magnitude is {magnitude}, expected 0 to 10")
    out = images.copy()
    for _ in range(operations):
        which = rng.integers(0, len(OPERATIONS), len(images))
        sign = rng.integers(0, 2, len(images)) * 2 - 1
        for number, (apply, top, signed) in enumerate(OPERATIONS.values()):
            chosen = np.flatnonzero(which == number)
            if chosen.size:
                direction = sign[chosen] if signed else np.ones(chosen.size)
                out[chosen] = apply(out[chosen], direction * (top * magnitude / 10))
    return out


# ---- mixing ----------------------------------------------------------------------------------


def one_hot(
    labels: NDArray[np.integer[Any]],
    *,
    classes: int,
    smoothing: float = 0.0,
    dtype: DTypeLike = np.float32,
) -> NDArray[Any]:
    """Class numbers as rows of probabilities: 1 - ε + ε/K on the class, ε/K on the K - 1 others.

    Szegedy et al. 2016, §7.   labels (B,)   gives (B, K)   ε is `smoothing`
    """
    fraction("one_hot", "smoothing", smoothing)
    if labels.ndim != 1 or (labels.size and not 0 <= labels.min() <= labels.max() < classes):
        raise ValueError(
            f"one_hot: labels is {labels.shape} between {labels.min(initial=0)} and "
            f"{labels.max(initial=0)}, expected (B,) between 0 and {classes - 1}"
        )
    out = np.full((len(labels), classes), smoothing / classes, dtype)
    out[np.arange(len(labels)), labels] = 1 - smoothing + smoothing / classes
    return out


def mixup(
    images: Images, targets: NDArray[Any], *, alpha: float, rng: Random
) -> tuple[Images, NDArray[Any]]:
    """Blend the batch with its reverse, images and targets alike.     Zhang et al. 2018, eq. (1)

        x' = λ x + (1 - λ) x[::-1]            λ ~ Beta(α, α), one for the batch

    images (B, 3, H, W)   targets (B, K), soft
    """
    rng = generator("mixup", rng)
    positive("mixup", "alpha", alpha)
    share = rng.beta(alpha, alpha)
    return _blend(images, images[::-1], share), _mix_targets("mixup", targets, share)


def cutmix(
    images: Images, targets: NDArray[Any], *, alpha: float, rng: Random
) -> tuple[Images, NDArray[Any]]:
    """Paste one box of the reversed batch into the batch.             Yun et al. 2019, eq. (1)-(2)

    The box has the area 1 - λ, λ ~ Beta(α, α), about a centre anywhere in the image; what hangs
    over is cut off, and the targets are shared out by the area that is left.
    """
    rng = generator("cutmix", rng)
    positive("cutmix", "alpha", alpha)
    height, width = images.shape[2:]
    side = np.sqrt(1 - rng.beta(alpha, alpha))
    y0, y1 = _interval(int(rng.integers(height)), side, height)
    x0, x1 = _interval(int(rng.integers(width)), side, width)
    out = images.copy()
    out[:, :, y0:y1, x0:x1] = images[::-1, :, y0:y1, x0:x1]
    share = 1 - (y1 - y0) * (x1 - x0) / (height * width)
    return out, _mix_targets("cutmix", targets, share)


def _interval(centre: int, side: float, length: int) -> tuple[int, int]:
    start = centre - int(side * length) // 2
    return max(start, 0), min(start + int(side * length), length)


def _mix_targets(who: str, targets: NDArray[Any], share: float) -> NDArray[Any]:
    if targets.ndim != 2 or not np.issubdtype(targets.dtype, np.floating):
        raise ValueError(
            f"{who}: targets is {targets.dtype} {targets.shape}, expected probabilities (B, K); "
            "make them with one_hot"
        )
    return _blend(targets, targets[::-1], share)


def _blend(a: NDArray[Any], b: NDArray[Any], share: float | NDArray[Any]) -> NDArray[Any]:
    """share · a + (1 - share) · b in the dtype of a; bytes are rounded and kept in 0 to 255."""
    share = np.asarray(share, np.float32 if a.dtype == np.uint8 else a.dtype)
    mixed: NDArray[Any] = b * (1 - share)
    mixed += a * share
    return to_bytes(mixed) if a.dtype == np.uint8 else mixed
