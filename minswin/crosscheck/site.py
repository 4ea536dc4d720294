"""One call of one layer on their tensors, run again and again with other texts.

The layer is called with what it got from them; layers inside it whose output is theirs, and right,
give that output without running; and the run ends as soon as the wrong tensor is there.

An edit changes a run from one place on. What stands in front of it gets the same arrays as in the
right run, so it gives the same arrays; it is looked up, unless it runs the text that was edited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from types import CodeType
from typing import Any

import numpy as np

from minswin.around import Around, Run, surrounded_by, surroundings
from minswin.autograd import Tensor
from minswin.crosscheck.edits.functions import functions_of, reaches
from minswin.crosscheck.edits.texts import EDITED, Text
from minswin.crosscheck.ground import DTYPES, Call, Ground, _frozen, definitions, limited
from minswin.crosscheck.recording import Naming, Step, spell_out
from minswin.crosscheck.trace import loss
from minswin.layers.base import Layer
from minswin.watch import Operation, paths_of

Array = np.ndarray
ALIKE = 1e-4  # of the largest element: more is no rounding, in float32 either
MOST = 2**28  # bytes that are kept of one run
SMALL = 2**15  # bytes of a table that is worth a look at its content
REFERENCE = "minswin.reference"


class _Reached(BaseException):
    """The tensor that is looked for is there."""


class Trial:
    """A place at which edits are tried: what our texts give there is held against theirs."""

    theirs: Array
    path, kind = "", ""  # of the layer, of the tensor
    stubs: Mapping[str, list[str]] = {}  # layers that give theirs without running, and what

    def run(
        self, dtype: str = "float64", model: Layer | None = None, *, whole: bool = False
    ) -> Array | None:
        """What the present texts give; whole: go on to the end."""
        raise NotImplementedError

    def value(self, dtype: str = "float64", model: Layer | None = None) -> Array | None:
        """The same in float64; None where the texts cannot run, or what they give is no number."""
        try:
            with limited(), np.errstate(all="ignore"):
                value = self.run(dtype, model)
        except Exception:
            return None
        good = value is not None and value.dtype.kind in "fiub" and np.isfinite(value).all()
        return np.asarray(value, np.float64) if good else None

    def gives_all(self, edit: Any) -> bool:
        """Whether an edit that gives theirs also gives what they have behind it."""
        return True

    @cached_property
    def texts(self) -> list[Text]:
        """Of what runs here."""
        return [Text(f) for f in functions_of(self.run)]


class Site(Trial):
    """A call of a layer, and the tensor that is wrong in it."""

    def __init__(self, ground: Ground, call: Call, target: str, way: set[str]) -> None:
        self.ground, self.call, self.target, self.way = ground, call, target, way
        self.path = call.path
        front = {*ground.inputs} - {*ground.order[ground.order.index(target) :]}
        self.known = {n: x for n, x in ground.have.items() if n in front}
        outer = {p for name in way for p in _prefixes(name)}
        self.inside = inside = [
            c for c in ground.calls if call.first <= c.first and c.end <= call.end
        ]
        stubs: dict[str, list[str]] = {}
        for c in inside:
            mine = c.path not in outer and c.path != call.path and c.path.startswith(call.path)
            made = ground.order[c.first : c.end]
            if mine and made:
                stubs.setdefault(c.path, []).append(c.output if c.output in made else "")
        given = {p: n for p, n in stubs.items() if all(x in self.known for x in n)}
        # what is inside of one is called only where an edit calls that once more
        self.stubs = {
            p: n for p, n in given.items() if given.keys().isdisjoint([*_prefixes(p)][:-1])
        }
        known = self.known.keys() & ground.order[call.first : call.end]
        self.is_empty = not known and not self.stubs  # nothing of theirs stands inside
        self.maker = _maker(inside, target)
        self.theirs = np.asarray(ground.have[target], np.float64)
        self.looks_up = False  # what runs is asked of a run that computes all
        self.on_theirs = False  # a layer gives theirs only for what they gave it
        self.repeats = {dtype: Repeats() for dtype in DTYPES}
        self.kind = ground.truth.steps[target].kind
        self._given: dict[tuple[str, bool], dict[str, Array]] = {}
        self._arguments = {d: [_cast(x, d) for x in call.arguments] for d in DTYPES}
        self._paths = {dtype: paths_of(model) for dtype, model in ground.models.items()}

    @cached_property
    def is_of_layers(self) -> bool:
        """Whether layers give all of theirs that is needed: then no step is known by its name."""
        order, made = self.ground.order, self._of_stubs
        needed = {n for name in self.way for n in self.ground.inputs[name]} & self.known.keys()
        return self.maker is not None and needed.isdisjoint(
            {*order[self.call.first : self.call.end]} - made
        )

    @cached_property
    def _of_stubs(self) -> set[str]:
        """The steps of layers that give theirs without running."""
        given = (c for c in self.inside if c.path in self.stubs)
        return {n for c in given for n in self.ground.order[c.first : c.end]}

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────

    def value(self, dtype: str = "float64", model: Layer | None = None) -> Array | None:
        # a step that stands around operations already, as rounding does, computes otherwise
        self.looks_up = model is None and surroundings() is None
        try:
            return super().value(dtype, model)
        finally:
            self.looks_up = False

    def run(
        self, dtype: str = "float64", model: Layer | None = None, *, whole: bool = False
    ) -> Array | None:
        mine = model is None
        model = self.ground.models[dtype] if model is None else model
        found: list[Array] = []
        others: list[Array] = []

        def hold(step: Step, operation: Operation | None) -> Array | None:
            if step.name == self.target and self.maker is None:
                found.append(step.value)
                if not whole:
                    raise _Reached
            theirs = self.known[step.name] if self._puts(step.name) else None
            if theirs is not None and theirs.shape == step.value.shape:
                return self.ground.held(step.name, dtype)
            if step.value.shape == self.theirs.shape:
                others.append(step.value)
            return None

        def see(go: Run, *operation: Any) -> Tensor:
            result = go(*operation)
            if result.shape == self.theirs.shape:
                others.append(result.data)
            return result

        layers = self.ground.layers[dtype] if mine else dict(model.named_layers())
        steps: tuple[Any, ...] = (None, see)  # what is looked at where no layer makes the tensor
        names = None
        if not self.is_of_layers:
            paths = self._paths[dtype] if mine else paths_of(model)
            naming = Naming(paths, hold=hold, known=self._in_front(dtype))
            steps, names = (naming,), naming.steps
        for step in steps:
            with self._plain(dtype, step), self._stubbed(layers, dtype, names, (found, whole)):
                try:
                    result = layers[self.call.path](*self._arguments[dtype])
                except _Reached:
                    return found[0]
            if found:
                return found[0]
        if isinstance(result, Tensor) and result.shape == self.theirs.shape:
            others.append(result.data)
        off = [float(np.mean(np.abs(x - self.theirs))) for x in others]
        return others[int(np.argmin(off))] if others else None

    def _puts(self, name: str) -> bool:
        """Whether theirs stands in the place of a step: not where a layer runs on another input."""
        return name in self.known and not (self.on_theirs and name in self._of_stubs)

    def _in_front(self, dtype: str) -> dict[str, Array]:
        """Theirs that are not computed."""
        key = dtype, self.on_theirs
        if key not in self._given:
            names = [n for n in self.known if n not in self.way and self._puts(n)]
            self._given[key] = {n: self.ground.held(n, dtype) for n in names}
        return self._given[key]

    @contextmanager
    def looking_up(self) -> Iterator[None]:
        """Inside this block a text runs as it does here, and by itself."""
        self.looks_up = True
        try:
            with self._plain("float64", None):
                yield
        finally:
            self.looks_up = False

    @contextmanager
    def _plain(self, dtype: str, step: Any) -> Iterator[None]:
        """Inside this block the definitions run, attention step by step, and nothing is checked."""
        spelled = spell_out if step is not None or not self.looks_up else None  # to look up does it
        steps = surroundings()
        for one in (self.repeats[dtype] if self.looks_up else None, step, spelled):
            steps = steps if one is None else Around(one, steps)
        try:
            with definitions(), surrounded_by(steps):
                yield
        finally:
            self.repeats[dtype].filling &= not self.looks_up

    @contextmanager
    def on_their_inputs(self) -> Iterator[None]:
        """Inside this block a layer gives theirs only for what they gave it."""
        self.on_theirs = True
        try:
            yield
        finally:
            self.on_theirs = False

    @contextmanager
    def stubbed(self, calls: Mapping[str, int]) -> Iterator[None]:
        """Inside this block the same, where so many calls have got theirs already."""
        layers = self.ground.layers["float64"]
        with self._stubbed(layers, "float64", None, ([], True)):
            for path, given in calls.items():
                del layers[path].__dict__["_given_outputs"][:given]
            yield

    @contextmanager
    def _stubbed(
        self,
        layers: Mapping[str, Layer],
        dtype: str,
        names: dict[str, Step] | None,
        asked: tuple[list[Array], bool],
    ) -> Iterator[None]:
        """Inside this block the layers whose output is theirs give it, at their first calls.

        names: where the steps have names   asked: where the result of the layer that makes the
        tensor goes, and whether to go on then
        """
        before: list[tuple[Layer, type]] = []
        try:
            for path, outputs in self.stubs.items():
                made = (c for c in self.inside if c.path == path and c.first < c.end)
                calls = ((c.arguments if self.on_theirs else None) for c in made)
                given = zip(outputs, calls, strict=True)
                values = [(n, self.ground.held(n, dtype), names, x) for n, x in given]
                before.append(_replaced(layers[path], _stub, _given_outputs=values))
            if self.maker is not None:
                before.append(_replaced(layers[self.maker], _asked, _asked=asked))
            yield
        finally:
            for layer, kind in before:
                layer.__class__ = kind
                for name in ("_given_outputs", "_asked"):
                    layer.__dict__.pop(name, None)


class OfTheLoss(Site):
    """The loss, which no layer computes: from their logits, or else from the image."""

    def run(
        self, dtype: str = "float64", model: Layer | None = None, *, whole: bool = False
    ) -> Array | None:
        model = self.ground.models[dtype] if model is None else model
        logits = self.ground.inputs[self.target][0]
        with definitions():
            if logits in self.known:
                x = Tensor(self.ground.held(logits, dtype))
            else:
                x = model(Tensor(self.ground.given("image", dtype)))
            return loss(lambda y: y, x, self.ground.given("labels", np.int64)).data


def sites_of(ground: Ground, target: str) -> list[Site]:
    """The calls that the way to the target lies in, the innermost first."""
    way = ground.between(target)
    if not way:
        return []
    numbers = [ground.order.index(name) for name in way]
    around = [c for c in ground.calls if c.first <= min(numbers) and max(numbers) < c.end]
    around.sort(key=lambda c: (c.end - c.first, -len(c.path)))
    if target == "loss":
        root = next(c for c in ground.calls if not c.path)
        return [OfTheLoss(ground, root, target, set(way))]
    return [Site(ground, call, target, set(way)) for call in around]


def _maker(calls: list[Call], target: str) -> str | None:
    """The path of the outermost layer that gives the tensor, if its first call does.

    It is asked, and not the step of this name: an edit may make one of the same name before.
    """
    makers = [c for c in calls if c.output == target]
    if not makers:
        return None
    path = max(makers, key=lambda c: c.end - c.first).path
    return path if next(c for c in calls if c.path == path).output == target else None


def _replaced(layer: Layer, kind: Callable[[type], type], **more: Any) -> tuple[Layer, type]:
    """Give a layer another class, and attributes for it; gives what it was."""
    before = type(layer)
    layer.__class__ = kind(before)
    layer.__dict__.update(more)
    return layer, before


stubs: set[CodeType] = set()  # the codes of calls that give theirs without running


@cache  # a class is slow to make, and there is a stub in every run
def _stub(kind: type) -> type:
    def call(self: Any, *arguments: Any, **settings: Any) -> Any:
        outputs = self.__dict__.get("_given_outputs")
        if outputs and (outputs[0][-1] is None or _are_alike(arguments, outputs[0][-1])):
            name, value, names, _ = outputs.pop(0)
            if names is not None:
                names[name] = Step(name, "", "", value)  # a second call has another name
            return Tensor(value)
        return kind.__call__(self, *arguments, **settings)

    stubs.add(call.__code__)
    return type(kind.__name__, (kind,), {"__call__": call})


def _are_alike(arguments: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether their tensors are the same but for rounding."""
    both = zip(arguments, others, strict=False)  # what is left out is the default
    return all(
        a.shape == b.shape
        and np.abs(a.data - b.data).max(initial=0) <= ALIKE * np.abs(b.data).max(initial=0)
        for a, b in both
        if isinstance(a, Tensor) and isinstance(b, Tensor)
    )


