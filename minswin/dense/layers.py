"""What heads on a pyramid are made of: 3×3 convolution, feature pyramid, pyramid pooling."""

from __future__ import annotations

from collections.abc import Sequence

from minswin import ops
from minswin.autograd import Tensor
from minswin.layers import Filters, Layer, LayerNorm, Linear
from minswin.layers.parameters import Init


class Conv(Layer):
    """A convolution, layer norm over the channels (images do not mix, unlike in batch norm), GELU.

    Takes (B, H, W, C)        Gives (B, H, W, D)
    """

    def __init__(self, inputs: int, outputs: int, side: int, *, init: Init) -> None:
        self.conv = Filters(inputs, outputs, side, init=init)
        self.norm = LayerNorm(outputs, init=init)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.conv(x.transpose(0, 3, 1, 2))  # (B, D, H, W)
        return ops.gelu(self.norm(x.transpose(0, 2, 3, 1)))  # (B, H, W, D)


class FeaturePyramid(Layer):
    """All maps get the same width and the context of coarser ones.              Lin et al. 2017

        P_i = conv(L_i + enlarged L_{i+1} + …),   L_i = linear(norm(map i))

    Takes    maps (B, H_i, W_i, C_i), fine to coarse        Gives maps (B, H_i, W_i, width)
    Each map is normed first, as Swin's are for dense tasks.
    """

    def __init__(self, channels: Sequence[int], width: int, *, init: Init) -> None:
        self.norms: list[Layer] = [LayerNorm(C, init=init) for C in channels]
        self.laterals: list[Layer] = [Linear(C, width, init=init) for C in channels]
        self.convs: list[Layer] = [Conv(width, width, 3, init=init) for _ in channels]

    def __call__(self, maps: list[Tensor]) -> list[Tensor]:  # type: ignore[override]
        layers = zip(maps, self.norms, self.laterals, strict=True)
        maps = [lateral(norm(x)) for x, norm, lateral in layers]  # (B, H_i, W_i, width)
        for i in range(len(maps) - 2, -1, -1):  # from the second coarsest to the finest
            maps[i] = maps[i] + enlarged(maps[i + 1], maps[i])
        return [conv(x) for conv, x in zip(self.convs, maps, strict=True)]


class PyramidPooling(Layer):
    """Every token learns what is in its region and in the whole image.      Zhao et al. 2017, §3.2

    Takes and gives (B, H, W, C): means over 1, 2×2, 3×3 and 6×6 regions, each made narrow,
    enlarged again, set beside the map, and all brought back to C channels
    """

    SIDES = (1, 2, 3, 6)

    def __init__(self, channels: int, *, init: Init) -> None:
        narrow = max(1, channels // len(self.SIDES))
        self.branches: list[Layer] = [Conv(channels, narrow, 1, init=init) for _ in self.SIDES]
        together = channels + narrow * len(self.SIDES)
        self.fuse = Conv(together, channels, 3, init=init)

    def __call__(self, x: Tensor) -> Tensor:
        parts = [x]
        for side, conv in zip(self.SIDES, self.branches, strict=True):
            pooled = conv(ops.resize(x, size=(side, side), method="mean"))  # (B, side, side, C/4)
            parts.append(enlarged(pooled, x))  # (B, H, W, C/4)
        return self.fuse(ops.concatenate(*parts, axis=-1))  # (B, H, W, C)


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """x brought to the height and width of another map."""
    return x if x.shape[1:3] == like.shape[1:3] else ops.resize(x, size=like.shape[1:3])
