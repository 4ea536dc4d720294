"""The one place that opens files which users name or put into a folder.

What opens a pipe waits until somebody writes to it, perhaps for ever. So a file must be one, and
where the bytes of a pipe are welcome, nobody waits for long for one that nothing writes to.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from pathlib import Path
from typing import IO

PATIENCE = 10.0  # seconds that a pipe with a name is waited for until something opens it to write
TURN = 0.05  # seconds between two looks
CHUNK = 1 << 20
LONGEST_TEXT = 1 << 26  # bytes
NO_FILE = "is no plain file but a pipe or a device; write what comes out of it to a file first"
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

Named = str | os.PathLike[str]


def open_file(path: Named, *, who: str, buffering: int = -1) -> IO[bytes]:
    """A file to read from; it is never waited for.

    who: begins the messages of errors   buffering: see `open`
    Raises FileNotFoundError, IsADirectoryError, or OSError: no file, or not to be opened
    """
    descriptor = _open(path, who)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise _no_file(path, who, mode)
    return open(descriptor, "rb", buffering=buffering)


def require_file(path: Named, *, who: str) -> Path:
    """The path of a file that others open by its name; raises as `open_file` does."""
    open_file(path, who=who).close()
    return Path(path)


def read_file(path: Named, *, who: str) -> bytes:
    """The bytes of a file; raises as `open_file` does."""
    with open_file(path, who=who) as file:
        return file.read()


def read_text(path: Named, *, who: str, encoding: str = "utf-8") -> str:
    """The text of a file or of a pipe; raises as `read_bytes` does, or UnicodeDecodeError."""
    text = read_bytes(path, who=who, most=LONGEST_TEXT).decode(encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: Named, *, who: str, most: int) -> bytes:
    """The bytes of a file, of a pipe or of a device, such as /dev/stdin.

    Raises as `open_file` does, but for what is no file; ValueError where a pipe gives nothing, or
    more than `most` bytes come.
    """
    descriptor = _open(path, who)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise _no_file(path, who, mode)
        content = _all_of(descriptor, most, patience=PATIENCE if _has_name(path, mode) else 0)
    finally:
        os.close(descriptor)
    return require_some(content, path, who=who, most=most, file=stat.S_ISREG(mode))


def require_some(content: bytes, path: Named, *, who: str, most: int, file: bool = False) -> bytes:
    """The bytes of a pipe; raises where there are none, or more than `most`."""
    if not content and not file:
        raise ValueError(f"{who}: nothing came from {path}; something must write to it")
    if len(content) > most:
        raise ValueError(f"{who}: more than {most:,} bytes came from {path}; give a smaller one")
    return content


def is_file_or_lost(path: Named) -> bool:
    """Whether what has this name in a folder is a file, or cannot be looked at."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True


def _open(path: Named, who: str) -> int:
    try:
        return os.open(path, _FLAGS)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{who}: there is no {path}; give the path of one that is there"
        ) from None
    except OSError as error:
        if os.path.isdir(path):  # which some systems do not open
            raise _no_file(path, who, stat.S_IFDIR) from None
        if error.errno == errno.ENXIO:
            raise OSError(f"{who}: {path} {NO_FILE}") from None
        kind = PermissionError if isinstance(error, PermissionError) else OSError
        raise kind(f"{who}: {path} cannot be opened ({error.strerror})") from None


def _no_file(path: Named, who: str, mode: int) -> OSError:
    if stat.S_ISDIR(mode):
        return IsADirectoryError(f"{who}: {path} is a folder; give a file")
    return OSError(f"{who}: {path} {NO_FILE}")


def _has_name(path: Named, mode: int) -> bool:
    """Whether this is a pipe that may still be opened for writing: /dev/fd/3 has no other name."""
    return stat.S_ISFIFO(mode) and os.path.exists(os.path.realpath(path))


def _all_of(descriptor: int, most: int, *, patience: float) -> bytes:
    """What can be read, up to one byte more than `most`.

    Where nothing can be read, a pipe that something has open for writing says so, and is waited
    for; one that nothing has open gives no bytes, like one that has ended.
    """
    content, written = bytearray(), False
    until = time.monotonic() + patience
    while len(content) <= most:
        try:
            part = os.read(descriptor, min(CHUNK, most + 1 - len(content)))
        except BlockingIOError:
            written = True
            select.select([descriptor], [], [], 1.0)
            continue
        content += part
        if not part:
            if written or content or time.monotonic() >= until:
                break
            time.sleep(TURN)
    return bytes(content)
