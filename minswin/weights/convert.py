"""Weight files of one kind made into those of another, and what a weight file is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from minswin.models.base import Model
from minswin.weights.families import FAMILIES
from minswin.weights.files import read_file, save_weights
from minswin.weights.load import read, weights_of_run
from minswin.weights.recognise import fitting, full_settings, recognise, settings_of
from minswin.weights.rename import rename

STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")  # nobody learns them


def convert(
    source: Path | str,
    out: Path | str,
    *,
    to: str | None = None,
    model: Model | None = None,
    key: str | None = None,
) -> str:
    """Write the weights of a file to another, whose ending says its format.

    to: whose names they get, and model: the model they are of, for names that need more than the
    weights tell (see weights.rename); None: they keep their own   key: see read_weights
    Gives a line that says what was done.
    """
    state, _ = read(source, key)
    if to is None:
        save_weights(out, dict(state))
        return f"{out}: {len(state):,} arrays, {os.path.getsize(out):,} bytes, names as they were"
    known = recognise(state)
    renamed = rename(state, known.dialect, to, model=model)
    save_weights(out, renamed)
    size = f"{len(renamed):,} arrays, {os.path.getsize(out):,} bytes"
    return f"{out}: {size}, names of {to} (were those of {known.dialect})"


def describe(path: Path | str, *, key: str | None = None) -> str:
    """What a weight file is, line by line: size, kinds of numbers, whose names, which model."""
    file = read_file(path, key=key)
    state = weights_of_run(file.arrays)
    stored = {name: file.stored.get(name, array.dtype.name) for name, array in state.items()}
    lines = [
        ("file", f"{file.format}, {os.path.getsize(path):,} bytes"),
        ("arrays", f"{len(state):,} with {_numbers(state):,} numbers ({_kinds(stored)})"),
    ]
    under = [f"under {file.wrapper!r}"] if file.wrapper else []
    without = [f"without the prefix {file.prefix!r}"] if file.prefix else []
    if under or without:
        lines.append(("found", ", ".join(under + without)))
    if file.foreign:
        lines.append(("foreign", f"{', '.join(file.foreign)}: left alone"))
    try:
        known = recognise(state)
        buffers = known.buffers
        lines.append(("names", f"of {known.dialect}"))
        lines.append(("family", FAMILIES[known.family].paper))
        learnt = {n: x for n, x in known.weights.items() if not n.endswith(STATISTICS)}
        lines.append(("parameters", f"{_numbers(learnt):,}"))
        if buffers:
            known.facts()
            lines.append(("buffers", f"{len(buffers)}, equal to those that minswin computes"))
        if known.unknown:
            lines.append(("unknown", ", ".join(known.unknown)))
        own = settings_of(known)
        lines.append(("settings", ", ".join(f"{k}={_short(v)}" for k, v in own.items())))
        lines.append(("fits", _fits(fitting(known), own.get("num_classes"))))
    except ValueError as error:
        lines.append(("problem", str(error)))
    return "\n".join(f"{what:<11} {said}" for what, said in lines)


def _fits(names: list[str], classes: int | None) -> str:
    if not names:
        return "no named model; build one with these settings"
    said = []
    for name in names:
        other = classes is not None and classes != full_settings(name)["num_classes"]
        said.append(f"{name} with num_classes={classes}" if other else name)
    return ", ".join(said) + ("" if classes is not None else "; there is no head in the file")


def _numbers(state: Mapping[str, np.ndarray]) -> int:
    return sum(array.size for array in state.values())


def _kinds(stored: Mapping[str, str]) -> str:
    counts = Counter(stored.values())
    return ", ".join(f"{number} of {kind}" for kind, number in counts.most_common())


def _short(value: object) -> str:
    if isinstance(value, tuple) and len(value) == 2 and value[0] == value[1]:
        return str(value[0])
    return str(value).replace(" ", "")
