"""What a program writes to a terminal."""

from __future__ import annotations

import os
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import warm


def shown(program: list[str], folder: Path | None = None, *streams: str) -> str:
    """What `python PROGRAM` writes to a terminal of 130 columns, where these streams lead to it.

    streams: of "out" and "err", both if none is given   The program must end well.
    """
    pty = pytest.importorskip("pty")
    import fcntl
    import termios

    terminal, its_end = pty.openpty()
    fcntl.ioctl(its_end, termios.TIOCSWINSZ, struct.pack("4H", 24, 130, 0, 0))
    leads = dict.fromkeys(streams or ("out", "err"), os.ttyname(its_end))
    with ThreadPoolExecutor(1) as reader:  # meanwhile: a terminal holds little
        seen = reader.submit(_all_of, terminal)
        try:
            done = warm.run(program, folder, **leads)
        finally:
            os.close(its_end)
    os.close(terminal)
    assert done.returncode == 0, done
    return seen.result().decode()


def _all_of(terminal: int) -> bytes:
    seen = b""
    with suppress(OSError):  # how a closed terminal says that nothing follows
        while part := os.read(terminal, 1000):
            seen += part
    return seen
