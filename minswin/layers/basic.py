"""Linear, LayerNorm, Mlp, Dropout, DropPath: what every Transformer is made of."""

from __future__ import annotations

import numpy as np

from minswin import ops
from minswin.arguments import at_least_zero, fraction
from minswin.autograd import Tensor
from minswin.composites import mlp
from minswin.devices import like
from minswin.layers.base import Layer
from minswin.layers.parameters import Init


class Linear(Layer):
    """y = x Wᵀ + b.

    Learns   weight (M, K), output first   bias (M,)        Takes x (..., K)        Gives (..., M)
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, init: Init) -> None:
        self.weight = init.normal(outputs, inputs)
        self.bias = init.zeros(outputs) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)


class LayerNorm(Layer):
    """Mean 0 and variance 1 over the channels of each token, then scale and shift.

    Learns   weight, bias (C,)        Takes and gives (..., C)
    """

    def __init__(self, channels: int, *, eps: float = 1e-5, init: Init) -> None:
        self.weight = init.ones(channels)
        self.bias = init.zeros(channels)
        self.eps = at_least_zero(type(self).__name__, "eps", eps)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.weight, self.bias, eps=self.eps)


class Dropout(Layer):
    """While training, zero each element with probability `rate` and scale the rest by 1/(1−rate).

    Takes and gives (...)
    """

    def __init__(self, rate: float, *, init: Init) -> None:
        self.rate = fraction(type(self).__name__, "rate", rate)
        self.rng = init.rng

    @property
    def active(self) -> bool:
        return self.training and self.rate > 0

    def __call__(self, x: Tensor) -> Tensor:
        if not self.active:
            return x
        keep = self.rng.random(self.mask_shape(x), dtype=np.float32) >= self.rate
        return ops.dropout(x, like(x.data, keep), rate=self.rate)

    def mask_shape(self, x: Tensor) -> tuple[int, ...]:
        return x.shape


class DropPath(Dropout):
    """Drop the whole residual branch of a sample at once.               Huang et al. 2016, §3

    Takes and gives (B, ...)
    """

    def mask_shape(self, x: Tensor) -> tuple[int, ...]:
        return (x.shape[0],) + (1,) * (x.ndim - 1)  # one decision per sample


class Mlp(Layer):
    """Two linear layers with a GELU between, on each token alone.

    Learns   fc1: Linear(C, hidden)   fc2: Linear(hidden, C)        Takes and gives (..., C)
    """

    def __init__(self, channels: int, hidden: int, *, drop_rate: float = 0.0, init: Init) -> None:
        self.fc1 = Linear(channels, hidden, init=init)
        self.fc2 = Linear(hidden, channels, init=init)
        self.drop = Dropout(drop_rate, init=init)

    def __call__(self, x: Tensor) -> Tensor:
        if not self.drop.active:
            return mlp(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)
        x = self.drop(ops.gelu(self.fc1(x)))  # (..., hidden)
        return self.drop(self.fc2(x))  # (..., C)
