"""Weights of any known implementation into a model: renamed, checked, and adapted if so asked."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from minswin.arguments import Pair
from minswin.layers import Layer
from minswin.layers.embeddings import RelativePositionBias
from minswin.layers.loading import fitting_arrays, left_out
from minswin.layers.windows import WindowAttention
from minswin.layers.windows_v2 import WindowAttentionV2
from minswin.models import create_model
from minswin.models.base import Model
from minswin.models.blank import BLANK
from minswin.weights.families import FAMILIES, family_of
from minswin.weights.families.family import BIAS_TABLE, State
from minswin.weights.recognise import Known, fitting, recognise, shared_beginning
from minswin.weights.resize import (
    RULES,
    choose_rows,
    read_rows,
    resize_positions,
    resize_table,
)
from minswin.weights.state import Source, Weights, listed, read_source

Head = str | Path | Sequence[int] | np.ndarray
Tell = Callable[[str], None]
Sizes = Mapping[str, Pair]


def load(
    model: str | Model,
    weights: Weights,
    *,
    key: str | None = None,
    head: Head = "file",
    resize: str | None = None,
    tell: Tell | None = None,
    **settings: Any,
) -> Model:
    """A model with the weights of a file, under whatever names the file has them.

    model: a name, which is built with `settings` (see create_model), or a model that exists
    weights: a file, arrays or tensors by name, or a model of torch or of minswin
    key: the entry of a training checkpoint, or what the names wanted begin with; see read_weights
    head: "file", as it is there; "fresh": the model's own random one, for other classes;
    row numbers, or a text file of them: these rows of the file's head, one for each class
    resize: how bias tables and position embeddings are brought to the model's size where that is
    another: "original" or "timm"; None: then they do not fit. What they are of is told by buffers
    of the file, or by `minswin train`; else they are those of squares
    tell: is called with a line on each thing that was not taken as it was; without it, there is a
    warning about arrays that were left out
    Nothing is changed unless all fits; the error counts what is missing, unexpected, misshapen.
    """
    if resize is not None and resize not in RULES:
        raise ValueError(f"load: resize must be one of {', '.join(RULES)}, got {resize!r}")
    source = read_source(weights, key=key)
    if isinstance(model, str):
        model = create_model(model, **settings)
    elif not isinstance(model, Layer):
        raise TypeError(
            f"load: model must be a name or a model of minswin, got {type(model).__name__}"
        )
    elif settings:
        raise ValueError(f"load: {', '.join(settings)} are for a model that is built by name")
    return load_source(model, source, head=head, resize=resize, tell=tell)


def load_source(
    model: Model,
    source: Source,
    *,
    head: Head = "file",
    resize: str | None = None,
    tell: Tell | None = None,
) -> Model:
    """Like `load`, with weights that have been read."""
    weights = _taken(model, source, head=head, resize=resize, tell=tell)
    without = left_out(model.named_parameters(), weights)
    model.load_state_dict({**weights, **{n: np.zeros_like(weights[n]) for n in without}})
    if without:
        line = f"left out, since the model is built without it: {listed(without)}"
        (tell or partial(_warn, source, 2))(line)
    return model


def why_refused(model: Model, source: Source, *, head: Head = "file") -> str:
    """What `load` says against these weights for a model, which may be blank; "" if nothing."""
    try:
        _taken(model, source, head=head, resize=None, tell=lambda line: None)
    except ValueError as error:
        return str(error).removeprefix(f"load: {source.who}: ")
    return ""


def _taken(
    model: Model, source: Source, *, head: Head, resize: str | None, tell: Tell | None
) -> State:
    """The weights as a model takes them; raises where it does not."""
    weights, sizes = _in_names_of(model, source, tell, resized=resize is not None)
    tell = tell or (lambda line: None)
    weights = _with_head(weights, model, head, tell)
    if resize is not None:
        try:
            weights = _resized(weights, model, resize, {**_sizes_of_run(source), **sizes}, tell)
        except ValueError as error:
            raise ValueError(f"load: {source.who}: {error}") from None
    try:
        fitting_arrays(model, weights)
    except ValueError as error:
        raise ValueError(f"load: {source.who}: {error}{_advice(weights, model, source)}") from None
    return weights


# ── names ────────────────────────────────────────────────────────────────────────────────────────


def in_our_names(source: Source) -> Known:
    """The weights under our names; their buffers were compared with ours."""
    try:
        known = recognise(source.arrays)
        known.facts()
    except ValueError as error:
        raise ValueError(f"load: {source.who}: {error}") from None
    return known


def _in_names_of(
    model: Model, source: Source, tell: Tell | None, *, resized: bool
) -> tuple[State, Sizes]:
    """The weights under the names of a model; unknown ones keep theirs, and will not fit.

    And what windows and grids the buffers beside them are of.
    """
    state, wanted = dict(source.arrays), model.state_dict().keys()
    prefix = ""
    while state.keys() != wanted and (first := shared_beginning(state)):
        if not all(name.startswith(first) for name in state):
            break
        prefix += first
        state = {name.removeprefix(first): x for name, x in state.items()}
    if state.keys() == wanted:
        _tell_names(prefix, (), source, tell)
        return state, {}
    known = in_our_names(source)
    family = family_of(model)
    if family is not None and family.name != known.family:
        raise ValueError(
            f"load: {source.who} holds a {FAMILIES[known.family].paper} (names of "
            f"{known.dialect}), but {model.name} is a {family.paper}; {_which_fits(known)}"
        )
    _tell_names(known.prefix, known.strays, source, tell)
    sizes: Sizes = {}
    if family is not None:
        facts = known.facts()
        sizes = family.sizes(known.weights, facts)
        for line in family.otherwise(model, known.buffers, facts, resized):
            (tell or partial(_warn, source, 4))(line)
    return {**known.weights, **known.unknown}, sizes


def _tell_names(prefix: str, strays: Sequence[str], source: Source, tell: Tell | None) -> None:
    if prefix and tell is not None:
        tell(f"names: without the prefix {prefix!r}")
    if strays:
        line = f"left out, beside the prefix {prefix!r}: {listed(strays)}"
        (tell or partial(_warn, source, 5))(line)


def _warn(source: Source, depth: int, line: str) -> None:
    """Warn whoever called `load`, which lies so many calls above."""
    warnings.warn(f"load: {source.who}: {line}", stacklevel=depth + 2)


def _which_fits(known: Known) -> str:
    try:
        names = fitting(known)
    except ValueError:
        names = []
    return f"it fits {', '.join(names)}" if names else "build a model of that family"


# ── heads and sizes ──────────────────────────────────────────────────────────────────────────────


def _with_head(weights: State, model: Model, head: Head, tell: Tell) -> State:
    if isinstance(head, str) and head == "file":
        return weights
    current = model.state_dict()
    names = [n for n in current if n.rpartition(".")[0] in model.head_names]
    classes = len(current[names[0]])
    if isinstance(head, str) and head == "fresh":
        tell(f"head: fresh random weights for {classes:,} classes")
        return {**weights, **{name: current[name] for name in names}}
    if isinstance(head, str) and not Path(head).exists():
        raise ValueError(
            "load: head must be 'file', 'fresh', row numbers or a text file of them; "
            f"there is no file {head}"
        )
    rows = read_rows(head) if isinstance(head, (str, Path)) else np.asarray(head)
    tell(f"head: {rows.size:,} rows of the file's")
    return {
        **weights,
        **{name: choose_rows(weights[name], rows) for name in names if name in weights},
    }


def _resized(weights: State, model: Model, rule: str, sizes: Sizes, tell: Tell) -> State:
    """The same with tables and positions of the model's sizes; sizes: those of the file by name."""
    out = dict(weights)
    for name, size, extra in _sized(model):
        x = weights.get(name)
        if x is None:
            continue
        table, old = name.endswith(BIAS_TABLE), sizes.get(name)
        rows = (len(x) if table else x.shape[1]) - extra
        wanted = (2 * size[0] - 1) * (2 * size[1] - 1) if table else size[0] * size[1]
        resize: Callable[..., np.ndarray] = resize_table if table else resize_positions
        if old is None and rows != wanted:
            _require_square(name, rows, rule, resize.__name__)
        if (old or size) != size or rows != wanted:
            out[name] = resize(x, size, rule=rule, old=old, extra=extra)
            tell(f"{name}: {x.shape} became {out[name].shape}, as {rule} does")
    return out


