"""What a model makes of images: maps of single channels, and images as points of a plane."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minswin.arrays import Array, to_numpy
from minswin.autograd import no_grad
from minswin.look.canvas import COLOURS, bare
from minswin.look.observing import observing
from minswin.models import TNT, ResNet, SwinTransformer, VisionTransformer
from minswin.models.base import patch_grid

# ── maps ─────────────────────────────────────────────────────────────────────────────────────────


def feature_maps(model: Any, image: Array) -> list[np.ndarray]:
    """The map of every stage; of ViT and TNT the one of their last block: (h, w, C) each.

    image (3, H, W), normalised as for training
    """
    batch = image.reshape(1, *image.shape[-3:])
    model.eval()
    with no_grad():
        found = model.forward_features(batch)
    if isinstance(model, SwinTransformer):
        return [to_numpy(x.data)[0] for x in found]
    if isinstance(model, ResNet):
        return [to_numpy(x.data)[0].transpose(1, 2, 0) for x in found]
    if not isinstance(model, (VisionTransformer, TNT)):
        raise TypeError(f"feature_maps: expected a model of images, got {type(model).__name__}")
    tokens = to_numpy(found.data)[0]  # (N, C)
    grid = patch_grid((batch.shape[2], batch.shape[3]), model.patch_size)
    return [tokens[len(tokens) - grid[0] * grid[1] :].reshape(*grid, -1)]


def lively_channels(features: np.ndarray, count: int) -> list[int]:
    """The channels of a map (h, w, C) that vary most over it, the liveliest first."""
    spread = features.reshape(-1, features.shape[-1]).std(axis=0)  # (C,)
    return [int(channel) for channel in np.argsort(-spread)[:count]]


def draw_channel(axes: Any, features: np.ndarray, channel: int, *, title: str = "") -> Any:
    """One channel of a map (h, w, C): red is above 0, blue below."""
    shown = features[..., channel]
    largest = float(abs(shown).max()) or 1.0
    axes.imshow(shown, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
    return bare(axes, title or f"channel {channel}")


# ── images as points ─────────────────────────────────────────────────────────────────────────────


def pooled_features(model: Any, images: Array, *, batch: int = 50) -> np.ndarray:
    """What the head of a model is given for each image: (B, C), seen while the model runs.

    images (B, 3, H, W), normalised as for training
    """
    head = (model.fc if isinstance(model, ResNet) else model.head).weight.data
    rows: list[np.ndarray] = []

    def seen(name: str, inputs: tuple[Any, ...], settings: dict[str, Any], value: Array) -> None:
        if name == "linear" and inputs[1] is head:
            rows.append(to_numpy(inputs[0]))  # (batch, C)

    model.eval()
    with no_grad(), observing(seen):
        for start in range(0, len(images), batch):
            model(images[start : start + batch])
    return np.concatenate(rows)


def principal_plane(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """PCA: points (B, C) on the two directions along which they vary most.

    gives (B, 2), and the share of the variance along each of the two
    """
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    u, lengths, _ = np.linalg.svd(centred, full_matrices=False)  # x = u · diag(lengths) · vᵀ
    share = lengths**2 / max(float((lengths**2).sum()), 1e-300)
    return u[:, :2] * lengths[:2], share[:2]


def neighbourhoods(x: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """t-SNE: points (B, 2) whose neighbours are those of x (B, C). Needs scikit-learn."""
    try:
        manifold = importlib.import_module("sklearn.manifold")
    except ImportError as error:
        raise ImportError("scikit-learn is missing; pip install scikit-learn") from error
    perplexity = min(30.0, (len(x) - 1) / 3)
    points: np.ndarray = manifold.TSNE(
        n_components=2, perplexity=perplexity, init="pca", random_state=seed
    ).fit_transform(x)
    return points


def draw_points(
    axes: Any, points: np.ndarray, labels: np.ndarray, classes: Sequence[str], *, title: str = ""
) -> Any:
    """Images as points (B, 2), in the colour of their class."""
    for k, name in enumerate(classes):
        own = points[labels == k]
        colour = COLOURS[k % len(COLOURS)]
        axes.scatter(own[:, 0], own[:, 1], s=7, color=colour, alpha=0.75, lw=0, label=name)
    return bare(axes, title)


def draw_plane(
    axes: Any,
    models: Mapping[str, Any],
    images: Array,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    method: str = "pca",
) -> Any:
    """The features of the same images in several models, side by side: axes (models,).

    images (B, 3, H, W), normalised   method: "pca", or "tsne" where scikit-learn is there
    """
    if method not in ("pca", "tsne"):
        raise ValueError(f"draw_plane: method must be pca or tsne, got {method!r}")
    for place, (name, model) in zip(axes, models.items(), strict=True):
        x = pooled_features(model, images)  # (B, C)
        if method == "tsne":
            draw_points(place, neighbourhoods(x), labels, classes, title=f"{name}, t-SNE")
            continue
        points, share = principal_plane(x)
        title = f"{name}, PCA: {math.fsum(share):.0%} of the variance"
        draw_points(place, points, labels, classes, title=title)
    columns = 1 if len(classes) < 12 else math.ceil(len(classes) / 12)
    if len(classes) <= 24:
        beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "ncols": columns}
        axes[-1].legend(frameon=False, fontsize=7, markerscale=1.6, **beside)
    return axes
