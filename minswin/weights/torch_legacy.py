"""The format of torch.save before version 1.6: five pickles in a row, then the raw numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minswin.weights.mapped import STORED, BadFile, MappedFile, short
from minswin.weights.pickles import no_ids, no_names, run_pickle
from minswin.weights.torch_tensors import Names, Storage, TorchFile

LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # a pickle of torch's magic number


def read_torch_legacy(file: MappedFile) -> TorchFile:
    """Five pickles (magic, version, machine, object, keys), then count and numbers per key."""
    names = Names(legacy=True)
    version, at = _numbers_only(file, len(LEGACY))
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
