"""The probes as files for any language, and the answers of any language as files.

    FOLDER/manifest.json                        every probe: call, arrays, settings, outputs, aim
    FOLDER/probes/window_attention/padded/      x.npy, qkv.weight.npy, …; shapes.txt for C
    FOLDER/expected/window_attention/padded/    y.npy: what should come out, in float64

Forms: npy, npz, safetensors, or raw (.f32, .f64, .i64: the numbers alone, little-endian, C order).
Floating inputs are float32 and exact: widen them. Answers go to ANSWERS/window_attention/padded/ as
y.npy, y.f32 or y.f64, or all together in one answers.npz or answers.safetensors.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minswin.crosscheck.adapter import FUNCTIONS
from minswin.crosscheck.folder import load_array, write_arrays
from minswin.crosscheck.probes import Probe, is_arrays, pack, selected
from minswin.replacing import replacing_folder
from minswin.weights.files import read_weights

FORMAT = "minswin probes 1"
MANIFEST, SHAPES = "manifest.json", "shapes.txt"
FORMS = ("npy", "npz", "safetensors", "raw")
RAW = {".f32": "<f4", ".f64": "<f8", ".i32": "<i4", ".i64": "<i8"}
TOGETHER = ("answers.npz", "answers.safetensors")


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def write_pack(
    folder: Path | str, *, form: str = "npy", only: Sequence[str] = ()
) -> tuple[int, int]:
    """Write the probes into a new folder, or over an older pack; gives their number and bytes."""
    if form not in FORMS:
        raise ValueError(f"conform: --form must be one of {', '.join(FORMS)}, got {form!r}")
    folder, probes = Path(folder), selected(only)
    if folder.exists() and not (folder.is_dir() and _is_ours(folder)):
        raise FileExistsError(
            f"conform: {folder} exists and holds no probes, or other files too; choose a new folder"
        )
    with replacing_folder(folder, who="conform") as temporary:
        for probe in probes:
            inputs = {name: stored(x) for name, x in probe.arrays().items()}
            own = temporary / "probes" / probe.name
            _write_arrays(own, "inputs", inputs, form)
            (own / SHAPES).write_text(shapes(probe, inputs), "utf-8")
            _write_arrays(temporary / "expected" / probe.name, "answers", probe.expected, form)
        manifest = {"format": FORMAT, "form": form, "probes": [entry(p) for p in probes]}
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        (temporary / MANIFEST).write_text(text, "utf-8")
    return len(probes), sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def _is_ours(folder: Path) -> bool:
    """Whether a folder is empty, or a pack and nothing else: it will be replaced."""
    file, names = folder / MANIFEST, {path.name for path in folder.iterdir()}
    return not names or (
        file.is_file()
        and FORMAT in file.read_text("utf-8", errors="replace")[:200]
        and names <= {MANIFEST, "probes", "expected"}
    )


def entry(probe: Probe) -> dict[str, Any]:
    """What the manifest says of a probe."""
    return {
        "name": probe.name,
        "call": f"{probe.function}({', '.join(probe.arguments)})",
        "gives": FUNCTIONS[probe.function].gives,
        "aim": probe.aim,
        "threads": list(probe.threads),
        "arguments": {name: _described(value) for name, value in probe.arguments.items()},
        "outputs": {name: {"shape": list(y.shape)} for name, y in probe.expected.items()},
        "terms": probe.length * probe.condition,
    }


def _described(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"shape": list(value.shape), "dtype": stored(value).dtype.name}
    if is_arrays(value):
        return {name: _described(inner) for name, inner in value.items()}
    return {"value": value}


def stored(x: np.ndarray) -> np.ndarray:
    """An input as its file holds it."""
    return np.ascontiguousarray(x, "<f4" if x.dtype.kind == "f" else "<i8").reshape(x.shape)


def shapes(probe: Probe, inputs: Mapping[str, np.ndarray]) -> str:
    """Lines for a language without JSON: name, kind, number of numbers, numbers.

    Arrays and outputs are followed by their shapes, settings of numbers by their values.
    """

    def line(name: str, kind: str, numbers: Sequence[Any]) -> str:
        return " ".join([name, kind, str(len(numbers)), *(f"{n:.17g}" for n in numbers)])

    lines = [line(n, x.dtype.name, x.shape) for n, x in inputs.items()]
    for name, value in probe.settings().items():
        numbers = value if isinstance(value, (tuple, list)) else (value,)
        if all(isinstance(n, (int, float, bool)) for n in numbers):
            lines.append(line(name, "setting", numbers))
    lines += [line(n, "output", y.shape) for n, y in probe.expected.items()]
    return "\n".join(lines) + "\n"


def _write_arrays(own: Path, stem: str, arrays: Mapping[str, np.ndarray], form: str) -> None:
    own.mkdir(parents=True)
    if form != "raw":
        if arrays:
            write_arrays(own if form == "npy" else own / stem, arrays, form)
        return
    for name, x in arrays.items():
        kind = x.dtype.newbyteorder("<")
        ending = next(e for e, raw in RAW.items() if np.dtype(raw) == kind)
        (own / f"{name}{ending}").write_bytes(x.astype(kind).tobytes())


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def _names_of(output: str) -> list[str]:
    """The files in which an output may be."""
    return [output + ending for ending in (".npy", *RAW)]


def read_answers(folder: Path, probe: Probe) -> dict[str, Any]:
    """The answers to a probe by name; for one that cannot be read the error that says why."""
    own = folder / probe.name
    found: dict[str, Any] = {}
    for file in (own / name for name in TOGETHER):
        if file.is_file():
            try:
                found.update(read_weights(file, prefixes=()))
            except (ValueError, OSError) as error:
                found.update(dict.fromkeys(probe.expected, error))
    for name, truth in probe.expected.items():
        for file in (own / each for each in _names_of(name)):
            if file.is_file():
                found[name] = _read(file, truth.shape)
    return {name: x for name, x in found.items() if name in probe.expected}


def _read(file: Path, shape: tuple[int, ...]) -> Any:
    try:
        return load_array(file) if file.suffix == ".npy" else _read_raw(file, shape)
    except (ValueError, EOFError, OSError) as error:
        return ValueError(f"{file.name} cannot be read: {error}")


def _read_raw(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    data, kind = file.read_bytes(), np.dtype(RAW[file.suffix])
    expected = int(np.prod(shape)) * kind.itemsize
    if len(data) != expected:
        cut = "is cut off" if len(data) < expected else "is too long"
        raise ValueError(f"it {cut}: {len(data):,} bytes, expected {expected:,} for {shape}")
    return np.frombuffer(data, kind).reshape(shape)


def unmatched(folder: Path) -> list[str]:
    """Notes on files in a folder of answers that belong to no probe."""
    names = {p.name: p for p in pack()}
    notes = []
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        asked, known = file.parent.relative_to(folder).as_posix(), list(names)
        if probe := names.get(asked):
            asked, known = file.stem, list(probe.expected)
            if file.name in (*TOGETHER, *(n for output in known for n in _names_of(output))):
                continue
        near = difflib.get_close_matches(asked, known, 1, 0.5)
        advice = f"; did you mean {near[0]}?" if near else ""
        notes.append(f"{file.relative_to(folder)} is the answer to no probe{advice}")
    return notes if len(notes) <= 12 else [*notes[:12], f"and {len(notes) - 12} such files more"]
