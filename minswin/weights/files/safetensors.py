"""The format .safetensors: a length, a JSON text, and the numbers.

Eight bytes give the length of the JSON text; it names for every tensor its kind, its shape and
the bytes that hold it, counted from the end of the text. The bytes of all tensors follow each
other without overlap and without a hole, row by row, little-endian.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from minswin.weights.files.mapped import STORED, BadFile, MappedFile, count_of, short

HEADER_LIMIT = 100_000_000
KINDS = {
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "BF16": "bfloat16",
    "BOOL": "bool",
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}
_CODES = {kind: code for code, kind in KINDS.items()}


def looks_like_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{"


def read_safetensors(
    file: MappedFile,
) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, str]]:
    """The arrays, the kind in which the file stores each, and the metadata."""
    size = int.from_bytes(file.read(0, 8, "the length of its header"), "little")
    if size > HEADER_LIMIT:
        raise BadFile(f"has a header of {size:,} bytes, expected {HEADER_LIMIT:,} at most")
    table = _parse(file.read(8, size, "its header"))
    metadata = _metadata(table.pop("__metadata__", {}))
    kinds, places = {}, []
    for name, entry in table.items():
        kinds[name], begin, end, shape = _entry(name, entry)
        places.append((begin, end, name, shape))
    _require_gapless(places, file.size - 8 - size)
    flat = {
        name: file.array(kinds[name], 8 + size + begin, count_of(shape, name), short(name))
        for begin, _, name, shape in places
    }
    arrays = {name: flat[name].reshape(shape) for _, _, name, shape in places}
    return arrays, kinds, metadata


def _parse(text: bytes) -> dict[str, Any]:
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_int=_natural)
    except RecursionError:
        raise BadFile("has a header that nests too deep; it is damaged or hostile") from None
    except ValueError as error:
        if isinstance(error, BadFile):
            raise
        why = short(str(error))
        raise BadFile(f"has a header that is no JSON text ({why}); it is damaged") from None
    if not isinstance(table, dict):
        raise BadFile("has a header that is no table; it is damaged")
    return table


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise BadFile("names something twice in its header; it is damaged")
    if any("\ud800" <= letter <= "\udfff" for name in table for letter in name):
        raise BadFile("has a name in its header that is no text; it is damaged")
    return table


def _natural(digits: str) -> int:
    if len(digits) > 20 or not digits.isdigit():
        raise BadFile(f"has the number {short(digits)} in its header; it is damaged")
    return int(digits)


def _metadata(table: object) -> dict[str, str]:
    if not isinstance(table, dict) or any(type(value) is not str for value in table.values()):
        raise BadFile("has a __metadata__ that is not a table of texts; it is damaged")
    return table


def _entry(name: str, entry: object) -> tuple[str, int, int, list[int]]:
    """Kind, first byte, end and shape of one tensor."""
    shown = short(name)
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise BadFile(f"does not give dtype, shape and data_offsets of {shown}; it is damaged")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in KINDS:
        raise BadFile(
            f"has {shown} as {short(code)}, expected one of {', '.join(KINDS)}; "
            "convert it to one of them where it was made"
        )
    if not isinstance(shape, list):
        raise BadFile(f"gives no shape for {shown}; it is damaged")
    need = count_of(shape, shown) * STORED[KINDS[code]].itemsize
    pair = isinstance(offsets, list) and len(offsets) == 2
    if not pair or any(type(offset) is not int for offset in offsets):
        raise BadFile(f"gives no two offsets for {shown}; it is damaged")
    if offsets[1] - offsets[0] != need:
        raise BadFile(
            f"gives {offsets[1] - offsets[0]:,} bytes to {shown}, expected {need:,} for "
            f"{code} of shape {tuple(shape)}; it is damaged"
        )
    return KINDS[code], offsets[0], offsets[1], shape


def _require_gapless(places: list[tuple[int, int, str, list[int]]], size: int) -> None:
    at = 0
    for begin, end, name, _ in sorted(places, key=lambda place: place[:2]):
        if begin != at:
            what = "overlaps the tensor before it" if begin < at else "leaves a hole before it"
            raise BadFile(f"has {short(name)} at byte {begin:,}, which {what}; it is damaged")
        at = end
    if at != size:
        why = "cut off" if at > size else "damaged"
        raise BadFile(f"has {size:,} bytes of numbers, expected {at:,}; it is {why}")


def write_safetensors(
    out: IO[bytes], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write the arrays one after the other, wide numbers first: so all of them are aligned."""
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    places, at = {}, 0
    for name in order:
        places[name] = (at, at := at + arrays[name].nbytes)
    table: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, array in arrays.items():
        code = _CODES[array.dtype.name]
        table[name] = {"dtype": code, "shape": array.shape, "data_offsets": places[name]}
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    out.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        out.write(raw_bytes(arrays[name]))


def raw_bytes(array: np.ndarray) -> memoryview:
    """The numbers of an array in C order, little-endian, without a copy where they lie so."""
    stored = array.dtype.newbyteorder("<")
    return np.ascontiguousarray(array, stored).reshape(-1).view(np.uint8).data
