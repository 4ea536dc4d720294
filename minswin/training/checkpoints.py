"""Checkpoints: everything that a run needs to continue bit for bit, in one file.

A checkpoint is ONE .safetensors file. Arrays lie under "weights/", "optimizer/" and "average/";
names, settings, position and the state of the random generator are one JSON text in the file's
metadata. One file cannot disagree with itself, and it is replaced in one move (replacing.py): a
kill at any moment leaves the old checkpoint or the new one, never half of either. A check sum over
the JSON text and all arrays finds damage that the format does not. The .json beside it is a copy
for human eyes, never read.

Exported weights are such a file with the weights alone, under their plain names, so that every
reader of the original's names takes them.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minswin.arrays import Array, to_numpy
from minswin.replacing import require_replaceable, write_text
from minswin.weights.files import format_of, read_file, save_weights
from minswin.weights.state import require_no_checkpoint

FORMAT = 1
GROUPS = ("weights", "optimizer", "average")
INFO = {"minswin", "model", "data", "settings"}  # what stands in the .json of every run
LAST, BEST = "last.safetensors", "best.safetensors"
FOLDER = Path(__file__).parent.with_name("pretrained")
DEFAULT = "swin_cifar_small"  # the model of `minswin predict` without a checkpoint


@dataclass
class Checkpoint:
    """The arrays of a run by name, and `info`: what JSON can hold."""

    info: dict[str, Any]
    weights: Mapping[str, Array]
    optimizer: Mapping[str, Array] = field(default_factory=dict)
    average: Mapping[str, Array] = field(default_factory=dict)


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint to `path`, replacing an older one in one move."""
    _save(Path(path), checkpoint.info, _flatten(checkpoint))


def save_exported(path: Path | str, info: dict[str, Any], weights: Mapping[str, Array]) -> None:
    """Write weights alone, under their plain names, and what they are."""
    arrays = {name: np.asarray(to_numpy(x), order="C") for name, x in weights.items()}
    _save(Path(path), info, arrays)


