"""Batches on their way to the device: the next one is copied while the step works on this one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from minswin.arrays import Array
from minswin.devices import cupy, gpu_number


def feed(batches: Iterable[tuple[Array, ...]], device: str) -> Iterator[tuple[Array, ...]]:
    """The same batches on the device; on the CPU the very ones.

    On a GPU the arrays of a batch hold until the next one is asked for. To be used on one stream.
    """
    return iter(batches) if gpu_number(device) is None else _overlapped(iter(batches))


def _overlapped(batches: Iterator[tuple[Array, ...]]) -> Iterator[tuple[Array, ...]]:
    """Two places take turns: one is being filled while the caller reads the other."""
    side = cupy().cuda.Stream(non_blocking=True)
    places = _Place(side), _Place(side)
    turn, ready = 0, None
    for batch in batches:
        places[turn].send(batch)
        if ready is not None:
            yield ready.take()
            ready.release()
        turn, ready = 1 - turn, places[turn]
    if ready is not None:
        yield ready.take()
        ready.release()


class _Place:
    """Room for one batch in pinned memory, from where a GPU copies by itself, and on the GPU."""

    def __init__(self, side: Any) -> None:
        self.side, self.now = side, cupy().cuda.get_current_stream()
        self.pinned: list[Array] = []
        self.there: list[Array] = []
        self.copied: Any = None  # events
        self.read: Any = None

    def send(self, batch: tuple[Array, ...]) -> None:
        """Begin to copy a batch, once the last one has left both of its places."""
        if self.copied is not None:
            self.copied.synchronize()  # pinned memory may be written again
        if [x.shape for x in batch] != [x.shape for x in self.pinned]:
            self._make_room(batch)
        if self.read is not None:
            self.side.wait_event(self.read)  # so may the place on the GPU
        for x, pinned, there in zip(batch, self.pinned, self.there, strict=True):
            pinned[...] = x
            there.set(pinned, stream=self.side)
        self.copied = self.side.record()

    def _make_room(self, batch: tuple[Array, ...]) -> None:
        from cupyx import empty_pinned

        self.pinned = [empty_pinned(x.shape, x.dtype) for x in batch]
        with self.side:  # memory that only this stream gives away
            self.there = [cupy().empty(x.shape, x.dtype) for x in batch]

    def take(self) -> tuple[Array, ...]:
        """The batch, for what the current stream does from now on."""
        self.now.wait_event(self.copied)
        return tuple(self.there)

    def release(self) -> None:
        """All that reads the batch has been asked for."""
        self.read = self.now.record()
