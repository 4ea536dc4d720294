"""No silence of more than a moment: a line that says what is being done, and since when."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any, TextIO

from minswin import compiling
from minswin.bar import columns

SILENCE = 2.0  # seconds
TURN = 0.25  # seconds between two looks


class Waiting:
    """Inside this block a terminal gets a line about the progress after two seconds of silence.

    The line goes as soon as anything else is printed. Without a terminal, or where it is not
    wanted, nothing happens.
    """

    def __init__(self, command: str, *, wanted: bool = True) -> None:
        self.command, self.doing = command, ""
        self.wanted = wanted and sys.stderr.isatty()
        compiling.keep_silent()  # it is told here, or is not wanted
        self._lock, self._over, self._shown = threading.RLock(), threading.Event(), False
        self._began = self._last = time.monotonic()

    def now(self, doing: str) -> None:
        """Say what is being done from now on."""
        self.doing = doing

    def __enter__(self) -> Waiting:
        if self.wanted:
            self._out, self._err = sys.stdout, sys.stderr
            heard: Any = [_Heard(stream, self) for stream in (sys.stdout, sys.stderr)]
            sys.stdout, sys.stderr = heard
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.wanted:
            self._over.set()
            self._thread.join()
            self.clear()
            sys.stdout, sys.stderr = self._out, self._err

    def clear(self) -> None:
        """Take the line away: something else is about to be printed."""
        with self._lock:
            if self._shown:
                self._err.write("\r\x1b[K")
                self._err.flush()
            self._shown, self._last = False, time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(TURN):
            with self._lock:
                if self._shown or time.monotonic() - self._last >= SILENCE:
                    self._draw()

    def _draw(self) -> None:
        doing = self.doing or "working"
        for function in compiling.NOW[-1:]:
            doing = f"compiling the kernels, once for all runs: {function}"
        seconds = f" {time.monotonic() - self._began:.0f} s"
        width = columns(self._err) - len(seconds) - 1
        self._err.write(f"\r\x1b[K{f'minswin {self.command}: {doing} …'[:width]}{seconds}")
        self._err.flush()
        self._shown = True


class _Heard:
    """A stream that clears the line before it passes on what is written to it."""

    def __init__(self, stream: TextIO, waiting: Waiting) -> None:
        self._stream, self._waiting = stream, waiting

    def write(self, text: str) -> int:
        with self._waiting._lock:
            self._waiting.clear()
            return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
