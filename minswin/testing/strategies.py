"""What hypothesis draws: maps, windows, shifts and masks, small and awkward.

Sides are pairwise different where they can be: a square map hides every mix-up of the axes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from minswin.arguments import checks_switches

Pair = tuple[int, int]

seeds = st.integers(0, 2**32 - 1)


class Cut(NamedTuple):
    """A map of whole windows: `grid` = (H, W), `window` = (Mh, Mw), `shift` < window."""

    grid: Pair
    window: Pair
    shift: Pair

    @property
    def windows(self) -> Pair:
        """Windows along each axis."""
        return self.grid[0] // self.window[0], self.grid[1] // self.window[1]

    @property
    def tokens(self) -> int:
        """N = Mh·Mw, of a window."""
        return self.window[0] * self.window[1]


@checks_switches
@st.composite
def windows(
    draw: st.DrawFn,
    *,
    sides: Pair = (2, 4),
    counts: Pair = (1, 3),
    shifted: bool = True,
    square: bool = False,
) -> Cut:
    """Windows with `sides`, `counts` of them along each axis of a map that is not square.

    shifted: along one axis at least; otherwise by (0, 0)
    square: M×M windows, shifted by (s, s), for functions that take one number for both axes
    """
    side, count = st.integers(*sides), st.integers(*counts)
    Mh = draw(side)
    Mw = Mh if square else draw(side)
    nh, nw = draw(st.tuples(count, count).filter(lambda n: n[0] * Mh != n[1] * Mw))
    shift = draw(shifts((Mh, Mw), square=square)) if shifted else (0, 0)
    return Cut((nh * Mh, nw * Mw), (Mh, Mw), shift)


@checks_switches
def shifts(window: Pair, *, square: bool = False) -> SearchStrategy[Pair]:
    """How far a window may be displaced: 0…M − 1 along each axis, not (0, 0)."""
    if square:
        return st.integers(1, min(window) - 1).map(lambda s: (s, s))
    return st.tuples(st.integers(0, window[0] - 1), st.integers(0, window[1] - 1)).filter(any)


@st.composite
def uneven_maps(draw: st.DrawFn) -> tuple[Pair, Pair]:
    """(grid, window): H ≠ W, both longer than the window, one at least no multiple of it."""
    window = draw(st.tuples(st.integers(2, 4), st.integers(2, 4)))
    sides = st.tuples(
        st.integers(window[0] + 1, 3 * window[0]), st.integers(window[1] + 1, 3 * window[1])
    )
    uneven = sides.filter(lambda n: n[0] != n[1] and (n[0] % window[0] or n[1] % window[1]))
    return draw(uneven), window


@st.composite
def maps(
    draw: st.DrawFn,
    *,
    multiple: Pair = (1, 1),
    counts: Pair = (1, 3),
    batch: Pair = (1, 3),
    channels: Pair = (1, 4),
    dtype: Any = np.float64,
) -> np.ndarray:
    """A map (B, H, W, C), H ≠ W, that holds each number once: nothing can be swapped unseen.

    multiple: what divides the sides, such as (2, 2) for the merging of neighbours
    """
    count = st.integers(*counts)
    (mh, mw), B, C = multiple, draw(st.integers(*batch)), draw(st.integers(*channels))
    nh, nw = draw(st.tuples(count, count).filter(lambda n: n[0] * mh != n[1] * mw))
    return numbered(B, nh * mh, nw * mw, C).astype(dtype)


@st.composite
def masks(draw: st.DrawFn, *, queries: Pair = (1, 6), keys: Pair = (1, 6)) -> np.ndarray:
    """(N, M) bool: which query may look at which key; every query at one key or more."""
    N, M = draw(st.integers(*queries)), draw(st.integers(*keys))
    sees = np.array(draw(st.lists(st.booleans(), min_size=N * M, max_size=N * M))).reshape(N, M)
    sees[np.arange(N), draw(st.lists(st.integers(0, M - 1), min_size=N, max_size=N))] = True
    return sees


def numbered(*shape: int) -> np.ndarray:
    """A different number at every place, in order."""
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
