"""The format .npz: a zip file with one .npy file per array. No pickles are read.

A .npy file begins with a Python text such as {'descr': '<f4', 'fortran_order': False, 'shape':
(3, 5), }. Only this form is read, with a pattern: nothing of it is evaluated.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from typing import IO

import numpy as np

from minswin.weights.files.archive import Archive
from minswin.weights.files.mapped import STORED, BadFile, count_of, short

_ENTRY = re.compile(
    r"\s*'(?P<key>\w{1,20})'\s*:\s*(?:'(?P<text>[^']{0,40})'|(?P<flag>True|False)"
    r"|\((?P<sizes>[\d, ]*)\))\s*(?:,|(?=\}))",
    re.ASCII,
)
_CODES = {array.str[1:]: kind for kind, array in STORED.items() if kind != "bfloat16"}
_HEADER = 1 << 16


def is_npz(archive: Archive) -> bool:
    return bool(archive.members) and all(name.endswith(".npy") for name in archive.members)


def read_npz(archive: Archive) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays, and the kind in which the file stores each."""
    arrays = {name.removesuffix(".npy"): _read_npy(archive, name) for name in archive.members}
    return arrays, {name: array.dtype.name for name, array in arrays.items()}


def _read_npy(archive: Archive, name: str) -> np.ndarray:
    shown = short(name)
    start, text = _header(archive.head(name, _HEADER + 12), shown)
    header = _parse(text, shown)
    order, kind = _kind(header.get("descr"), shown)
    shape, columns = header.get("shape"), header.get("fortran_order")
    if not isinstance(shape, tuple) or not isinstance(columns, bool) or len(header) != 3:
        raise BadFile(f"has no descr, shape and fortran_order in {shown}; it is damaged")
    flat = archive.array(name, kind, start, count_of(shape, shown))
    if order == ">":
        flat = flat.byteswap()
        flat.flags.writeable = False
    return flat.reshape(shape, order="F" if columns else "C")


def _header(head: bytes, shown: str) -> tuple[int, str]:
    """Where the numbers begin, and the text before them."""
    width = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4, b"\x93NUMPY\x03\x00": 4}.get(
        head[:8]
    )
    if width is None:
        raise BadFile(f"has a member {shown} that is not a .npy file of version 1, 2 or 3")
    start = 8 + width + int.from_bytes(head[8 : 8 + width], "little")
    if start > len(head):
        raise BadFile(f"has a header of {start:,} bytes in {shown}; it is damaged")
    return start, head[8 + width : start].decode("latin-1")


def _parse(text: str, shown: str) -> dict[str, str | bool | tuple[int, ...]]:
    text, entries = text.strip(), dict[str, str | bool | tuple[int, ...]]()
    at = 1
    while text[:1] == "{" and (piece := _ENTRY.match(text, at)):
        at = piece.end()
        if (sizes := piece["sizes"]) is not None:
            entries[piece["key"]] = _sizes(sizes, shown)
        else:
            entries[piece["key"]] = (
                piece["text"] if piece["flag"] is None else piece["flag"] == "True"
            )
    if text[at:].strip() != "}":
        raise BadFile(
            f"has an unreadable header in {shown} ({short(text[:60])}); it is damaged, or holds "
            "records: save plain arrays"
        )
    return entries


def _sizes(text: str, shown: str) -> tuple[int, ...]:
    digits = [size.strip() for size in text.removesuffix(",").split(",")] if text.strip() else []
    if any(not size.isdigit() or len(size) > 20 for size in digits):
        raise BadFile(f"has a shape ({short(text[:60])}) in {shown}; it is damaged")
    return tuple(int(size) for size in digits)


def _kind(descr: object, shown: str) -> tuple[str, str]:
    """Byte order and kind of STORED for a code such as '<f4'."""
    if not isinstance(descr, str) or descr[:1] not in "<>|=" or descr[1:] not in _CODES:
        why = "which is a pickle" if descr == "|O" else f"expected one of {', '.join(_CODES)}"
        raise BadFile(f"has {shown} as {short(descr)}, {why}; save it as plain numbers")
    return descr[0], _CODES[descr[1:]]


def write_npz(out: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file that numpy.load reads; the same arrays always give the same bytes."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
