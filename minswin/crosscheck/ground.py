"""A forward pass on their tensors, with the calls of all its layers; edited texts run in bounds."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache, partial
from types import FrameType, FunctionType
from typing import Any, NamedTuple

import numpy as np

from minswin import kernels
from minswin.autograd import Tensor, is_recording, no_grad
from minswin.crosscheck.edits.functions import functions_of, watched
from minswin.crosscheck.folder import Trace
from minswin.crosscheck.held import Have, Pass, model_of
from minswin.crosscheck.recording import Recording
from minswin.layers.base import Layer
from minswin.lifting import checks
from minswin.watch import paths_of

Array = np.ndarray
DTYPES = ("float64", "float32")
LONGEST = 3.0  # seconds for one run of an edited text
LARGE = 2**10  # bytes of an array


class Call(NamedTuple):
    """A layer was called: with what, and which steps were made in it."""

    path: str
    arguments: tuple[Any, ...]
    first: int  # the number of the first step
    end: int  # behind the last
    output: str  # the step that it gave, if it is one
    given: tuple[str, ...] = ()  # the steps that its arguments are, "" where they are none


class Ground(Pass):
    """A forward pass on their tensors, with the calls of all its layers."""

    def __init__(self, truth: Trace, have: Have, *, images: int | None = None) -> None:
        super().__init__(truth, have, images)
        self.models = {dtype: frozen(model_of(truth, dtype, have)) for dtype in DTYPES}
        self.weights = {
            dtype: {n: p.data for n, p in model.named_parameters()}
            for dtype, model in self.models.items()
        }
        self.layers = {dtype: dict(model.named_layers()) for dtype, model in self.models.items()}
        self.values: dict[str, dict[str, Array]] = {dtype: {} for dtype in DTYPES}
        self.inputs, self.calls = self._watched()

    @cached_property
    def builders(self) -> list[FunctionType]:
        """The functions of our text that build the model."""
        build = self.truth.build
        assert build is not None
        return functions_of(lambda: build(np.dtype("float64")))

    def held(self, name: str, dtype: str) -> Array:
        """A tensor of theirs in this dtype."""
        values = self.values[dtype]
        if name not in values:
            x = self.have[name]
            values[name] = np.ascontiguousarray(x, dtype if x.dtype.kind == "f" else x.dtype)
        return values[name]

    def _watched(self) -> tuple[dict[str, tuple[str, ...]], list[Call]]:
        """What each step was made of in one run, and the calls of layers, as they ended."""
        model = self.models["float64"]
        paths = paths_of(model)
        stack: list[Any] = []
        ended: list[Any] = []

        def see(frame: FrameType, event: str, result: Any) -> None:
            code = frame.f_code
            if code.co_name != "__call__" or not code.co_argcount:
                return
            names, values = code.co_varnames[: code.co_argcount], frame.f_locals
            path = paths.get(id(values.get(names[0])))
            if path is None:
                return
            if event == "call":
                arguments = tuple(values[n] for n in names[1:])
                stack.append((frame, path, arguments, len(self.order)))
            elif event == "return" and stack and stack[-1][0] is frame:
                ended.append((*stack.pop()[1:], len(self.order), result))

        runs: list[Recording] = []
        watched(lambda: runs.append(self.run_through(model, "float64")), see)
        step = partial(_step_of, runs[0])
        calls = [Call(p, x, a, b, step(y), tuple(map(step, x))) for p, x, a, b, y in ended]
        return {name: one.inputs for name, one in runs[0].steps.items()}, calls

    def between(self, target: str) -> list[str]:
        """The steps from the nearest tensors of theirs to the target."""
        found, waiting = {target}, [target]
        while waiting:
            for name in self.inputs.get(waiting.pop(), ()):
                if name not in found and name not in self.have and name in self.inputs:
                    found.add(name)
                    waiting.append(name)
        return [name for name in self.order if name in found]


def _step_of(record: Recording, x: Any) -> str:
    """The step that a Tensor is, or ""."""
    behind = record.behind(x) if isinstance(x, Tensor) else ()
    same = len(behind) == 1 and record.steps[behind[0]].value.shape == x.shape
    return behind[0] if same else ""


def content(x: Array) -> bytes:
    """All of an array in few bytes: large ones of more than rounding's difference have others."""
    if x.dtype.kind != "f" or x.nbytes <= LARGE:
        return np.ascontiguousarray(x).tobytes()
    return np.dot(x.ravel(), _random(x.size)).tobytes()


@lru_cache(maxsize=16)
def _random(size: int) -> Array:
    return np.random.default_rng(0).standard_normal(size)


def _frozen(x: Array) -> Array:
    x.setflags(write=False)  # an edited text may write into what it was given
    return x


@contextmanager
def unchecked() -> Iterator[None]:
    """Inside this block an index may be negative, and counts from the end, as in most ports.

    Nor is it asked of a layer whether it is built as layers must be, which takes long.
    """
    before = checks._indices, Layer._check
    checks._indices, Layer._check = _nothing, _nothing  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        checks._indices, Layer._check = before  # type: ignore[method-assign]


def _nothing(*_: Any) -> None:
    pass


@contextmanager
def definitions() -> Iterator[None]:
    """Inside this block definitions run, unchecked and unrecorded; a block in it costs nothing."""
    if Layer._check is _nothing and not is_recording():
        yield
        return
    with unchecked(), kernels.using("reference"), no_grad():
        yield


@contextmanager
def limited() -> Iterator[None]:
    """An edited text may loop for ever; only the main thread can be interrupted.

    What counts is the time of the processor: a busy machine interrupts nothing.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGPROF"):
        yield
        return

    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def frozen(model: Layer) -> Layer:
    """The model, with weights and running statistics that nobody can write into."""
    for x in model.state_dict().values():
        x.setflags(write=False)
    return model
