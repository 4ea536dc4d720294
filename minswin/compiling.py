"""What is being compiled, and the one line of a terminal that says why a first run is slow.

Whoever compiles calls `begin` and `end`; the commands show NOW in a line of their own.
"""

from __future__ import annotations

import sys

NOW: list[str] = []  # the functions that are being compiled, the innermost last
_told = False


def begin(name: str) -> None:
    """A function is being compiled from now on. On a terminal the first one is told."""
    NOW.append(name)
    if not _told and sys.stderr.isatty():
        line = "minswin: compiling the kernels, once for all runs; a first run takes ten seconds"
        print(f"{line} longer ...", file=sys.stderr, flush=True)
        keep_silent()


def end() -> None:
    """The last one is compiled."""
    NOW.pop()


def keep_silent() -> None:
    """No line from here on: somebody else tells."""
    global _told
    _told = True
