"""Where the time of a training step goes: operation by operation, forward and backward.

with watching(Ledger()) as ledger:
    loss = ops.cross_entropy(model(images), labels)
    loss.backward()
ledger.entries      # one for every operation that ran, in order
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minswin import kernels, ops
from minswin.around import around, goes_alone
from minswin.arrays import Array, Definition, Vjp
from minswin.autograd import Run, Tensor, wrap_vjp
from minswin.bench.clock import Step, seconds
from minswin.bench.counting import backward_work, forward_work, size
from minswin.bench.setups import Setup, check_model, data, our_model
from minswin.training.optimizers import SGD

REST = "Python, the walk, sums of gradients"


class Entry(NamedTuple):
    """One run of an operation, in one direction."""

    operation: str
    direction: str  # "forward", "backward" or "update"
    seconds: float
    flops: int
    bytes: int


class Row(NamedTuple):
    """All runs of an operation in one direction."""

    operation: str
    direction: str
    calls: int
    seconds: float
    flops: int
    bytes: int


class Breakdown(NamedTuple):
    """One training step on one thread; the seconds of the rows add up to `seconds`."""

    model: str
    batch: int
    seconds: float
    rows: list[Row]


class Ledger:
    """The operations that ran, with their times."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    @property
    def seconds(self) -> float:
        return sum(entry.seconds for entry in self.entries)

    @property
    def macs(self) -> int:
        """Multiply-adds of all products."""
        return sum(entry.flops for entry in self.entries) // 2

    def time(
        self, go: Run, definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]
    ) -> Tensor:
        """The step around operations: each leaves an entry, and its vjp another.

        One that runs other operations leaves none: they leave theirs.
        """
        start = time.perf_counter()
        result, alone = goes_alone(self, go, definition, inputs, settings)
        elapsed = time.perf_counter() - start
        if alone:
            arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
            name = definition.__name__
            flops, moved = forward_work(name, arrays, settings, result.data)
            self.entries.append(Entry(name, "forward", elapsed, flops, moved))
            wrap_vjp(result, partial(self._timed, name, flops, size(arrays)))
        return result

    def _timed(self, name: str, flops: int, input_bytes: int, vjp: Vjp) -> Vjp:
        """It holds no array: what backward does not need is freed as ever."""

        def run(g: Array) -> Any:
            start = time.perf_counter()
            gradients = vjp(g)
            elapsed = time.perf_counter() - start
            work = backward_work(name, flops, input_bytes, g, gradients)
            self.entries.append(Entry(name, "backward", elapsed, *work))
            return gradients

        return run

    def update(self, step: Step) -> None:
        """Run the optimizer's step; operations of its own are not counted twice."""
        before = self.seconds
        elapsed = seconds(step)
        self.entries.append(Entry("optimizer", "update", elapsed - (self.seconds - before), 0, 0))


@contextmanager
def watching(ledger: Ledger) -> Iterator[Ledger]:
    """Let every operation inside this block (in this thread) leave its entries in the ledger.

    A composite without a kernel runs as several operations, and each of them is an entry.
    """
    with around(ledger.time):
        yield ledger


def break_down(setup: Setup, *, rounds: int = 5) -> Breakdown:
    """The step of median length among some: half of the batch, as one thread of two would have."""
    check_model(setup.model)
    setup = setup._replace(batch=max(1, setup.batch // 2))
    step = training_step(setup)
    step(Ledger())  # warm
    ledgers = [Ledger() for _ in range(rounds)]
    totals = [seconds(partial(step, ledger)) for ledger in ledgers]
    middle = int(np.argsort(totals)[(rounds - 1) // 2])
    rows = rows_of(ledgers[middle].entries, totals[middle])
    return Breakdown(setup.model, setup.batch, totals[middle], rows)


def training_step(setup: Setup) -> Callable[[Ledger], None]:
    """One step of our model that enters its operations in a ledger."""
    images, labels = data(setup)
    model = our_model(setup, np.random.default_rng(0))
    optimizer = SGD(model.named_parameters(), 0.01, momentum=0.9)

    def step(ledger: Ledger) -> None:
        with kernels.using("numba"), watching(ledger):
            model.zero_grad()
            ops.cross_entropy(model(images), labels).backward()
            ledger.update(optimizer.step)

    return step


def rows_of(entries: Sequence[Entry], total: float) -> list[Row]:
    """One row per operation and direction, the longest first; then what is left of the total."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.operation, entry.direction), []).append(entry)
    rows = [
        Row(
            *key,
            len(group),
            sum(e.seconds for e in group),
            sum(e.flops for e in group),
            sum(e.bytes for e in group),
        )
        for key, group in groups.items()
    ]
    rows.sort(key=lambda row: -row.seconds)
    rest = total - sum(row.seconds for row in rows)
    return [*rows, Row(REST, "", 0, rest, 0, 0)]
