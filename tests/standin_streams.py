"""Streams, events, captures and memory pools of the stand-in for CuPy (standin.py).

- A capture runs nothing for good: what was there before is put back at its end, and `launch` makes
  the recorded calls again, on the same arrays. Reading a number while capturing is an error.
- Streams are late: what one is asked for is done when it computes, or when somebody waits for it.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np


class Stream:
    """Work in order. Computing on a stream first does what was asked of that stream before."""

    all: ClassVar[list[Stream]] = []
    current: ClassVar[Stream]

    def __init__(self, non_blocking: bool = False) -> None:
        self.may_capture = non_blocking
        self.waiting: list[Callable[[], None]] = []
        self.finished, self.ptr = 0, id(self)
        Stream.all.append(self)

    def __enter__(self) -> Stream:
        self._before, Stream.current = Stream.current, self
        return self

    def __exit__(self, *_: object) -> None:
        Stream.current = self._before

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.stream, event.place = self, self.finished + len(self.waiting)
        return event

    def wait_event(self, event: Event) -> None:
        self.waiting.append(event.synchronize)

    def synchronize(self) -> None:
        wait_for_all()
        self.work_until(self.finished + len(self.waiting))

    @property
    def done(self) -> bool:
        return not self.waiting

    def is_capturing(self) -> bool:
        return Capture.now is not None and Capture.now.stream is self

    def work_until(self, place: int) -> None:
        while self.finished < place and self.waiting:
            self.finished += 1
            self.waiting.pop(0)()

    def begin_capture(self, mode: int | None = None) -> None:
        if not self.may_capture:
            raise RuntimeError("the default stream cannot capture")
        self.synchronize()
        Capture.now = Capture(self)

    def end_capture(self) -> Capture:
        capture, Capture.now = Capture.now, None
        if capture is None:
            raise RuntimeError("this stream is not capturing")
        capture.put_back()
        return capture


class Event:
    """A place in the work of a stream."""

    def __init__(self, **_: Any) -> None:
        self.stream: Stream | None = None
        self.place = 0

    def record(self, stream: Stream | None = None) -> None:
        (stream or Stream.current).record(self)

    @property
    def done(self) -> bool:
        return self.stream is None or self.stream.finished >= self.place

    def synchronize(self) -> None:
        if self.stream is not None:
            self.stream.work_until(self.place)


def catch_up() -> None:
    if Capture.now is None:
        Stream.current.synchronize()


def wait_for_all() -> None:
    if Capture.now is not None:
        raise RuntimeError("nothing can be read while capturing")


# ── graphs ───────────────────────────────────────────────────────────────────────────────────────


class Capture:
    """Calls that can be made again; also what CuPy calls a Graph."""

    now: Capture | None = None

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.calls: list[Callable[[], None]] = []
        self.before: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.launches = 0

    def record(
        self, function: Callable[..., Any], inputs: list[Any], settings: Any, result: Any
    ) -> None:
        results = result if isinstance(result, (tuple, list)) else [result]
        arrays = [x for x in inputs if isinstance(x, np.ndarray)]
        if any(np.may_share_memory(results[0].inside, x) for x in arrays):
            return  # a view sees what its array gets

        def again() -> None:
            value = function(*inputs, **settings)
            values = value if isinstance(value, (tuple, list)) else [value]
            for r, v in zip(results, values, strict=True):
                r.inside[...] = v

        self.calls.append(again)

    def will_write(self, target: Any) -> None:
        owner = target.inside
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        self.before.setdefault(id(owner), (owner, owner.copy()))

    def put_back(self) -> None:
        for owner, value in self.before.values():
            owner[...] = value

    def launch(self, stream: Any = None) -> None:
        catch_up()
        self.launches += 1
        with np.errstate(all="ignore"):  # a GPU gives no warnings
            for again in self.calls:
                again()


class MemoryPool:
    def malloc(self, size: int) -> Any:
        return types.SimpleNamespace(ptr=id(self))

    def free_all_blocks(self, stream: Any = None) -> None: ...
