"""Weights of any known implementation into a model: renamed, checked, and adapted if so asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minswin.layers import Layer
from minswin.layers.embeddings import RelativePositionBias
from minswin.layers.windows import WindowAttention
from minswin.layers.windows_v2 import WindowAttentionV2
from minswin.models import create_model
from minswin.models.base import Model
from minswin.weights.families import family_of
from minswin.weights.families.family import State
from minswin.weights.recognise import recognise
from minswin.weights.resize import (
    RULES,
    choose_rows,
    read_rows,
    resize_positions,
    resize_table,
)

Source = Path | str | Mapping[str, np.ndarray]
Head = str | Path | Sequence[int] | np.ndarray


def load(
    model: str | Model,
    weights: Source,
    *,
    head: Head = "file",
    resize: str | None = None,
    tell: Callable[[str], None] | None = None,
    **settings: Any,
) -> Model:
    """A model with the weights of a file, under whatever names the file has them.

    model: a name, which is built with `settings` (see create_model), or a model that exists
    weights: a file, or arrays by name
    head: "file", as it is there; "fresh": the model's own random one, for other classes;
    row numbers, or a text file of them: these rows of the file's head, one for each class
    resize: how bias tables and position embeddings are brought to the model's size where that is
    another: "original" or "timm"; None: then they do not fit
    tell: is called with a line on each thing that was not taken as it was
    Nothing is changed unless all fits; the error counts what is missing, unexpected, misshapen.
    """
    if resize is not None and resize not in RULES:
        raise ValueError(f"load: resize must be one of {', '.join(RULES)}, got {resize!r}")
    tell = tell or (lambda line: None)
    state, who = read(weights)
    if isinstance(model, str):
        model = create_model(model, **settings)
    elif settings:
        raise ValueError(f"load: {', '.join(settings)} are for a model that is built by name")
    ours = state.keys() == model.state_dict().keys()
    own = dict(state) if ours else in_our_names(state, who)
    own = _with_head(own, model, head, tell)
    if resize is not None:
        own = _resized(own, model, resize, tell)
    try:
        model.load_state_dict(own)
    except ValueError as error:
        raise ValueError(f"load: {who}: {error}{_advice(own, model)}") from None
    return model


def read(weights: Source, key: str | None = None) -> tuple[Mapping[str, np.ndarray], str]:
    """The arrays by name, and what to call them in errors; key: see read_weights."""
    if isinstance(weights, Mapping):
        return weights, "the given weights"
    from minswin.weights.files import read_weights

    return weights_of_run(read_weights(weights, key=key)), str(weights)


def weights_of_run(state: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """The weights alone of a checkpoint of `minswin train`; its average where it kept one."""
    if not any(name.startswith("weights/") for name in state):
        return state
    found: State = {}
    for group in ("weights/", "average/"):
        found.update({n.removeprefix(group): x for n, x in state.items() if n.startswith(group)})
    return found


def in_our_names(state: Mapping[str, np.ndarray], who: str = "the given weights") -> State:
    """The weights under our names; what nobody knows keeps its name, and will not fit."""
    try:
        known = recognise(state)
        known.facts()
    except ValueError as error:
        raise ValueError(f"load: {who}: {error}") from None
    return {**known.weights, **{name: state[name] for name in known.unknown}}


# ── heads and sizes ──────────────────────────────────────────────────────────────────────────────


def _with_head(own: State, model: Model, head: Head, tell: Callable[[str], None]) -> State:
    if isinstance(head, str) and head == "file":
        return own
    mine = model.state_dict()
    names = [n for n in mine if n.rpartition(".")[0] in family_of(model).heads]
    classes = len(mine[names[0]])
    if isinstance(head, str) and head == "fresh":
        tell(f"head: fresh random weights for {classes:,} classes")
        return {**own, **{name: mine[name] for name in names}}
    if isinstance(head, str) and not Path(head).is_file():
        raise ValueError(
            "load: head must be 'file', 'fresh', row numbers or a text file of them; "
            f"there is no file {head}"
        )
    rows = read_rows(head) if isinstance(head, (str, Path)) else np.asarray(head)
    tell(f"head: {rows.size:,} rows of the file's")
    return {**own, **{name: choose_rows(own[name], rows) for name in names if name in own}}


def _resized(own: State, model: Model, rule: str, tell: Callable[[str], None]) -> State:
    """The same with tables and positions of the model's sizes."""
    mine, out = model.state_dict(), dict(own)
    for name, window, extra in _tables(model):
        if name in own and own[name].shape != mine[name].shape:
            out[name] = resize_table(own[name], window, rule=rule, extra=extra)
    for name in family_of(model).positions:
        if name in own and name in mine and own[name].shape != mine[name].shape:
            grid, extra = _grid(model, mine[name])
            out[name] = resize_positions(own[name], grid, rule=rule, extra=extra)
    for name in out:
        if out[name] is not own[name]:
            tell(f"{name}: {own[name].shape} became {out[name].shape}, as {rule} does")
    return out


def _tables(model: Layer) -> Iterator[tuple[str, tuple[int, int], int]]:
    """Name, window and rows without a place of every table of position biases."""
    for path, layer in model.named_layers():
        name = f"{path}.relative_position_bias_table"
        if isinstance(layer, WindowAttention) and not isinstance(layer, WindowAttentionV2):
            yield name, layer.window, 0
        elif isinstance(layer, RelativePositionBias):
            yield name, layer.grid, 3 if layer.extra else 0


def _grid(model: Any, positions: np.ndarray) -> tuple[tuple[int, int], int]:
    """The model's grid of patches, and the tokens beside it."""
    (H, W), (ph, pw) = model.img_size, model.patch_size
    grid = H // ph, W // pw
    return grid, positions.shape[1] - grid[0] * grid[1]


def _advice(own: State, model: Model) -> str:
    """What would make weights fit that do not."""
    mine = model.state_dict()
    misfit = [n for n in mine if n in own and np.shape(own[n]) != mine[n].shape]
    said = ""
    if any(name.rpartition(".")[0] in family_of(model).heads for name in misfit):
        said += " For other classes: num_classes= as in the file, or head='fresh'."
    sized = (*family_of(model).positions, "relative_position_bias_table")
    if any(name.rpartition(".")[2] in sized for name in misfit):
        said += " For another size: resize='original' or 'timm'."
    return said
