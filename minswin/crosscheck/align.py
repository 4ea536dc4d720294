"""Whose tensor is whose: theirs beside ours by name, by a map, or by shape and value.

Nothing is transposed in silence. A tensor that equals ours only after a change of its axes is taken
so, and the change is written beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import permutations
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minswin.crosscheck import folder
from minswin.crosscheck.folder import MANIFEST
from minswin.weights.files import FORMATS, read_weights

Array = np.ndarray
NEAR = 1e-2  # of the spread: near enough to be the same tensor, whatever its rounding


class Theirs(NamedTuple):
    """A tensor of the other implementation in our shape, and what was done to bring it there."""

    name: str
    array: Array
    note: str = ""


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def read_theirs(path: Path | str, *, dtype: str | None = None) -> dict[str, Array]:
    """Their tensors by name, from a trace folder, a folder of .npy files, or a file of weights."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"compare: {path} does not exist; expected a trace, a folder of .npy files, or one of "
            f"{', '.join(FORMATS)}"
        )
    if path.is_file():
        return _numbers(read_weights(path, prefixes=()))
    if not (path / MANIFEST).is_file():
        return _numbers(folder.read_npy(path))
    trace = folder.read(path)
    dtype = dtype or list(trace.arrays)[-1]
    if dtype not in trace.arrays:
        raise ValueError(f"compare: {path} holds {', '.join(trace.arrays)}, not {dtype}")
    return _numbers({**trace.arrays[dtype], **losses_of(trace, dtype)})


def losses_of(trace: folder.Trace, dtype: str) -> dict[str, Array]:
    """The losses before the first optimizer step and after each, as one more array."""
    found = trace.header.get("losses", {}).get(dtype)
    return {folder.LOSSES: np.array(found, np.float64)} if found else {}


def _numbers(arrays: Mapping[str, Array]) -> dict[str, Array]:
    bad = [f"{name} is of {x.dtype}" for name, x in arrays.items() if x.dtype.kind not in "fiub"]
    if bad:
        raise ValueError(
            f"compare: {'; '.join(bad[:3])}{' …' if len(bad) > 3 else ''}; expected real numbers: "
            "leave these tensors out, or convert them"
        )
    return dict(arrays)


def read_names(path: Path | str) -> dict[str, str]:
    """A map of names: JSON {"ours": "theirs"}, or lines "ours = theirs"; # begins a comment."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"compare: the map {path} cannot be read: {error}") from None
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise ValueError(f"compare: the map {path} is no JSON: {error}") from None
    else:
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        pairs = [line.partition("=") for line in lines if line]
        bad = next((left for left, equals, right in pairs if not (equals and right)), None)
        if bad is not None:
            raise ValueError(f"compare: {path}: expected lines 'ours = theirs', got {bad!r}")
        found = {left.strip(): right.strip() for left, _, right in pairs}
    if not all(isinstance(name, str) for pair in found.items() for name in pair):
        raise ValueError(f"compare: {path} must map names to names")
    return found


# ── pairing ──────────────────────────────────────────────────────────────────────────────────────


def align(
    ours: Mapping[str, Array], theirs: Mapping[str, Array], names: Mapping[str, str] | None = None
) -> dict[str, Theirs]:
    """Our names to their tensors: by the map, by equal names, then by shape and value.

    Without a map, what is left of theirs is given to the only value of ours that has its shape.
    """
    names = names or {}
    unknown = [f"{a} = {b}" for a, b in names.items() if a not in ours or b not in theirs]
    if unknown:
        raise ValueError(
            f"compare: the map names what is not there: {'; '.join(unknown[:3])}"
            f"{' …' if len(unknown) > 3 else ''}; ours is left of =, theirs right"
        )
    pairs = {n: names.get(n, n) for n in ours if names.get(n, n) in theirs}
    found = {n: fit(ours[n], theirs[t], t) for n, t in pairs.items()}
    free = {t: a for t, a in theirs.items() if t not in pairs.values()}
    by_size: dict[int, list[str]] = {}
    for name, array in free.items():
        by_size.setdefault(array.size, []).append(name)
    for name, array in ours.items():
        if name in found:
            continue
        for candidate in by_size.get(array.size, []):
            fitted = fit(array, free[candidate], candidate)
            if (
                fitted is not None
                and fitted.array.shape == array.shape
                and near(array, fitted.array)
            ):
                note = ", ".join(filter(None, ("found by its values", fitted.note)))
                found[name] = fitted._replace(note=note)
                by_size[array.size].remove(candidate)
                break
    return found if names else found | _by_elimination(ours, found, by_size, free)


def _by_elimination(
    ours: Mapping[str, Array],
    found: Mapping[str, Theirs],
    by_size: Mapping[int, list[str]],
    free: Mapping[str, Array],
) -> dict[str, Theirs]:
    gradients = (folder.COTANGENT, folder.AFTER)  # have the shapes of values, and would be taken
    left = [n for n in ours if n not in found and not n.startswith(gradients)]
    chosen = {}
    for name in (n for n in left if ours[n].size > 1):
        alike = [n for n in left if ours[n].shape == ours[name].shape]
        candidates = [
            t for t in by_size.get(ours[name].size, []) if free[t].shape == ours[name].shape
        ]
        if len(alike) == len(candidates) == 1:
            chosen[name] = Theirs(candidates[0], free[candidates[0]], "the only one of this shape")
    return chosen


def near(ours: Array, theirs: Array) -> bool:
    """Whether two tensors of one shape are the same but for rounding."""
    if ours.size < 2 or ours.shape != theirs.shape:
        return False
    scale = float(np.std(ours))
    return scale > 0 and float(np.max(np.abs(ours - theirs), initial=0)) <= NEAR * scale


# ── shapes ───────────────────────────────────────────────────────────────────────────────────────


def fit(ours: Array, theirs: Array, name: str) -> Theirs:
    """Their tensor in our shape where that is possible, else as it is.

    Axes may be joined or split; in another order they are only where the values then agree.
    """
    if theirs.shape == ours.shape:
        return Theirs(name, theirs)
    plain = theirs.reshape(ours.shape) if theirs.size == ours.size else None
    if plain is not None and near(ours, plain):
        return Theirs(name, plain, f"reshaped from {theirs.shape}")
    for axes in _orders(ours.shape, theirs):
        changed = _reordered(theirs, ours.shape, axes)
        if near(ours, changed):
            return Theirs(name, changed, f"from {theirs.shape}, equal after transposing to {axes}")
    if plain is not None and _regrouped(ours.shape, theirs.shape):
        return Theirs(name, plain, f"reshaped from {theirs.shape}")
    return Theirs(name, theirs)


def _orders(shape: tuple[int, ...], theirs: Array) -> Iterator[tuple[int, ...]]:
    """Orders of our axes in which their tensor may be written."""
    if theirs.size != prod(shape) or len(shape) > 6:
        return
    for axes in permutations(range(len(shape))):
        if axes != tuple(range(len(shape))):
            moved = tuple(shape[a] for a in axes)
            if _regrouped(moved, theirs.shape):
                yield axes


def _reordered(x: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """x, written in the order `axes` of our axes, in our own order."""
    return x.reshape([shape[a] for a in axes]).transpose(np.argsort(axes))


def _regrouped(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether one only joins neighbouring axes of the other."""

    def cuts(shape: tuple[int, ...]) -> set[int]:
        return {prod(shape[:i]) for i in range(len(shape) + 1)}

    return cuts(a) <= cuts(b) or cuts(b) <= cuts(a)
