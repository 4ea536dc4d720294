"""Blocks of a large product at the same time, where nobody else has split the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache
from itertools import islice
from typing import Any

from minswin.kernels import blas


def in_threads(work: Callable[[Any], Any], blocks: Iterable[Any]) -> Iterator[Any]:
    """work(block) of every block, in order; as many at a time as there are threads for a product.

    Which thread has a block changes no bit, and no more results are held than there are threads.
    """
    count, blocks = blas.threads(), iter(blocks)
    while group := list(islice(blocks, count)):
        if len(group) == 1:
            yield work(group[0])
            continue
        pool = _pool(os.getpid(), count)
        jobs = [pool.submit(copy_context().run, work, block) for block in group[1:]]
        try:
            yield work(group[0])
            yield from (job.result() for job in jobs)
        finally:
            wait(jobs)  # after an error nobody writes into the arrays any more


@cache
def _pool(process: int, count: int) -> ThreadPoolExecutor:
    """The threads of this process: a fork has none of its parent's."""
    return ThreadPoolExecutor(count - 1, "product")
