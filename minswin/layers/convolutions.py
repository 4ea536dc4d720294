"""What a convolutional network is made of: filters, and batch norm with its running statistics."""

from __future__ import annotations

import math

import numpy as np

from minswin import ops
from minswin.arguments import Pair, at_least_zero, fraction
from minswin.autograd import Tensor
from minswin.kernels import fast
from minswin.layers.base import Buffer, Layer
from minswin.layers.parameters import Init
from minswin.reference.normalize import batch_moments, follow_moments


class Filters(Layer):
    """Convolution with square filters of an odd side, padded so that stride 1 keeps the map's size.

    Learns   weight (D, C, side, side); no bias, for the batch norm that follows would take it off
    Takes    (B, C, H, W)        Gives (B, D, ⌈H/stride⌉, ⌈W/stride⌉)
    """

    def __init__(
        self, inputs: int, outputs: int, side: int, *, stride: int = 1, init: Init
    ) -> None:
        spread = math.sqrt(2 / (outputs * side * side))  # He et al. 2015, §2.2, "backward"
        self.weight = init.normal(outputs, inputs, side, side, spread=spread)
        self.stride, self.padding = (stride, stride), (side // 2, side // 2)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.weight, None, stride=self.stride, padding=self.padding)

    def grid(self, grid: Pair) -> Pair:
        """The size of the map that follows from one of this size."""
        return -(-grid[0] // self.stride[0]), -(-grid[1] // self.stride[1])

    def macs(self, grid: Pair) -> int:
        """Products on a map of this size."""
        H, W = self.grid(grid)
        return H * W * self.weight.size


class Depthwise(Layer):
    """A 3×3 convolution of each channel by itself; zeros around the map.

    Learns   weight (C, 1, 3, 3)   bias (C,)
    Takes    a map (B, H, W, C)        Gives (B, ⌈H/stride⌉, ⌈W/stride⌉, C)
    """

    def __init__(self, channels: int, *, stride: int = 1, bias: bool = True, init: Init) -> None:
        self.weight = init.uniform(channels, 1, 3, 3, fan_in=9)
        self.bias = init.zeros(channels) if bias else None
        self.stride = stride

    def __call__(self, x: Tensor) -> Tensor:
        (_, H, W, _), step = x.shape, self.stride
        wide = ops.pad(x, width=((0, 0), (1, 1), (1, 1), (0, 0)))  # (B, H + 2, W + 2, C)
        y: Tensor | None = self.bias
        for i in range(3):
            for j in range(3):
                shifted = wide[:, i : i + H : step, j : j + W : step]  # (B, H/s, W/s, C)
                y_ij = shifted * self.weight[:, 0, i, j]
                y = y_ij if y is None else y + y_ij
        assert y is not None
        return y


class BatchNorm2d(Layer):
    """Mean 0 and variance 1 for each channel, then scale and shift.        Ioffe & Szegedy 2015

    Learns   weight, bias (C,)   Keeps running_mean, running_var (C,), num_batches_tracked
    Takes    and gives (B, C, H, W)
    While training, mean and variance are those of the batch, and the running ones move towards
    them by `momentum` (towards the unbiased variance, as in PyTorch). In evaluation the running
    ones take their place: one and the same affine map for every image.
    """

    whole_batch = True

    def __init__(
        self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, init: Init
    ) -> None:
        self.weight = init.ones(channels)
        self.bias = init.zeros(channels)
        self.running_mean = Buffer(np.zeros(channels, init.dtype))
        self.running_var = Buffer(np.ones(channels, init.dtype))
        self.num_batches_tracked = Buffer(np.zeros((), np.int64))
        who = type(self).__name__
        self.eps = at_least_zero(who, "eps", eps)
        self.momentum = fraction(who, "momentum", momentum)

    def __call__(self, x: Tensor) -> Tensor:
        C = self.weight.size
        if x.ndim != 4 or x.shape[1] != C:
            raise ValueError(f"{type(self).__name__}: x must be (B, {C}, H, W), got {x.shape}")
        if not self.training:
            return self._by_running_statistics(x)
        if x.size <= C:
            raise ValueError(
                f"{type(self).__name__}: one value per channel has no variance, got x of shape "
                f"{x.shape}; train with a larger batch or image, or call eval() first"
            )
        kernel = fast("batch_norm", x.data)  # that of a GPU has fast functions for these too
        moments = getattr(kernel, "moments", batch_moments)(x.data)
        kept = self.running_mean.data, self.running_var.data, self.num_batches_tracked.data
        follow = getattr(kernel, "follow", follow_moments)
        follow(*kept, *moments, momentum=self.momentum, count=x.size // C)
        return ops.batch_norm(x, self.weight, self.bias, eps=self.eps, moments=moments)

    def _by_running_statistics(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var.data + self.eps) ** -0.5  # (C,)
        shift = self.bias - scale * self.running_mean.data  # (C,)
        return x * scale.reshape(-1, 1, 1) + shift.reshape(-1, 1, 1)
