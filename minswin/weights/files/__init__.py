"""Reads weights from a file of any known format and writes them; torch is not needed for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from minswin import opening
from minswin.arrays import Array
from minswin.replacing import replacing
from minswin.weights.files.archive import Archive
from minswin.weights.files.entries import as_array, entry, is_index, read_index
from minswin.weights.files.mapped import STORED, BadFile, MappedFile, short
from minswin.weights.files.npz import is_npz, read_npz, write_npz
from minswin.weights.files.safetensors import (
    looks_like_safetensors,
    read_safetensors,
    write_safetensors,
)
from minswin.weights.files.torch_read import (
    find_state,
    is_torch,
    is_torch_legacy,
    load_state,
    read_torch_legacy,
    read_torch_zip,
)
from minswin.weights.files.torch_write import TORCH_KINDS, write_torch

PREFIXES = ("module.", "_orig_mod.", "model.")
FORMATS = {".safetensors": "safetensors", ".npz": "npz", ".pth": "torch", ".pt": "torch"}

# The first bytes of files that people take for weights.
_OTHERS = (
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file; run 'git lfs pull'"),
    (b"<", "is a web page; the address was not that of the file, or needs a login"),
    (b"\x89HDF", "is a HDF5 file of Keras, which is not read; save it as .safetensors"),
    (b"GGUF", "is a GGUF file, which is not read; use the .safetensors file"),
    (b"\x1f\x8b", "is packed with gzip; unpack it first"),
    (b"\x93NUMPY", "is a single array; expected arrays by name, as numpy.savez writes them"),
    (b"\x80", "is a plain pickle, which can run code; expected torch.save or .safetensors"),
)


# What is looked for in a folder: a run's best epoch, then what transformers saves.
IN_FOLDERS = (
    *("best.safetensors", "last.safetensors"),
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)


@dataclass(frozen=True)
class Weights:
    """What a file holds. `stored` is the kind of number in the file: bfloat16 is widened.

    `wrapper` names the entry that the arrays were found under, `prefix` what was taken off their
    names, `foreign` the classes of other libraries that the file mentions; none is imported,
    `size` the bytes of the file, or of all files of an index.
    """

    format: str
    arrays: dict[str, np.ndarray]
    stored: dict[str, str]
    metadata: dict[str, str]
    wrapper: str = ""
    prefix: str = ""
    foreign: tuple[str, ...] = ()
    size: int = 0


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def read_weights(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    prefixes: Sequence[str] = PREFIXES,
) -> dict[str, np.ndarray]:
    """The arrays of a .safetensors, .pth, .pt, .bin or .npz file by name; nothing in it is run.

    Also of several files by their index (model.safetensors.index.json), and of a folder that holds
    one of IN_FOLDERS. The arrays are read-only, and where possible views of the mapped file: do not
    write over the file while they are in use. bfloat16 becomes float32 at once.
    key: the entry of a training checkpoint, without it the usual ones ("model", "state_dict" …);
    or what the names wanted begin with
    A prefix that all names share is taken off; prefixes=() keeps the names as they are.
    """
    return read_file(path, key=key, prefixes=prefixes).arrays


def read_file(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    prefixes: Sequence[str] = PREFIXES,
) -> Weights:
    """Like read_weights, with all that the file tells about its arrays."""
    path = _plain_file(Path(path))
    prefixes = (prefixes,) if isinstance(prefixes, str) else prefixes
    try:
        weights = _read_shards(path, key) if is_index(path) else _read_one(path, key)
    except BadFile as error:
        raise ValueError(f"read_weights: {path} {error}") from None
    prefix = _shared_prefix(weights.arrays, prefixes)
    cut = len(prefix)
    return replace(
        weights,
        arrays={name[cut:]: array for name, array in weights.arrays.items()},
        stored={name[cut:]: kind for name, kind in weights.stored.items()},
        prefix=prefix,
    )


def _plain_file(path: Path) -> Path:
    """The file itself, or the one in a folder that is meant."""
    if path.is_dir():
        inside = next((path / name for name in IN_FOLDERS if (path / name).is_file()), None)
        if inside is not None:
            return inside
        files = sorted(f.name for f in path.iterdir() if f.suffix in (*FORMATS, ".bin"))
        which = f"; in it are {', '.join(files[:8])}" if files else ""
        what = f"is a folder; expected a .safetensors, .pth, .pt or .npz file{which}"
    elif path.is_file():
        return path
    elif path.exists():
        what = opening.NO_FILE
    else:
        what = "does not exist; expected a .safetensors, .pth, .pt or .npz file"
    raise FileNotFoundError(f"read_weights: {path} {what}")


def _read_one(path: Path, key: str | None) -> Weights:
    with MappedFile(path) as file:
        return replace(_read(file, key), size=file.size)


def _read_shards(index: Path, key: str | None) -> Weights:
    """The arrays of all files of an index."""
    parts = []
    for path, names in read_index(index).items():
        try:
            part = _read_one(path, None)
        except BadFile as error:
            raise BadFile(f"lists {path.name}, which {error}") from None
        missing = next((name for name in names if name not in part.arrays), None)
        if missing is not None:
            raise BadFile(
                f"has {short(missing)} in {path.name}, which does not hold it; the two are not "
                "of one model: fetch both again"
            )
        parts.append((part, names))
    arrays = {name: part.arrays[name] for part, names in parts for name in names}
    stored = {name: part.stored[name] for part, names in parts for name in names}
    first = parts[0][0]
    count = f"{len(parts)} files" if len(parts) > 1 else "1 file"
    merged = _flat(f"{first.format} in {count}", arrays, stored, first.metadata, key)
    return replace(merged, size=sum(part.size for part, _ in parts))


def _read(file: MappedFile, key: str | None) -> Weights:
    """Choose the reader by the first bytes: a name tells little."""
    head = file.read(0, min(file.size, 512), "its beginning")
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        archive = Archive(file)
        if is_torch(archive):
            return _torch(file, key, archive)
        if not is_npz(archive):
            names = ", ".join(short(name) for name in list(archive.members)[:8]) or "nothing"
            raise BadFile(f"is a zip file of {names}; expected data.pkl or .npy files in it")
        arrays, stored = read_npz(archive)
        return _flat("npz", arrays, stored, {}, key)
    if is_torch_legacy(head):
        return _torch(file, key, None)
    if looks_like_safetensors(head):
        return _flat("safetensors", *read_safetensors(file), key)
    if head[257:262] == b"ustar":
        raise BadFile("is a tar file; unpack it, or save it anew if torch wrote it before 0.2")
    for start, why in _OTHERS:
        if head.startswith(start):
            raise BadFile(why)
    raise BadFile(f"begins with {head[:8]!r}, expected a .safetensors, .pth or .npz file")


def _flat(
    form: str,
    arrays: dict[str, np.ndarray],
    stored: dict[str, str],
    metadata: dict[str, str],
    key: str | None,
) -> Weights:
    if not arrays:
        raise BadFile("holds no arrays")
    if key is None:
        return Weights(form, arrays, stored, metadata)
    names: Any = entry({name: name for name in arrays}, key)
    if isinstance(names, str):
        raise BadFile(f"has an array {short(key)}, expected the beginning of several names")
    return Weights(
        form,
        {short_name: arrays[name] for short_name, name in names.items()},
        {short_name: stored[name] for short_name, name in names.items()},
        metadata,
        wrapper=key,
    )


def _torch(file: MappedFile, key: str | None, archive: Archive | None) -> Weights:
    content = read_torch_zip(archive) if archive is not None else read_torch_legacy(file)
    state, wrapper = find_state(content.tree, key)
    return Weights(
        format="torch" if archive is not None else "torch (legacy)",
        arrays=load_state(content, state, file),
        stored={name: view.kind for name, view in state.items()},
        metadata={},
        wrapper=wrapper,
        foreign=tuple(content.foreign),
    )


def _shared_prefix(names: Mapping[str, object], prefixes: Sequence[str]) -> str:
    """The prefixes that all names begin with, one after the other."""
    shared = ""
    for _ in range(4):
        shared += next((prefix for prefix in prefixes if _all_begin(names, shared + prefix)), "")
    return shared


def _all_begin(names: Mapping[str, object], start: str) -> bool:
    return all(name.startswith(start) and len(name) > len(start) for name in names)


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def save_weights(
    path: str | os.PathLike[str],
    state: Mapping[str, Array],
    *,
    wrapper: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays by name as .safetensors, .npz, .pth or .pt, whichever the path ends in.

    `wrapper` puts the arrays of a .pth file under a name, as {"model": ...}; `metadata` are texts
    for a .safetensors file. An older file is replaced in one move, or stays as it was.
    """
    path, form = Path(path), format_of(path, who="save_weights")
    if (wrapper is not None and form != "torch") or (metadata and form != "safetensors"):
        raise ValueError(
            f"save_weights: {path} cannot hold {'a wrapper' if wrapper else 'metadata'}; "
            "wrapper goes with .pth, metadata with .safetensors"
        )
    wrong = [x for pair in (metadata or {}).items() for x in pair if not _is_text(x)]
    if wrong:
        raise TypeError(f"save_weights: metadata must be texts by name, got {wrong[0]!r}")
    arrays = _writable(path, state, form)
    writers: dict[str, Callable[[IO[bytes]], None]] = {
        "safetensors": lambda out: write_safetensors(out, arrays, metadata or {}),
        "torch": lambda out: write_torch(out, arrays, wrapper),
        "npz": lambda out: write_npz(out, arrays),
    }
    with replacing(path, who="save_weights") as temporary, open(temporary, "wb") as out:
        writers[form](out)


