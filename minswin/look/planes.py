"""Images as points of a plane, by their features: PCA and t-SNE, models side by side.

vectors = {name: pooled_features(model, images) for name, model in models.items()}
draw_planes(axes, vectors, labels, classes)        # axes (1, models)
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minswin.look.canvas import COLOURS, bare

__all__ = [
    "available_methods",
    "draw_plane",
    "draw_planes",
    "draw_points",
    "neighbourhoods",
    "principal_axes",
    "principal_plane",
]

METHODS = ("pca", "tsne")

# ── planes ───────────────────────────────────────────────────────────────────────────────────────


def principal_axes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """PCA: the two directions along which points (B, C) vary most.

    gives (2, C) of length 1, and the share of the variance along each of the two
    """
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)  # x = u · diag(lengths) · axes
    share = lengths**2 / max(float((lengths**2).sum()), 1e-300)
    return axes[:2], share[:2]


def principal_plane(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """PCA: points (B, C) on the two directions along which they vary most.

    gives (B, 2), and the share of the variance along each of the two
    """
    axes, share = principal_axes(x)
    return (x - x.mean(axis=0, dtype=np.float64)) @ axes.T, share


def neighbourhoods(x: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """t-SNE: points (B, 2) whose neighbours are those of x (B, C). Needs scikit-learn.

    It runs on one thread: for so few points more are slower, and on a busy machine far slower.
    """
    try:
        manifold = importlib.import_module("sklearn.manifold")
        threads = importlib.import_module("threadpoolctl")  # which scikit-learn needs
    except ImportError as error:
        raise ImportError("scikit-learn is missing; pip install scikit-learn") from error
    perplexity = min(30.0, (len(x) - 1) / 3)
    method = manifold.TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    with threads.threadpool_limits(1):
        points: np.ndarray = method.fit_transform(x)
    return points


def available_methods() -> tuple[str, ...]:
    """The methods that can be drawn: t-SNE only where scikit-learn is installed."""
    try:
        importlib.import_module("sklearn.manifold")
    except ImportError:
        return METHODS[:1]
    return METHODS


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────


def draw_points(
    axes: Any, points: np.ndarray, labels: np.ndarray, classes: Sequence[str], *, title: str = ""
) -> Any:
    """Images as points (B, 2), in the colour of their class."""
    for k, name in enumerate(classes):
        of_class = points[labels == k]
        colour = COLOURS[k % len(COLOURS)]
        axes.scatter(*of_class.T, s=7, color=colour, alpha=0.75, lw=0, label=name)
    return bare(axes, title)


def draw_plane(
    axes: Any,
    x: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    name: str = "",
    method: str = "pca",
) -> Any:
    """The features (B, C) of images in one model on a plane; method: "pca" or "tsne"."""
    if method not in METHODS:
        raise ValueError(f"draw_plane: method must be pca or tsne, got {method!r}")
    if not np.isfinite(x).all():
        raise ValueError(
            f"draw_plane: the features of {name} are not finite; its weights are spoilt: use others"
        )
    if method == "tsne":
        return draw_points(axes, neighbourhoods(x), labels, classes, title=f"{name}, t-SNE")
    points, share = principal_plane(x)
    title = f"{name}, PCA: {math.fsum(share):.0%} of the variance"
    return draw_points(axes, points, labels, classes, title=title)


def draw_planes(
    axes: Any,
    vectors: Mapping[str, np.ndarray],
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    methods: Sequence[str] = METHODS[:1],
) -> Any:
    """The same images in several models, side by side: a row for each method, a column for each.

    axes (methods, models)   vectors: (B, C) by the name of the model, see features.pooled_features
    """
    for line, method in zip(axes, methods, strict=True):
        for place, (name, x) in zip(line, vectors.items(), strict=True):
            draw_plane(place, x, labels, classes, name=name, method=method)
    if len(classes) <= 24:
        columns = 1 if len(classes) < 12 else 2
        beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "ncols": columns}
        axes[0][-1].legend(frameon=False, fontsize=7, markerscale=1.6, **beside)
    return axes
