"""The same numbers written otherwise: axes joined, split or reordered, maps kept as windows.

The original code, and all that follows it, applies qkv and proj to windows, (images · windows,
tokens, channels) after the roll; ours are applied to the map. Others keep channels first. A tensor
is brought to our shape only where it then agrees with ours, or where its neighbours did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import permutations
from math import prod
from typing import Any, NamedTuple

import numpy as np

from minswin.crosscheck.folder import COTANGENT
from minswin.crosscheck.recording import Step
from minswin.reference.windows import window_merge, window_partition

Array = np.ndarray
Pair = tuple[int, int]
Shape = tuple[int, ...]
NEAR = 1e-2  # of the spread, at the farthest element: the same tensor, whatever its rounding
NEAR_IN_HALF = 0.1  # the same for half precision, of the root of the mean square
SAMPLE = 256  # elements that are looked at before all are
NOTE = "put together from windows"


class Windows(NamedTuple):
    """How a layer cuts its map."""

    grid: Pair  # of the padded map
    window: Pair
    shift: Pair
    unpadded: Pair  # the grid of the map without its padding

    @property
    def rolled(self) -> Array:
        """The numbers of the tokens of the map where the roll puts them: (H, W)."""
        H, W = self.grid
        back = [-n for n in self.shift]
        return np.roll(np.arange(H * W).reshape(H, W), back, (0, 1))

    @property
    def tokens(self) -> Array:
        """The numbers of the tokens of the map, window by window: (nW, N)."""
        return window_partition(self.rolled[None, :, :, None], window=self.window)[0][0, :, :, 0]


class Theirs(NamedTuple):
    """A tensor of the other implementation in our shape, and what was done to bring it there."""

    name: str
    array: Array
    note: str = ""


def near(ours: Array, theirs: Array, *, half: bool = False) -> bool:
    """Whether two tensors of one shape are the same but for rounding."""
    return distance(ours, theirs, half=half) <= 1


def distance(
    ours: Array, theirs: Array, *, half: bool = False, spread: float | None = None
) -> float:
    """How far two tensors are apart, in units of what is still near; infinite where it is far.

    spread: the deviation of ours, where it is known already
    """
    if ours.size < 2 or ours.shape != theirs.shape:
        return np.inf
    scale = float(np.std(ours)) if spread is None else spread
    if not scale:
        return np.inf
    at = _sample(ours.shape) if ours.size > SAMPLE else ()
    if at and not _apart(ours[at], theirs[at], scale, half) <= 2:
        return np.inf
    return _apart(ours, theirs, scale, half)


def _apart(a: Array, b: Array, scale: float, half: bool) -> float:
    with np.errstate(all="ignore"):  # theirs may hold anything
        off = np.abs(a - b.astype(np.float64))
    if half:
        return float(np.sqrt(np.mean(off * off))) / (NEAR_IN_HALF * scale)
    return float(np.max(off, initial=0)) / (NEAR * scale)


@cache
def _sample(shape: Shape) -> tuple[Array, ...]:
    return np.unravel_index(np.random.default_rng(0).integers(0, prod(shape), SAMPLE), shape)


# ── axes ─────────────────────────────────────────────────────────────────────────────────────────


def fit(
    ours: Array, theirs: Array, name: str, windows: Windows | None = None, *, half: bool = False
) -> Theirs:
    """Their tensor in our shape where that is possible, else as it is.

    Axes may be joined or split, and the channels of a map come first or last; in another order, or
    from windows, only where the values then agree. windows: of the layer that the tensor is of
    """
    if theirs.shape == ours.shape:
        return Theirs(name, theirs)
    for changed, note in written_otherwise(ours.shape, theirs, windows):
        if near(ours, changed, half=half):
            return Theirs(name, np.ascontiguousarray(changed), note)
    if theirs.size == ours.size and _regrouped(ours.shape, theirs.shape):
        return Theirs(name, theirs.reshape(ours.shape), f"reshaped from {theirs.shape}")
    batches = ours.ndim == 4 and theirs.size == ours.size and len(theirs) == len(ours)
    for axes in ((0, 3, 1, 2), (0, 2, 3, 1)) if batches else ():  # channels first, and last
        order = tuple(ours.shape[a] for a in axes)
        if _regrouped(order, theirs.shape):
            moved = np.ascontiguousarray(theirs.reshape(order).transpose(np.argsort(axes)))
            return Theirs(name, moved, f"from {theirs.shape}, channels moved")
    return Theirs(name, theirs)


def written_otherwise(
    shape: Shape, theirs: Array, windows: Windows | None = None
) -> Iterator[tuple[Array, str]]:
    """All that their tensor may be in our shape, and what was done to it."""
    if theirs.size == prod(shape):
        yield theirs.reshape(shape), f"reshaped from {theirs.shape}"
        for axes in _orders(shape, theirs.shape):
            moved = theirs.reshape([shape[a] for a in axes]).transpose(np.argsort(axes))
            yield moved, f"from {theirs.shape}, equal after transposing to {axes}"
    for rolled in (True, False):
        if windows and (joined := joined_windows(shape, theirs, windows, rolled)) is not None:
            yield joined, NOTE


def may_be(shape: Shape, theirs: Array, windows: Windows | None = None) -> bool:
    """Whether a tensor may be one of ours, by its shape alone."""
    if windows and joined_windows(shape, theirs, windows, True) is not None:
        return True
    same = theirs.size == prod(shape)
    return same and (_regrouped(shape, theirs.shape) or any(_orders(shape, theirs.shape)))


def _orders(shape: Shape, theirs: Shape) -> Iterator[tuple[int, ...]]:
    """Orders of our axes in which their tensor may be written."""
    if len(shape) > 6:
        return
    for axes in permutations(range(len(shape))):
        if axes != tuple(range(len(shape))) and _regrouped(tuple(shape[a] for a in axes), theirs):
            yield axes


def _regrouped(a: Shape, b: Shape) -> bool:
    """Whether one only joins neighbouring axes of the other."""

    def cuts(shape: Shape) -> set[int]:
        return {prod(shape[:i]) for i in range(len(shape) + 1)}

    return cuts(a) <= cuts(b) or cuts(b) <= cuts(a)


# ── windows ──────────────────────────────────────────────────────────────────────────────────────


def windows_of(steps: Mapping[str, Step]) -> dict[str, Windows]:
    """The windows of the layer that a step stands in, by the names of its value and cotangent.

    What its operations were told says it, and for the map without its padding what was padded.
    """
    layers: dict[str, dict[str, Any]] = {}
    for name, step in steps.items():
        told = layers.setdefault(name.rpartition(".")[0], {"shift": (0, 0)})
        if step.op == "pad":
            told["unpadded"] = steps[step.inputs[0]].value.shape[1:3]
        if "window" in step.settings:
            told["grid"] = step.value.shape[1:3]  # of a map, or else what puts it together says it
        told |= step.settings
    found: dict[str, Windows] = {}
    for name in steps:
        told = layers[name.rpartition(".")[0]]
        if "window" in told:
            words = {"unpadded": told["grid"], **told}
            windows = Windows(*(words[word] for word in Windows._fields))
            found |= {name: windows, COTANGENT + name: windows}
    return found


def joined_windows(shape: Shape, theirs: Array, windows: Windows, rolled: bool) -> Array | None:
    """A map that they keep as windows, without its padding; rolled: and rolled back."""
    (H, W), (Mh, Mw) = windows.grid, windows.window
    if len(shape) != 4 or theirs.ndim < 2:
        return None
    B, rows, columns, C = shape
    if theirs.size != B * H * W * C or theirs.shape[-1] != C or rows > H or columns > W:
        return None
    cut = theirs.reshape(B, -1, Mh * Mw, C)
    x, _ = window_merge(cut, window=windows.window, grid=windows.grid)
    return (np.roll(x, windows.shift, (1, 2)) if rolled else x)[:, :rows, :columns]


def as_their_layer(
    ours: Mapping[str, Array],
    theirs: Mapping[str, Array],
    windows: Mapping[str, Windows],
    half: bool,
) -> dict[str, Theirs]:
    """Tensors of our names that they keep as windows, as maps.

    One tensor of a layer that equals ours shows how all tensors of that layer are kept.
    """
    found: dict[str, Theirs] = {}
    names = [n for n in windows if n in ours and n in theirs and ours[n].shape != theirs[n].shape]
    for layer in dict.fromkeys(n.rpartition(".")[0] for n in names):
        for rolled in (True, False):
            mine = [n for n in names if n.rpartition(".")[0] == layer]
            maps = {n: joined_windows(ours[n].shape, theirs[n], windows[n], rolled) for n in mine}
            kept = {n: x for n, x in maps.items() if x is not None}
            if any(near(ours[n], x, half=half) for n, x in kept.items()):
                found |= {n: Theirs(n, np.ascontiguousarray(x), NOTE) for n, x in kept.items()}
                break
    return found


def as_known(ours: Array, theirs: Theirs, windows: Windows | None) -> Theirs:
    """A tensor of a known library in our shape: channels last, or as windows inside the roll."""
    name, x, note = theirs
    if windows and (joined := joined_windows(ours.shape, x, windows, True)) is not None:
        return Theirs(name, np.ascontiguousarray(joined), f"{note}, {NOTE}")
    same = x.size == ours.size and _regrouped(ours.shape, x.shape)
    return Theirs(name, x.reshape(ours.shape), note) if same else theirs
