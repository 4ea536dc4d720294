"""Gradients summed over threads and ranks, bucket by bucket, while backward still computes others.

Backward meets the last layers first. So their gradients are whole, and can travel, while those of
the first layers are still being computed.                              Li et al. 2020, §3.2.3
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minswin.arrays import Array, array_module
from minswin.distributed import Group

BYTES = 4 << 20  # of a bucket: many times what a message costs however short it is


@dataclass
class Traffic:
    """What gradients have cost so far on this rank, in seconds and bytes."""

    steps: int = 0
    bytes: int = 0
    seconds: float = 0.0  # in which sums were on their way
    waited: float = 0.0  # of these, after backward had no more to do


def plan(weights: Sequence[Array], limit: int = BYTES) -> list[list[int]]:
    """The numbers of the weights in buckets of one dtype and about `limit` bytes, last ones first.

    >>> plan([np.ones(3), np.ones(2), np.ones(4, np.float32)], limit=32)
    [[2], [1], [0]]
    >>> plan([np.ones(3), np.ones(2), np.ones(2)], limit=32)
    [[2, 1], [0]]
    """
    buckets: list[list[int]] = []
    size, dtype = 0, None
    for number in reversed(range(len(weights))):
        w = weights[number]
        if not buckets or w.dtype != dtype or size + w.nbytes > limit:
            buckets.append([])
            size, dtype = 0, w.dtype
        buckets[-1].append(number)
        size += w.nbytes
    return buckets


class Exchange:
    """The gradients of one backward: handed in by the parts of a batch, given back summed.

    Parts are added in their order, ranks as MPI orders them, so the bits do not depend on who was
    first. The buckets are sent in one order by all ranks. A weight has no gradient if no part of
    any rank has one.
    """

    def __init__(
        self, group: Group, weights: Sequence[Array], parts: int, traffic: Traffic
    ) -> None:
        self._group, self._weights, self._traffic = group, weights, traffic
        self._buckets = plan(weights)
        self._missing = [parts * len(bucket) for bucket in self._buckets]
        self._bucket_of = {n: i for i, bucket in enumerate(self._buckets) for n in bucket}
        self._gradients: list[list[Array | None]] = [[None] * parts for _ in weights]
        self._handed_in = [[False] * parts for _ in weights]
        self._sums: list[Future[Array]] = []
        self._lock = threading.Lock()

    def hand_in(self, part: int, number: int, gradient: Array | None) -> None:
        """The gradient of a weight is whole in this part; called once for each, in any order."""
        self._gradients[number][part] = gradient
        self._handed_in[number][part] = True
        with self._lock:
            self._missing[self._bucket_of[number]] -= 1
            while len(self._sums) < len(self._buckets) and not self._missing[len(self._sums)]:
                bucket = self._buckets[len(self._sums)]
                self._sums.append(self._group.later(partial(self._sum, bucket)))

    def close(self, part: int) -> None:
        """Backward of this part is over: what it has not handed in has no gradient."""
        for number, handed_in in enumerate(self._handed_in):
            if not handed_in[part]:
                self.hand_in(part, number, None)

    def _sum(self, bucket: list[int]) -> Array:
        """One array of all gradients of a bucket, and behind them how many ranks have each."""
        began = time.perf_counter()
        sums = [sum_of(self._gradients[number]) for number in bucket]
        there = np.array([g is not None for g in sums], self._weights[bucket[0]].dtype)
        pieces = [
            np.zeros(self._weights[number].size, there.dtype) if g is None else g.ravel()
            for number, g in zip(bucket, sums, strict=True)
        ]
        total = np.concatenate([*pieces, there])
        self._group.sum_now(total)
        self._traffic.bytes += total.nbytes
        self._traffic.seconds += time.perf_counter() - began
        return total

    def results(self) -> list[Array | None]:
        """Wait for the sums over all parts of all ranks, in the order of the weights."""
        began = time.perf_counter()
        totals = [done.result() for done in self._sums]
        self._traffic.waited += time.perf_counter() - began
        self._traffic.steps += 1
        results: list[Array | None] = [None] * len(self._weights)
        for bucket, total in zip(self._buckets, totals, strict=True):
            ends = np.cumsum([self._weights[number].size for number in bucket]).tolist()
            for i, (number, end) in enumerate(zip(bucket, ends, strict=True)):
                if total[ends[-1] + i]:
                    like = self._weights[number]
                    results[number] = total[end - like.size : end].reshape(like.shape)
        return results


def sum_there(group: Group, weights: Sequence[Any]) -> None:
    """Replace the gradients of weights, which all have one, by their sums over the ranks."""
    for bucket in plan([p.grad for p in weights]):
        xp = array_module(weights[bucket[0]].grad)
        total = group.all_reduce(xp.concatenate([weights[n].grad.ravel() for n in bucket]))
        end = 0
        for p in (weights[n] for n in bucket):
            start, end = end, end + p.size
            p.grad = total[start:end].reshape(p.shape)


def sum_of(parts: Sequence[Array | None]) -> Array | None:
    """Added in order, into the first part's own array, which nobody else may hold."""
    total, *others = [g for g in parts if g is not None] or [None]
    for g in others:
        total += g
    return total
