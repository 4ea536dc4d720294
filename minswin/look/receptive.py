"""The receptive field: which pixels a token can depend on, from gradients.

Windows alone never see beyond themselves; shifted windows grow step by step, like the filters of a
ResNet; a ViT sees everything at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minswin.arguments import Seed, generator
from minswin.arrays import to_numpy
from minswin.autograd import Tensor
from minswin.layers.windows import WindowAttention
from minswin.look.canvas import BLUE, bare, rgb
from minswin.look.masks import mark
from minswin.models import ResNet, SwinTransformer, VisionTransformer
from minswin.models.base import Model

__all__ = [
    "Field",
    "argument",
    "dependence",
    "draw_argument",
    "draw_field",
    "features_of",
    "fields",
    "without_shift",
]

Pair = tuple[int, int]
Features = Callable[[Tensor], Tensor]  # images (B, 3, H, W) to a map (B, h, w, C)
SMALL = 1e-30  # less than this share of the largest gradient is that of a masked key, e⁻¹⁰⁰


def dependence(
    features: Features, size: Pair, token: Pair, *, rng: Seed, draws: int = 4
) -> np.ndarray:
    """Which pixels of an image one token of a map depends on: (H, W) bool.

    A random cotangent at that token is sent backward; a pixel counts where the gradient of any
    channel is not 0 for one of `draws` random images, since a ReLU may be shut for some of them.
    """
    rng = generator("dependence", rng)
    images = Tensor(rng.standard_normal((draws, 3, *size)), requires_grad=True)
    maps = features(images)  # (draws, h, w, C)
    g = np.zeros(maps.shape)
    g[:, token[0], token[1]] = rng.standard_normal(g[:, 0, 0].shape)
    maps.backward(g)
    assert images.grad is not None
    strength = abs(to_numpy(images.grad)).max(axis=(0, 1))  # (H, W)
    return strength > SMALL * strength.max()


def features_of(model: Any, step: int) -> Features:
    """The map after stage `step` of a model, before its merge; of a ViT after a block."""
    return lambda images: model.feature_maps(images)[step]


def without_shift(model: Any) -> Any:
    """Switch the shift of all windows off: W-MSA alone. Changes the model, and gives it back."""
    for layer in model.layers_within():
        if isinstance(layer, WindowAttention):
            layer.shift = False
    return model


# ── side by side ─────────────────────────────────────────────────────────────────────────────────


class Field(NamedTuple):
    """What one token depends on, and how many tokens the map has."""

    pixels: np.ndarray  # (H, W) bool
    token: Pair
    grid: Pair


def fields(model: Any, steps: Sequence[int], size: Pair, *, rng: Seed) -> list[Field]:
    """The receptive field of a token near the middle, after each of some steps of a model."""
    rng = generator("fields", rng)
    of_steps = []
    with model.evaluating():
        for step in steps:
            features = features_of(model, step)
            h, w = features(Tensor(np.zeros((1, 3, *size)))).shape[1:3]
            token = h // 2 - 1, w // 2 - 1  # in a window that ends at the middle of the image
            of_steps.append(Field(dependence(features, size, token, rng=rng), token, (h, w)))
    return of_steps


def argument(*, side: int = 64, rng: Seed) -> dict[str, list[Field]]:
    """The receptive fields of four small models by name, after three steps of each.

    What a token can depend on follows from the shapes alone: weights are random, in float64.
    """
    window: dict[str, Any] = {
        "img_size": side,
        "patch_size": 2,
        "embed_dim": 8,
        "depths": (2, 2, 2),
        "num_heads": (1, 1, 1),
        "window_size": 4,
    }
    rng = generator("argument", rng)
    settings: dict[str, Any] = {"num_classes": 2, "rng": rng, "dtype": np.float64}
    models: dict[str, Model] = {
        "windows alone (W-MSA)": without_shift(SwinTransformer(**window, **settings)),
        "shifted windows (Swin)": SwinTransformer(**window, **settings),
        "ResNet": ResNet(img_size=side, width=4, depths=(2, 2, 2), stem="cifar", **settings),
        "ViT": VisionTransformer(
            img_size=side, patch_size=8, embed_dim=8, depth=3, num_heads=1, **settings
        ),
    }
    return {name: fields(m, range(3), (side, side), rng=rng) for name, m in models.items()}


def draw_field(axes: Any, field: Field, *, title: str = "") -> Any:
    """The pixels that a token depends on; the frame is the token's patch of the image."""
    H, W = field.pixels.shape
    shown = np.where(field.pixels[..., None], 0.25 + 0.75 * rgb(BLUE), 0.95)  # (H, W, 3)
    axes.imshow(shown, interpolation="nearest", extent=(0, W, H, 0))
    mark(axes, field.token, field.grid, (H, W))
    return bare(axes, title or f"{field.pixels.mean():.0%} of the image")


def draw_argument(axes: Any, fields_of: dict[str, list[Field]]) -> Any:
    """A row for every model, a column for every step: axes (rows, columns)."""
    for row, (name, of_steps) in zip(axes, fields_of.items(), strict=True):
        for step, (place, field) in enumerate(zip(row, of_steps, strict=True)):
            draw_field(place, field)
            unit = "block" if name == "ViT" else "stage"
            place.set_xlabel(f"{unit} {step}: {field.grid[0]}×{field.grid[1]} tokens", fontsize=7)
        row[0].set_ylabel(name)
    return axes
