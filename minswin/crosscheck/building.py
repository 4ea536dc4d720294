"""Hypotheses on how a model is built: what was built alike is run once, in another process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minswin.autograd import Tensor
from minswin.layers.base import Layer
from minswin.layers.parameters import Init, Parameter


@contextmanager
def undrawn() -> Iterator[None]:
    """Inside this block first weights are 0: others take their place, and to draw takes long."""

    def zeros(self: Init, *shape: int, decays: bool = True, **_: Any) -> Parameter:
        return Parameter(np.zeros(shape, self.dtype), decays=decays)

    before = Init.normal, Init.uniform
    Init.normal = Init.uniform = zeros  # type: ignore[method-assign]
    try:
        yield
    finally:
        Init.normal, Init.uniform = before  # type: ignore[method-assign]


def layer_at(model: Layer, path: str) -> Any:
    """The layer of this path."""
    found: Any = model
    for part in filter(None, path.split(".")):
        found = found[int(part)] if part.isdecimal() else getattr(found, part)
    return found


def shape_of(model: Any) -> str:
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
