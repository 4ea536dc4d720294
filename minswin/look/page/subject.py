"""What a page is about: a picture, a model, example images, and what the model answers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np

from minswin.look.cost import CostPoint


class Examples(NamedTuple):
    """Images of known classes, to see how the model separates them."""

    name: str
    x: np.ndarray  # (B, 3, H, W), normalised
    labels: np.ndarray
    classes: tuple[str, ...]


class Cost(NamedTuple):
    """Points of MSA and W-MSA with C channels in h heads, windows of side M, and patches."""

    whole: list[CostPoint]
    windows: list[CostPoint]
    C: int
    heads: int
    M: int
    patch: int  # pixels along its side


class Sight(NamedTuple):
    """A model, and the picture and the example images normalised for it."""

    name: str
    model: Any
    picture: np.ndarray  # (3, H, W), normalised
    examples: np.ndarray  # (B, 3, H, W), normalised
    classes: Sequence[str]


class Sample(NamedTuple):
    """A picture to begin with."""

    name: str
    pixels: np.ndarray  # bytes (3, H, W)


class Subject(NamedTuple):
    """What a page is about. The first of `sights` is the model itself, others are drawn beside."""

    samples: Sequence[Sample]  # the first is the picture
    x: np.ndarray  # (3, H, W), normalised
    model: Any
    origin: str  # of the weights
    trained: bool
    classes: Sequence[str]
    statistics: tuple[Sequence[float], Sequence[float]]  # mean and deviation of each colour
    probabilities: np.ndarray  # (K,)
    examples: Examples
    cost: Cost
    sights: Sequence[Sight]

    @property
    def size(self) -> tuple[int, int]:
        return self.x.shape[1], self.x.shape[2]


def pixels_as_uri(pixels: np.ndarray) -> str:
    """Bytes (3, H, W) as the text of a PNG, pixel by pixel."""
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(stream, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
