"""Which query may see which key in a shifted window: the masks as matrices."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minswin.look.canvas import BLUE, INK, ROSE, bare, rgb, show_image
from minswin.look.windows import draw_borders, slots, window_of
from minswin.reference.windows import attention_mask

__all__ = ["Mask", "distinct_masks", "draw_mask", "draw_visible", "mark", "visible"]

Pair = tuple[int, int]


class Mask(NamedTuple):
    """One of the different masks of a map, and the windows that have it."""

    windows: tuple[int, ...]
    added: np.ndarray  # (N, N): 0 where the query (row) may see the key (column)


def distinct_masks(grid: Pair, window: Pair, shift: Pair) -> list[Mask]:
    """The different masks among those of all windows, in the order of their first windows.

    There are four: inside, at the right border, at the lower border, in the corner.
    """
    numbers_of: dict[bytes, list[int]] = {}
    masks = attention_mask(grid, window, shift)  # (windows, N, N)
    for number, mask in enumerate(masks):
        numbers_of.setdefault(mask.tobytes(), []).append(number)
    return [Mask(tuple(numbers), masks[numbers[0]]) for numbers in numbers_of.values()]


def visible(grid: Pair, window: Pair, shift: Pair, token: Pair) -> np.ndarray:
    """The tokens that `token` = (row, column) may look at, in the image: (H, W) bool."""
    place = slots(grid, window, shift)  # (H, W)
    number, query = divmod(int(place[token]), window[0] * window[1])
    allowed = attention_mask(grid, window, shift)[number, query] == 0  # (N,)
    inside = window_of(grid, window, shift) == number  # (H, W)
    return inside & allowed[place % len(allowed)]


def draw_mask(axes: Any, mask: Mask, window: Pair) -> Any:
    """A mask as a matrix, query by key: blue where a query may look."""
    shown = np.where((mask.added == 0)[..., None], rgb(BLUE), 0.94)  # (N, N, 3)
    axes.imshow(shown, interpolation="nearest")
    ticks = np.arange(window[1], len(shown), window[1]) - 0.5  # after each row of the window
    axes.hlines(ticks, -0.5, len(shown) - 0.5, color="white", lw=0.3)
    axes.vlines(ticks, -0.5, len(shown) - 0.5, color="white", lw=0.3)
    count = len(mask.windows)
    bare(axes, f"{count} window{'s' if count > 1 else ''}: {_few(mask.windows)}")
    axes.set_xlabel("key (blue: the query may look)")
    axes.set_ylabel("query")
    return axes


def _few(numbers: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, numbers[:3]))
    return shown + (", …" if len(numbers) > 3 else "")


def draw_visible(
    axes: Any, pixels: np.ndarray, grid: Pair, window: Pair, shift: Pair, token: Pair
) -> Any:
    """What one token may look at, on the image; its window is outlined, it is the square."""
    _, H, W = pixels.shape
    sees = visible(grid, window, shift, token)
    show_image(axes, pixels, tint=0.55 * sees)
    windows = window_of(grid, window, shift)
    draw_borders(axes, windows == windows[token], (H, W), color=ROSE, lw=1.2)
    mark(axes, token, grid, (H, W))
    return bare(axes, f"token {token} may look at {sees.sum()} tokens")


def mark(axes: Any, token: Pair, grid: Pair, size: Pair) -> None:
    """A frame around one token of a map of size `grid`, on a picture of H×W pixels."""
    high, wide = size[0] / grid[0], size[1] / grid[1]
    top, left = token[0] * high, token[1] * wide
    x = [left, left + wide, left + wide, left, left]
    y = [top, top, top + high, top + high, top]
    axes.plot(x, y, color="white", lw=2.6, solid_joinstyle="miter")
    axes.plot(x, y, color=INK, lw=1.2, solid_joinstyle="miter")
