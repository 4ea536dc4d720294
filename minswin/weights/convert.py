"""Weight files of one kind made into those of another, and what a weight file is."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minswin.models.base import Model
from minswin.weights.families import FAMILIES, MINSWIN
from minswin.weights.families.family import State
from minswin.weights.files import FORMATS, read_file, save_weights
from minswin.weights.load import why_refused
from minswin.weights.recognise import (
    Known,
    blank,
    fitting,
    full_settings,
    recognise,
    settings_of,
)
from minswin.weights.rename import rename
from minswin.weights.state import (
    Source,
    Weights,
    listed,
    read_source,
    require_no_checkpoint,
    weights_of_run,
)

STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")  # counted, not learnt


def convert(
    source: Weights,
    out: Path | str,
    *,
    to: str | None = None,
    model: Model | None = None,
    key: str | None = None,
) -> str:
    """Write the weights of a file to another, whose ending gives its format.

    to: whose names they get, and model: the model they are of, for names that need more than the
    weights tell (see weights.rename); None: names stay as they are   key: see read_weights
    Gives a line about what was done, and one about each thing that the new file does not keep.
    """
    require_no_checkpoint(out, who="convert")
    read = read_source(source, who="convert", key=key)
    arrays, lines = read.arrays, ["names as they were"]
    if to is not None:
        arrays, lines = _renamed(read, to, model)
    metadata, lost = _metadata(read, arrays, out)
    save_weights(out, arrays, metadata=metadata)
    widened = sum(kind == "bfloat16" for kind in read.stored.values())
    if widened:
        lines.append(f"{widened:,} arrays of bfloat16 were widened to float32, without a loss")
    size = f"{len(arrays):,} arrays, {os.path.getsize(out):,} bytes"
    return "\n    ".join([f"{out}: {size}, {lines[0]}", *lines[1:], *lost])


def _renamed(read: Source, to: str, model: Model | None) -> tuple[State, list[str]]:
    """The arrays under other names, whose these are and were, and what was left out."""
    known = recognise(read.arrays)
    if known.unknown:
        raise ValueError(
            f"convert: {read.who}: {known.dialect} has no {listed(known.unknown)} in a "
            f"{known.family}.{FAMILIES[known.family].why_unknown(known.unknown)}"
        )
    arrays = rename({**known.weights, **known.buffers}, MINSWIN, to, model=model)
    lines = [f"names of {to} (were those of {known.dialect})"]
    if known.strays:
        lines.append(f"left out, beside the prefix {known.prefix!r}: {listed(known.strays)}")
    return arrays, lines


def _metadata(
    read: Source, arrays: Mapping[str, np.ndarray], out: Path | str
) -> tuple[dict[str, str], list[str]]:
    """The texts that go with the arrays into a .safetensors file, and what is lost elsewhere."""
    data = read.training_data
    if FORMATS.get(Path(out).suffix) != "safetensors":
        return {}, [] if data is None else [normalisation_lost(data)]
    texts = dict(read.metadata)
    if data is not None and not (read.whole and arrays is read.arrays):
        texts.pop("crc32", None)  # a sum over names and numbers as they were
        texts["minswin"] = json.dumps({"data": data})
    return texts, []


def normalisation_lost(data: Mapping[str, Any]) -> str:
    """What a file of arrays alone leaves out, and what comes of it."""
    return (
        "not kept, since only .safetensors can: how the images of the training were normalised "
        f"({statistics_text(data)}); predict --weights would take ImageNet's"
    )


def statistics_text(data: Mapping[str, Any]) -> str:
    mean, std = (", ".join(f"{x:.4g}" for x in data[key]) for key in ("mean", "std"))
    return f"mean {mean}, std {std}"


def describe(path: Path | str, *, key: str | None = None) -> str:
    """What a weight file is, line by line: size, kinds of numbers, whose names, which model."""
    file = read_file(path, key=key)
    state = weights_of_run(file.arrays)
    source = Source(state, str(path), {}, file.metadata)
    stored = {name: file.stored.get(name, array.dtype.name) for name, array in state.items()}
    lines = [
        ("file", f"{file.format}, {file.size:,} bytes"),
        ("arrays", f"{len(state):,} with {_numbers(state):,} numbers ({_kinds(stored)})"),
    ]
    try:
        lines += _description(known := recognise(state), source.trained_model)
        prefix, strays = known.prefix, known.strays
    except ValueError as error:
        lines.append(("problem", str(error)))
        prefix, strays = "", ()
    under = [f"under {file.wrapper!r}"] if file.wrapper else []
    without = [f"without the prefix {file.prefix + prefix!r}"] if file.prefix + prefix else []
    if under or without:
        lines.insert(2, ("found", ", ".join(under + without)))
    if strays:
        lines.insert(3, ("beside", listed(strays)))
    if file.foreign:
        lines.insert(3, ("foreign", f"{', '.join(file.foreign)}: left alone"))
    data = source.training_data
    if data is not None:
        lines.append(("images", f"of {data.get('name')}, normalised by {statistics_text(data)}"))
    return "\n".join(f"{what:<11} {text}" for what, text in lines)


def _description(
    known: Known, trained: tuple[str, dict[str, Any] | None] | None
) -> Iterator[tuple[str, str]]:
    """Lines about the model that the weights are of; trained: what their run says of it."""
    family, buffers = FAMILIES[known.family], known.buffers
    own = (trained and trained[1]) or {}  # what shapes do not show, such as a stem
    all_of_it = {**known.weights, **(known.unknown if own else {})}
    learnt = {n: x for n, x in all_of_it.items() if not n.endswith(STATISTICS)}
    yield "names", f"of {known.dialect}"
    yield "family", family.paper
    yield "parameters", f"{_numbers(learnt):,}"
    try:
        if buffers:
            known.facts()
            yield "buffers", f"{len(buffers)}, equal to those that minswin computes"
        if trained is not None and own:
            text = ", ".join(f"{k}={_short(k, v)}" for k, v in own.items())
            yield "model", f"{trained[0]} with {text}"
            return
        if known.unknown:
            yield "unknown", listed(known.unknown)
        settings = settings_of(known)
        yield "settings", ", ".join(f"{k}={_short(k, v)}" for k, v in settings.items())
        names, why = _taking(known)
        if why:
            yield "problem", f"load refuses them: {why}"
        else:
            yield "fits", _fits(names, settings.get("num_classes"))
    except ValueError as error:
        yield "problem", str(error)


def _taking(known: Known) -> tuple[list[str], str]:
    """The named models that `load` takes the weights for, or why it takes them for none.

    Where none is of their settings, it is asked about a model that is built with these.
    """
    names = fitting(known)
    models = {name: blank(known, name) for name in names} or {"": blank(known)}
    why = {name: _why_refused(known, model, name) for name, model in models.items()}
    if all(why.values()):
        return [], next(iter(why.values()))
    return [n for n in names if not why[n]], FAMILIES[known.family].no_model(known.weights)


def _why_refused(known: Known, model: Model | None, name: str) -> str:
    """What `load` says against the weights; of a model without a name it is asked for names alone,
    since shapes depend on settings that weights do not tell.
    """
    arrays = {**known.weights, **known.unknown}
    if model is None:
        return f"unexpected: {listed(known.unknown)}" if known.unknown else ""
    heads = (f"{head}.weight" in arrays for head in model.head_names)
    own = {} if name else model.state_dict()
    source = Source({n: own.get(n, x) for n, x in arrays.items()}, "the weights")
    return why_refused(model, source, head="file" if any(heads) else "fresh")


def _fits(names: list[str], classes: int | None) -> str:
    if not names:
        return "no named model; build one with these settings"
    shown = []
    for name in names:
        other = classes is not None and classes != full_settings(name)["num_classes"]
        shown.append(f"{name} with num_classes={classes}" if other else name)
    return ", ".join(shown) + ("" if classes is not None else "; there is no head in the file")


def _numbers(state: Mapping[str, np.ndarray]) -> int:
    return sum(array.size for array in state.values())


def _kinds(stored: Mapping[str, str]) -> str:
    counts = Counter(stored.values())
    return ", ".join(f"{number} of {kind}" for kind, number in counts.most_common())


def _short(name: str, value: object) -> str:
    """A setting; of a square one the side, but (2, 2) stages of depths are no square."""
    of_stages = name in ("depths", "num_heads", "sr_ratios")
    if not of_stages and isinstance(value, tuple) and len(value) == 2 and value[0] == value[1]:
        return str(value[0])
    return str(value) if isinstance(value, str) else str(value).replace(" ", "")
