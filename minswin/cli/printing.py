"""What a command prints has no line longer than the terminal."""

from __future__ import annotations

import sys
from typing import TextIO

from minswin.look.tables import fitted


def show(text: str, *, to: TextIO | None = None) -> None:
    """Print; on a terminal, lines that are too long are continued below."""
    stream = sys.stdout if to is None else to
    print(fitted(text, stream), file=stream, flush=True)


def tell(text: str) -> None:
    """Print a line about the progress, where it does not mix with the results."""
    show(text, to=sys.stderr)
