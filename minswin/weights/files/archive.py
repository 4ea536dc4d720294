"""The members of a zip file, as .pth and .npz files are.

Python's zipfile reads the directory. Where the bytes of a member lie is then looked up and checked:
inside the file, not on top of another member, not more than the file can plausibly hold.
Every member that is read has its check sum compared, so that one wrong bit is found.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, cast

import numpy as np

from minswin.weights.files.mapped import (
    STORED,
    BadFile,
    MappedFile,
    finished,
    require_plausible,
    short,
)

_HEADER = 30  # bytes of a local header before the name
_DESCRIPTOR = 24  # bytes that may follow a member
_ENTRIES = 200_000


@dataclass(frozen=True)
class Member:
    """One file of the archive: its bytes begin at `start`, packed or plain."""

    name: str
    start: int
    packed: int
    size: int
    deflated: bool
    crc: int


class Archive:
    """A zip file whose directory has been checked."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.members = _read_directory(file)
        self._sound: set[str] = set()
        # torch can leave the check sums out: then all of them are 0.
        self._summed = any(member.crc for member in self.members.values())

    def content(self, name: str, most: int | None = None) -> bytes:
        """The bytes of a member."""
        member = self.members[name]
        if most is not None and member.size > most:
            raise BadFile(f"has {member.size:,} bytes in {short(name)}, expected {most:,} at most")
        if member.deflated:
            return bytes(self._inflated(member))
        self._check(member)
        return self.file.read(member.start, member.size, short(name))

    def head(self, name: str, most: int) -> bytes:
        """The first bytes of a member, at most `most`; nothing is checked yet."""
        member = self.members[name]
        if not member.deflated:
            return self.file.read(member.start, min(most, member.size), short(name))
        packed = self.file.read(member.start, min(most, member.packed), short(name))
        try:
            return zlib.decompressobj(-15).decompress(packed, most)
        except zlib.error as error:
            raise BadFile(f"is damaged in {short(name)} ({error}); fetch it again") from None

    def array(self, name: str, kind: str, start: int, count: int) -> np.ndarray:
        """`count` numbers from byte `start` of a member on, which must fit into it."""
        member, stored = self.members[name], STORED[kind]
        if start + count * stored.itemsize != member.size:
            raise BadFile(
                f"has {member.size:,} bytes in {short(name)}, expected "
                f"{start + count * stored.itemsize:,} for {count:,} {kind}; it is damaged"
            )
        if not member.deflated:
            self._check(member)
            return self.file.array(kind, member.start + start, count, short(name))
        if start % stored.itemsize or kind == "bfloat16":
            raise BadFile(f"packs {short(name)} in a way that is not read; save it uncompressed")
        flat = np.frombuffer(self._inflated(member), stored, count, start)
        return finished(flat, short(name))

    def _check(self, member: Member) -> None:
        if member.name in self._sound:
            return
        self._compare(member, self.file.crc32(member.start, member.size))
        self._sound.add(member.name)

    def _compare(self, member: Member, crc: int) -> None:
        if self._summed and member.crc != crc:
            raise BadFile(
                f"is damaged: the check sum of {short(member.name)} is {crc:08x}, "
                f"expected {member.crc:08x}; fetch it again"
            )

    def _inflated(self, member: Member) -> bytearray:
        machine, done = zlib.decompressobj(-15), 0
        content = bytearray(member.size)
        try:
            for piece in self.file.pieces(member.start, member.packed):
                plain = machine.decompress(piece, member.size - done + 1)
                content[done : done + len(plain)] = plain
                done += len(plain)
                if done > member.size:
                    break
        except zlib.error as error:
            raise BadFile(f"is damaged in {short(member.name)} ({error}); fetch it again") from None
        if done != member.size or not machine.eof:
            raise BadFile(
                f"lists {short(member.name)} with {member.size:,} bytes, which it does not have; "
                "it is damaged: fetch it again"
            )
        self._compare(member, zlib.crc32(content))
        return content


def _read_directory(file: MappedFile) -> dict[str, Member]:
    try:
        with zipfile.ZipFile(cast("IO[bytes]", file.raw)) as archive:
            entries, end = archive.infolist(), archive.start_dir
    except (
        *(zipfile.BadZipFile, struct.error, ValueError, OverflowError, NotImplementedError),
        *(OSError, EOFError, RuntimeError),
    ) as error:
        raise BadFile(
            f"begins like a zip file but has no readable directory ({short(str(error))}); "
            "it is cut off or damaged: fetch it again"
        ) from None
    if len(entries) > _ENTRIES:
        raise BadFile(f"has {len(entries):,} members, expected {_ENTRIES:,} at most")
    entries.sort(key=lambda entry: entry.header_offset)
    if entries and entries[0].header_offset:
        raise BadFile("does not list its first member in its directory; it is damaged")
    ends = [*(entry.header_offset for entry in entries[1:]), end]
    members: dict[str, Member] = {}
    for entry, limit in zip(entries, ends, strict=False):
        name = entry.orig_filename
        if name in members:
            raise BadFile(f"has two members {short(name)}; it is damaged or hostile")
        members[name] = _locate(file, entry, limit)
    unpacked = sum(member.size for member in members.values() if member.deflated)
    require_plausible(unpacked, file, f"{len(members):,} members")
    return members


def _locate(file: MappedFile, entry: zipfile.ZipInfo, limit: int) -> Member:
    """Find the bytes of a member, which end before `limit`: the next member or the directory."""
    shown = short(entry.orig_filename)
    if entry.flag_bits & 1:
        raise BadFile(f"has {shown} under a password; save it without one")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadFile(f"has {shown} compressed by method {entry.compress_type}; save it plainly")
    header = file.read(entry.header_offset, _HEADER, f"the header of {shown}")
    if header[:4] != b"PK\x03\x04":
        raise BadFile(f"has no header of {shown} where its directory lists it; it is damaged")
    named, extra = struct.unpack("<HH", header[26:30])
    start = entry.header_offset + _HEADER + named + extra
    stored = entry.compress_type == zipfile.ZIP_STORED
    if file.read(entry.header_offset + _HEADER, named, "a name") != _name_bytes(entry):
        raise BadFile(f"gives two names to its member {shown}; it is damaged")
    if start + entry.compress_size > limit:
        raise BadFile(f"has {shown} on top of what follows it; it is damaged or hostile")
    if limit - start - entry.compress_size > _DESCRIPTOR:
        raise BadFile(f"has bytes after {shown} that its directory does not list; it is damaged")
    if stored and entry.compress_size != entry.file_size:
        raise BadFile(f"gives two sizes for {shown}, which is not compressed; it is damaged")
    return Member(
        name=entry.orig_filename,
        start=start,
        packed=entry.compress_size,
        size=entry.file_size,
        deflated=not stored,
        crc=entry.CRC,
    )


def _name_bytes(entry: zipfile.ZipInfo) -> bytes:
    return entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437")