@cache
def _asked(kind: type) -> type:
    def call(self: Any, *arguments: Any, **settings: Any) -> Any:
        result = kind.__call__(self, *arguments, **settings)
        found, whole = self.__dict__["_asked"]
        found.append(result.data)
        if not whole:
            raise _Reached
        return result

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


# ── operations of the right run are not computed again where an edit leaves them as they were ─────


class Repeats:
    """A step around operations: those of the first run are kept, and then looked up."""

    def __init__(self) -> None:
        self.kept: dict[Any, np.ndarray] = {}
        self.filling, self.bytes = True, 0
        self.alive: dict[int, np.ndarray] = {}  # the arrays of the first run by their ids
        self.small: dict[Any, int] = {}  # the id of a table, by its content: it is made again

    def __call__(
        self, go: Run, definition: Any, inputs: Sequence[Any], settings: dict[str, Any]
    ) -> Tensor:
        for f in EDITED:
            if reaches(definition, f):
                return spell_out(go, definition, inputs, settings)
        if getattr(definition, "__name__", "") == "attention":
            return spell_out(go, definition, inputs, settings)
        try:
            key = (definition, *map(self._named, inputs), *settings.items())
            found = self.kept.get(key)
        except TypeError:  # a setting that is an array
            return go(definition, inputs, settings)
        if found is not None:
            return Tensor(found)
        result = go(definition, inputs, settings)
        simple = getattr(definition, "__module__", "").startswith(REFERENCE)
        if self.filling and simple and self.bytes < MOST:
            result.data.setflags(write=False)  # the next edit gets it too
            self.kept[key] = result.data
            self.bytes += result.data.nbytes
            self.alive[id(result.data)] = result.data
            for x, table in map(_array, inputs):
                if isinstance(x, np.ndarray) and id(x) not in self.alive:
                    self.alive[id(x)] = x
                    if table:
                        self.small.setdefault(_content(x), id(x))
        return result

    def _named(self, x: Any) -> Any:
        x, table = _array(x)
        if not isinstance(x, np.ndarray):
            return x
        known = not table or id(x) in self.alive
        return "array", id(x) if known else self.small.get(_content(x), id(x))


def _array(x: Any) -> tuple[Any, bool]:
    """The array of an input, and whether it is a table or a number, which no operation gave."""
    if isinstance(x, Tensor):
        return x.data, x.data.size == 1
    return x, isinstance(x, np.ndarray) and x.nbytes <= SMALL


def _content(x: np.ndarray) -> Any:
    return x.shape, x.dtype.str, x.tobytes()
