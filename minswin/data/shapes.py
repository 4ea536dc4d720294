"""The built-in set: pictures of ten kinds of object, made from a seed in a second.

Something to train on without fetching anything. Place, size, angle and colour of the object, and
texture, light and noise of the picture vary freely, and three of ten objects are darker than
their background, so that no pixel by itself tells the class: a linear classifier on the pixels
gets 39 % of the test images right, a small Swin about 95 % after ten epochs. Every kind is
mirror-symmetric, so a flip never changes the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minswin.arguments import whole
from minswin.data.dataset import Dataset, stream

Floats = NDArray[Any]  # float32
Field = Callable[[Floats, Floats], Floats]

BLOCK = 250  # samples made together, from one stream
SPLITS = ("train", "test")
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601: how light each channel looks


def shapes(count: int, *, seed: int, size: int = 32, split: str = "train") -> Dataset:
    """Make `count` labelled images of size×size with the mask and the tight box of the object.

    The same arguments give the same bytes; the first k images do not depend on `count`; a split
    never shares random numbers with the other. Every 250 samples hold each class 25 times.
    """
    count, size = whole("shapes", "count", count), whole("shapes", "size", size, 16)
    if split not in SPLITS:
        raise ValueError(f"shapes: split is {split!r}, expected 'train' or 'test'")
    images = np.empty((count, 3, size, size), np.uint8)
    labels = np.empty(count, np.int64)
    masks = np.empty((count, size, size), np.bool_)
    for number, start in enumerate(range(0, count, BLOCK)):
        rows = slice(start, min(start + BLOCK, count))
        block = _block(stream(seed, SPLITS.index(split), number), size)
        images[rows], labels[rows], masks[rows] = (part[: rows.stop - start] for part in block)
    return Dataset(images, labels, KINDS, "shapes", masks, boxes_of(masks))


# ---- objects: negative inside, positive outside, about the distance near the edge -------------
# Right u, up v. Each lies in the disc of radius 1, and is even in u: mirror-symmetric.


def _disc(u: Floats, v: Floats) -> Floats:
    return np.sqrt(u * u + v * v) - 0.95


def _ring(u: Floats, v: Floats) -> Floats:
    return np.abs(np.sqrt(u * u + v * v) - 0.75) - 0.23


def _square(u: Floats, v: Floats) -> Floats:
    return _bar(u, v, 0.7, 0.7)


def _triangle(u: Floats, v: Floats) -> Floats:
    return np.maximum(0.866 * np.abs(u) + 0.5 * v, -v) - 0.5


def _star(u: Floats, v: Floats) -> Floats:
    """The five-pointed star: the points that lie beyond at most one of five lines."""
    first = second = np.full_like(u, -2)
    for along, up in STAR:
        beyond = along * u + up * v
        second = np.maximum(second, np.minimum(first, beyond))
        first = np.maximum(first, beyond)
    return second - np.float32(0.305)


def _cross(u: Floats, v: Floats) -> Floats:
    return np.minimum(_bar(u, v, 0.95, 0.28), _bar(u, v, 0.28, 0.95))


def _crescent(u: Floats, v: Floats) -> Floats:
    return np.maximum(_disc(u, v), 0.75 - np.sqrt(u * u + (v - 0.5) ** 2))


def _heart(u: Floats, v: Floats) -> Floats:
    """Two discs side by side, and below them all that two lines leave on each side."""
    side = np.abs(u)
    lobe = np.sqrt((side - 0.44) ** 2 + (v - 0.29) ** 2) - 0.46
    body = np.maximum(0.7071 * (side - v) - 0.566, 0.401 * side + 0.916 * v - 0.275)
    return np.minimum(lobe, body)


def _arrow(u: Floats, v: Floats) -> Floats:
    head = np.maximum(0.7071 * (np.abs(u) + v - 0.95), 0.1 - v)
    return np.minimum(head, _bar(u, v + 0.4, 0.25, 0.55))


def _bars(u: Floats, v: Floats) -> Floats:
    return _bar(np.abs(u) - 0.5, v, 0.24, 0.66)


def _bar(u: Floats, v: Floats, half_width: float, half_height: float) -> Floats:
    return np.maximum(np.abs(u) - half_width, np.abs(v) - half_height)


STAR = [(np.float32(np.sin(turn)), np.float32(np.cos(turn))) for turn in np.arange(5) * 0.4 * np.pi]
FIELDS: dict[str, Field] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _arrow,
    "bars": _bars,
}
KINDS = tuple(FIELDS)


def draw(
    kind: str,
    canvas: tuple[int, int],
    *,
    centre: NDArray[Any],
    radius: NDArray[Any],
    angle: NDArray[Any],
) -> Floats:
    """The share of each pixel that an object covers: B objects of one kind, one in each picture.

    canvas H, W   centre (B, 2) as x, y and radius (B,), in pixels   angle (B,), in radians
    gives (B, H, W). A pixel at distance a from the edge, on the inside, is covered by ½ + a.
    """
    if kind not in FIELDS:
        raise ValueError(f"draw: kind is {kind!r}, expected one of {', '.join(KINDS)}")
    x, y = _from(centre, canvas)  # (B, W), (B, H)
    u, v = _turned(x / radius[:, None], y / radius[:, None], angle)  # (B, H, W)
    distance = FIELDS[kind](u, v) * radius.astype(np.float32)[:, None, None]
    return np.clip(0.5 - distance, 0, 1)


def boxes_of(masks: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The smallest box around each mask: x0, y0, x1, y1, half-open.   (N, H, W) -> (N, 4)"""
    edges = []
    for other in (1, 2):  # any row: the columns in use; any column: the rows in use
        used = np.any(masks, axis=other)  # (N, W) or (N, H)
        edges += [used.argmax(axis=1), used.shape[1] - used[:, ::-1].argmax(axis=1)]
    return np.stack([edges[0], edges[2], edges[1], edges[3]], axis=1).astype(np.int32)


