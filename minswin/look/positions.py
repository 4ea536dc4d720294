"""How a model knows where a token is: the bias of a displacement, the vector of a position."""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin.arrays import to_numpy
from minswin.autograd import Tensor, no_grad
from minswin.layers import AxisPositions, SinusoidalPositions
from minswin.layers.embeddings import RelativePositionBias
from minswin.layers.windows import WindowAttention
from minswin.look.attention import Attention
from minswin.look.canvas import bare
from minswin.models.base import patch_grid
from minswin.reference.windows import relative_position_index

__all__ = ["bias_pictures", "draw_bias", "draw_similarity", "position_vectors", "similarity"]

Pair = tuple[int, int]


# ── the bias of a displacement ───────────────────────────────────────────────────────────────────


def bias_pictures(model: Any, records: list[Attention]) -> list[np.ndarray]:
    """The relative position bias of every head in every block: (h, 2Mh−1, 2Mw−1) each.

    Element (Mh−1+r, Mw−1+c) is added to the logit of a query that lies r rows below and c columns
    to the right of its key. Empty for a model without such a bias.
    """
    layers = (layer for layer in model.layers_within() if _has_bias(layer))
    return [_by_displacement(layer, record) for layer, record in zip(layers, records, strict=False)]


def _has_bias(layer: Any) -> bool:
    return isinstance(layer, (WindowAttention, RelativePositionBias))


def _by_displacement(layer: Any, record: Attention) -> np.ndarray:
    """The bias of all pairs of tokens, each put where its displacement is."""
    window, front = record.window, record.front
    (Mh, Mw), of_windows = window, isinstance(layer, WindowAttention)
    with no_grad():
        bias = layer.bias(window) if of_windows else layer(window)
    pairs = to_numpy(bias.data)[:, front:, front:]  # (h, N, N)
    picture = np.zeros((len(pairs), (2 * Mh - 1) * (2 * Mw - 1)), pairs.dtype)
    picture[:, relative_position_index(window)] = pairs
    return picture.reshape(-1, 2 * Mh - 1, 2 * Mw - 1)


def draw_bias(axes: Any, picture: np.ndarray, *, largest: float, title: str = "") -> Any:
    """The bias of one head by displacement, (2Mh−1, 2Mw−1): red is more, blue is less than 0."""
    axes.imshow(picture, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
    middle = (picture.shape[1] - 1) / 2, (picture.shape[0] - 1) / 2
    axes.plot(*middle, marker="+", color="#444444", ms=4, mew=0.7)  # query = key
    return bare(axes, title)


# ── the vector of a position ─────────────────────────────────────────────────────────────────────


def position_vectors(model: Any) -> np.ndarray | None:
    """What a ViT adds to the token of every patch: (H, W, C), or None if it adds nothing.

    Layers of positions are asked by giving them a map of zeros.
    """
    positions = getattr(model, "pos_embed", None)
    grid = patch_grid(model.img_size, model.patch_size)
    if isinstance(positions, (AxisPositions, SinusoidalPositions)):
        with no_grad():
            zeros = np.zeros((1, *grid, model.norm.weight.size), model.norm.weight.dtype)
            return to_numpy(positions(Tensor(zeros)).data)[0]
    if positions is None:
        return None
    vectors = to_numpy(positions.data)[0]  # (front + HW, C)
    return vectors[len(vectors) - grid[0] * grid[1] :].reshape(*grid, -1)


def similarity(vectors: np.ndarray) -> np.ndarray:
    """The cosine of the angle between the vectors of any two positions: (H, W, H, W).

    vectors (H, W, C)                                     Dosovitskiy et al. 2021, Figure 7, centre
    """
    H, W, C = vectors.shape
    flat = vectors.reshape(-1, C).astype(np.float64)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    return (flat @ flat.T).reshape(H, W, H, W)


def draw_similarity(axes: Any, vectors: np.ndarray, *, title: str = "", most: int = 8) -> Any:
    """A map for every position, at its place: how alike the vectors of all positions are to its.

    vectors (H, W, C); of a large grid, `most` rows and columns of maps at equal distances.
    """
    H, W, _ = vectors.shape
    alike = similarity(vectors)
    rows, columns = (np.linspace(0, n - 1, min(n, most)).round().astype(int) for n in (H, W))
    sheet = np.full((len(rows) * (H + 1) + 1, len(columns) * (W + 1) + 1), np.nan)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            top, left = i * (H + 1) + 1, j * (W + 1) + 1
            sheet[top : top + H, left : left + W] = alike[row, column]
    axes.imshow(sheet, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    return bare(axes, title)
