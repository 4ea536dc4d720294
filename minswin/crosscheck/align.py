"""Whose tensor is whose: theirs beside ours by name, by a map, or by shape and value.

Nothing is transposed in silence. A tensor that equals ours only after a change of its axes is taken
so, and the change is written beside it. A square matrix is turned only where all others are: one
alone is a mistake.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import permutations
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minswin.crosscheck import folder
from minswin.crosscheck.folder import MANIFEST
from minswin.crosscheck.names import Resolved
from minswin.crosscheck.recording import GIVEN
from minswin.weights.files import FORMATS, read_weights

Array = np.ndarray
NEAR = 1e-2  # of the spread: near enough to be the same tensor, whatever its rounding
TURNED = "equal after transposing to (1, 0)"
BY_VALUE = "found by its values"
ONLY = "the only one of this shape"
GRADIENTS = (folder.COTANGENT, folder.AFTER)


class Theirs(NamedTuple):
    """A tensor of the other implementation in our shape, and what was done to bring it there."""

    name: str
    array: Array
    note: str = ""


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def read_theirs(
    path: Path | str, *, dtype: str | None = None, key: str | None = None
) -> dict[str, Array]:
    """Their tensors by name, from a trace folder, a folder of .npy files, or a file of weights.

    key: an entry of the file, see weights.read_weights
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"compare: {path} does not exist; expected a trace, a folder of .npy files, or one of "
            f"{', '.join(FORMATS)}"
        )
    if path.is_file():
        return _numbers(read_weights(path, key=key, prefixes=()))
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


# ── pairing ──────────────────────────────────────────────────────────────────────────────────────


def align(
    ours: Mapping[str, Array], theirs: Mapping[str, Array], names: Resolved | None = None
) -> dict[str, Theirs]:
    """Our names to their tensors: by the map, by equal names, then by shape and value.

    Without a map, what is left of theirs is given to the only value of ours that has its shape.
    Equal names whose sizes differ come last: elsewhere stages may be counted otherwise.
    """
    if names is not None:
        ours = {n: x for n, x in ours.items() if n not in names.ours}
        theirs = {n: x for n, x in theirs.items() if n not in names.theirs}
    given = names.pairs if names is not None else {}
    alike = {n: n for n in ours if n in theirs and n not in given and n not in given.values()}
    misfits = {n for n in alike if theirs[n].size != ours[n].size}
    pairs = {n: t for n, t in {**alike, **given}.items() if n not in misfits}
    found = {n: fit(ours[n], theirs[t], t) for n, t in pairs.items()}
    # an equal name of another layout, such as channels of windows, is no evidence
    found = {n: m for n, m in found.items() if n in given or m.array.shape == ours[n].shape}
    free = {t: a for t, a in theirs.items() if t not in {m.name for m in found.values()}}
    _by_value(ours, found, free)
    _turn_squares(ours, found, free)
    if not given:
        _by_elimination(ours, found, free)
    found |= {n: fit(ours[n], free[n], n) for n in misfits - found.keys() if n in free}
    return {n: found[n] for n in ours if n in found}


def _by_value(ours: Mapping[str, Array], found: dict[str, Theirs], free: dict[str, Array]) -> None:
    by_size: dict[int, list[str]] = {}
    for name, array in free.items():
        by_size.setdefault(array.size, []).append(name)
    for name, array in ours.items():
        if name in found:
            continue
        for candidate in by_size.get(array.size, []):
            fitted = fit(array, free[candidate], candidate)
            if near(array, fitted.array):
                note = ", ".join(filter(None, (BY_VALUE, fitted.note)))
                found[name] = fitted._replace(note=note)
                by_size[array.size].remove(candidate)
                del free[candidate]
                break


def _turn_squares(
    ours: Mapping[str, Array], found: dict[str, Theirs], free: dict[str, Array]
) -> None:
    """Square weights are transposed where all the others came so: it is the way of that library."""
    groups: dict[str, dict[str, Array]] = {}  # weights, their gradients, weights after the steps
    for name, x in ours.items():
        if x.ndim == 2 and name.endswith("weight"):
            groups.setdefault(name.rpartition("/")[0], {})[name] = x
    for matrices in groups.values():
        came = {n: found[n] for n, x in matrices.items() if n in found}
        others = [m.note for n, m in came.items() if _oblong(matrices[n], m.array)]
        if not others or not all(note.endswith(TURNED) for note in others):
            continue
        for name, x in matrices.items():
            unnamed = [Theirs(t, y, BY_VALUE) for t, y in free.items()]
            for match in [came[name]] if name in came else unnamed:
                if near(x, match.array.T) and not near(x, match.array):
                    note = ", ".join(filter(None, (match.note, TURNED)))
                    found[name] = Theirs(match.name, match.array.T, note)
                    free.pop(match.name, None)
                    break


def _oblong(ours: Array, theirs: Array) -> bool:
    return ours.shape == theirs.shape and ours.shape[0] != ours.shape[1]


def _by_elimination(
    ours: Mapping[str, Array], found: dict[str, Theirs], free: dict[str, Array]
) -> None:
    # gradients have the shapes of values, and would be taken
    left = [n for n in ours if n not in found and not n.startswith(GRADIENTS)]
    shapes = Counter(ours[n].shape for n in left)
    for name in left:
        shape = ours[name].shape
        candidates = [t for t, x in free.items() if x.shape == shape]
        if ours[name].size < 2 or shapes[shape] > 1 or not candidates:
            continue
        first, *others = candidates
        if all(np.array_equal(free[first], free[t]) for t in others):  # under several names
            found[name] = Theirs(first, free.pop(first), ONLY)


def undecided(
    truth: folder.Trace,
    ours: Mapping[str, Array],
    aligned: Mapping[str, Theirs],
    unused: Mapping[str, Array],
) -> list[str]:
    """Names of unused tensors that may be wrong ones of ours: what is wrong has the values of none.

    Behind right logits, or a right loss, no value is wrong; of gradients each answers for itself.
    """
    used = [match.array for match in aligned.values()]
    left = {
        name: x
        for name, x in unused.items()
        if x.size > (0 if x.dtype.kind == "f" else 1)  # one whole number counts something
        and not any(_same(x, y) for y in used)
    }
    *_, loss = truth.steps.values()
    ends = [loss.name, folder.LOSSES, *(n for n in loss.inputs if truth.steps[n].op not in GIVEN)]
    if not any(name in aligned for name in ends):
        return list(left)
    learned = [n for n in ours if n.startswith(GRADIENTS) and n not in aligned]
    learned = [n for n in learned if truth.steps[n.partition("/")[2]].op == "parameter"]
    shapes = {tuple(sorted(ours[n].shape)) for n in learned}
    return [n for n, x in left.items() if x.dtype.kind == "f" and tuple(sorted(x.shape)) in shapes]


def _same(x: Array, y: Array) -> bool:
    return x.size == y.size and np.array_equal(x.ravel(), y.ravel())


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
