"""The fourteen operations of RandAugment on batches of bytes, and how strong each may be.

Cubuk et al. 2019 (AutoAugment), table 6; Cubuk et al. 2020 (RandAugment), §3. Every operation
takes images (b, 3, H, W) uint8 and one strength per image (b,), and gives new images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[Any]  # float32

GREY = 128  # what comes in from outside a moved image
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601: how bright each channel looks


def _each(strength: NDArray[Any]) -> NDArray[Any]:
    return strength[:, None, None, None]  # (b, 1, 1, 1)


def to_bytes(values: Floats) -> Bytes:
    """Round to the nearest whole number in 0 to 255; `values` is used up."""
    np.rint(values, out=values)
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


# ---- places: out(p) = in(M p), p from the middle of the image ----------------------------------


def warp(images: Bytes, matrix: Floats) -> Bytes:
    """Fetch each pixel p from the place M p, between four pixels if need be; outside is grey.

    images (b, 3, H, W)   matrix (b, 2, 3), acts on (x, y, 1), measured from the middle
    """
    number, channels, height, width = images.shape
    border = ((0, 0), (0, 0), (1, 1), (1, 1))
    wide = np.pad(images, border, constant_values=GREY)  # (b, 3, H+2, W+2)
    x, y = _sources(matrix.astype(np.float32), height, width)  # (b, H, W) each, in `wide`
    left = np.minimum(x.astype(np.int32), width)
    upper = np.minimum(y.astype(np.int32), height)
    right_share, lower_share = (x - left)[:, None], (y - upper)[:, None]  # (b, 1, H, W)
    planes = np.arange(number * channels).reshape(number, channels, 1, 1)
    at = (planes * (height + 2) + upper[:, None]) * (width + 2) + left[:, None]  # (b, 3, H, W)
    row = _between(wide, at, right_share)
    row += lower_share * (_between(wide, at + (width + 2), right_share) - row)
    return to_bytes(row)


def _sources(matrix: Floats, height: int, width: int) -> tuple[Floats, Floats]:
    x = np.arange(width, dtype=np.float32) - (width - 1) / 2
    y = np.arange(height, dtype=np.float32) - (height - 1) / 2
    places = []
    for row, length in ((matrix[:, 0], width), (matrix[:, 1], height)):
        along, down = row[:, :1] * x, row[:, 1:2] * y + row[:, 2:]  # (b, W), (b, H)
        place = down[:, :, None] + along[:, None, :] + np.float32((length + 1) / 2)
        places.append(np.clip(place, 0, length + 1, out=place))  # (b, H, W)
    return places[0], places[1]


def _between(wide: Bytes, at: NDArray[np.int64], share: Floats) -> Floats:
    """The value at `share` of the way from pixel `at` to the next one in its row."""
    left = wide.take(at).astype(np.float32)
    return left + share * (wide.take(at + 1) - left)


def _matrix(strength: NDArray[Any], row: int, column: int) -> Floats:
    """The identity with one more entry."""
    matrix = np.zeros((len(strength), 2, 3), np.float32)
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1
    matrix[:, row, column] += strength
    return matrix


def rotate(images: Bytes, degrees: NDArray[Any]) -> Bytes:
    """Turn to the left."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    zeros = np.zeros_like(cos)
    rows = np.stack([cos, -sin, zeros, sin, cos, zeros], axis=1)  # (b, 6)
    return warp(images, rows.reshape(-1, 2, 3))


def shear_x(images: Bytes, slope: NDArray[Any]) -> Bytes:
    return warp(images, _matrix(slope, 0, 1))


def shear_y(images: Bytes, slope: NDArray[Any]) -> Bytes:
    return warp(images, _matrix(slope, 1, 0))


def translate_x(images: Bytes, part: NDArray[Any]) -> Bytes:
    return warp(images, _matrix(part * images.shape[3], 0, 2))


def translate_y(images: Bytes, part: NDArray[Any]) -> Bytes:
    return warp(images, _matrix(part * images.shape[2], 1, 2))


# ---- values: each pixel by itself ------------------------------------------------------------


def identity(images: Bytes, _: NDArray[Any]) -> Bytes:
    return images.copy()


def solarize(images: Bytes, levels: NDArray[Any]) -> Bytes:
    """Invert the brightest levels, this many of them."""
    least = _each(256 - np.rint(levels).astype(np.int16))
    return np.where(images >= least, 255 - images, images)


