"""All cores for one model: a batch is split into parts, and each thread takes a part.

NumPy and the kernels let go of the interpreter lock, so plain threads suffice. That is faster than
threads inside each operation, most of which are too short to be shared; so BLAS may start none.
Several processes (distributed.py) share a batch alike, and each splits its share over its threads.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from contextvars import copy_context
from functools import partial
from typing import Any

import numpy as np

from minswin import kernels
from minswin.around import Around, surrounded_by, surroundings
from minswin.arrays import Array, Vjp
from minswin.autograd import (
    Tensor,
    apply,
    is_recording,
    no_grad,
)
from minswin.buckets import Exchange, Traffic, sum_of
from minswin.distributed import Group, Share
from minswin.kernels.blas import one_blas_thread

__all__ = ["DataParallel", "cores", "data_parallel"]


def data_parallel(
    model: Any, threads: int | None = None, group: Group | None = None
) -> DataParallel:
    """The model as a callable that splits its batch over threads, by default one for each core.

    The result is an ordinary Tensor. Its `backward` runs in the same threads and adds the parts'
    gradients, always in one order: a fixed number of threads gives the same bits in every run,
    and another number changes nothing but the rounding, dropout included. A layer that looks at
    the batch as a whole while it trains (`Layer.whole_batch`) is not split: with threads=None its
    model runs in one thread, and more are an error; after model.eval() it is as any other. From
    then on, NumPy's BLAS uses one thread in this process.

    group: of processes that share each batch; see `DataParallel.__call__`. The cores of a machine
    are divided among its ranks.
    """
    group, joint = group or Group(), _needing_the_whole_batch(model)
    if threads is None:
        threads = 1 if joint else cores_of_a_rank(group)
    if not isinstance(threads, int) or threads < 1:
        raise ValueError(f"data_parallel: threads must be 1 or more, or None, got {threads!r}")
    if joint and threads * group.size > 1:
        raise _not_split(joint[0], threads, group.size)
    return DataParallel(model, threads, group)


def _needing_the_whole_batch(model: Any) -> list[str]:
    layers = (layer for layer in model.layers_within() if layer.whole_batch and layer.training)
    return [type(layer).__name__ for layer in layers]


def _not_split(layer: str, threads: int, ranks: int) -> ValueError:
    among, instead = f"{threads} threads", "threads=1"
    if ranks > 1:
        among, instead = f"{ranks} ranks", "one process"
    return ValueError(
        f"data_parallel: {layer} needs the whole batch, which {among} would split; use {instead}"
    )


def cores_of_a_rank(group: Group | None) -> int:
    """The cores of this machine for each of the ranks that run on it."""
    return max(1, cores() // (group or Group()).ranks_here)


def cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class DataParallel:
    """A model and its twins, one for each thread: copies of its layers that share its weights.

    A twin has gradients of its own, so the threads need no locks. Switch `model` itself between
    train() and eval(), load and update its weights: the twins follow. A single thread needs none:
    it is the caller's, and runs the model.
    """

    def __init__(self, model: Any, threads: int, group: Group | None = None) -> None:
        self.model, self.group, self.traffic = model, group or Group(), Traffic()
        split = threads * self.group.size > 1
        self._twins = [_Twin(model) for _ in range(threads)] if split else []
        self._threads = threads
        self._pool, self._process = ThreadPoolExecutor(threads, "minswin"), os.getpid()
        one_blas_thread()

    def __call__(self, x: Tensor | Array, share: Share | None = None) -> Tensor:
        """What model(x) gives.        x (B, …)        gives (B, …)

        share: x are these samples of a batch, and all ranks of the group are called, each with its
        share. Random numbers are those of the whole batch; `backward` gives the weights the sum of
        the gradients of all ranks.
        """
        share = share if self.group.size > 1 else None
        few = len(self._twins) < 2 and share is None
        if few or not isinstance(x.data if isinstance(x, Tensor) else x, np.ndarray):
            return self.model(x)  # a GPU has cores of its own
        if joint := _needing_the_whole_batch(self.model):
            raise _not_split(joint[0], len(self._twins), self.group.size)
        wanted = isinstance(x, Tensor) and x.requires_grad
        return apply(self._split, x, *_weights(self.model), wanted=wanted, share=share)

    def close(self) -> None:
        """Let the threads end, as they do anyway once this object is gone."""
        self._own_pool().shutdown()

    def _own_pool(self) -> ThreadPoolExecutor:
        """The threads of this process: a forked child has none of its parent's."""
        if self._process != os.getpid():
            self._pool, self._process = ThreadPoolExecutor(self._threads, "minswin"), os.getpid()
        return self._pool

    def _split(
        self, x: Array, *weights: Array, wanted: bool, share: Share | None
    ) -> tuple[Array, Vjp]:
        """As a definition: the model's value; gradients of the weights, of x where it is wanted."""
        before, batch = (0, len(x)) if share is None else (share.start, share.batch)
        parts = np.array_split(x, max(1, min(len(self._twins), len(x))))
        twins = self._twins[: len(parts)]
        ends = np.cumsum([len(part) for part in parts]).tolist()
        layers, shared = list(self.model.layers_within()), _shared(self.model)
        for twin, start, end in zip(twins, [0, *ends], ends, strict=False):
            twin.follow(layers, shared, before + start, before + end, batch)
        choices = wanted, kernels.chosen(x), is_recording(), surroundings()
        runs = self._each(_forward, [(*pair, *choices) for pair in zip(twins, parts, strict=True)])
        twins[0].lead()

        def vjp(g: Array) -> tuple[Array | None, ...]:
            pieces = np.array_split(g, len(parts))
            exchange = Exchange(self.group, weights, len(parts), self.traffic) if share else None
            backward = partial(_backward, exchange=exchange)
            jobs = [(i, *run) for i, run in enumerate(zip(twins, runs, pieces, strict=True))]
            dx, *gradients = zip(*self._each(backward, jobs), strict=True)
            whole = None if any(d is None for d in dx) else np.concatenate(dx)
            return whole, *(self._add(gradients) if exchange is None else exchange.results())

        return np.concatenate([y.data for _, y in runs]), vjp

    def _add(self, gradients: list[tuple[Array | None, ...]]) -> Iterator[Array | None]:
        """The sum over the parts for each weight; each thread adds up some of them."""
        each = max(1, -(-len(gradients) // len(self._twins)))
        jobs = [(gradients[i : i + each],) for i in range(0, len(gradients), each)]
        return (total for sums in self._each(_sums, jobs) for total in sums)

    def _each(self, work: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> list[Any]:
        """work(*a) for every a, at the same time; the results in order, or the first error."""
        pool = self._own_pool()
        jobs = [pool.submit(copy_context().run, work, *a) for a in arguments]
        try:
            return [job.result() for job in jobs]
        finally:
            wait(jobs)  # after an error: the twins are free again


# ── what runs in a thread ────────────────────────────────────────────────────────────────────────


class _Twin:
    """A copy of a model that shares its weights and buffers: the very arrays."""

    def __init__(self, model: Any) -> None:
        self.shares = [(rng, Part(rng)) for rng in model.generators()]
        known = {id(t.data): t.data for t in _shared(model)}
        known.update((id(rng), share) for rng, share in self.shares)
        self.model = copy.deepcopy(model, known)
        self.layers, self.shared = list(self.model.layers_within()), _shared(self.model)
        self.weights = _weights(self.model)
        self.zero_grad()

    def follow(
        self, layers: list[Any], shared: list[Tensor], start: int, end: int, batch: int
    ) -> None:
        """Take the modes of the model's layers, its arrays and random state.

        For the samples start…end of a batch.
        """
        for twin, layer in _pairs(self.layers, layers):
            twin.training = layer.training
        for twin, p in _pairs(self.shared, shared):
            twin.data, twin.requires_grad = p.data, p.requires_grad
        for rng, share in self.shares:
            share.state = rng.bit_generator.state, start, end, batch

    def zero_grad(self) -> None:
        for p in self.weights:
            p.grad = None

    def lead(self) -> None:
        """Give the model's generators the state that they would have after the whole batch."""
        for rng, share in self.shares:
            rng.bit_generator.state = share.rng.bit_generator.state


def _weights(model: Any) -> list[Tensor]:
    return list(model.parameters())


def _shared(model: Any) -> list[Tensor]:
    """What twins have in common with their model."""
    return [*_weights(model), *(buffer for _, buffer in model.named_buffers())]


def _pairs(twins: list[Any], models: list[Any]) -> list[tuple[Any, Any]]:
    if len(twins) != len(models):
        raise ValueError(
            "data_parallel: the model has gained or lost layers since it was split; "
            "call data_parallel(model) again"
        )
    return list(zip(twins, models, strict=True))


class Part:
    """A generator that draws for the whole batch, and gives one part what belongs to it.

    It has what layers use of a numpy Generator: `random`, and `bit_generator.state` to go back to.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = copy.deepcopy(rng)
        self.start = self.end = self.batch = 0

    @property
    def bit_generator(self) -> Part:
        return self

    @property
    def state(self) -> tuple[Any, int, int, int]:
        """State of the generator, and which samples of a batch it draws for: start, end, batch."""
        return self.rng.bit_generator.state, self.start, self.end, self.batch

    @state.setter
    def state(self, state: tuple[Any, int, int, int]) -> None:
        self.rng.bit_generator.state, self.start, self.end, self.batch = state

    def random(self, shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
        if shape[0] != self.end - self.start:
            raise ValueError(
                f"data_parallel: the first axis of random numbers must be that of the batch, of "
                f"{self.end - self.start} samples here, got {shape}; use threads=1"
            )
        return self.rng.random((self.batch, *shape[1:]), dtype=dtype)[self.start : self.end]


def _forward(
    twin: _Twin, x: Array, wanted: bool, backend: str, recording: bool, steps: Around | None
) -> tuple[Tensor, Tensor]:
    """Images and logits of one part, with the choices of the thread that asked."""
    images = Tensor(x, requires_grad=wanted)
    grad = nullcontext() if recording else no_grad()
    with kernels.using(backend), surrounded_by(steps), grad:
        return images, twin.model(images)


def _backward(
    part: int, twin: _Twin, run: tuple[Tensor, Tensor], g: Array, exchange: Exchange | None
) -> list[Array | None]:
    """What one part adds to the gradient of the images and of each weight."""
    images, y = run
    twin.zero_grad()
    if y.requires_grad:
        y.backward(np.ascontiguousarray(g), _handing_in(twin, part, exchange))
    if exchange is not None:
        exchange.close(part)
    gradients = [images.grad, *(p.grad for p in twin.weights)]
    twin.zero_grad()
    return gradients


def _handing_in(
    twin: _Twin, part: int, exchange: Exchange | None
) -> Callable[[Tensor], None] | None:
    """What backward calls with each leaf: the gradients of weights go to the exchange."""
    if exchange is None:
        return None
    numbers = {id(p): number for number, p in enumerate(twin.weights)}

    def each(leaf: Tensor) -> None:
        if id(leaf) in numbers:
            exchange.hand_in(part, numbers[id(leaf)], leaf.grad)

    return each


def _sums(gradients: Sequence[tuple[Array | None, ...]]) -> list[Array | None]:
    """Added in the order of the parts, so that the bits do not depend on who was first."""
    return [sum_of(parts) for parts in gradients]