def _save(path: Path, info: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    require_own_info(path, who="save_checkpoint")
    text = json.dumps({"format": FORMAT, **info})
    header = {"minswin": text, "crc32": _check_sum(text, arrays)}
    save_weights(path, arrays, metadata=header)
    write_info(path, info)


def write_info(path: Path, info: dict[str, Any]) -> None:
    """Write what weights are into the .json beside them, for human eyes."""
    text = json.dumps(info, indent=2) + "\n"
    write_text(path.with_suffix(".json"), text, who="save_checkpoint")


def require_own_info(path: Path, *, who: str) -> None:
    """Raise where the .json beside `path`, which nobody has named, is another's.

    Beside weights of ours it is ours, damaged or not: no run ends because of its copy of them.
    """
    beside = path.with_suffix(".json")
    if not os.path.lexists(beside):
        return
    if not _is_free(beside) and not _is_ours(path):
        raise FileExistsError(
            f"{who}: {path} would have what it is in {beside} beside it, and that file holds "
            "something else; move it away, or choose another name"
        )


def _is_free(beside: Path) -> bool:
    """Whether nothing lies in a .json, as after a full disk, or what a run wrote of itself."""
    with suppress(OSError, ValueError, RecursionError):
        text = beside.read_bytes() if beside.is_file() else b"null"
        told = json.loads(text) if text else dict.fromkeys(INFO)
        return isinstance(told, dict) and INFO <= told.keys()
    return False


def _is_ours(path: Path) -> bool:
    """Whether a checkpoint or exported weights lie there."""
    try:
        return "minswin" in read_file(path, prefixes=()).metadata
    except (ValueError, OSError):
        return False


def _flatten(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    return {
        f"{group}/{name}": np.asarray(to_numpy(array), order="C")
        for group in GROUPS
        for name, array in getattr(checkpoint, group).items()
    }


def _check_sum(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    total = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        total = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), total)
        total = zlib.crc32(array.reshape(-1).view(np.uint8).data, total)
    return f"{total:08x}"


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read and verify a checkpoint; for a folder, its last one."""
    path = find_run(path)
    if not path.exists():
        below = sorted(path.parent.glob(f"*/{LAST}"))
        near = f"; did you mean {below[0].parent}?" if below else ""
        raise FileNotFoundError(
            f"read_checkpoint: there is no checkpoint {path}; expected a file that 'minswin train' "
            f"wrote, or a folder with {LAST} in it{near}"
        )
    try:
        file = read_file(path, prefixes=())
    except ValueError as error:
        raise ValueError(
            f"read_checkpoint: {path} ({path.stat().st_size:,} bytes) is not a readable "
            f"safetensors file ({error}); it is cut off or damaged: use another checkpoint"
        ) from error
    arrays = {name: array.copy() for name, array in file.arrays.items()}  # whole in memory
    return _assemble(_verified(path, file.metadata, arrays), arrays)


def _verified(
    path: Path, header: Mapping[str, str], arrays: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    if "minswin" not in header or "crc32" not in header:
        raise ValueError(
            f"read_checkpoint: {path} holds {len(arrays)} arrays but no training state; it is "
            "not a checkpoint of 'minswin train'. 'minswin info' says which model takes such a "
            "file; give both with --model and --weights, or to minswin.create_model"
        )
    if header["crc32"] != _check_sum(header["minswin"], arrays):
        raise ValueError(
            f"read_checkpoint: {path} is damaged: its check sum is not {header['crc32']}; "
            "use another checkpoint of the run"
        )
    info: dict[str, Any] = json.loads(header["minswin"])
    if info.pop("format") != FORMAT:
        raise ValueError(
            f"read_checkpoint: {path} was written in another format than {FORMAT}, by minswin "
            f"{info.get('minswin', '(unknown)')}; use that version"
        )
    return info


def _assemble(info: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Checkpoint:
    if not any(name.startswith("weights/") for name in arrays):
        return Checkpoint(info, arrays)  # exported
    groups: dict[str, dict[str, np.ndarray]] = {group: {} for group in GROUPS}
    for name, array in arrays.items():
        group, _, rest = name.partition("/")
        groups[group][rest] = array
    return Checkpoint(info, **groups)


def find_run(path: Path | str) -> Path:
    """The file to continue from: `path` itself, or the last checkpoint of a run's folder."""
    path = Path(path)
    return path / LAST if path.is_dir() else path


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────


def is_run(path: Path | str) -> bool:
    """Whether this is the folder of a run."""
    return any((Path(path) / name).is_file() for name in (BEST, LAST))


def describe_run(folder: Path | str) -> str:
    """What the run in a folder trains, on what, how far it is and how good: line by line."""
    last = read_checkpoint(find_run(folder))
    info, settings, trained_on = last.info, last.info["settings"], last.info["data"]
    size = "×".join(map(str, trained_on["image"][1:]))
    count = sum(array.size for array in last.weights.values())
    done = f"{info['epoch']} of {settings['epochs']} epochs, {info['step']:,} steps"
    over = info["epoch"] >= settings["epochs"]
    evaluated = "held-out" if settings["holdout"] else "test"
    best = info["best_accuracy"]
    rows = {
        "run": str(folder),
        "model": f"{info['model']['name']}, {size}, {count:,} parameters and statistics",
        "data": f"{trained_on['images']:,} images of {trained_on['name']}",
        "classes": f"{len(trained_on['classes'])}: {', '.join(trained_on['classes'])}",
        "trained": f"{done}; {'over' if over else f'minswin train --resume {folder} goes on'}",
        "accuracy": "none yet" if best is None else f"{best:.1%} of the {evaluated} images at best",
        "settings": ", ".join(
            f"{k}={_short(v)}" for k, v in settings.items() if v not in (None, "")
        ),
        "saved": f"{info['saved']}, by minswin {info['minswin']}, kernels '{info['kernels']}'",
    }
    return "\n".join(f"{name:10}  {value}" for name, value in rows.items())


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# ── models ───────────────────────────────────────────────────────────────────────────────────────


def pretrained() -> dict[str, Path]:
    """The weights that come with the package, by name; a model card lies beside each."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}


def find_trained(name: Path | str) -> Path:
    """The file to classify with: a file, the best checkpoint of a run's folder, or of the package.

    What is on disk comes first.
    """
    path = Path(name)
    if not path.exists() and str(name) in pretrained():
        return pretrained()[str(name)]
    best = path / BEST
    return best if best.is_file() else path / LAST if path.is_dir() else path


def load_trained_model(path: Path | str) -> tuple[Any, dict[str, Any]]:
    """The model of a checkpoint, ready to classify, and the checkpoint's info.

    path: a file, the folder of a run, or a name of `pretrained()`
    Where the run kept an average of the weights, the model gets the average.
    """
    from minswin.models import create_model

    checkpoint = read_checkpoint(find_trained(path))
    described = checkpoint.info["model"]
    model = create_model(described["name"], rng=np.random.default_rng(0), **described["settings"])
    model.load_state_dict({**checkpoint.weights, **checkpoint.average})
    model.eval()
    return model, checkpoint.info


def require_same_model(checkpoint: Checkpoint, model: Any, path: Path | str) -> None:
    """Raise unless the checkpoint's model has the name and the settings of `model`."""
    saved = checkpoint.info["model"]
    if saved["name"] != model.name:
        raise ValueError(
            f"checkpoint {path} is of the model '{saved['name']}', but the model is "
            f"'{model.name}'; create '{saved['name']}' or use another checkpoint"
        )
    ours = json.loads(json.dumps(model.settings))
    names = saved["settings"].keys() | ours.keys()
    other = [n for n in sorted(names) if saved["settings"].get(n) != ours.get(n)]
    if other:
        n = other[0]
        raise ValueError(
            f"checkpoint {path} is of a '{model.name}' with {n}={saved['settings'].get(n)}, but "
            f"the model has {n}={ours.get(n)}; create it with the settings of the checkpoint"
        )


def export(run: Path | str, out: Path | str) -> dict[str, Any]:
    """Write what classifying needs of a checkpoint, and no more: float16 weights, and what it is.

    Returns the latter, which stands in the .json beside the weights.

    out: .safetensors, .npz or .pth (.pt); the first also holds what `minswin evaluate` needs, of
    the others that stands in the .json beside them. The weights have the original's names.
    Where the run kept an average of the weights, the average is taken. Integers, such as the
    count of batches that a batch norm keeps, stay as they are.
    """
    out, form = Path(out), format_of(out, who="export")
    trained = find_trained(run)
    for file in (out, out.with_suffix(".json")):
        require_replaceable(file, who="export", besides=(trained,))
    require_no_checkpoint(out, who="export")
    require_own_info(out, who="export")
    checkpoint = read_checkpoint(trained)
    weights = {**checkpoint.weights, **checkpoint.average}
    real = {name: array for name, array in weights.items() if array.dtype.kind == "f"}
    too_large = [name for name, array in real.items() if not np.abs(array).max() < 65_504]
    if too_large:
        raise ValueError(
            f"export: {too_large[0]} of {run} holds numbers beyond the range of float16; keep the "
            "checkpoint as it is"
        )
    halved = {**weights, **{name: array.astype(np.float16) for name, array in real.items()}}
    settings = _without_folders(checkpoint.info["settings"])
    info = {**checkpoint.info, "settings": settings, "folder": None}
    if form == "safetensors":
        save_exported(out, info, halved)
    else:
        save_weights(out, halved)
        write_info(out, info)
    return info


def _without_folders(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run without the places of this machine; of pictures the folder's name."""
    names = {key: Path(settings[key]).name for key in ("data", "weights") if settings.get(key)}
    return {**settings, **names, "data_dir": None, "teacher": None, "out": ""}
