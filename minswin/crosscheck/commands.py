"""What `minswin trace` and `minswin compare` do, between command line and library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin import kernels
from minswin.arguments import settings_in, whole
from minswin.autograd import Tensor, no_grad
from minswin.crosscheck import folder, recipe
from minswin.crosscheck.align import read_theirs
from minswin.crosscheck.compare import Comparison, compare
from minswin.crosscheck.diagnose import SECONDS, Diagnosis, diagnose
from minswin.crosscheck.html import page_of
from minswin.crosscheck.names import draft, read_names, weight_names
from minswin.crosscheck.onnx import tensors_of
from minswin.crosscheck.results import data_of, json_of, report
from minswin.crosscheck.trace import record_pass, trace
from minswin.layers.base import Layer
from minswin.replacing import require_replaceable, require_replaceable_folder, write_text
from minswin.weights.families import DIALECTS, MINSWIN
from minswin.weights.load import load
from minswin.weights.rename import rename


def run_trace(
    model: str,
    out: Path | str,
    *,
    weights: str | None = None,
    key: str | None = None,
    image: str | None = None,
    batch: int = 2,
    overrides: Sequence[str] = (),
    form: str = "safetensors",
    float32: bool = False,
    weights_to: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
    **settings: Any,
) -> folder.Trace:
    """Trace a named model into the folder `out`.

    weights: a file, or None for those of the recipe   key: its entry, see weights.load
    image: an array of images in a .npy file, or None for those of the recipe
    overrides: "depths=(2, 1)" and the like, for create_model
    float32: write the pass in float32 too   weights_to: write the weights apart in float32, by the
    names of a library, of minswin, or of a map's file   settings: see crosscheck.trace.trace
    """
    folder.require_free(out)
    require_replaceable_folder(out, who="trace")
    changes = settings_in("trace", overrides)
    make = folder.builder(model, changes)

    def build(dtype: Any) -> Layer:
        return make(dtype) if weights is None else load(make(dtype), weights, key=key, tell=tell)

    example = build(np.dtype("float32"))
    state = None if weights is None else example.state_dict()
    apart = None
    if weights_to is not None:
        if state is None:
            example.load_state_dict(recipe.weights_of(example))
        apart = _weights_to(weights_to, example.state_dict(), example)
    for name, array in (state or {}).items():
        _require_finite(f"{weights}: {name}", array)
    x = _images(image, example, batch)
    with no_grad(), kernels.using("reference"):
        classes = int(example.eval()(Tensor(x[:1].astype(np.float32))).shape[1])
    header = {
        **folder.header_of(model, changes),
        "weights": "recipe" if weights is None else Path(weights).name,
        "input": "recipe" if image is None else Path(image).name,
        "classes": classes,
    }
    labels = recipe.labels(len(x), classes)
    found = trace(build, x, labels, weights=state, header=header, tell=tell, **settings)
    dtypes = None if float32 else list(found.arrays)[:1]
    folder.write(found, out, form=form, dtypes=dtypes, weights=apart)
    return found


def _weights_to(whose: str, state: Mapping[str, np.ndarray], model: Any) -> dict[str, np.ndarray]:
    """The weights in float32, by the names of a library or of a map."""
    single = {n: np.asarray(x, np.float32) if x.dtype.kind == "f" else x for n, x in state.items()}
    if whose == MINSWIN:
        return single
    if whose in DIALECTS:
        return dict(rename(single, MINSWIN, whose, model=model))
    if not Path(whose).is_file():
        raise ValueError(
            f"trace: --weights-to is {whose!r}, expected {MINSWIN}, {', '.join(DIALECTS)}, or the "
            "file of a map"
        )
    names = weight_names(read_names(whose), single)
    missing = [n for n in single if n not in names]
    if missing:
        raise ValueError(
            f"trace: the map {whose} does not say what {len(missing)} of {len(single)} weights are "
            f"called: {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}"
        )
    return {names[n]: x for n, x in single.items()}


def run_names(model: str, *, overrides: Sequence[str] = ()) -> str:
    """A table of all tensors of a trace of one image: name, shape, axes and formula."""
    built = folder.builder(model, settings_in("trace", overrides))(np.float32).eval()
    x = _images(None, built, 1).astype(np.float32)
    with kernels.using("reference"):
        steps = record_pass(built, x, recipe.labels(1, 1), grad=False).steps
    return "\n".join(
        f"{name:44} {'×'.join(map(str, step.value.shape)) or 'number':>14}  "
        f"{', '.join(step.axes)}{'   ' + step.formula if step.formula else ''}".rstrip()
        for name, step in steps.items()
    )


def _images(file: str | None, model: Any, batch: int) -> np.ndarray:
    if file is None:
        batch = whole("trace", "batch", batch)
        return recipe.images(batch, 3, tuple(getattr(model, "img_size", (32, 32))))
    try:
        x = folder.load_array(file, who="trace")
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"trace: {file} cannot be read ({error}); write it with numpy.save"
        ) from None
    if x.ndim == 3:
        x = x[None]
    if x.ndim != 4 or x.dtype.kind != "f" or not len(x):
        raise ValueError(
            f"trace: {file} must hold one floating-point image or more, (B, 3, H, W), got "
            f"{x.dtype} {x.shape}"
        )
    _require_finite(file, x)
    return x


def _require_finite(what: str, x: np.ndarray) -> None:
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        bad = int(np.count_nonzero(~np.isfinite(x)))
        raise ValueError(
            f"trace: {what} holds {bad:,} numbers that are NaN or infinite; nothing can be held "
            "against what follows from them"
        )


def run_compare(
    truth: Path | str,
    theirs: Path | str,
    *,
    names: Path | str | None = None,
    every: bool = False,
    dtype: str | None = None,
    key: str | None = None,
    seconds: float = SECONDS,
    draft_map: bool = False,
    json: Path | str | None = None,
    html: Path | str | None = None,
    command: str = "",
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[str, bool]:
    """Compare with a trace, and diagnose the first divergence: the text, and if all is right.

    It is not where tensors that could be wrong were not found among ours. seconds: of CPU time
    that the search for the cause may take. draft_map: instead of the report, the lines of a map.
    json, html: files that are written too. command: what makes this again, for the report.
    """
    for file, other in ((json, html), (html, json)):
        if file is not None:
            target = require_replaceable(file, who="compare", besides=(theirs, names, other))
            for place in (truth, theirs):  # whose files are a trace, or a port's
                if Path(place).resolve() in target.parents and target.exists():
                    raise ValueError(
                        f"compare: {file} is a file of {place} and would be lost; name another"
                    )
    trace_of_ours = folder.read(truth)
    if dtype is not None and not (Path(theirs) / folder.MANIFEST).is_file():
        raise ValueError(
            f"compare: --dtype chooses among the arrays of a trace, and {theirs} is none; "
            "leave it out"
        )
    _require_same_pass(trace_of_ours, Path(theirs))
    given = read_names(names) if names is not None else None
    if Path(theirs).suffix == ".onnx":
        arrays = tensors_of(theirs, np.asarray(trace_of_ours.steps["image"].value))
    else:
        arrays = read_theirs(theirs, dtype=dtype, key=key)
    comparison = compare(trace_of_ours, arrays, given, seconds=seconds, tell=tell)
    if draft_map:
        pairs = {n: match.name for n, match in comparison.given.items()}
        return "\n".join(draft(pairs, trace_of_ours.exact, arrays)), True
    found = checked(
        trace_of_ours, comparison, seconds=seconds, every=every, command=command, tell=tell
    )
    for file, form in ((json, json_of), (html, page_of)):
        if file is not None:
            write_text(file, form(found.data), who="compare")
    return found.text, found.passed


class Checked(NamedTuple):
    """What a check found; printed, it is the report of `minswin compare`."""

    text: str
    passed: bool
    comparison: Comparison
    diagnosis: Diagnosis | None
    data: dict[str, Any]  # see results.py

    def __str__(self) -> str:
        return self.text

    def write(self, file: Path | str) -> None:
        """Write a page for a browser, or JSON where the name ends with .json."""
        form = json_of if str(file).endswith(".json") else page_of
        write_text(file, form(self.data), who="check")


def checked(
    truth: folder.Trace,
    comparison: Comparison,
    *,
    seconds: float = SECONDS,
    every: bool = False,
    command: str = "",
    tell: Callable[[str], None] = lambda line: None,
) -> Checked:
    """Diagnose a comparison, and say all of it. command: what makes it again"""
    found = diagnose(truth, comparison, seconds=seconds, tell=tell)
    data = data_of(truth, comparison, found, command)
    return Checked(report(data, every=every), comparison.passed, comparison, found, data)


def _require_same_pass(ours: folder.Trace, theirs: Path) -> None:
    """Two traces must be of one model, with one kind of weights and input, trained alike."""
    if not (theirs / folder.MANIFEST).is_file():
        return
    a, b = _options(ours), _options(folder.read(theirs))
    for word in a:
        if word == "optimizer" and None in (a[word], b[word]):
            continue  # the steps are missing in one of them
        if a[word] != b[word]:
            raise ValueError(
                f"compare: the traces are of two passes: {word} is {a[word]!r} in the truth, "
                f"{b[word]!r} in {theirs}; trace both with the same options"
            )


def _options(trace: folder.Trace) -> dict[str, Any]:
    words = ("model", "overrides", "weights", "input", "optimizer")
    shapes = {name: step.value.shape for name, step in trace.steps.items() if step.op == "input"}
    return {word: trace.header.get(word) for word in words} | {"the shape of its inputs": shapes}