def posterize(images: Bytes, bits: NDArray[Any]) -> Bytes:
    """Clear the lowest bits, this many of them."""
    kept = (0xFF << np.rint(bits).astype(np.int64)) & 0xFF
    return images & _each(kept.astype(np.uint8))


def autocontrast(images: Bytes, _: NDArray[Any]) -> Bytes:
    """Stretch each channel so that it runs from 0 to 255; an even one stays as it is."""
    low = images.min(axis=(2, 3), keepdims=True)  # (b, 3, 1, 1)
    span = images.max(axis=(2, 3), keepdims=True) - low
    gain = np.where(span > 0, 255 / np.maximum(span, 1), 1).astype(np.float32)
    stretched = (images - np.where(span > 0, low, 0)) * gain
    return to_bytes(stretched)


def equalize(images: Bytes, _: NDArray[Any]) -> Bytes:
    """Let every level be equally frequent: v -> 255 (n(≤v) - n₀) / (n - n₀), n₀ at the lowest."""
    planes = images.reshape(-1, images.shape[2] * images.shape[3])  # (b*3, H*W)
    number, pixels = planes.shape
    places = planes + 256 * np.arange(number)[:, None]  # (b*3, H*W): level and plane in one
    counts = np.bincount(places.ravel(), minlength=256 * number).reshape(number, 256)
    first = counts[np.arange(number), planes.min(axis=1), None]  # (b*3, 1)
    rank = counts.cumsum(axis=1) - first
    table = np.rint(255 * rank / np.maximum(pixels - first, 1)).clip(0).astype(np.uint8)
    table = np.where(first == pixels, np.arange(256, dtype=np.uint8), table)  # (b*3, 256)
    return table.take(places).reshape(images.shape)


# ---- enhancing: away from a duller picture, or towards it --------------------------------------


def _enhance(images: Bytes, dull: Floats | int, strength: NDArray[Any]) -> Bytes:
    return to_bytes(images + _each(strength).astype(np.float32) * (images - dull))


def _luma(images: Bytes) -> Floats:
    red, green, blue = (images[:, i, None] * LUMA[i] for i in range(3))
    return red + green + blue  # (b, 1, H, W)


def brightness(images: Bytes, strength: NDArray[Any]) -> Bytes:
    return _enhance(images, 0, strength)


def color(images: Bytes, strength: NDArray[Any]) -> Bytes:
    return _enhance(images, _luma(images), strength)


def contrast(images: Bytes, strength: NDArray[Any]) -> Bytes:
    return _enhance(images, _luma(images).mean(axis=(1, 2, 3), keepdims=True), strength)


def sharpness(images: Bytes, strength: NDArray[Any]) -> Bytes:
    """The duller picture is a mean over 3×3 pixels with weight 5 in the middle; edges stay."""
    rows = images.astype(np.float32)
    dull = rows.copy()
    columns = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]  # (b, 3, H-2, W)
    square = columns[..., :-2] + columns[..., 1:-1] + columns[..., 2:]  # (b, 3, H-2, W-2)
    dull[:, :, 1:-1, 1:-1] = (square + 4 * rows[:, :, 1:-1, 1:-1]) / 13
    return _enhance(images, dull, strength)


class Operation(NamedTuple):
    """What to do, its strength at magnitude 10, and whether it goes both ways."""

    apply: Callable[[Bytes, NDArray[Any]], Bytes]
    strength: float = 0.0
    signed: bool = False


OPERATIONS: dict[str, Operation] = {
    "identity": Operation(identity),
    "autocontrast": Operation(autocontrast),
    "equalize": Operation(equalize),
    "rotate": Operation(rotate, 30.0, True),  # degrees
    "solarize": Operation(solarize, 256.0),  # levels inverted
    "color": Operation(color, 0.9, True),
    "posterize": Operation(posterize, 4.0),  # bits cleared
    "contrast": Operation(contrast, 0.9, True),
    "brightness": Operation(brightness, 0.9, True),
    "sharpness": Operation(sharpness, 0.9, True),
    "shear_x": Operation(shear_x, 0.3, True),  # pixels per pixel
    "shear_y": Operation(shear_y, 0.3, True),
    "translate_x": Operation(translate_x, 0.3, True),  # of the side
    "translate_y": Operation(translate_y, 0.3, True),
}
