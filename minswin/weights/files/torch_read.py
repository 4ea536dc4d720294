"""Reads both formats of torch.save: the zip file, and that of before torch 1.6.

A zip file holds data.pkl, which describes the object, and the numbers in data/0, data/1, … The
older format is five pickles in a row (magic, version, machine, object, keys), then the numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from minswin.weights.files.archive import Archive
from minswin.weights.files.entries import find_arrays, nothing_found
from minswin.weights.files.mapped import STORED, BadFile, MappedFile, require_plausible, short
from minswin.weights.files.pickle_machine import LIMIT, Foreign
from minswin.weights.files.pickles import no_ids, no_names, run_pickle
from minswin.weights.files.torch_tensors import Names, Storage, TorchFile, View

# A pickle of torch's magic number, by every protocol.
_MAGIC = re.compile(
    rb"(?:\x80[\x02-\x05](?:\x95.{8})?)?"
    rb"(?:\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19|L119547037146038801333356L\n)\.",
    re.DOTALL,
)


# ── the zip file ──────────────────────────────────────────────────────────────────────────────────


def is_torch(archive: Archive) -> bool:
    return any(f"/{name}".endswith("/data.pkl") for name in archive.members)


def read_torch_zip(archive: Archive) -> TorchFile:
    pickles = [name for name in archive.members if f"/{name}".endswith("/data.pkl")]
    folder = pickles[0].removesuffix("data.pkl")
    if len(pickles) > 1 or folder.count("/") > 1:
        raise BadFile(f"has {len(pickles)} data.pkl, expected one in one folder; it is damaged")
    if f"{folder}constants.pkl" in archive.members:
        raise BadFile("is a TorchScript program, not weights; save its state_dict() instead")
    order = f"{folder}byteorder"
    if order in archive.members and archive.content(order, 16) != b"little":
        raise BadFile("was written on a big-endian machine; save it on another one")
    names = Names(legacy=False)
    content = archive.content(pickles[0], LIMIT)
    tree, _ = run_pickle(content, 0, find=names.find, persistent=names.persistent)

    def load(storage: Storage, kind: str) -> np.ndarray:
        member = f"{folder}data/{storage.key}"
        if not (storage.key.isascii() and storage.key.isdigit()) or member not in archive.members:
            raise BadFile(f"has no numbers under {short(member)}; it is damaged: fetch it again")
        return archive.array(member, kind, 0, _count(storage, kind))

    return TorchFile(tree, load, names.foreign)


def _count(storage: Storage, kind: str) -> int:
    """How many numbers of `kind` a storage holds: one of bytes is counted in bytes."""
    if storage.kind:
        return storage.whole
    count, rest = divmod(storage.whole, STORED[kind].itemsize)
    if rest:
        raise BadFile(f"has {storage.whole:,} bytes for numbers of {kind}; it is damaged")
    return count


# ── the format before torch 1.6 ───────────────────────────────────────────────────────────────────


def is_torch_legacy(head: bytes) -> bool:
    return _MAGIC.match(head) is not None


def read_torch_legacy(file: MappedFile) -> TorchFile:
    """Five pickles (magic, version, machine, object, keys), then count and numbers per key."""
    names = Names(legacy=True)
    _, at = _numbers_only(file, 0)
    version, at = _numbers_only(file, at)
    machine, at = _numbers_only(file, at)
    if version != 1001 or not isinstance(machine, dict):
        raise BadFile("is of another version than torch's 1001; it is damaged")
    if machine.get("little_endian") is not True:
        raise BadFile("was written on a big-endian machine; save it on another one")
    tree, at = run_pickle(file.map, at, find=names.find, persistent=names.persistent)
    keys, at = _numbers_only(file, at)
    places = _places(file, keys, at, names.storages)

    def load(storage: Storage, kind: str) -> np.ndarray:
        return file.array(kind, places[storage.key], storage.whole, f"storage {short(storage.key)}")

    return TorchFile(tree, load, names.foreign)


def _numbers_only(file: MappedFile, at: int) -> tuple[Any, int]:
    return run_pickle(file.map, at, find=no_names, persistent=no_ids)


def _places(
    file: MappedFile, keys: object, at: int, storages: Mapping[str, Storage]
) -> dict[str, int]:
    """Where the numbers of each storage begin. Every key has its numbers, and nothing is left."""
    places: dict[str, int] = {}
    for key in keys if isinstance(keys, list) else [None]:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or not storage.kind or storage.key in places:
            raise BadFile(f"has numbers under {short(key)}, which no tensor uses; it is damaged")
        count = int.from_bytes(file.read(at, 8, "the size of a storage"), "little", signed=True)
        if count != storage.whole:
            raise BadFile(
                f"has {count:,} numbers under {short(key)}, expected {storage.whole:,}; "
                "it is damaged"
            )
        places[storage.key] = at + 8
        size = count * STORED[storage.kind].itemsize
        file.require(at + 8, size, f"storage {short(key)}")
        at += 8 + size
    if len(places) != len(storages) or at != file.size:
        raise BadFile(
            f"has {file.size - at:,} bytes after its last number and numbers for {len(places)} of "
            f"{len(storages)} storages; it is damaged: fetch it again"
        )
    return places


# ── the state dict in the object ─────────────────────────────────────────────────────────────────


def find_state(tree: object, key: str | None) -> tuple[dict[str, View], str]:
    """The tensors by name, and the wrapper that they were found under ("" for none).

    What is not a tensor is left out, except for foreign objects: one of them may be a tensor.
    """
    tree, wrapper = find_arrays(tree, key, _is_tensor)
    if isinstance(tree, Foreign):
        raise BadFile(
            f"holds a whole object of the class {short(tree.name)}, which only its own library "
            "can read; load it there and save its state_dict()"
        )
    if not isinstance(tree, dict):
        what = "single tensor" if isinstance(tree, View) else type(tree).__name__
        raise BadFile(f"holds a {what}, expected tensors by name")
    state = {}
    for name, value in tree.items():
        if isinstance(value, Foreign):
            raise BadFile(
                f"has {short(name)} as an object of the class {short(value.name)}, which is not "
                "read; load it where that class is known and save plain tensors"
            )
        if isinstance(value, View) and isinstance(name, str):
            state[name] = value
    if not state:
        raise nothing_found(tree, _is_tensor)
    return state, wrapper


def _is_tensor(value: object) -> bool:
    return isinstance(value, View)


def load_state(content: TorchFile, state: Mapping[str, View], file: MappedFile) -> dict[str, Any]:
    size = sum(math.prod(view.shape) * STORED[view.kind].itemsize for view in state.values())
    require_plausible(size, file, f"{len(state):,} tensors")
    return {name: content.array(view) for name, view in state.items()}
