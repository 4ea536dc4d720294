"""The signatures that windows have in PyTorch, brought to those of the laws.

    window_partition(x, M) -> (B·nW, M, M, C)       window_reverse(windows, M, H, W) -> (B, H, W, C)

So they stand in the original's code and most that was made from it. timm takes (M, M) for M.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minswin.arguments import checks_switches

Pair = tuple[int, int]


@checks_switches
def usual_partition(
    window_partition: Callable[..., Any],
    *,
    tensor: Callable[[np.ndarray], Any] = np.asarray,
    pairs: bool = False,
) -> Callable[[np.ndarray, Pair], np.ndarray]:
    """window_partition(x, M) as partition(x, window), which laws.partition takes.

    tensor: what makes the function's kind of array of NumPy's, such as torch.from_numpy
    pairs: it takes (M, M), not M
    """

    def partition(x: np.ndarray, window: Pair) -> np.ndarray:
        return np.asarray(window_partition(tensor(x), _side(window, pairs)))

    return partition


@checks_switches
def usual_reverse(
    window_reverse: Callable[..., Any],
    *,
    tensor: Callable[[np.ndarray], Any] = np.asarray,
    pairs: bool = False,
) -> Callable[[np.ndarray, Pair, Pair], np.ndarray]:
    """window_reverse(windows, M, H, W) as merge(windows, window, grid), which laws.merge takes."""

    def merge(windows: np.ndarray, window: Pair, grid: Pair) -> np.ndarray:
        pieces = tensor(windows.reshape(-1, *window, windows.shape[-1]))  # (B·nW, M, M, C)
        return np.asarray(window_reverse(pieces, _side(window, pairs), *grid))

    return merge


def _side(window: Pair, pairs: bool) -> int | Pair:
    if pairs:
        return window
    if window[0] != window[1]:
        raise ValueError(
            f"usual_partition: the function takes one side for both axes, got a window {window}; "
            "draw with windows(square=True), or say pairs=True"
        )
    return window[0]
