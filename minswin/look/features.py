"""The features of a model: single channels of its maps, and the pooled vector before its head."""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin import kernels
from minswin.arrays import Array, to_numpy
from minswin.autograd import no_grad
from minswin.look.canvas import bare
from minswin.watch import Operation, watching

__all__ = ["draw_channel", "feature_maps", "lively_channels", "pooled_features"]

# ── maps ─────────────────────────────────────────────────────────────────────────────────────────


def feature_maps(model: Any, image: Array) -> list[np.ndarray]:
    """The map of every stage; of ViT and TNT that of their last block: (h, w, C) each.

    image (3, H, W), normalised as for training
    """
    batch = image.reshape(1, *image.shape[-3:])
    with model.evaluating(), no_grad():
        maps = [to_numpy(y.data)[0] for y in model.feature_maps(batch)]
    return list({y.shape[:2]: y for y in maps}.values())


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


# ── vectors ──────────────────────────────────────────────────────────────────────────────────────


def pooled_features(model: Any, images: Array, *, batch: int = 50) -> np.ndarray:
    """The vector that the head of a model reads, for each image: (B, C).

    images (B, 3, H, W), normalised as for training
    """
    head = getattr(model, model.head_names[0]).weight.data
    rows: list[np.ndarray] = []

    def keep_inputs_of_head(operation: Operation) -> None:
        x, *weights = operation.arrays
        if operation.name == "linear" and weights[0] is head:
            rows.append(to_numpy(x))  # (batch, C)

    definitions = kernels.using("reference")
    with model.evaluating(), no_grad(), definitions, watching(keep_inputs_of_head):
        for start in range(0, len(images), batch):
            model(images[start : start + batch])
    return np.concatenate(rows)
