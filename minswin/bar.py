"""One line that shows how far a work is: on a terminal, drawn anew while it goes on."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import IO

PAUSE = 0.1  # seconds between two drawings
WIDTH = 20  # of the bar itself, in characters
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


class Bar:
    """`with Bar(total) as bar: bar.update()` after each unit of the work; removed at the end.

    total: units in all, or None where it is not known   done: units of an earlier process
    shown: by default, where the line goes to a terminal
    """

    def __init__(
        self,
        total: int | None,
        *,
        unit: str = "step",
        label: str = "",
        done: int = 0,
        shown: bool | None = None,
        file: IO[str] | None = None,
    ) -> None:
        self.total, self.unit, self.label, self.text = total, unit, label, ""
        self.done, self._before = done, done
        self.file = sys.stderr if file is None else file
        self.shown = self.file.isatty() if shown is None else shown
        self._start, self._drawn = time.monotonic(), 0.0

    def update(self, units: int = 1) -> None:
        """This many more units are done."""
        self.done += units
        now = time.monotonic()
        if self.shown and now - self._drawn >= PAUSE:
            self._drawn = now
            self._put(self.line(now - self._start))

    def line(self, seconds: float) -> str:
        """Label, share, bar, units, time that went by and is left, and what else is known."""
        speed = (self.done - self._before) / max(seconds, 1e-9)
        parts = [self.label] if self.label else []
        if self.total:
            share = min(self.done / self.total, 1.0)
            rest = (self.total - self.done) / speed if speed else 0.0
            counts = f"{_scaled(self.done)}/{_scaled(self.total)} {self.unit}"
            parts += [f"{share:4.0%} {_drawn(share)} {counts}", f"{_clock(seconds)}+{_clock(rest)}"]
        else:
            parts += [f"{_scaled(self.done)} {self.unit}", _clock(seconds)]
        return "  ".join([*parts, f"{_scaled(speed)} {self.unit}/s", *filter(None, [self.text])])

    def write(self, text: str, file: IO[str]) -> None:
        """Print a text where the line is, which is drawn again below it."""
        self.clear()
        print(text, file=file, flush=True)
        self._drawn = 0.0

    def clear(self) -> None:
        if self.shown:
            self._put("")

    def _put(self, line: str) -> None:
        width = columns(self.file) - 1
        encoding = getattr(self.file, "encoding", None) or "ascii"
        text = line[:width].encode(encoding, "replace").decode(encoding)
        self.file.write(f"\r{text:{width}}\r" if not line else f"\r{text:{width}}")
        self.file.flush()

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()


def columns(stream: IO[str]) -> int:
    """How many characters a line of a stream's terminal has; COLUMNS, where it is set, decides."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (ValueError, OSError, AttributeError):  # no terminal
        return 80


def _drawn(share: float) -> str:
    """A bar of WIDTH characters, to an eighth of one.

    >>> _drawn(0.51).rstrip()
    '██████████▏'
    """
    eighths = int(share * WIDTH * 8)
    return (_EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8])[:WIDTH].ljust(WIDTH)


def _clock(seconds: float) -> str:
    """
    >>> _clock(59.7), _clock(3725)
    ('0:59', '1:02:05')
    """
    hours, rest = divmod(int(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _scaled(x: float) -> str:
    """
    >>> _scaled(7), _scaled(0.25), _scaled(170_498_071)
    ('7', '0.25', '170M')
    """
    for scale, letter in _SCALES:
        if x >= 10 * scale:
            return f"{x / scale:.3g}{letter}"
    return f"{x:.0f}" if x == int(x) or x >= 100 else f"{x:.2g}"
