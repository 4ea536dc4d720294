"""Less memory for more time: a layer drops its values after forward, and computes them again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minswin import kernels
from minswin.around import surrounded_by, surroundings
from minswin.arrays import Array, Vjp
from minswin.autograd import Tensor, apply, is_recording, no_grad, vjp
from minswin.layers.base import Layer
from minswin.watch import is_watched


def recompute(layer: Layer, x: Tensor, *settings: Any) -> Tensor:
    """layer(x, *settings), keeping nothing but x for backward.             Chen et al. 2016, §4

    Backward runs the layer a second time, with the weights, modes, random numbers and kernels of
    the first, and differentiates that: value, gradients and random state are the same to the bit.
    A layer that is being watched keeps its values, so that each of its operations is seen once.
    """
    if not is_recording() or is_watched():
        return layer(x, *settings)
    weights = list(layer.parameters())

    def recomputed(x: Array, *_: Array) -> tuple[Array, Vjp]:
        then = _Moment(layer, x)
        with no_grad():
            value = layer(Tensor(x), *settings).data

        def pull(g: Array) -> tuple[Any, ...]:
            with _back_at(then, layer, x):
                _, pull_again = vjp(lambda again: layer(again, *settings))(x)
                (dx,) = pull_again(g)
                return dx, *(p.grad for p in weights)

        return value, pull

    return apply(recomputed, x, *weights)


class _Moment:
    """All that a layer's value depends on besides its input."""

    def __init__(self, layer: Layer, x: Array) -> None:
        layers = list(layer.layers_within())
        self.weights = [(p, p.data, p.requires_grad) for p in layer.parameters()]
        self.buffers = [(b, b.data.copy()) for _, b in layer.named_buffers()]  # changed in place
        self.modes = [(inner, inner.training) for inner in layers]
        self.states = [(rng, rng.bit_generator.state) for rng in layer.generators()]
        self.backend = kernels.chosen(x)
        self.around = surroundings()  # such as float16

    def restore(self) -> None:
        for p, data, requires_grad in self.weights:
            p.data, p.requires_grad = data, requires_grad
        for buffer, data in self.buffers:
            buffer.data[...] = data
        for inner, training in self.modes:
            inner.training = training
        for rng, state in self.states:
            rng.bit_generator.state = state


@contextmanager
def _back_at(then: _Moment, layer: Layer, x: Array) -> Iterator[None]:
    """Inside this block the layer is as it was `then`, without gradients; afterwards as now."""
    now, gradients = _Moment(layer, x), [(p, p.grad) for p in layer.parameters()]
    then.restore()
    layer.zero_grad()
    try:
        with kernels.using(then.backend), surrounded_by(then.around):
            yield
    finally:
        now.restore()
        for p, grad in gradients:
            p.grad = grad