def _require_square(name: str, rows: int, rule: str, by: str) -> None:
    if isqrt(rows) ** 2 == rows:
        return
    pairs = [(n, rows // n) for n in range(1, isqrt(rows) + 1) if rows % n == 0]
    if by == "resize_table":
        pairs = [((a + 1) // 2, (b + 1) // 2) for a, b in pairs if a % 2 and b % 2]
    of = " or ".join(f"{a}×{b}, {b}×{a}" for a, b in reversed(pairs[-2:])) or "nothing"
    raise ValueError(
        f"{name} has {rows:,} places, which are of no square: of {of}? The file does not tell; "
        f"bring it to the model's size by minswin.weights.resize.{by}(…, rule={rule!r}, "
        "old=(rows, columns)), and give load the arrays"
    )


def _sizes_of_run(source: Source) -> Sizes:
    """Windows and grids of the model that a run of `minswin train` had; none of other files."""
    try:
        name, settings = source.described
        model = create_model(name, **{**settings, "rng": BLANK})
    except (TypeError, ValueError):  # not told, or of a version with other models
        return {}
    return {name: size for name, size, _ in _sized(model)}


def _sized(model: Model) -> Iterator[tuple[str, Pair, int]]:
    """Window or grid, and rows without a place, of every table and position of a model, by name."""
    yield from _tables(model)
    current = model.state_dict()
    for name in model.position_names:
        if name in current:
            yield name, *_grid(model, current[name])


def _tables(model: Layer) -> Iterator[tuple[str, tuple[int, int], int]]:
    """Name, window and rows without a place of every table of position biases."""
    for path, layer in model.named_layers():
        name = f"{path}.{BIAS_TABLE}"
        if isinstance(layer, WindowAttention) and not isinstance(layer, WindowAttentionV2):
            yield name, layer.window, 0
        elif isinstance(layer, RelativePositionBias):
            yield name, layer.grid, 3 if layer.extra else 0


def _grid(model: Any, positions: np.ndarray) -> tuple[tuple[int, int], int]:
    """The model's grid of patches, and the tokens beside it."""
    (H, W), (ph, pw) = model.img_size, model.patch_size
    grid = H // ph, W // pw
    return grid, positions.shape[1] - grid[0] * grid[1]


def _advice(weights: State, model: Model, source: Source) -> str:
    """What would make weights fit that do not."""
    current, family = model.state_dict(), family_of(model)
    if family is None:
        return ""
    misfit = [n for n in current if n in weights and np.shape(weights[n]) != current[n].shape]
    advice = family.why_unknown([name for name in weights if name not in current])
    if any(name.rpartition(".")[0] in model.head_names for name in misfit):
        advice += " For other classes: num_classes= as in the file, or head='fresh'."
    sized = (*model.position_names, BIAS_TABLE)
    if any(name.rpartition(".")[2] in sized for name in misfit):
        advice += " For another size: resize='original' or 'timm'."
    heads = [head for head in model.head_names if f"{head}.weight" in weights]
    if 0 < len(heads) < len(model.head_names):
        advice += (
            f" The file has one head, {heads[0]}, as transformers' DeiTForImageClassification; "
            "this model answers with two: save it as …WithTeacher, or train new ones "
            "(head='fresh')."
        )
    if re.search(r"-\d+-of-\d+\.", source.who):
        advice += " It is one of several files: give their folder, or their index (.index.json)."
    return advice
