"""What a report is about, and what its sections are made of."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np

from minswin.look import canvas
from minswin.look.cost import CostPoint

MOST = 12  # pictures side by side


class Examples(NamedTuple):
    """Images of known classes, to see how the model tells them apart."""

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


class Other(NamedTuple):
    """A model to be drawn beside another, and the same example images as it is given them."""

    name: str
    model: Any
    x: np.ndarray  # (B, 3, H, W), normalised
    classes: Sequence[str]


class Subject(NamedTuple):
    """What a page is about: an image as a model sees it, and what the model says."""

    image: str  # the name of its file
    pixels: np.ndarray  # bytes (3, H, W), of the model's size
    x: np.ndarray  # (3, H, W), normalised
    model: Any
    origin: str  # of the weights
    trained: bool
    classes: Sequence[str]
    probabilities: np.ndarray  # (K,)
    examples: Examples
    cost: Cost
    others: tuple[Other, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[2]


class Section(NamedTuple):
    """A part of the page."""

    key: str
    title: str
    body: str  # HTML


# ── HTML ──────────────────────────────────────────────────────────────────────────────────────────


def paragraph(*sentences: str) -> str:
    return f"<p>{' '.join(sentences)}</p>"


def picture(drawn: Any, what: str, caption: str, *, wide: int | None = None) -> str:
    """A figure with its caption; wide: pixels below which it scrolls and does not shrink."""
    style = f' style="min-width:{wide}px"' if wide else ""
    return (
        f'<figure class="wide"><img src="{canvas.as_uri(drawn)}" alt="{html.escape(what)}"{style}>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def pixels_as_uri(pixels: np.ndarray) -> str:
    """Bytes (3, H, W) as the text of a PNG, pixel by pixel."""
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(stream, format="png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def spaced(items: list[Any]) -> list[Any]:
    """All, or MOST of them at equal distances, the first and the last among them."""
    if len(items) <= MOST:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, MOST).round().astype(int)]


def sheet(count: int) -> Any:
    columns = min(count, 6 if count in (5, 6, 11, 12) else 4)
    drawn, axes = canvas.figure(columns, -(-count // columns), width=1.6, height=1.8)
    for place in axes.ravel()[count:]:
        canvas.clear(place)
    return drawn, axes