def _is_text(value: object) -> bool:
    """Whether UTF-8 can write it: half of a surrogate pair is no character."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def format_of(path: str | os.PathLike[str], *, who: str) -> str:
    """The format that the ending of a file says; who: begins the message of the error."""
    ending = Path(path).suffix
    if ending not in FORMATS:
        ends = f"ends in '{ending}'" if ending else "has no ending"
        raise ValueError(f"{who}: {path} {ends}, expected one of {', '.join(FORMATS)}")
    return FORMATS[ending]


def _writable(path: Path, state: Mapping[str, Array], form: str) -> dict[str, np.ndarray]:
    kinds = (TORCH_KINDS if form == "torch" else frozenset(STORED)) - {"bfloat16"}
    if form == "safetensors":
        kinds -= {"complex64", "complex128"}
    if not isinstance(state, Mapping):
        raise TypeError(f"save_weights: expected arrays by name, got {type(state).__name__}")
    if not state:
        raise ValueError(f"save_weights: there are no arrays to write to {path}")
    arrays = {}
    for name, value in state.items():
        if not _is_text(name) or not name or "\0" in name or name == "__metadata__":
            raise ValueError(f"save_weights: {name!r} cannot be the name of an array in {path}")
        array = as_array(value, who="save_weights", name=name)
        if array.dtype.name not in kinds:
            raise TypeError(
                f"save_weights: {name} is of {array.dtype}, expected one of "
                f"{', '.join(sorted(kinds))} for {path.suffix}; convert it with astype"
            )
        arrays[name] = array
    return arrays
