"""Writes the zip format of torch.save without torch; torch.load(weights_only=True) reads it.

The pickle is spelled out opcode by opcode: a dictionary of names and, for each tensor, a call of
torch._utils._rebuild_tensor_v2 on a storage that lies in the archive as raw numbers.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Mapping
from typing import IO

import numpy as np

from minswin.weights.files.safetensors import raw_bytes
from minswin.weights.files.torch_tensors import STORAGES

ALIGNMENT = 64
_ZIP64 = 1 << 31
_STORAGES = {kind: name for name, kind in STORAGES.items() if kind not in ("", "bfloat16")}
TORCH_KINDS = frozenset(_STORAGES)


def write_torch(out: IO[bytes], arrays: Mapping[str, np.ndarray], wrapper: str | None) -> None:
    """Write the arrays as torch.save(state_dict) does, or torch.save({wrapper: state_dict})."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "data.pkl", _program(arrays, wrapper))
        _add(archive, "byteorder", b"little")
        for key, array in enumerate(arrays.values()):
            _add(archive, f"data/{key}", raw_bytes(array))
        _add(archive, "version", b"3\n")


def _add(archive: zipfile.ZipFile, name: str, content: bytes | memoryview) -> None:
    """Add a member whose bytes begin at a multiple of 64, by a filler in its header."""
    entry = zipfile.ZipInfo(f"archive/{name}")
    large = len(content) >= _ZIP64
    header = 30 + len(entry.filename) + 4 + (20 if large else 0)
    filler = -(archive.start_dir + header) % ALIGNMENT
    entry.extra = b"FB" + struct.pack("<H", filler) + bytes(filler)
    with archive.open(entry, "w", force_zip64=large) as member:
        member.write(content)


def _program(arrays: Mapping[str, np.ndarray], wrapper: str | None) -> bytes:
    items = b"".join(
        _text(name) + _tensor(key, array) for key, (name, array) in enumerate(arrays.items())
    )
    state = _ORDERED + b"(" + items + b"u"
    if wrapper is not None:
        state = b"}" + _text(wrapper) + state + b"s"
    return b"\x80\x02" + state + b"."


_ORDERED = b"ccollections\nOrderedDict\n)R"


def _tensor(key: int, array: np.ndarray) -> bytes:
    torch_class = f"ctorch\n{_STORAGES[array.dtype.name]}\n".encode()
    place = _text("storage") + torch_class + _text(str(key)) + _text("cpu")
    storage = b"(" + place + _number(array.size) + b"tQ"
    strides = tuple(math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim))
    view = storage + _number(0) + _numbers(array.shape) + _numbers(strides)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + view + b"\x89" + _ORDERED + b"tR"


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(_number(value) for value in values) + b"t"


def _number(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)