# ---- one block of samples --------------------------------------------------------------------


def _block(
    rng: np.random.Generator, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    labels = rng.permutation(np.arange(BLOCK) % len(KINDS))
    coverage = _objects(rng, labels, size)  # (B, H, W)
    low, high, top = colours(rng)  # (B, 3, 1, 1) each
    image = low + (high - low) * textures(rng, size)[:, None]  # (B, 3, H, W)
    image += (top - image) * coverage[:, None]
    image *= light(rng, size)[:, None]
    spread = rng.uniform(0, 0.04, (BLOCK, 1, 1, 1)).astype(np.float32)
    image += spread * rng.standard_normal(image.shape, dtype=np.float32)
    image *= 255
    np.clip(np.rint(image, out=image), 0, 255, out=image)
    return image.astype(np.uint8), labels, coverage >= 0.5


def _objects(rng: np.random.Generator, labels: NDArray[np.int64], size: int) -> Floats:
    radius = size * rng.uniform(0.26, 0.42, BLOCK)
    room = (size / 2 - radius - 0.5)[:, None]
    centre = size / 2 + room * rng.uniform(-1, 1, (BLOCK, 2))
    angle = np.deg2rad(rng.uniform(-20, 20, BLOCK))
    coverage = np.empty((BLOCK, size, size), np.float32)
    for number, kind in enumerate(KINDS):
        of_kind = labels == number
        coverage[of_kind] = draw(
            kind, (size, size), centre=centre[of_kind], radius=radius[of_kind], angle=angle[of_kind]
        )
    return coverage


def colours(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Two colours of a dark background, one of a light object; in three of ten all inverted."""
    dark, light = rng.uniform(0.1, 0.45, BLOCK), rng.uniform(0.6, 0.95, BLOCK)
    other = np.clip(dark + rng.uniform(-0.12, 0.12, BLOCK), 0.1, 0.45)
    low = _lit(rng.uniform(0, 1, (BLOCK, 3)), dark)
    high = _lit(low + rng.uniform(-0.25, 0.25, (BLOCK, 3)), other)
    top = _lit(rng.uniform(0, 1, (BLOCK, 3)), light)
    inverted = rng.random((BLOCK, 1)) < 0.3
    colours = np.stack([np.where(inverted, 1 - c, c) for c in (low, high, top)])
    first, second, third = colours.astype(np.float32)[..., None, None]  # (B, 3, 1, 1) each
    return first, second, third


def _lit(colour: NDArray[Any], lightness: NDArray[Any]) -> NDArray[Any]:
    """Colours taken towards black or white until they are as light as asked.   (B, 3), (B,)"""
    colour = np.clip(colour, 0.02, 0.98)
    now, aim = (colour @ LUMA)[:, None], lightness[:, None]
    return np.where(now > aim, colour * (aim / now), 1 - (1 - colour) * ((1 - aim) / (1 - now)))


def light(rng: np.random.Generator, size: int) -> Floats:
    """A gain that rises evenly in one direction.   (B, H, W)"""
    level = rng.uniform(0.85, 1.1, (BLOCK, 1, 1))
    slope = rng.uniform(-0.15, 0.15, (2, BLOCK, 1))
    ramp = np.linspace(-1, 1, size)
    gain = level + (slope[0] * ramp)[:, None, :] + (slope[1] * ramp)[:, :, None]
    return gain.astype(np.float32)


# ---- background textures: (B, H, W) between 0 and 1 --------------------------------------------


def textures(rng: np.random.Generator, size: int) -> Floats:
    which = rng.integers(0, len(TEXTURES), BLOCK)
    centre = rng.uniform(0, size, (BLOCK, 2))
    angle = rng.uniform(0, 2 * np.pi, BLOCK)
    period = size * rng.uniform(0.15, 0.5, (BLOCK, 1, 1)).astype(np.float32)
    out = np.empty((BLOCK, size, size), np.float32)
    for number, texture in enumerate(TEXTURES):
        of_texture = which == number
        x, y = _from(centre[of_texture], (size, size))
        u, v = _turned(x, y, angle[of_texture])  # (b, H, W), in pixels
        out[of_texture] = texture(u / period[of_texture], v / period[of_texture])
    return out


def _gradient(u: Floats, v: Floats) -> Floats:
    return np.clip(0.5 + u / 6, 0, 1)


def _stripes(u: Floats, v: Floats) -> Floats:
    return 0.5 + 0.5 * _wave(u)


def _checks(u: Floats, v: Floats) -> Floats:
    return 0.5 + 0.5 * _wave(u) * _wave(v)


def _blobs(u: Floats, v: Floats) -> Floats:
    """Two layers of soft spots on lattices of different pitch, so that no two spots meet alike."""
    first = _triangle_wave(u) * _triangle_wave(v)
    second = _triangle_wave(0.62 * u + 0.35 * v) * _triangle_wave(0.62 * v - 0.35 * u)
    return 0.5 + 0.25 * (first + second)


def _wave(phase: Floats) -> Floats:
    """A square wave of period 1 with sloping edges, -1 to 1."""
    return np.clip(3 * _triangle_wave(phase), -1, 1)


def _triangle_wave(phase: Floats) -> Floats:
    return 4 * np.abs(phase - np.rint(phase)) - 1


TEXTURES: tuple[Field, ...] = (_gradient, _stripes, _checks, _blobs)


# ---- coordinates -----------------------------------------------------------------------------


def _from(centre: NDArray[Any], canvas: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pixel centres as seen from each object: x (B, W) to the right and y (B, H) down."""
    height, width = canvas
    x = np.arange(width) + 0.5 - centre[:, :1]
    y = np.arange(height) + 0.5 - centre[:, 1:]
    return x, y


def _turned(x: NDArray[Any], y: NDArray[Any], angle: NDArray[Any]) -> tuple[Floats, Floats]:
    """Right and up as seen from objects that are turned clockwise by `angle`.   (B, H, W) each"""
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    cx, sx, cy, sy = (a.astype(np.float32) for a in (cos * x, sin * x, cos * y, sin * y))
    u = cx[:, None, :] + sy[:, :, None]  # (B, H, W)
    v = sx[:, None, :] - cy[:, :, None]  # (B, H, W)
    return u, v
