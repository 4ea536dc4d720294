"""Weights from wherever they are: a file, a dictionary of anything like arrays, another model."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin.weights.files import read_file
from minswin.weights.files.entries import as_array, find_arrays, is_array, nothing_found
from minswin.weights.files.mapped import BadFile

Arrays = Mapping[str, np.ndarray]
Weights = str | os.PathLike[str] | Mapping[str, Any] | Any  # or a model with a state_dict()


class Source(NamedTuple):
    """Arrays by name, how errors call them, and what the file holds beside them."""

    arrays: Arrays
    who: str
    stored: Mapping[str, str] = {}  # kinds of numbers in the file, where they differ
    metadata: Mapping[str, str] = {}
    whole: bool = False  # whether these are all arrays of a file, under the names that it has

    @property
    def training_data(self) -> dict[str, Any] | None:
        """Of weights of `minswin train`: the data they learnt from, and its statistics."""
        try:
            data = json.loads(self.metadata["minswin"])["data"]
            return dict(data) if {"mean", "std", "image", "classes"} <= data.keys() else None
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    @property
    def trained_model(self) -> tuple[str, dict[str, Any] | None] | None:
        """Of weights of `minswin train`: the name of the model, and what else the run set of it."""
        try:
            info = json.loads(self.metadata["minswin"])
            return str(info["model"]["name"]), info["settings"].get("model_settings")
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    @property
    def described(self) -> tuple[str, dict[str, Any]]:
        """Of weights of `minswin train`: the name of the model, and all that it was built with."""
        try:
            model = json.loads(self.metadata["minswin"])["model"]
            return str(model["name"]), dict(model["settings"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ValueError(f"{self.who} tells no model") from None


def read_source(weights: Weights, *, who: str = "load", key: str | None = None) -> Source:
    """The arrays of a file, of a dictionary, or of a model; those of a run without its optimizer.

    key: see read_weights   who: begins the messages of errors
    Raises TypeError for anything else.
    """
    if isinstance(weights, (str, os.PathLike)):
        file = read_file(Path(weights), key=key)
        arrays = weights_of_run(file.arrays)
        whole = arrays is file.arrays and not file.prefix and not key
        return Source(arrays, str(weights), file.stored, file.metadata, whole)
    return Source(weights_of_run(arrays_of(weights, who=who, key=key)), "the weights")


def arrays_of(state: Any, *, who: str, key: str | None = None) -> dict[str, np.ndarray]:
    """NumPy arrays by name, from tensors of any library by name, or from a model that has them."""
    if callable(getattr(state, "state_dict", None)):
        state = state.state_dict()
    if not isinstance(state, Mapping):
        raise TypeError(
            f"{who}: weights must be a file, arrays by name or a model with a state_dict(), got "
            f"{type(state).__name__}"
        )
    try:
        inner, _ = find_arrays(state, key, is_array)
        if not isinstance(inner, Mapping) or not any(map(is_array, inner.values())):
            raise nothing_found(inner, is_array)
    except BadFile as error:
        raise ValueError(f"{who}: the dictionary of weights {error}") from None
    return {name: as_array(x, who=who, name=str(name)) for name, x in inner.items()}


def weights_of_run(state: Arrays) -> Arrays:
    """The weights alone of a checkpoint of `minswin train`; its average where it kept one."""
    if not any(name.startswith("weights/") for name in state):
        return state
    weights: dict[str, np.ndarray] = {}
    for group in ("weights/", "average/"):
        weights.update({n.removeprefix(group): x for n, x in state.items() if n.startswith(group)})
    return weights


def require_no_checkpoint(path: Path | str, *, who: str) -> None:
    """Raise where a checkpoint of `minswin train` lies: without it the run could not go on."""
    try:
        file = read_file(path, prefixes=())
    except (ValueError, OSError):
        return
    if "minswin" in file.metadata and any(name.startswith("weights/") for name in file.arrays):
        raise ValueError(
            f"{who}: {path} is a checkpoint, without which its run could not go on; name another "
            "file"
        )


def listed(names: Collection[str]) -> str:
    """The first names, and how many they are where that is not all of them."""
    more = f", … ({len(names):,})" if len(names) > 5 else ""
    return ", ".join(list(names)[:5]) + more
