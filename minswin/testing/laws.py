"""What is true of every right implementation, in words of tokens where it is not.

Each takes what is tried, and a `Cut` or a map that hypothesis drew; it raises AssertionError with
the first wrong token or pair. Results may be arrays, or tensors that NumPy can read; where only the
grouping of axes differs, such as (B·nW, M, M, C) for (B, nW, N, C), any is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minswin.testing import oracles
from minswin.testing.strategies import Cut, Pair, numbered

__all__ = ["index", "mask", "merge", "merging", "partition", "shifted_attention"]

APART = -10.0  # a mask must take at least so much from the logit of a pair that it keeps apart


# ── tokens that move ─────────────────────────────────────────────────────────────────────────────


def partition(
    function: Callable[[np.ndarray, Pair], Any], cut: Cut, *, batch: int = 2, channels: int = 3
) -> None:
    """function(x, window) cuts a map (B, H, W, C) into windows; these and their tokens by rows."""
    x = numbered(batch, *cut.grid, channels)
    truth = oracles.partition(x, cut.window)
    ours = _shaped("partition", function(x.copy(), cut.window), truth.shape, cut)
    wrong = np.argwhere(ours != truth)
    if len(wrong):
        b, n, t, _ = (first := tuple(wrong[0]))
        raise AssertionError(
            f"partition, {_words(cut)}: token {t} of window {n} of image {b} should be "
            f"{_place(truth[first], x.shape)}, got {_place(ours[first], x.shape)}"
        )


def merge(
    function: Callable[[np.ndarray, Pair, Pair], Any],
    cut: Cut,
    *,
    batch: int = 2,
    channels: int = 3,
) -> None:
    """function(windows, window, grid) puts windows (B, nW, N, C) together: undoes the partition."""
    x = numbered(batch, *cut.grid, channels)
    windows = oracles.partition(x, cut.window)
    ours = _shaped("merge", function(windows, cut.window, cut.grid), x.shape, cut)
    _require_moved("merge", ours, x, x.shape, cut)


def merging(function: Callable[[np.ndarray], Any], x: np.ndarray) -> None:
    """function(x) gathers each 2×2 neighbourhood into 4C channels, in the published order.

    x (B, H, W, C), H and W even   gives (B, H/2, W/2, 4C): the row varies fastest
    """
    truth = oracles.merge_neighbours(x)
    ours = _shaped("merging", function(x.copy()), truth.shape, None)
    wrong = np.argwhere(ours != truth)
    if len(wrong):
        b, r, c, channel = (first := tuple(wrong[0]))
        raise AssertionError(
            f"merging a map {x.shape}: channel {channel} of the token ({r}, {c}) of image {b} "
            f"should be {_place(truth[first], x.shape)}, got {_place(ours[first], x.shape)}"
        )


# ── who sees whom ────────────────────────────────────────────────────────────────────────────────


def mask(values: Any, cut: Cut) -> None:
    """The mask of shifted windows lets the tokens of one region see each other, and no others.

    values (nW, N, N), axes of length 1 besides: added to the logits, 0 or below −10; or bool, True
    where a query may look. The regions are the rectangles that the displaced windows cut from the
    image; they are found without roll and mask.
    """
    nW, N = cut.windows[0] * cut.windows[1], cut.tokens
    entries = _shaped("mask", values, (nW, N, N), cut)
    sees = entries if entries.dtype == bool else entries == 0
    places = tokens_of_windows(cut)
    (r, c), every = np.moveaxis(places, -1, 0), oracles.same_rectangle(*cut)
    truth = every[r[:, :, None], c[:, :, None], r[:, None], c[:, None]]  # (nW, N, N)
    wrong = np.argwhere(sees != truth)
    if len(wrong):
        n, i, j = (first := tuple(wrong[0]))
        kind, does = ("one region", "kept apart") if truth[first] else ("two", "not masked")
        raise AssertionError(
            f"mask, {_words(cut)}: in window {n} the tokens {i} and {j} are {_token(places[n, i])} "
            f"and {_token(places[n, j])} of the image, of {kind}, and are {does}"
        )
    if entries.dtype != bool and not np.all(entries[~sees] <= APART):
        raise AssertionError(
            f"mask, {_words(cut)}: {entries[~sees].max():.3g} keeps nothing apart; use -100 or -inf"
        )


def tokens_of_windows(cut: Cut) -> np.ndarray:
    """(nW, N, 2): the row and column in the image of each token of each shifted window."""
    (H, W), (sh, sw) = cut.grid, cut.shift
    rows, columns = np.meshgrid(np.arange(H) + sh, np.arange(W) + sw, indexing="ij")
    rolled = np.stack([rows % H, columns % W], axis=-1)[None]  # the map after the roll
    return oracles.partition(rolled, cut.window)[0]


def index(values: Any, window: Pair) -> None:
    """The rows (N, N) of the bias table that pairs of a window take: by query − key, row first."""
    number, tokens = oracles.displacement_rows(window), list(np.ndindex(window))
    N = len(tokens)
    entries = _shaped("index", values, (N, N), None)
    truth = np.array([[number[p[0] - q[0], p[1] - q[1]] for q in tokens] for p in tokens])
    if np.array_equal(entries, truth):
        return
    i, j = np.argwhere(entries != truth)[0]
    turned = "; it is key − query" if np.array_equal(entries, truth.T) else ""
    raise AssertionError(
        f"index of a window {window}: query {_token(tokens[i])} and key {_token(tokens[j])} "
        f"should take row {truth[i, j]} of the table, got {entries[i, j]}{turned}"
    )


# ── attention ────────────────────────────────────────────────────────────────────────────────────


def shifted_attention(
    function: Callable[[np.ndarray, np.ndarray, Pair, Pair], Any],
    cut: Cut,
    *,
    heads: int = 2,
    batch: int = 2,
    seed: int = 0,
    dtype: Any = np.float64,
) -> None:
    """function(qkv, table, window, shift) equals plain attention in each region of the image.

    qkv (B, H, W, 3C): q, then k, then v, each head after head   table ((2Mh−1)·(2Mw−1), heads)
    gives (B, H, W, C)   a mask of −100 is as good as −∞: what it lets through is far below rounding
    """
    rng = np.random.default_rng(seed)
    qkv = rng.standard_normal((batch, *cut.grid, 9 * heads)).astype(dtype)
    rows = (2 * cut.window[0] - 1) * (2 * cut.window[1] - 1)
    table = (0.5 * rng.standard_normal((rows, heads))).astype(dtype)
    truth = oracles.region_attention(
        qkv.astype(np.float64), table.astype(np.float64), cut.window, cut.shift
    )
    entries = function(qkv.copy(), table.copy(), cut.window, cut.shift)
    ours = _shaped("shifted_attention", entries, truth.shape, cut)
    difference = abs(ours - truth).max(axis=-1)  # (B, H, W)
    if not difference.max() <= 4000 * np.finfo(dtype).eps * max(1.0, abs(truth).max()):
        b, r, c = np.unravel_index(difference.argmax(), difference.shape)
        raise AssertionError(
            f"shifted_attention, {_words(cut)}: the token {_token((r, c))} of image {b} differs "
            f"most from attention in its region, by {difference[b, r, c]:.3g}"
        )


# ── words ────────────────────────────────────────────────────────────────────────────────────────


def _shaped(who: str, values: Any, shape: tuple[int, ...], cut: Cut | None) -> np.ndarray:
    """The values with the axes of `shape`, if they are as many and their last axis fits."""
    array = np.asarray(values)
    if array.size != np.prod(shape) or array.shape[-1:] != shape[-1:]:
        where = "" if cut is None else f", {_words(cut)}"
        raise AssertionError(f"{who}{where}: expected {shape} or its groups, got {array.shape}")
    return array.reshape(shape)


def _require_moved(
    who: str, ours: np.ndarray, truth: np.ndarray, shape: tuple[int, ...], cut: Cut
) -> None:
    wrong = np.argwhere(ours != truth)
    if len(wrong):
        first = tuple(wrong[0])
        raise AssertionError(
            f"{who}, {_words(cut)}: at {_place(truth[first], shape)} stands "
            f"{_place(ours[first], shape)}"
        )


def _words(cut: Cut) -> str:
    (H, W), (Mh, Mw), shift = cut
    return f"map {H}×{W}, windows {Mh}×{Mw}, shift {shift}"


def _token(place: Iterable[Any]) -> str:
    return f"({', '.join(str(int(n)) for n in place)})"


def _place(number: float, shape: tuple[int, ...]) -> str:
    """Where a number of a numbered map came from."""
    if not (0 <= number < np.prod(shape) and number == int(number)):
        return f"the number {number:g}, which was not in the map"
    b, r, c, channel = np.unravel_index(int(number), shape)
    return f"the token {_token((r, c))} of image {b}, channel {channel}"
