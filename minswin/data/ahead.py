"""Batches made ahead of time, in a separate thread, while the caller works on earlier ones."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

Item = TypeVar("Item")


def ahead(batches: Iterable[Item], *, depth: int = 2) -> Iterator[Item]:
    """The same batches in the same order; at most `depth` of them wait for the caller.

    An error comes where its batch would. The thread ends with the last batch, or as soon as the
    caller lets go of the iterator: after the batch that it is making. A forked child has no such
    thread: there, the iterator of its parent is an error.
    """
    if depth < 1:
        raise ValueError(f"ahead: depth must be 1 or more, got {depth}")
    return _ahead(iter(batches), depth)


def _ahead(batches: Iterator[Item], depth: int) -> Iterator[Item]:
    end, context = object(), copy_context()  # np.errstate holds in the thread too
    process = os.getpid()
    maker = ThreadPoolExecutor(1, "minswin-data")

    def order() -> Future[Any]:
        return maker.submit(context.run, lambda: next(batches, end))

    try:
        waiting = deque(order() for _ in range(depth))
        while (batch := waiting.popleft().result()) is not end:
            waiting.append(order())
            yield batch
            if os.getpid() != process:
                raise RuntimeError(
                    "ahead: these batches are made by a thread of the parent process, which a "
                    "forked child does not have; make the iterator in the child"
                )
    finally:
        if os.getpid() == process:
            maker.shutdown(cancel_futures=True)
