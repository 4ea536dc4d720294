"""Batches made ahead of time, in threads of their own, while the caller works on earlier ones."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import TypeVar

Place = TypeVar("Place")
Item = TypeVar("Item")


def ahead(
    make: Callable[[Place], Item], places: Iterable[Place], *, workers: int = 1
) -> Iterator[Item]:
    """make(place) for each place, in their order, whatever the number of threads that make them.

    make: is called in several threads at once where there are several workers, and so must depend
    on its place alone
    workers: threads; at most one item more than these waits for the caller

    An error comes where its item would. The threads end with the last item, or as soon as the
    caller lets go of the iterator: after the items that they are making. A forked child has no such
    threads: there, the iterator of its parent is an error.
    """
    if workers < 1:
        raise ValueError(f"ahead: workers must be 1 or more, got {workers}")
    return _ahead(make, iter(places), workers)


def _ahead(make: Callable[[Place], Item], places: Iterator[Place], workers: int) -> Iterator[Item]:
    context, process = copy_context(), os.getpid()
    makers = ThreadPoolExecutor(workers, "minswin-data")

    def order(count: int) -> Iterator[Future[Item]]:
        """np.errstate holds in the threads too; a context is for one thread at a time."""
        for place in islice(places, count):
            yield makers.submit(context.copy().run, make, place)

    try:
        waiting = deque(order(workers + 1))
        while waiting:
            item = waiting.popleft().result()
            waiting.extend(order(1))
            yield item
            if os.getpid() != process:
                raise RuntimeError(
                    "ahead: these batches are made by threads of the parent process, which a "
                    "forked child does not have; make the iterator in the child"
                )
    finally:
        if os.getpid() == process:
            makers.shutdown(cancel_futures=True)
