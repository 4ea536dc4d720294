"""The files of a trace: a manifest in JSON, and the arrays in a form that any language reads.

    manifest.json          what each step is: name, kind, shape, axes, formula, line, inputs, ...
    float64.safetensors    the arrays by name, in float64; float32.safetensors, where it was asked
    float32.safetensors    for, the same pass in float32
    weights.safetensors    where it was asked for: the weights alone, in float32, by the names of
                           another library or of a port

Instead of .safetensors there may be .npz files, or folders of .npy files: one for each array.

A step's value goes by its name, its cotangent by "cotangent/" + name, a weight after the steps of
the optimizer by "after/" + name. The losses of those steps stand in the manifest; another
implementation gives them as an array "losses": before the first step, and after each; behind these,
where the trace keeps a mean of the weights, the losses with that mean after each step.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from minswin import opening
from minswin.crosscheck.recording import Step
from minswin.layers.base import Layer
from minswin.models import create_model
from minswin.models.base import Model
from minswin.replacing import replacing_folder
from minswin.weights.files import read_weights, save_weights

__all__ = ["Trace", "read", "write"]

FORMAT = "minswin trace 1"
MANIFEST = "manifest.json"
WEIGHTS = "weights"
FORMS = ("safetensors", "npz", "npy")
COTANGENT, AFTER, LOSSES = "cotangent/", "after/", "losses"
_WORDS = [field.name for field in fields(Step) if field.name not in ("value", "cotangent")]


@dataclass
class Trace:
    """A pass: what was run, the steps in their order, and the arrays of each dtype by name.

    The steps carry the arrays of the exact pass: float64 where it was recorded.
    """

    header: dict[str, Any]
    steps: dict[str, Step]
    arrays: dict[str, Mapping[str, np.ndarray]] = field(default_factory=dict)  # by dtype
    build: Callable[[Any], Layer] | None = None  # makes the model from a dtype, weights any
    off: dict[str, float] = field(default_factory=dict)  # each array in float32: its largest error

    @property
    def exact(self) -> Mapping[str, np.ndarray]:
        """The arrays of the exact pass."""
        return next(iter(self.arrays.values()))

    @property
    def logits(self) -> str:
        """The step that the loss, which is the last, is taken of."""
        *_, loss = self.steps.values()
        return loss.inputs[0]


def arrays_of(steps: Mapping[str, Step]) -> dict[str, np.ndarray]:
    """The values and cotangents of steps by the names that they have in files."""
    found = {name: np.asarray(step.value, order="C") for name, step in steps.items()}
    for name, step in steps.items():
        if step.cotangent is not None:
            found[COTANGENT + name] = np.asarray(step.cotangent, order="C")
    return found


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def write(
    trace: Trace,
    folder: Path | str,
    *,
    form: str = "safetensors",
    dtypes: Sequence[str] | None = None,
    weights: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write a trace into a new folder; an older trace there is replaced when all is written.

    dtypes: whose arrays are written; all of them, where it is None   weights: written apart too
    """
    if form not in FORMS:
        raise ValueError(f"trace: form must be one of {', '.join(FORMS)}, got {form!r}")
    folder = Path(folder)
    require_free(folder)
    with replacing_folder(folder, who="trace") as temporary:
        written = {d: x for d, x in trace.arrays.items() if dtypes is None or d in dtypes}
        for dtype, arrays in written.items():
            write_arrays(temporary / dtype, arrays, form)
        if weights is not None:
            write_arrays(temporary / WEIGHTS, weights, form)
        entries = [_entry(step, trace) for step in trace.steps.values()]
        manifest = {**trace.header, "form": form, "dtypes": list(written), "steps": entries}
        manifest |= {WEIGHTS + " apart": list(weights)} if weights is not None else {}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")


def require_free(folder: Path | str) -> None:
    """Refuse a folder that is neither new, nor empty, nor a trace and nothing else."""
    folder = Path(folder)
    if not folder.name:
        raise ValueError(f"trace: the folder {folder} cannot be replaced; choose another with -o")
    if not folder.exists():
        return
    ours = _files_of_trace(folder)
    if not folder.is_dir() or (not ours and any(folder.iterdir())):
        raise FileExistsError(
            f"trace: {folder} exists and is no trace; choose another folder with -o"
        )
    found = (file for file in folder.rglob("*") if file.is_symlink() or not file.is_dir())
    others = sorted({file.relative_to(folder).as_posix() for file in found} - ours)
    if others:
        raise FileExistsError(
            f"trace: {folder} holds {others[0]}{', …' if len(others) > 1 else ''}, which no trace "
            "wrote, and would be replaced; choose another folder with -o"
        )


def _files_of_trace(folder: Path) -> set[str]:
    """The files that the manifest in a folder speaks of; none where it is not one of ours."""
    try:
        manifest = json.loads(opening.read_file(folder / MANIFEST, who="trace"))
        if manifest["format"] != FORMAT:
            return set()
        arrays = {name for entry in manifest["steps"] for name in entry["arrays"]}
        stems = {f"{dtype}/{name}" for dtype in manifest["dtypes"] for name in arrays}
        stems |= {f"{WEIGHTS}/{name}" for name in manifest.get(WEIGHTS + " apart", ())}
        files = {f"{x}.{form}" for x in (*manifest["dtypes"], WEIGHTS) for form in FORMS}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {MANIFEST, *files, *(f"{stem}.npy" for stem in stems)}


