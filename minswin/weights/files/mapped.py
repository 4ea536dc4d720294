"""A file mapped into memory, and the one place where the bytes of a weight file become arrays.

An aligned array is a read-only view of the file: it costs no memory until it is touched, and then
only pages that the system can drop again. What cannot be a view is read straight into its new
array: unaligned data, and bfloat16, which NumPy does not have and which is widened to float32.
"""

from __future__ import annotations

import math
import mmap
import os
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from minswin import opening

CHUNK = 1 << 18
LARGEST = 1 << 48  # elements; more than any file holds, less than what overflows a stride
EXPANSION = 16  # what is read from a file may be this many times as large as the file,
ALLOWANCE = 16 << 20  # and this many bytes more

_NAMES = (
    *("float16", "float32", "float64", "complex64", "complex128", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
# How each kind of number lies in a file. All formats write little-endian numbers.
STORED = {name: np.dtype(name).newbyteorder("<") for name in _NAMES}
STORED["bfloat16"] = np.dtype("<u2")


class BadFile(ValueError):
    """Why a file cannot be read, as the end of a sentence that begins with the file's name."""


class MappedFile:
    """The bytes of a file. Its arrays outlive it; reading new ones needs it open."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file: Any = opening.open_file(path, who="read_weights", buffering=0)
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            if self.size == 0:
                raise BadFile("is empty, expected weights; fetch it again")
            self.map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> MappedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def raw(self) -> object:
        """The open file itself, for zipfile."""
        return self._file

    def require(self, start: int, count: int, what: str) -> None:
        """Raise unless bytes start ... start + count lie inside the file."""
        if start < 0 or count < 0 or start + count > self.size:
            raise BadFile(
                f"should have {count:,} bytes at {start:,} ({what}), but ends at {self.size:,}; "
                "it is cut off or damaged: fetch it again"
            )

    def read(self, start: int, count: int, what: str) -> bytes:
        self.require(start, count, what)
        return self.map[start : start + count]

    def array(self, kind: str, start: int, count: int, what: str) -> np.ndarray:
        """`count` numbers of a kind of STORED from byte `start` on, as a flat read-only array."""
        stored = STORED[kind]
        self.require(start, count * stored.itemsize, what)
        if kind == "bfloat16":
            flat = self._widened(start, count)
        elif start % stored.itemsize or count == 0:
            flat = np.empty(count, stored)
            self._fill(start, flat.view(np.uint8).data)
        else:
            flat = np.frombuffer(self.map, stored, count, start)
        return finished(flat, what)

    def crc32(self, start: int, count: int) -> int:
        total = 0
        for piece in self.pieces(start, count):
            total = zlib.crc32(piece, total)
        return total

    def pieces(self, start: int, count: int) -> Iterator[memoryview]:
        """The bytes from `start` on in chunks, through a buffer: the map's pages stay untouched."""
        buffer = memoryview(bytearray(min(count, CHUNK)))
        while count > 0:
            piece = buffer[: min(count, CHUNK)]
            self._fill(start, piece)
            yield piece
            start, count = start + len(piece), count - len(piece)

    def _widened(self, start: int, count: int) -> np.ndarray:
        """bfloat16 is the upper half of a float32."""
        bits, done = np.empty(count, "<u4"), 0
        for piece in self.pieces(start, 2 * count):
            half = np.frombuffer(piece, "<u2")
            np.left_shift(half, 16, out=bits[done : done + half.size], dtype="<u4")
            done += half.size
        return bits.view("<f4")

    def _fill(self, start: int, target: memoryview) -> None:
        self._file.seek(start)
        done = 0
        while done < len(target):
            read = self._file.readinto(target[done:])
            if not read:
                raise BadFile("became shorter while it was read; read it again")
            done += read


def finished(flat: np.ndarray, what: str) -> np.ndarray:
    """A flat array made read-only. A boolean has to be 0 or 1: NumPy trusts it."""
    if flat.dtype == bool and flat.size and flat.view(np.uint8).max() > 1:
        raise BadFile(f"has a boolean in {what} that is neither 0 nor 1; it is damaged")
    flat.flags.writeable = False
    return flat


def count_of(shape: object, what: str) -> int:
    """The number of elements of a shape that a file claims, once it is known to be one."""
    if not isinstance(shape, tuple | list) or len(shape) > 64:
        raise BadFile(f"gives no shape of at most 64 sizes for {what}; it is damaged")
    if any(type(size) is not int or not 0 <= size <= LARGEST for size in shape):
        raise BadFile(f"gives a shape with an impossible size for {what}; it is damaged")
    if math.prod(max(size, 1) for size in shape) > LARGEST:
        raise BadFile(f"gives a shape of too many elements for {what}; it is damaged")
    return math.prod(shape)


def require_plausible(size: int, file: MappedFile, what: str) -> None:
    """Raise where a file claims to hold far more than its own size: a bomb."""
    if size > EXPANSION * file.size + ALLOWANCE:
        raise BadFile(
            f"would expand to {size:,} bytes ({what}), more than {EXPANSION} times its size; "
            "no weights do that: it is damaged or hostile"
        )


def short(text: object) -> str:
    """A name from a file as an error may show it: printable, and not longer than a line."""
    shown = ascii(str(text)[:100] if isinstance(text, str) else type(text).__name__)
    return shown if len(shown) <= 80 else shown[:76] + "...'"
