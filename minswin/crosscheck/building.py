"""Hypotheses on how a model is built: what was built alike is run once, in another process.

Of a model that an edited text builds, the layer at one path is asked for. So the layers that the
right model makes itself are kept. One of them is given again where the edited model makes one with
the same arguments, if it stands elsewhere or nothing that is edited ran in it.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import CodeType, FrameType
from typing import Any

import numpy as np

from minswin import kernels
from minswin.autograd import Tensor
from minswin.crosscheck.edits.functions import watched
from minswin.crosscheck.ground import unchecked
from minswin.crosscheck.site import Site
from minswin.layers.base import Layer
from minswin.layers.building import Built
from minswin.layers.parameters import Init, Parameter

Array = np.ndarray
Make = Callable[[], Layer]


class Rebuilt:
    """What the models that edited texts build give at a site; those that are alike run once."""

    def __init__(self, site: Site, right: Array) -> None:
        assert site.ground.truth.build is not None
        self.site, self.build = site, site.ground.truth.build
        # layers that the model makes itself, by what they are made of, with the codes that ran in
        # those that are asked for; and the codes of all that runs for what is asked for
        self.parts: dict[Any, list[tuple[Layer, set[CodeType]]]] = {}
        self.codes = now = set[CodeType]()

        def see(frame: FrameType, event: str, _: Any) -> None:
            if event == "call":
                now.add(frame.f_code)

        def noted(of: Any, make: Make) -> Layer:
            nonlocal now
            codes = now = set()
            layer = make()
            self.parts.setdefault(of, []).append((layer, codes))
            now = self.codes
            return layer

        models: list[Any] = []
        watched(lambda: models.append(self._model("float64", noted)), see)
        self.layer = _layer_at(models[0], site.path)
        self.values: dict[Any, Array | None] = {("float64", _shape_of(self.layer)): right}
        path, paths = f"{site.path}.", {id(x): f"{p}." for p, x in models[0].named_layers()}
        for layer, codes in (part for parts in self.parts.values() for part in parts):
            of_part = paths.get(id(layer), "")
            if path == "." or of_part.startswith(path) or path.startswith(of_part):
                self.codes |= codes
            else:
                codes.clear()

    def value(self, edit: Any, dtype: str, *, keep: bool) -> Array | None:
        """What the site gives under an edit, which is planted."""
        edits = getattr(edit, "edits", (edit,))
        edited = {one.text.right[0] for one in edits}
        made: Counter[Any] = Counter()

        def kept(of: Any, make: Make) -> Layer:
            made[of] += 1
            for layer, codes in self.parts.get(of, [])[made[of] - 1 : made[of]]:
                if keep and codes.isdisjoint(edited):
                    return layer
            return make()

        model = self._model(dtype, kept)
        layer = _layer_at(model, self.site.path)
        key = dtype, _shape_of(layer), *(id(one) for one in edits if not one.of_building)
        if key not in self.values:
            if layer is self.layer:  # an edited text has written into what is kept
                self.parts.clear()
            self._load(layer, dtype, self.site.path)
            if keep:
                return self.value(edit, dtype, keep=False)
            if self._load(model, dtype):
                with unchecked():  # a block too many keeps its first weights
                    model = self.build(np.dtype(dtype))
                self._load(model, dtype)
            self.values[key] = self.site.value(dtype, model.eval())
        return self.values[key]

    def _model(self, dtype: str, part: Callable[[Any, Make], Layer]) -> Any:
        with unchecked(), _undrawn(), kernels.using("reference"), _made_by(part):
            return self.build(np.dtype(dtype))

    def _load(self, layer: Any, dtype: str, path: str = "") -> bool:
        """Give a layer the weights of the right one, which must fit; whether it has more."""
        prefix = f"{path}." if path else ""
        own = dict(layer.named_parameters(prefix))
        weights = {n: x for n, x in self.site.ground.weights[dtype].items() if n.startswith(prefix)}
        for name, x in weights.items():
            if own[name].shape != x.shape:
                raise ValueError(name)
            own[name].data = x
        return len(own) > len(weights)


@contextmanager
def _made_by(part: Callable[[Any, Make], Layer]) -> Iterator[None]:
    """Inside this block part(of what, how) makes what a model makes itself."""
    depth, right = 0, Built.__call__

    def make(kind: Any, *inputs: Any, **settings: Any) -> Layer:
        nonlocal depth
        depth += 1
        of = (kind, *inputs, *((n, x) for n, x in settings.items() if n != "init"))
        plain = depth == 2 and not any(isinstance(x, list) for x in of)  # of layers, in a stage
        how = partial(right, kind, *inputs, **settings)
        try:
            return part(of, how) if plain else how()
        finally:
            depth -= 1

    Built.__call__ = make  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        Built.__call__ = right  # type: ignore[method-assign]


@contextmanager
def _undrawn() -> Iterator[None]:
    """Inside this block first weights are 0: others take their place, and to draw takes long."""

    def zeros(self: Init, *shape: int, decays: bool = True, **_: Any) -> Parameter:
        return Parameter(np.zeros(shape, self.dtype), decays=decays)

    before = Init.normal, Init.uniform
    Init.normal = Init.uniform = zeros  # type: ignore[method-assign]
    try:
        yield
    finally:
        Init.normal, Init.uniform = before  # type: ignore[method-assign]


def _layer_at(model: Layer, path: str) -> Any:
    """The layer of this path."""
    found: Any = model
    for part in filter(None, path.split(".")):
        found = found[int(part)] if part.isdecimal() else getattr(found, part)
    return found


def _shape_of(model: Any) -> str:
    """All of a model but the values of its weights."""

    def told(x: Any) -> str:
        if isinstance(x, (Tensor, Layer)):
            return f"{type(x).__name__} {getattr(x, 'shape', '')}"
        if isinstance(x, (list, tuple)):
            return f"({', '.join(map(told, x))})"
        if isinstance(x, np.ndarray):
            return str((x.dtype, x.shape, x.tobytes()))
        plain = isinstance(x, (int, float, str, type(None), np.dtype))
        return repr(x) if plain else getattr(x, "__qualname__", type(x).__name__)

    return "; ".join(
        f"{path} {type(layer).__name__} {[(n, told(x)) for n, x in vars(layer).items()]}"
        for path, layer in model.named_layers()
    )


def forked(work: Callable[[], Any]) -> Any:
    """What a function gives in a copy of this process, where there is such a thing.

    None where the copy went down with an edited text.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        return work()
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)

    def send() -> None:
        there.send(work())

    child = context.Process(target=send, daemon=True)
    child.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        return None
    finally:
        child.join()