def write_arrays(stem: Path, arrays: Mapping[str, np.ndarray], form: str) -> None:
    """In one file, stem.npz or stem.safetensors, or in a folder, a .npy file each."""
    if form != "npy":
        save_weights(stem.with_name(f"{stem.name}.{form}"), arrays)
        return
    for name, array in arrays.items():
        file = stem / f"{name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, array)


def _entry(step: Step, trace: Trace) -> dict[str, Any]:
    keys = [prefix + step.name for prefix in ("", COTANGENT, AFTER)]
    return {
        **{word: getattr(step, word) for word in _WORDS},
        "shape": list(step.value.shape),
        "dtype": str(step.value.dtype),
        "arrays": [k for k in keys if any(k in held for held in trace.arrays.values())],
        "off": {key: trace.off[key] for key in keys if key in trace.off},
    }


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def read(folder: Path | str) -> Trace:
    """Read a trace that `write` wrote; its arrays are mapped, not copied, where possible."""
    folder = Path(folder)
    try:
        manifest = json.loads(opening.read_file(folder / MANIFEST, who="compare"))
    except OSError:
        raise FileNotFoundError(
            f"compare: {folder} holds no file {MANIFEST}; expected the folder that 'minswin trace' "
            "wrote"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"compare: {folder / MANIFEST} is no JSON ({error}); write it again"
        ) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(
            f"compare: {folder / MANIFEST} is no '{FORMAT}'; write it again with 'minswin trace'"
        )
    try:
        arrays: dict[str, Mapping[str, np.ndarray]] = {}
        for dtype in manifest["dtypes"]:
            files = (folder / f"{dtype}.{form}" for form in FORMS[:2])
            file = next((file for file in files if file.is_file()), None)
            arrays[dtype] = read_weights(file, prefixes=()) if file else read_npy(folder / dtype)
        exact = next(iter(arrays.values()))
        entries = manifest.pop("steps")
        steps = {}
        for entry in entries:
            words, name = {word: _tuples(entry[word]) for word in _WORDS}, entry["name"]
            cotangent = exact.get(COTANGENT + name)
            steps[name] = Step(**words, value=exact[name], cotangent=cotangent)
        off = {key: x for entry in entries for key, x in entry.get("off", {}).items()}
    except (KeyError, TypeError, StopIteration, AttributeError) as error:
        raise ValueError(
            f"compare: {folder} is incomplete: {error} is missing; write it again"
        ) from None
    build = None  # only a program knows how the model is made again
    if "model" in manifest:
        told = manifest.get("overrides", {}).items()
        build = builder(manifest["model"], {name: ast.literal_eval(text) for name, text in told})
    return Trace(manifest, steps, arrays, build, off)


def builder(model: str, settings: Mapping[str, Any]) -> Callable[[Any], Model]:
    """What makes a named model from a dtype; its weights are any."""
    return lambda dtype: create_model(model, rng=np.random.default_rng(0), dtype=dtype, **settings)


def header_of(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest says of a named model, so that it can be made again."""
    return {"model": model, "overrides": {name: repr(value) for name, value in settings.items()}}


def _tuples(x: Any) -> Any:
    """Lists of JSON as the tuples that they were."""
    if isinstance(x, list):
        return tuple(_tuples(part) for part in x)
    if isinstance(x, dict):
        return {key: _tuples(value) for key, value in x.items()}
    return x


def read_npy(folder: Path) -> dict[str, np.ndarray]:
    """All .npy files below a folder, by their paths without the ending."""
    if not (files := sorted(folder.rglob("*.npy"))):
        raise FileNotFoundError(
            f"compare: {folder} holds no .npy file; expected one for each tensor, such as "
            f"{folder}/head.npy, or give a .npz or .safetensors file itself"
        )
    return {file.relative_to(folder).as_posix().removesuffix(".npy"): _load(file) for file in files}


def load_array(file: Path | str, *, who: str = "compare", **how: Any) -> np.ndarray:
    """The array of a .npy file; an .npz under that name is refused."""
    with opening.open_file(file, who=who) as opened:
        start = opened.read(6)
    if start[:2] == b"PK":
        raise ValueError("it is an .npz, which holds several arrays")
    if start != b"\x93NUMPY":
        raise ValueError(f"it begins with {start!r}, which no .npy file does")
    found: np.ndarray = np.load(file, allow_pickle=False, **how)
    return found


def _load(file: Path) -> np.ndarray:
    try:
        found = load_array(file, mmap_mode="r")
    except (ValueError, EOFError) as error:
        with suppress(ValueError, EOFError):
            if (found := load_array(file)).size == 0:
                return found  # there is nothing to map
        raise ValueError(
            f"compare: {file} cannot be read ({error}); write it again with numpy.save, as an "
            "array of numbers"
        ) from None
    return found.astype(found.dtype.newbyteorder("=")) if not found.dtype.isnative else found
