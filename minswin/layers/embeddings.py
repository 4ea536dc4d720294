"""From indices and images to tokens, and where a token is."""

from __future__ import annotations

import numpy as np

from minswin import ops
from minswin.autograd import Tensor
from minswin.layers.base import Layer, Parameter
from minswin.layers.basic import LayerNorm
from minswin.layers.initialize import Dtype, normal, uniform_by_fan_in

Pair = tuple[int, int]


class Embedding(Layer):
    """A learnt vector for every word of a vocabulary: row look-up, equal to one-hot times matrix.

    Learns   weight (vocabulary, C)        Takes integers (...)        Gives (..., C)
    """

    def __init__(
        self,
        vocabulary: int,
        channels: int,
        *,
        rng: np.random.Generator,
        dtype: Dtype = np.float32,
    ) -> None:
        self.weight = Parameter(normal(rng, (vocabulary, channels), dtype))

    def __call__(self, x: Tensor) -> Tensor:
        return ops.take(self.weight, x)


class Conv2d(Layer):
    """Convolution.

    Learns   weight (D, C, kh, kw)   bias (D,)        Takes (B, C, H, W)        Gives (B, D, H', W')
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Pair,
        *,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        rng: np.random.Generator,
        dtype: Dtype = np.float32,
    ) -> None:
        fan_in = inputs * kernel[0] * kernel[1]
        self.weight = Parameter(uniform_by_fan_in(rng, (outputs, inputs, *kernel), fan_in, dtype))
        self.bias = Parameter(uniform_by_fan_in(rng, (outputs,), fan_in, dtype))
        self.stride, self.padding = stride, padding

    def __call__(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding)


class PatchEmbed(Layer):
    """Cut an image into p×p patches and map each to a token.                 Liu et al. 2021, §3.1

    Learns   proj: Conv2d(3, C, p×p, stride p)   norm: LayerNorm(C)
    Takes    images (B, 3, H, W)        Gives a map (B, H/p, W/p, C)
    """

    def __init__(
        self,
        channels: int,
        patch: Pair,
        *,
        image_channels: int = 3,
        norm: bool = True,
        rng: np.random.Generator,
        dtype: Dtype = np.float32,
    ) -> None:
        self.proj = Conv2d(image_channels, channels, patch, stride=patch, rng=rng, dtype=dtype)
        self.norm = LayerNorm(channels, dtype=dtype) if norm else None

    def __call__(self, x: Tensor) -> Tensor:
        (ph, pw), size = self.proj.stride, x.shape[2:]
        if size[0] % ph or size[1] % pw:
            raise ValueError(
                f"PatchEmbed: a {size[0]}×{size[1]} image does not divide into {ph}×{pw} patches; "
                f"pad it to {size[0] + -size[0] % ph}×{size[1] + -size[1] % pw}"
            )
        x = self.proj(x)  # (B, C, H/p, W/p)
        x = x.transpose(0, 2, 3, 1)  # (B, H/p, W/p, C)
        return x if self.norm is None else self.norm(x)
