"""Ctrl-C and SIGTERM as a wish that the loop reads between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Inside this block the first SIGINT or SIGTERM is only noted; `received()` gives its number.

    A second one acts as usual, for those who do not want to wait. Outside of the main thread,
    where Python lets nobody handle signals, the block does nothing.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def received(self) -> int | None:
        return self._received

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    def __exit__(self, *error: object) -> None:
        self._restore()
