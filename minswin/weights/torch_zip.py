"""The zip format of torch.save: data.pkl describes the object, data/0, data/1 ... are numbers."""

from __future__ import annotations

import numpy as np

from minswin.weights.archive import Archive
from minswin.weights.mapped import STORED, BadFile, short
from minswin.weights.pickle_machine import LIMIT
from minswin.weights.pickles import run_pickle
from minswin.weights.torch_tensors import Names, Storage, TorchFile


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
