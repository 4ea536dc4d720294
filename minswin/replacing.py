"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HOUR = 3600  # seconds in which nothing was written: what a killed process left
_MARK = r"\d+-[0-9a-f]+"  # of a process and a moment, in the name of a temporary


@contextmanager
def replacing(path: Path | str, *, who: str = "replacing") -> Iterator[Path]:
    """Give a temporary name beside `path`; what the block writes there gets its place at the end.

    The file is on the disk before it is renamed, so that a kill or a power cut at any moment leaves
    the old file or the new one. After any error the old one stays and the temporary is removed.
    who: begins the messages of errors
    Raises what `require_replaceable` does, and OSError where the disk is full.
    """
    path = require_replaceable(path, who=who)
    with _temporary(path, who) as temporary:
        yield temporary
        _to_the_disk(temporary)
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)


def write_text(path: Path | str, text: str, *, who: str) -> None:
    """Write a whole file of text in UTF-8, or leave the old one; raises as `replacing` does.

    Names of files that are no UTF-8 have characters that UTF-8 has not: they stand as \\udce9.
    """
    with replacing(path, who=who) as temporary:
        temporary.write_text(text, "utf-8", "backslashreplace")


@contextmanager
def replacing_folder(path: Path | str, *, who: str = "replacing_folder") -> Iterator[Path]:
    """The same for a whole folder: the block fills the new one, and then the old one is removed.

    Folders above it that do not exist are made. The old one is moved aside for the moment in which
    neither has the name.
    Raises what `require_replaceable_folder` does, and OSError where the disk is full.
    """
    path = require_replaceable_folder(path, who=who)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path, who) as temporary:
        temporary.mkdir()
        yield temporary
        for file in (file for file in temporary.rglob("*") if file.is_file()):
            _to_the_disk(file)
        old = temporary.with_name(f"{temporary.name}.old")
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)


def require_replaceable(
    path: Path | str, *, who: str = "replacing", besides: Iterable[Path | str | None] = ()
) -> Path:
    """Raise for what would keep `replacing` from writing; before a long work, not after it.

    Gives the file that will be written: a symbolic link is followed, not replaced.
    besides: files that are read for it, or written too; the path may be none of them
    Raises IsADirectoryError, FileNotFoundError (no folder for it), OSError (read-only, disk full)
    or ValueError (one of `besides`)
    """
    target = Path(os.path.realpath(path))
    if str(target) in {os.path.realpath(other) for other in besides if other is not None}:
        raise ValueError(f"{who}: {path} is named twice, and would be lost; name another file")
    if os.path.isdir(target):
        raise IsADirectoryError(f"{who}: {path} is a folder; name a file in it")
    if not os.path.isdir(target.parent):
        raise FileNotFoundError(
            f"{who}: cannot write {path}: there is no folder {target.parent}; make it first"
        )
    exists = os.path.exists(target)
    if exists and not stat.S_ISREG(target.stat().st_mode):
        raise OSError(f"{who}: {path} is a device or a pipe, not a file; name a file")
    rights = {"effective_ids": os.access in os.supports_effective_ids}
    if exists and not os.access(target, os.W_OK, **rights):
        raise OSError(f"{who}: {path} is read-only; name another file, or make it writable")
    require_writable(target.parent, who=who)
    return target


def require_replaceable_folder(path: Path | str, *, who: str = "replacing_folder") -> Path:
    """The same for `replacing_folder`. Raises NotADirectoryError or OSError."""
    target = Path(os.path.realpath(path))
    if os.path.lexists(target) and not os.path.isdir(target):
        raise NotADirectoryError(f"{who}: {path} is a file; choose another folder with --out")
    require_folder(target.parent, who=who)
    return target


def require_folder(folder: Path | str, *, who: str) -> None:
    """Raise OSError unless this folder, which need not exist yet, can be made and written to."""
    folder = Path(os.path.realpath(folder))
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    require_writable(there, who=who, for_=folder)


def require_writable(folder: Path, *, who: str, for_: Path | None = None) -> None:
    """Raise OSError unless a file can be written into a folder that exists."""
    probe = folder / f".{os.getpid()}.probe.tmp"
    try:
        try:
            probe.write_bytes(b"minswin")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            f"{who}: cannot write to the folder {for_ or folder} ({error.strerror or error}); "
            "choose another one with --out, or make room or the right to write there"
        ) from error


@contextmanager
def _temporary(path: Path, who: str) -> Iterator[Path]:
    """A name in the same folder, with the same ending, that is free again afterwards."""
    start, end = f".{path.stem[:40]}.", f".tmp{path.suffix[:40]}"  # also beside a long name
    _forget(path.parent, re.escape(start) + _MARK + re.escape(end), HOUR)
    temporary = path.with_name(f"{start}{os.getpid()}-{time.monotonic_ns():x}{end}")
    try:
        yield temporary
    except OSError as error:
        of_another = error.filename and not str(error.filename).startswith(str(temporary))
        if of_another or str(error).startswith(f"{who}: "):
            raise  # of what the block reads
        reason: BaseException = error
        while isinstance(reason.__cause__, OSError):  # of a file in a folder, say
            reason = reason.__cause__
        raise OSError(
            f"{who}: cannot write {path} ({getattr(reason, 'strerror', None) or reason}); check "
            "that the folder exists, may be written, and that the disk is not full"
        ) from error
    finally:
        _remove(temporary)


def clear(folder: Path) -> None:
    """Remove what killed processes left in a folder that nobody else writes to."""
    _forget(folder, rf"\..*\.{_MARK}\.tmp.*", 0)


def _forget(folder: Path, pattern: str, age: float) -> None:
    """Remove the temporaries of these names to which nothing was written for `age` seconds."""
    with suppress(OSError):
        for file in folder.iterdir():
            ours = re.fullmatch(pattern, file.name)
            if ours and time.time() - file.lstat().st_mtime >= age:
                _remove(file)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _to_the_disk(file: Path) -> None:
    with open(file, "rb") as written:
        os.fsync(written.fileno())
