"""One call of one layer on their tensors, run again and again with other texts.

The layer is called with what it got from them; layers inside it whose output is theirs, and right,
give that output without running; and the run ends as soon as the wrong tensor is there.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from minswin import kernels
from minswin.around import around, surroundings
from minswin.autograd import Tensor, no_grad
from minswin.crosscheck.edits.repeats import Repeats
from minswin.crosscheck.folder import Trace
from minswin.crosscheck.held import Have, model_of
from minswin.crosscheck.recording import Recording, Step, spell_out
from minswin.crosscheck.trace import loss
from minswin.layers.base import Layer
from minswin.lifting import checks
from minswin.watch import Operation

Array = np.ndarray
DTYPES = ("float64", "float32")
LONGEST = 3.0  # seconds for one run of an edited text


class Call(NamedTuple):
    """A layer was called: with what, and which steps were made in it."""

    path: str
    arguments: tuple[Any, ...]
    first: int  # the number of the first step
    end: int  # behind the last
    output: str  # the step that it gave, if it is one
    given: tuple[str, ...] = ()  # the steps that its arguments are, "" where they are none


class _Reached(BaseException):
    """The tensor that is looked for is there."""


class Ground:
    """A forward pass on their tensors, with the calls of all its layers."""

    def __init__(self, truth: Trace, have: Have, *, images: int | None = None) -> None:
        self.truth, self.have, self.images = truth, dict(have), images
        self.layers: dict[str, dict[str, Layer]] = {}
        self.models = {dtype: frozen(model_of(truth, dtype, have)) for dtype in DTYPES}
        self.layers = {dtype: dict(model.named_layers()) for dtype, model in self.models.items()}
        self.values: dict[str, dict[str, Array]] = {dtype: {} for dtype in DTYPES}
        if images is not None:
            self._take(images)
        self.calls: list[Call] = []
        self.order: list[str] = []
        self.inputs: dict[str, tuple[str, ...]] = {}
        self._record()

    def image(self, dtype: Any) -> Array:
        image = self.have.get("image", self.truth.steps["image"].value)
        return np.asarray(image)[: self.images].astype(dtype)

    def _take(self, images: int) -> None:
        """Their tensors of the first images only: a run is then faster."""
        record = Recording(self.models["float64"])
        with kernels.using("reference"), no_grad(), around(record), around(spell_out):
            logits = self.models["float64"](Tensor(self.image("float64")))
            loss(lambda x: x, logits, self.truth.steps["labels"].value[:images])
        batch = len(self.truth.steps["image"].value)
        for name, x in list(self.have.items()):
            step = record.steps.get(name)
            if step is None or step.value.shape == x.shape:
                continue
            if x.ndim and step.value.shape[0] * batch == x.shape[0] * images:
                self.have[name] = x[: step.value.shape[0]]
            else:
                del self.have[name]

    def held(self, name: str, dtype: str) -> Array:
        """A tensor of theirs in this dtype."""
        values = self.values[dtype]
        if name not in values:
            x = self.have[name]
            values[name] = np.ascontiguousarray(x, dtype if x.dtype.kind == "f" else x.dtype)
        return values[name]

    def _record(self) -> None:
        model = self.models["float64"]
        paths = {id(layer): path for path, layer in model.named_layers()}
        record = Recording(model, hold=self._hold)
        stack: list[tuple[FrameType, str, tuple[Any, ...], int]] = []

        def see(frame: FrameType, event: str, result: Any) -> None:
            code = frame.f_code
            if code.co_name != "__call__" or not code.co_argcount:
                return
            names, values = code.co_varnames[: code.co_argcount], frame.f_locals
            path = paths.get(id(values.get(names[0])))
            if path is None:
                return
            if event == "call":
                stack.append((frame, path, tuple(values[n] for n in names[1:]), len(self.order)))
            elif event == "return" and stack and stack[-1][0] is frame:
                _, path, arguments, first = stack.pop()
                output = _step_of(record, result)
                given = tuple(_step_of(record, x) for x in arguments)
                self.calls.append(Call(path, arguments, first, len(self.order), output, given))

        with kernels.using("reference"), no_grad(), around(record), around(spell_out):
            before = sys.getprofile()
            sys.setprofile(see)
            try:
                logits = model(Tensor(self.image("float64")))
                sys.setprofile(before)
                loss(lambda x: x, logits, self.truth.steps["labels"].value[: self.images])
            finally:
                sys.setprofile(before)
        self.inputs = {name: step.inputs for name, step in record.steps.items()}

    def _hold(self, step: Step, operation: Operation | None) -> Array | None:
        self.order.append(step.name)
        theirs = self.have.get(step.name)
        if theirs is None or theirs.shape != step.value.shape:
            return None
        return np.ascontiguousarray(theirs, step.value.dtype)

    def between(self, target: str) -> list[str]:
        """The steps from the nearest tensors of theirs to the target."""
        found, waiting = {target}, [target]
        while waiting:
            for name in self.inputs.get(waiting.pop(), ()):
                if name not in found and name not in self.have and name in self.inputs:
                    found.add(name)
                    waiting.append(name)
        return [name for name in self.order if name in found]

    def sites(self, target: str) -> list[Site]:
        """The calls that the way to the target lies in, the innermost first."""
        way = self.between(target)
        if not way:
            return []
        numbers = [self.order.index(name) for name in way]
        around = [c for c in self.calls if c.first <= min(numbers) and max(numbers) < c.end]
        around.sort(key=lambda c: (c.end - c.first, -len(c.path)))
        if target == "loss":
            root = next(c for c in self.calls if not c.path)
            return [OfTheLoss(self, root, target, set(way))]
        return [Site(self, call, target, set(way)) for call in around]


class Site:
    """A call of a layer, and the tensor that is wrong in it."""

    def __init__(
        self,
        ground: Ground,
        call: Call,
        target: str,
        way: set[str],
        *,
        theirs: Array | None = None,
    ) -> None:
        self.ground, self.call, self.target, self.way = ground, call, target, way
        self.known = {n: x for n, x in ground.have.items() if n != target and n in ground.inputs}
        outer = {p for name in way for p in _prefixes(name)}
        inside = [c for c in ground.calls if call.first <= c.first and c.end <= call.end]
        self.stubs: dict[str, list[str]] = {}
        for c in inside:
            mine = c.path not in outer and c.path != call.path and c.path.startswith(call.path)
            made = ground.order[c.first : c.end]
            if mine and made:
                self.stubs.setdefault(c.path, []).append(c.output if c.output in made else "")
        self.stubs = {p: n for p, n in self.stubs.items() if all(x in self.known for x in n)}
        # nothing of theirs stands inside: what the call gives is all that is asked for
        self.is_bare = call.output == target and not self.stubs
        self.is_bare &= self.known.keys().isdisjoint(ground.order[call.first : call.end])
        theirs = ground.have[target] if theirs is None else theirs
        self.theirs = np.asarray(theirs, np.float64)
        self.others: list[Array] = []
        self.looks_up = False  # what runs is asked of a run that computes all
        self.repeats = {dtype: Repeats() for dtype in DTYPES}
        self.kind = target.rpartition(".")[2]
        self._arguments = {d: [_cast(x, d) for x in call.arguments] for d in DTYPES}
        self._paths = {
            dtype: {id(layer): path for path, layer in layers.items()}
            for dtype, layers in ground.layers.items()
        }

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────

    def value(self, dtype: str = "float64", model: Layer | None = None) -> Array | None:
        """The target as the present texts give it; None where they cannot."""
        # a step that stands around operations already, as rounding does, computes otherwise
        self.looks_up = model is None and surroundings() is None
        try:
            with limited(), np.errstate(all="ignore"):
                value = self.run(dtype, model)
        except Exception:
            return None
        finally:
            self.looks_up = False
        good = value is not None and value.dtype.kind in "fiub" and np.isfinite(value).all()
        return np.asarray(value, np.float64) if good else None

    def run(
        self, dtype: str = "float64", model: Layer | None = None, *, whole: bool = False
    ) -> Array | None:
        """The same, with exceptions; whole: go on to the end of the call."""
        mine = model is None
        model = self.ground.models[dtype] if model is None else model
        found: list[Array] = []
        others: list[Array] = []

        def hold(step: Step, operation: Operation | None) -> Array | None:
            if step.name == self.target:
                found.append(step.value)
                if not whole:
                    raise _Reached
            theirs = self.known.get(step.name)
            if theirs is not None and theirs.shape == step.value.shape:
                return self.ground.held(step.name, dtype)
            if step.value.shape == self.theirs.shape:
                others.append(step.value)
            return None

        layers = self.ground.layers[dtype] if mine else dict(model.named_layers())
        arguments = self._arguments[dtype]
        if self.is_bare:
            with self._plain(dtype):
                return np.asarray(layers[self.call.path](*arguments).data)
        paths = None if mine else {id(layer): path for path, layer in layers.items()}
        known = {n: self.ground.held(n, dtype) for n in self.known if n not in self.way}
        record = Recording(model, hold=hold, known=known, brief=True)
        record._layers = self._paths[dtype] if paths is None else paths
        with self._plain(dtype, record), self._stubbed(layers, dtype, record):
            try:
                result = layers[self.call.path](*arguments)
            except _Reached:
                return found[0]
        if found:
            return found[0]
        if isinstance(result, Tensor) and result.shape == self.theirs.shape:
            others.append(result.data)
        self.others = others
        off = [float(np.mean(np.abs(x - self.theirs))) for x in others]
        return others[int(np.argmin(off))] if others else None

    @contextmanager
    def _plain(self, dtype: str, record: Recording | None = None) -> Iterator[None]:
        """Inside this block the definitions run, attention step by step, and nothing is checked."""
        with ExitStack() as stack:
            stack.enter_context(unchecked())
            stack.enter_context(kernels.using("reference"))
            stack.enter_context(no_grad())
            if self.looks_up:
                stack.enter_context(around(self.repeats[dtype]))
            if record is not None:
                stack.enter_context(around(record))
            stack.enter_context(around(spell_out))
            try:
                yield
            finally:
                self.repeats[dtype].filling &= not self.looks_up

    @contextmanager
    def _stubbed(
        self, layers: Mapping[str, Layer], dtype: str, record: Recording
    ) -> Iterator[None]:
        """Inside this block the layers whose output is theirs give it, at their first calls."""
        before: list[tuple[Layer, type]] = []
        try:
            for path, outputs in self.stubs.items():
                layer = layers[path]
                before.append((layer, type(layer)))
                layer.__class__ = _stub(type(layer))
                values = [(n, self.ground.held(n, dtype), record) for n in outputs]
                layer.__dict__["_given_outputs"] = values
            yield
        finally:
            for layer, kind in before:
                layer.__class__ = kind
                layer.__dict__.pop("_given_outputs", None)


class OfTheLoss(Site):
    """The loss, which no layer computes: from their logits, or else from the image."""

    def run(
        self, dtype: str = "float64", model: Layer | None = None, *, whole: bool = False
    ) -> Array | None:
        model = self.ground.models[dtype] if model is None else model
        logits = self.ground.inputs[self.target][0]
        labels = self.ground.truth.steps["labels"].value[: self.ground.images]
        with unchecked(), kernels.using("reference"), no_grad():
            if logits in self.known:
                x = Tensor(self.ground.held(logits, dtype))
            else:
                x = model(Tensor(self.ground.image(dtype)))
            return loss(lambda y: y, x, labels).data


def _step_of(record: Recording, x: Any) -> str:
    """The step that a Tensor is, or ""."""
    behind = record._sources.get(id(x.data), ()) if isinstance(x, Tensor) else ()
    step = record.steps.get(behind[0]) if len(behind) == 1 else None
    return behind[0] if step is not None and step.value.shape == x.shape else ""


@cache  # a class is slow to make, and there is a stub in every run
def _stub(kind: type) -> type:
    def call(self: Any, *arguments: Any, **settings: Any) -> Any:
        outputs = self.__dict__.get("_given_outputs")
        if outputs:
            name, value, record = outputs.pop(0)
            record.steps[name] = Step(name, "", "", value)  # a second call has another name
            return Tensor(value)
        return kind.__call__(self, *arguments, **settings)

    return type(kind.__name__, (kind,), {"__call__": call})


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    for i in range(len(parts) + 1):
        yield ".".join(parts[:i])


def _cast(x: Any, dtype: str) -> Any:
    if isinstance(x, Tensor):
        return Tensor(_frozen(x.data.astype(dtype))) if x.data.dtype.kind == "f" else x
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        return _frozen(x.astype(dtype))
    return x


def _frozen(x: Array) -> Array:
    x.setflags(write=False)  # an edited text may write into what it was given
    return x


@contextmanager
def unchecked() -> Iterator[None]:
    """Inside this block an index may be negative, and counts from the end, as in most ports.

    Nor is it asked of a layer whether it is built as layers must be, which takes long.
    """
    before = checks._indices, Layer._check
    checks._indices, Layer._check = lambda *_: None, lambda *_: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        checks._indices, Layer._check = before  # type: ignore[method-assign]


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
    """The model, with weights that nobody can write into."""
    for p in model.parameters():
        p.data.setflags(write=False)
    return model
