"""Patches, windows and the shift, on the image: each picture is made by the model's own functions.

roll(−shift) → window_partition → attention → window_merge → roll(+shift)
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from minswin.arguments import Pair
from minswin.look.canvas import COLOURS, INK, ROSE, bare, enlarge, lines, rgb, show_image
from minswin.reference.shape import roll
from minswin.reference.windows import shift_regions, window_merge, window_partition

__all__ = [
    "cut",
    "draw_borders",
    "draw_numbers",
    "draw_patches",
    "draw_regions",
    "draw_rolled",
    "draw_windows",
    "hues",
    "put_back",
    "rolled_image",
    "slots",
    "window_of",
]


# ── where the tokens go ──────────────────────────────────────────────────────────────────────────


def slots(grid: Pair, window: Pair, shift: Pair) -> np.ndarray:
    """For every token of the map: its number among the tokens of all windows, window by window.

    gives (H, W) integers; number = window · N + place in the window. Windows and shift are undone
    as the model undoes them: the numbers go through window_merge and roll.
    """
    tokens = window[0] * window[1]
    numbers = np.arange(grid[0] * grid[1]).reshape(1, -1, tokens, 1)  # (1, windows, N, 1)
    merged, _ = window_merge(numbers, window=window, grid=grid)  # (1, H, W, 1)
    return roll(merged, shift=shift)[0][0, :, :, 0]


def window_of(grid: Pair, window: Pair, shift: Pair) -> np.ndarray:
    """The number of the window that each token of the map is in: (H, W)."""
    return slots(grid, window, shift) // (window[0] * window[1])


def hues(grid: Pair, window: Pair, shift: Pair) -> np.ndarray:
    """A colour, 0…8, for every token by its window: windows that touch have different ones. (H, W)

    Rows of windows take turns, and so do columns. A shifted map is a ring, where the last window
    touches the first: where their number is odd, the last has a colour of its own.
    """
    turns = []
    for side, M in zip(grid, window, strict=True):
        turn = np.arange(side // M) % 2
        if len(turn) > 1 and len(turn) % 2:
            turn[-1] = 2
        turns.append(turn)
    row, column = np.divmod(window_of(grid, window, shift), len(turns[1]))  # (H, W) each
    return 3 * turns[0][row] + turns[1][column]


def rolled_image(pixels: np.ndarray, grid: Pair, shift: Pair) -> np.ndarray:
    """The image moved up and left as the roll moves its tokens: bytes (3, H, W)."""
    (ph, pw) = pixels.shape[1] // grid[0], pixels.shape[2] // grid[1]
    moved, _ = roll(pixels[..., None], shift=(-shift[0] * ph, -shift[1] * pw))  # (3, H, W, 1)
    return moved[..., 0]


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────


def draw_patches(axes: Any, pixels: np.ndarray, patch: Pair) -> Any:
    """The image, cut into the patches that become tokens."""
    _, H, W = pixels.shape
    show_image(axes, pixels)
    grid = H // patch[0], W // patch[1]
    lines(axes, (H, W), grid, lw=0.5, alpha=0.8)
    return bare(axes, f"{grid[0]}×{grid[1]} patches of {patch[0]}×{patch[1]} pixels")


def draw_windows(axes: Any, pixels: np.ndarray, grid: Pair, window: Pair, shift: Pair) -> Any:
    """The windows on the image by number, where there is room; windows that touch differ in colour.

    A shifted window at the border consists of pieces from opposite ends of the image.
    """
    _, H, W = pixels.shape
    number = window_of(grid, window, shift)  # (h, w)
    show_image(axes, pixels)
    _paint(axes, hues(grid, window, shift), (H, W), 0.42)
    draw_borders(axes, number, (H, W), color="white", lw=1.4)
    draw_numbers(axes, number, (H, W))
    name = "shifted windows" if any(shift) else "windows"
    return bare(axes, f"{number.max() + 1} {name} of {window[0]}×{window[1]} tokens")


def draw_rolled(axes: Any, pixels: np.ndarray, grid: Pair, window: Pair, shift: Pair) -> Any:
    """The rolled image under the windows that cut it; dotted: where its ends meet."""
    _, H, W = pixels.shape
    show_image(axes, rolled_image(pixels, grid, shift))
    draw_borders(axes, shift_regions(grid, window, shift), (H, W), color=ROSE, lw=1.2, ls=":")
    lines(axes, (H, W), (grid[0] // window[0], grid[1] // window[1]), lw=1.6)
    return bare(axes, f"rolled {shift[0]} tokens up and {shift[1]} left")


def draw_regions(axes: Any, grid: Pair, window: Pair, shift: Pair) -> Any:
    """The nine regions of the rolled map, by number; only tokens of one region and window meet."""
    regions = shift_regions(grid, window, shift)
    axes.imshow(np.ones((*grid, 3)), extent=(0, grid[1], grid[0], 0))
    _paint(axes, regions, grid, 0.5)
    draw_borders(axes, regions, grid, color=INK, lw=0.6)
    lines(axes, grid, (grid[0] // window[0], grid[1] // window[1]), lw=1.8)
    for label in np.unique(regions):
        rows, columns = np.nonzero(regions == label)
        middle = columns.mean() + 0.5, rows.mean() + 0.5
        axes.text(*middle, str(label), ha="center", va="center", fontsize=9)
    return bare(axes, f"{len(np.unique(regions))} regions")


def draw_borders(axes: Any, labels: np.ndarray, size: Pair, **style: Any) -> None:
    """Lines where neighbouring places of a map (h, w) have different labels."""
    (H, W), (h, w) = size, labels.shape
    row, column = np.nonzero(labels[1:] != labels[:-1])
    axes.hlines((row + 1) * H / h, column * W / w, (column + 1) * W / w, **style)
    row, column = np.nonzero(labels[:, 1:] != labels[:, :-1])
    axes.vlines((column + 1) * W / w, row * H / h, (row + 1) * H / h, **style)


def draw_numbers(axes: Any, labels: np.ndarray, size: Pair, *, points: float = 6.0) -> None:
    """The label of every rectangle of a map (h, w) in its middle, where it fits in that size."""
    from matplotlib.patheffects import withStroke

    (H, W), (h, w) = size, labels.shape
    unit = axes.get_window_extent().width * 72 / axes.figure.dpi / W  # points of the page a pixel
    clear = [withStroke(linewidth=1.4, foreground="white")]
    style = {"ha": "center", "va": "center", "fontsize": points, "path_effects": clear}
    for top, below in pairwise(_cuts(labels)):
        for left, right in pairwise(_cuts(labels.T)):
            text = str(labels[top, left])
            wide, high = (right - left) * W / w * unit, (below - top) * H / h * unit
            if wide > 0.62 * points * len(text) and high > points:
                axes.text((left + right) * W / w / 2, (top + below) * H / h / 2, text, **style)


def _cuts(labels: np.ndarray) -> list[int]:
    """Where a rectangle begins along the first axis, and the end of the last."""
    changes = (labels[1:] != labels[:-1]).any(axis=1)
    return [0, *(np.flatnonzero(changes) + 1).tolist(), len(labels)]


def _paint(axes: Any, labels: np.ndarray, size: Pair, alpha: float) -> None:
    """A thin colour over every place, by its label of 0…9."""
    palette = np.stack([rgb(colour) for colour in COLOURS])  # (10, 3)
    colours = palette[enlarge(labels, size)]  # (H, W, 3)
    axes.imshow(colours, alpha=alpha, extent=(0, size[1], size[0], 0), interpolation="nearest")


def cut(x: np.ndarray, window: Pair, shift: Pair) -> np.ndarray:
    """A map (1, H, W, C), rolled and cut as the model does it: (windows, N, C)."""
    rolled, _ = roll(x, shift=(-shift[0], -shift[1]))
    return window_partition(rolled, window=window)[0][0]


def put_back(x: np.ndarray, window: Pair, shift: Pair, grid: Pair) -> np.ndarray:
    """Undo `cut`: (windows, N, C) to a map (1, H, W, C)."""
    merged, _ = window_merge(x[None], window=window, grid=grid)
    return roll(merged, shift=shift)[0]
