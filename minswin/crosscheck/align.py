"""Whose tensor is whose: theirs beside ours by name, by a map, or by shape and value.

Nothing is transposed in silence. A tensor that equals ours only after a change of its axes is taken
so, and the change is written beside it. A square matrix is turned only where all others are: one
alone is a mistake.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minswin.crosscheck import folder
from minswin.crosscheck.folder import MANIFEST
from minswin.crosscheck.layouts import (
    NOTE,
    Theirs,
    Windows,
    as_known,
    as_their_layer,
    distance,
    fit,
    may_be,
    near,
    windows_of,
    written_otherwise,
)
from minswin.crosscheck.names import Resolved
from minswin.crosscheck.recording import GIVEN
from minswin.weights.files import FORMATS, read_weights

Array = np.ndarray
TURNED = "equal after transposing to (1, 0)"
BY_VALUE = "found by its values"
ONLY = "the only one of this shape"
OF_LAYER = "the output of this layer"
BY_WEIGHTS = "found by its layer's weights"
GUESSED = (ONLY, OF_LAYER, BY_WEIGHTS)  # its values were not asked
GRADIENTS = (folder.COTANGENT, folder.AFTER)
MOST = 10  # nine of ten steps are in front of what was paired: then little is open
GRADIENT = re.compile(r"(^|[/._])(cotangent|after|grad)", re.I)  # in a name of theirs


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
    if not path.is_dir():
        return _numbers(read_weights(path, key=key, prefixes=()))
    if not (path / MANIFEST).is_file():
        return _numbers(folder.read_npy(path))
    trace = folder.read(path)
    dtype = dtype or list(trace.arrays)[-1]
    if dtype not in trace.arrays:
        raise ValueError(f"compare: {path} holds {', '.join(trace.arrays)}, not {dtype}")
    return _numbers({**trace.arrays[dtype], **losses_of(trace, dtype)})


def losses_of(trace: folder.Trace, dtype: str = "") -> dict[str, Array]:
    """The losses before the first optimizer step and after each, as one more array.

    dtype: of which pass; "" for the exact one
    """
    found = trace.header.get("losses", {}).get(dtype or next(iter(trace.arrays)))
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
    ours: Mapping[str, Array],
    theirs: Mapping[str, Array],
    names: Resolved | None = None,
    windows: Mapping[str, Windows] | None = None,
    *,
    known: Collection[str] = (),
    layers: Mapping[str, str] | None = None,
    half: bool = False,
) -> dict[str, Theirs]:
    """Our names to their tensors: by the map, by equal names, then by shape and value.

    What is left of theirs is the output of a layer of ours if it has that layer's weights, under
    the name of the tensor and a dot; or its name, and the shape of what it gives. Without a map,
    what is left then is given to the only value that has its shape.
    Equal names whose sizes differ come last: elsewhere stages may be counted otherwise. windows: of
    the layer, by our names   known: names of weights and inputs, which only values tell: what has
    their shape may be a gradient   layers: theirs to ours, of a known library   half: theirs are
    in half precision
    """
    every = list(ours)
    if names is not None:
        ours = {n: x for n, x in ours.items() if n not in names.ours}
        theirs = {n: x for n, x in theirs.items() if n not in names.theirs}
    given, windows = (names.pairs if names is not None else {}), windows or {}
    alike = {n: n for n in ours if n in theirs and n not in given and n not in given.values()}
    misfits = {n for n in alike if theirs[n].size != ours[n].size}
    pairs = {n: t for n, t in {**alike, **given}.items() if n not in misfits}
    found = {n: fit(ours[n], theirs[t], t, windows.get(n), half=half) for n, t in pairs.items()}
    # an equal name of another layout, such as channels of windows, is no evidence
    found = {n: m for n, m in found.items() if n in given or m.array.shape == ours[n].shape}
    found |= as_their_layer(ours, {n: theirs[n] for n in alike}, windows, half)
    free = {t: a for t, a in theirs.items() if t not in {m.name for m in found.values()}}
    _by_value(ours, found, free, windows, half)
    _turn_squares(ours, found, free)
    _by_weights(ours, theirs, found, free, known, windows, half)
    _by_layer(ours, found, free, _steps(every, set(known)), layers or {}, windows)
    if not given:
        _by_elimination({n: x for n, x in ours.items() if n not in known}, found, free)
    left = (
        n for n in misfits - found.keys() if n in free and not _is_of_one_token(ours[n], free[n])
    )
    found |= {n: fit(ours[n], free[n], n) for n in left}
    return {n: found[n] for n in ours if n in found}


def _by_value(
    ours: Mapping[str, Array],
    found: dict[str, Theirs],
    free: dict[str, Array],
    windows: Mapping[str, Windows],
    half: bool,
) -> None:
    """The nearest pairs first: rounded to half precision, one tensor may be near to several."""
    near_ones = []
    for name, array in ours.items():
        if name in found:
            continue
        spread = float(np.std(array)) if array.size > 1 else 0.0
        for candidate, theirs in free.items():
            padded = name in windows and array.ndim == 4 and theirs.size > array.size
            if theirs.size != array.size and not padded:
                continue
            as_it_is = [(theirs, "")] if theirs.shape == array.shape else []
            otherwise = written_otherwise(array.shape, theirs, windows.get(name))
            for changed, note in as_it_is or otherwise:
                if (off := distance(array, changed, half=half, spread=spread)) <= 1:
                    near_ones.append((off, name, candidate, changed, note))
                    break
    for _, name, candidate, array, note in sorted(near_ones, key=lambda pair: pair[0]):
        if name not in found and candidate in free:
            said = ", ".join(filter(None, (BY_VALUE, note)))
            found[name] = Theirs(candidate, np.ascontiguousarray(array), said)
            del free[candidate]


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


def _by_weights(
    ours: Mapping[str, Array],
    theirs: Mapping[str, Array],
    found: dict[str, Theirs],
    free: dict[str, Array],
    known: Collection[str],
    windows: Mapping[str, Windows],
    half: bool,
) -> None:
    """Each layer's output by its weights, where it has all of ours and no other.

    What has another first axis is kept as windows, or otherwise, and what is smaller may be of the
    class token alone: only values tell it. So with layers that have the same weights. But where no
    value of theirs is near to ours any more, the first layer of another size is what is wrong.
    """
    misfits: dict[str, str] = {}  # our layers, and theirs, of which the output has another size
    times = Counter(_begin(ours[n]) for n in known if n in ours)
    inside: dict[str, set[str]] = {}  # our layers, and theirs: the weights directly in them
    for name in (*known, *theirs):
        inside.setdefault(name.rpartition(".")[0], set()).add(name)
    for name, x in ours.items():
        weights = inside.get(name, set()) & set(known)
        came = {found[n].name for n in weights if n in found}
        layers = {t.rpartition(".")[0] for t in came}
        if name in found or len(came) != len(weights) or len(layers) != 1:
            continue
        if all(times[_begin(ours[n])] > 1 for n in weights):
            continue
        (layer,) = layers
        if layer not in free or came != inside[layer]:
            continue
        y, told = free[layer], BY_WEIGHTS
        if y.ndim == 3 and y.shape != x.shape == y.swapaxes(0, 1).shape:
            y, told = y.swapaxes(0, 1), f"{BY_WEIGHTS}, tokens in front of images"
        if (y.shape[:1], y.size) == (x.shape[:1], x.size):
            match = fit(x, y, layer)
            found[name] = match._replace(note=", ".join(filter(None, (told, match.note))))
            del free[layer]
        elif y.size != x.size and name not in windows and not _is_of_one_token(x, y):
            misfits[name] = layer
    for name in _behind_what_is_near(ours, found, known, half):
        if name in misfits and name not in found:
            layer = misfits[name]
            found[name] = Theirs(layer, free.pop(layer), BY_WEIGHTS)
        if name in found:
            return


def _is_of_one_token(x: Array, y: Array) -> bool:
    """Whether it may be right: behind the last attention the class token alone is needed."""
    return x.ndim == 3 and y.size * x.shape[1] == x.size and y.shape[:: y.ndim - 1] == x.shape[::2]


def _behind_what_is_near(
    ours: Mapping[str, Array], found: Mapping[str, Theirs], known: Collection[str], half: bool
) -> list[str]:
    """Our values of images behind the last one that theirs are near to."""
    images = ours["image"].shape[:1] if "image" in ours else None
    values = [n for n in ours if n not in known and not n.startswith(GRADIENTS)]
    values = [n for n in values if ours[n].shape[:1] == images]
    good = [n for n in values if n in found and near(ours[n], found[n].array, half=half)]
    return values[values.index(good[-1]) + 1 if good else 0 :]


def _begin(x: Array) -> tuple[int, bytes]:
    return x.size, x.ravel()[:8].tobytes()


def _steps(ours: Iterable[str], known: set[str]) -> dict[str, list[str]]:
    """What is inside each layer, in order."""
    steps: dict[str, list[str]] = {}
    for name in ours:
        if name.removeprefix(folder.COTANGENT) in known or name.startswith(folder.AFTER):
            continue
        for i, letter in enumerate(name):
            if letter == ".":
                steps.setdefault(name[:i], []).append(name)
    return steps


def _by_layer(
    ours: Mapping[str, Array],
    found: dict[str, Theirs],
    free: dict[str, Array],
    steps: Mapping[str, list[str]],
    layers: Mapping[str, str],
    windows: Mapping[str, Windows],
) -> None:
    """A step has a name inside its layer where the layer has several: the last is its output.

    steps: of each layer of ours, also those that are not compared
    layers: of theirs, under other names; these keep what is inside the roll as windows. Where
    several of a layer do, and none has our values, their roll may be another: they are left out.
    """
    matches: list[tuple[str, Theirs]] = []  # by our names
    for called in [t for t in free if layers.get(t, t) in steps.keys() | layers.values()]:
        layer = layers.get(called, called)
        name = layer if layer in ours else steps.get(layer, [layer])[-1]
        if name not in ours:
            continue
        match = Theirs(called, free[called], OF_LAYER)
        if called in layers and match.array.shape != ours[name].shape:
            match = as_known(ours[name], match, windows.get(name))
        matches.append((name, match))
    joined = Counter(n.rpartition(".")[0] for n, m in matches if NOTE in m.note)
    sure = {n.rpartition(".")[0] for n, m in found.items() if NOTE in m.note}
    for name, match in matches:
        layer = name.rpartition(".")[0]
        copies = (m.array for m in found.values() if m.array.shape == match.array.shape)
        # of a layer with one step, as of an equal name, another shape is wrong
        one = len(steps.get(layers.get(match.name, match.name), ())) == 1
        one &= not _is_of_one_token(ours[name], match.array)
        fits = match.array.shape == ours[name].shape or one
        unsure = NOTE in match.note and joined[layer] > 1 and layer not in sure
        if name in found or unsure or not fits:
            continue
        if not any(np.array_equal(match.array, x) for x in copies):
            found[name] = match
            del free[match.name]


def _by_elimination(
    ours: Mapping[str, Array], found: dict[str, Theirs], free: dict[str, Array]
) -> None:
    # gradients have the shapes of values, and would be taken; so have those of theirs
    left = [n for n in ours if n not in found and not n.startswith(GRADIENTS)]
    shapes = Counter(ours[n].shape for n in left)
    for name in left:
        shape = ours[name].shape
        candidates = [t for t, x in free.items() if x.shape == shape and not GRADIENT.search(t)]
        if ours[name].size < 2 or shapes[shape] > 1 or not candidates:
            continue
        first, *others = candidates
        if all(np.array_equal(free[first], free[t]) for t in others):  # under several names
            found[name] = Theirs(first, free.pop(first), ONLY)


def without_copies(
    rest: Mapping[str, Array],
    used: Iterable[tuple[Array, Windows | None]],
    weights: Iterable[Array] = (),
) -> list[str]:
    """The names of what has not the very numbers of a tensor that was paired, in any shape.

    Dropout that is off, a residual without dropped paths and the like hand on what they got; others
    put windows together, move the channels, or go on with one token. used: as they came and as they
    were paired, with the windows of their layer   weights: ours, which may be cut, as queries from
    keys
    """
    known = [(y, windows, _ends(y)) for y, windows in used]
    left = [n for n, x in rest.items() if not any(_is_copy(x, *y) for y in known)]
    whole = list(weights)
    return [n for n in left if not any(_is_piece(rest[n], y) for y in whole)]


def _is_piece(x: Array, y: Array) -> bool:
    if not 1 < x.size < y.size or x.dtype.kind != "f":
        return False
    some = x.ravel()[[0, -1]]
    return some[0] != some[1] and all(v in y for v in some) and bool(np.isin(x, y).all())


def _ends(x: Array) -> tuple[Any, ...]:
    """What no other order of the numbers changes."""
    return x.size, *(f.reduce(x, axis=None, initial=None) for f in (np.fmin, np.fmax) if x.size)


def _is_copy(x: Array, y: Array, windows: Windows | None, ends: tuple[Any, ...]) -> bool:
    if x.size < 2:
        return False
    if x.size < y.size:  # of one token
        fits = y.ndim == x.ndim + 1 > 2 and y.shape[:1] + y.shape[2:] == x.shape
        return fits and any(np.array_equal(x, y[:, i]) for i in (0, -1))
    if x.size == y.size and _ends(x) != ends:
        return False
    others = (other for other, _ in written_otherwise(y.shape, x, windows))
    return any(np.array_equal(y, other, equal_nan=y.dtype.kind == "f") for other in others)


def undecided(
    truth: folder.Trace,
    ours: Mapping[str, Array],
    aligned: Mapping[str, Theirs],
    unused: Mapping[str, Array],
) -> list[str]:
    """Names of unused tensors that may be wrong ones of ours: what is wrong has the values of none.

    In front of what is right no value is wrong, so a tensor may be one of those behind it, by its
    shape; of gradients each answers for itself.
    """
    windows, behind = windows_of(truth.steps), _behind(truth, aligned)
    learned = [n for n in ours if n.startswith(GRADIENTS) and n not in aligned]
    learned = [n for n in learned if truth.steps[n.partition("/")[2]].op == "parameter"]
    shapes = {tuple(sorted(ours[n].shape)) for n in learned}

    def may_be_wrong(x: Array) -> bool:
        if x.size <= (0 if x.dtype.kind == "f" else 1):  # one whole number counts something
            return False
        early = MOST * len(behind) > len(truth.steps)  # a wrong one may have any shape then
        if early or any(may_be(ours[n].shape, x, windows.get(n)) for n in behind):
            return True
        return x.dtype.kind == "f" and tuple(sorted(x.shape)) in shapes

    return [name for name, x in unused.items() if may_be_wrong(x)]


def _behind(truth: folder.Trace, aligned: Mapping[str, Theirs]) -> list[str]:
    """The steps that no paired tensor was made of."""
    steps = truth.steps
    paired = [n for n in aligned if n in steps]
    if folder.LOSSES in aligned or truth.logits in aligned:
        paired.append(next(reversed(steps)))  # the loss
    front = set(paired)
    while paired:
        inputs = [n for n in steps[paired.pop()].inputs if n not in front]
        front.update(inputs)
        paired += inputs
    return [n for n, step in steps.items() if n not in front and step.op not in GIVEN]
