"""Training on a GPU: a step as one launch, recorded once as a CUDA graph; batches sent ahead.

Starting a kernel costs the CPU some microseconds, and a step of a small Swin has thousands. A
replay reads and writes exactly the arrays of the recording, so all that changes from step to step
must lie in arrays that stay: the batch, the scale of the loss, and the random numbers of dropout,
which are drawn on the CPU, in the order of a plain step, before each replay.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minswin.arrays import Array
from minswin.devices import cupy, gpu_number
from minswin.training.precision import current_precision

WARM_UP = 3  # plain calls before the recording: kernels are compiled, tables are moved


class Captured:
    """function(*arrays) of a GPU, which gives one array and sets the gradients of a model.

    For each size of batch, precision and mode of the layers, the first calls run it plainly, then
    it is recorded; where that fails, one message tells so, and all calls stay plain. The results
    equal plain calls to the bit.
    """

    def __init__(
        self, function: Callable[..., Array], model: Any, say: Callable[[str], None]
    ) -> None:
        self.function, self.model, self.say = function, model, say
        self.recordings: dict[tuple[Any, ...], _Recording] = {}
        self.failed = False

    def __call__(self, *inputs: Array) -> Array:
        if self.failed:
            return self.function(*inputs)
        modes = tuple(layer.training for layer in self.model.layers_within())
        kind = tuple((x.shape, x.dtype) for x in inputs), modes, current_precision()
        if kind not in self.recordings:
            self.recordings[kind] = _Recording(self.function, self.model)
        try:
            return self.recordings[kind](inputs)
        except _NotCaptured as error:
            self.failed = True
            self.say(f"the step cannot be captured ({error}); it runs kernel by kernel")
            return self.function(*inputs)


class _NotCaptured(Exception):
    """What stood in the way."""


class _Recording:
    """The same for batches of one size. The last plain call draws as a replay does."""

    def __init__(self, function: Callable[..., Array], model: Any) -> None:
        self.function, self.model = function, model
        self.draws = [Draws(rng) for rng in model.generators()]
        self.plain_calls = 0
        self.graph: Any = None

    def __call__(self, inputs: tuple[Array, ...]) -> Array:
        if self.plain_calls < WARM_UP:
            self.plain_calls += 1
            if self.plain_calls == WARM_UP:  # by now it is known what is drawn
                self._draw_ahead()  # so that its kernels too are compiled before the recording
            with self._drawing():
                return self.function(*inputs)
        if self.graph is None:
            self._record(inputs)
        return self._replay(inputs)

    def _draw_ahead(self) -> None:
        for draws in self.draws:
            draws.fill(cupy())

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Inside this block the layers draw from `self.draws`, from the first number on."""
        for draws in self.draws:
            draws.place = 0
        with self.model.drawing_from((draws.rng, draws) for draws in self.draws):
            yield

    def _record(self, inputs: tuple[Array, ...]) -> None:
        """Record one call. Nothing is computed yet."""
        library = cupy()
        self.stream = library.cuda.get_current_stream()  # kept: with it goes cuBLAS's workspace
        library.get_default_memory_pool().free_all_blocks()  # what the plain calls used
        self.pool = library.cuda.MemoryPool()  # for this recording alone
        self.inputs = [x.copy() for x in inputs]
        try:
            with library.cuda.using_allocator(self.pool.malloc), self._capture(self.stream):
                self.result = self.function(*self.inputs)
        except Exception as error:
            self.graph = None
            raise _NotCaptured(error) from error
        self.gradients = [(p, p.grad) for p in self.model.parameters()]

    @contextmanager
    def _capture(self, stream: Any) -> Iterator[None]:
        stream.begin_capture()
        try:
            with self._drawing():
                yield
        except BaseException:
            try:
                stream.end_capture()
            except Exception:  # the first error says what is wrong
                self.graph = None
            raise
        self.graph = stream.end_capture()

    def _replay(self, inputs: tuple[Array, ...]) -> Array:
        for kept, x in zip(self.inputs, inputs, strict=True):
            kept[...] = x
        self._draw_ahead()
        self.graph.launch(cupy().cuda.get_current_stream())
        for p, gradient in self.gradients:
            p.grad = gradient
        return self.result


# ── random numbers ───────────────────────────────────────────────────────────────────────────────


class Draws:
    """Stands for a generator: notes what is drawn, then gives it from arrays that stay.

    It has what layers use of a numpy Generator: `random`, of which they only ask where it reaches a
    rate, and `bit_generator.state` to go back to.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.place = rng, 0
        self.noted: list[_Drawn] = []
        self.arrays: list[Array] | None = None
        self.turn = 0

    def random(self, shape: tuple[int, ...], dtype: Any = np.float64) -> _Drawn:
        place, self.place = self.place, self.place + 1
        if place == len(self.noted):
            self.noted.append(_Drawn(shape, dtype))
        drawn = self.noted[place]
        if self.arrays is None:
            drawn.draw(self.rng)
        else:
            drawn.reached = self.arrays[place]
        return drawn

    def fill(self, library: Any) -> None:
        """Draw for the next call, in the order of a plain one; one copy brings all of it."""
        if not self.noted:
            return
        if self.arrays is None:
            self._make_room(library)
        self.turn = 1 - self.turn
        masks, copied = self.pinned[self.turn], self.copied[self.turn]
        if not copied.done:  # the copy of two calls ago has left this place
            copied.synchronize()
        for drawn, place in zip(self.noted, self.places, strict=True):
            reached = drawn.draw(self.rng) >= drawn.rate
            masks[place : place + reached.size] = reached.reshape(-1)
        self.there.set(masks, stream=library.cuda.get_current_stream())  # else CuPy waits
        copied.record()

    def _make_room(self, library: Any) -> None:
        """One array on the GPU, of which those that the layers get are parts; two pinned ones."""
        from cupyx import empty_pinned

        sizes = [math.prod(drawn.shape) for drawn in self.noted]
        ends = list(itertools.accumulate(-(-size // 256) * 256 for size in sizes))
        self.places = [0, *ends[:-1]]  # aligned as CuPy aligns
        self.there = library.empty(ends[-1], np.bool_)
        self.pinned = [empty_pinned(ends[-1], np.bool_) for _ in range(2)]
        self.copied = [library.cuda.Event(disable_timing=True) for _ in range(2)]
        self.arrays = [
            self.there[place : place + size].reshape(drawn.shape)
            for drawn, place, size in zip(self.noted, self.places, sizes, strict=True)
        ]

    @property
    def bit_generator(self) -> Draws:
        return self

    @property
    def state(self) -> tuple[Any, int]:
        return self.rng.bit_generator.state, self.place

    @state.setter
    def state(self, state: tuple[Any, int]) -> None:
        self.rng.bit_generator.state, self.place = state


class _Drawn:
    """Random numbers that were drawn in a step, and the rate that they were compared with."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype, self.rate = shape, dtype, 0.0
        self.numbers: Array = None
        self.reached: Array = None  # the answer, on the GPU

    def draw(self, rng: np.random.Generator) -> Array:
        self.numbers = rng.random(self.shape, dtype=self.dtype)
        return self.numbers

    def __ge__(self, rate: float) -> Array:
        if self.reached is None:
            self.rate = rate
            return self.numbers >= rate
        if rate != self.rate:
            raise ValueError(f"a recorded step drops at the rate {self.rate}, not {rate}")
        return self.reached


# ── batches on their way ─────────────────────────────────────────────────────────────────────────


def feed(batches: Iterable[tuple[Array, ...]], device: str) -> Iterator[tuple[Array, ...]]:
    """The same batches on the device; on a CPU as they are.

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
