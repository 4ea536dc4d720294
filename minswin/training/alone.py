"""One process at a time works in the folder of a run."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# where the system is no Unix, nothing is locked
fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None

HELD = (errno.EAGAIN, errno.EACCES)  # what the system says of a lock that another has


@contextmanager
def alone_in(folder: Path, *, who: str) -> Iterator[None]:
    """Inside this block the folder, which is made if need be, is this process's.

    The lock is the folder's own, not a file in it, and ends with the process, however that ends;
    where it is killed, with the last of the processes that it forked in the block.
    Where the system or the disk knows no such locks, as some networks' do not, nothing is held.
    A folder that was made here and has stayed empty is removed at the end.
    Raises BlockingIOError where another process is in such a block.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    held = None
    try:
        held = _lock(folder, who)
        yield
    finally:
        if held is not None:
            with suppress(OSError):  # closing alone leaves the lock to what was forked inside
                fcntl.flock(held, fcntl.LOCK_UN)
            os.close(held)
        with suppress(OSError):  # it holds the run now
            for path in made:
                path.rmdir()


def _lock(folder: Path, who: str) -> int | None:
    """A descriptor that holds the lock; None where there are no locks."""
    if fcntl is None:
        return None
    try:
        held = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        if error.errno in HELD:
            raise BlockingIOError(
                f"{who}: another process is at work on the run in {folder}; wait until it ends, or "
                "choose another folder with --out"
            ) from None
        return None
    return held
