"""Files out of a tar archive, read to its end so that no damage goes unnoticed.

tarfile alone lets three kinds pass: reading a stream it never compares the check sum of gzip, it
takes a damaged header for the end of the archive, and it does not miss an end that is cut off.
"""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zlib
from collections.abc import Container
from pathlib import Path, PurePosixPath
from typing import IO, cast

from minswin import opening

CHUNK = 1 << 18
ENOUGH = 6  # bytes at the start of a file that tell what it is
DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError)


def read_members(archive: Path, wanted: Container[str]) -> tuple[dict[str, bytes], list[str]]:
    """The wanted files of a .tar.gz, .tar.xz or .tar as bytes, and the names of all its members.

    Nothing is unpacked, and only the last part of a name counts; of two files the first is taken.
    Whatever is wrong inside the archive is one ValueError that names it.
    """
    with opening.open_file(archive, who="read_members") as raw:
        try:
            with _unzipped(raw) as stream:
                contents, present = _members(stream, wanted)
                while stream.read(CHUNK):  # the check sum stands at the very end
                    pass
        except DAMAGE as error:
            raise ValueError(
                f"{archive} ({archive.stat().st_size:,} bytes) is damaged, cut off, or "
                f"no .tar.gz or .tar.xz archive ({error})"
            ) from error
    return contents, sorted(present)


def _members(stream: IO[bytes], wanted: Container[str]) -> tuple[dict[str, bytes], list[str]]:
    contents: dict[str, bytes] = {}
    present: list[str] = []
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as members:
        for member in members:
            file = PurePosixPath(member.name).name
            present.append(file)
            content = members.extractfile(member) if member.isfile() else None
            if content is not None and file in wanted and file not in contents:
                contents[file] = content.read()
    if not present:
        raise tarfile.ReadError("nothing is in it")
    return contents, present


class _Member(tarfile.TarInfo):
    """A header that must be whole, unless it is the block of zeros that ends an archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(str(error)) from error


def _unzipped(raw: IO[bytes]) -> IO[bytes]:
    """What is inside a .gz or .xz, recognised by its first bytes; both verify their check sum."""
    start = raw.read(ENOUGH)
    raw.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.open(raw))
    return lzma.open(raw) if start == b"\xfd7zXZ\0" else raw
