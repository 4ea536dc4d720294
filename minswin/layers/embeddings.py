"""From indices and images to tokens, and where a token is."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from minswin import ops
from minswin.arguments import Pair, one_of, pair, whole
from minswin.autograd import Tensor
from minswin.devices import constant
from minswin.layers.base import Layer
from minswin.layers.basic import LayerNorm
from minswin.layers.parameters import Init
from minswin.reference.windows import relative_position_index


class Embedding(Layer):
    """A learnt vector for every word of a vocabulary: row look-up, equal to one-hot times matrix.

    Learns   weight (vocabulary, C)        Takes integers (...)        Gives (..., C)
    """

    def __init__(self, vocabulary: int, channels: int, *, init: Init) -> None:
        self.weight = init.normal(vocabulary, channels)

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
        kernel: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        init: Init,
    ) -> None:
        who = type(self).__name__
        kernel = pair(who, "kernel", kernel)
        fan_in = inputs * kernel[0] * kernel[1]
        self.weight = init.uniform(outputs, inputs, *kernel, fan_in=fan_in)
        self.bias = init.uniform(outputs, fan_in=fan_in)
        self.stride = pair(who, "stride", stride)
        self.padding = pair(who, "padding", padding, 0)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding)


# ── from an image to a map of tokens ─────────────────────────────────────────────────────────────


class PatchEmbed(Layer):
    """Cut an image into p×p patches and map each to a token.                 Liu et al. 2021, §3.1

    Learns   proj: Conv2d(3, C, p×p, stride p)   norm: LayerNorm(C)
    Takes    images (B, 3, H, W)        Gives a map (B, H/p, W/p, C)
    overlap: patches of side 2p−1 that end where those of side p would.     Wang et al. 2021, PVT v2
    """

    def __init__(
        self,
        channels: int,
        patch: int | Pair,
        *,
        image_channels: int = 3,
        norm: bool = True,
        overlap: bool = False,
        init: Init,
    ) -> None:
        (ph, pw) = patch = pair(type(self).__name__, "patch", patch)
        kernel = (2 * ph - 1, 2 * pw - 1) if overlap else patch
        padding = (ph - 1, pw - 1) if overlap else (0, 0)
        self.proj = Conv2d(
            image_channels, channels, kernel, stride=patch, padding=padding, init=init
        )
        self.norm = LayerNorm(channels, init=init) if norm else None

    def __call__(self, x: Tensor) -> Tensor:
        check_divides(type(self).__name__, x, self.proj.stride)
        x = self.proj(x)  # (B, C, H/p, W/p)
        x = x.transpose(0, 2, 3, 1)  # (B, H/p, W/p, C)
        return x if self.norm is None else self.norm(x)

    def macs(self, grid: Pair) -> int:
        """Products on a map of this size, those of the norm left out."""
        return grid[0] * grid[1] * self.proj.weight.size


class ConvStem(Layer):
    """A few 3×3 convolutions that halve the map instead of one p×p.      Xiao et al. 2021, §3

    Learns   convs.i: Conv2d(3×3, stride 2) to 2C/p, 4C/p, …, C channels, each followed by `depth`
             of stride 1   norms.i: LayerNorm of as many   proj: Conv2d(C, C, 1×1)
    Takes    images (B, 3, H, W)        Gives a map (B, H/p, W/p, C);   p = 2, 4, 8, …
    Convolution, norm, GELU; the paper has batch norm and ReLU.
    """

    def __init__(
        self,
        channels: int,
        patch: int | Pair,
        *,
        image_channels: int = 3,
        depth: int = 0,
        init: Init,
    ) -> None:
        depth = whole(type(self).__name__, "depth", depth, 0)
        p, _ = patch = pair(type(self).__name__, "patch", patch)
        if patch != (p, p) or p < 2 or p & (p - 1) or channels % (p // 2):
            raise ValueError(
                f"{type(self).__name__}: patches must be square with a side of 2, 4, 8, … and half "
                f"of it must divide the {channels} channels, got {patch[0]}×{patch[1]}"
            )
        self.patch = patch
        self.convs: list[Conv2d] = []
        self.norms: list[LayerNorm] = []
        inputs, outputs = image_channels, 2 * channels // p
        while outputs <= channels:
            for stride in (2, *[1] * depth):
                conv = Conv2d(inputs, outputs, 3, stride=stride, padding=1, init=init)
                self.convs.append(conv)
                self.norms.append(LayerNorm(outputs, eps=1e-6, init=init))
                inputs = outputs
            outputs *= 2
        self.proj = Conv2d(channels, channels, 1, init=init)

    def __call__(self, x: Tensor) -> Tensor:
        check_divides(type(self).__name__, x, self.patch)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(x).transpose(0, 2, 3, 1)  # (B, H/2, W/2, D); stride 1: (B, H, W, D)
            x = ops.gelu(norm(x)).transpose(0, 3, 1, 2)  # (B, D, H/2, W/2)
        return self.proj(x).transpose(0, 2, 3, 1)  # (B, H/p, W/p, C)

    def macs(self, grid: Pair) -> int:
        """Products on a map of this size, those of the norms left out."""
        area = grid[0] * grid[1]
        products = area * self.proj.weight.size
        for conv in reversed(self.convs):
            products += area * conv.weight.size
            area *= conv.stride[0] * conv.stride[1]
        return products


STEMS = ("patches", "overlapping", "convolutions")


def patch_embedding(
    who: str, stem: str, channels: int, patch: Pair, *, depth: int, norm: bool, init: Init
) -> PatchEmbed | ConvStem:
    """What makes tokens of an image, by its name; the convolutions have norms of their own."""
    depth = whole(who, "stem_depth", depth, 0)
    if one_of(who, "stem", stem, STEMS) == "convolutions":
        return ConvStem(channels, patch, depth=depth, init=init)
    if depth:
        raise ValueError(
            f"{who}: stem_depth is for stem='convolutions', got {depth} for {stem!r}; leave it out"
        )
    return PatchEmbed(channels, patch, norm=norm, overlap=stem == "overlapping", init=init)


def check_divides(who: str, x: Tensor, patch: Pair) -> None:
    (ph, pw), size = patch, x.shape[2:]
    if size[0] % ph or size[1] % pw:
        raise ValueError(
            f"{who}: a {size[0]}×{size[1]} image does not divide into {ph}×{pw} patches; "
            f"pad it to {size[0] + -size[0] % ph}×{size[1] + -size[1] % pw}"
        )


# ── where a token is ─────────────────────────────────────────────────────────────────────────────


class AxisPositions(Layer):
    """Add a learnt vector of the row and one of the column.          Dosovitskiy et al. 2021, §D.4

    Learns   row (H, 1, C)   column (W, C)        Takes and gives a map (B, H, W, C)
    The paper puts two vectors of C/2 side by side: this sum, with half of each kept at zero.
    """

    def __init__(self, channels: int, grid: Pair, *, init: Init) -> None:
        self.row = init.normal(grid[0], 1, channels, decays=False)
        self.column = init.normal(grid[1], channels, decays=False)

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.row + self.column


class SinusoidalPositions(Layer):
    """Add fixed waves: of the row to the first half of the channels, of the column to the second.

    Learns nothing        Takes and gives a map (B, H, W, C) of any size
    """

    def __init__(self, channels: int) -> None:
        if channels % 4:
            raise ValueError(
                f"{type(self).__name__}: a sine and a cosine of each axis need channels divisible "
                f"by 4, got {channels}"
            )

    def __call__(self, x: Tensor) -> Tensor:
        _, H, W, C = x.shape
        return x + constant(x.data, waves_of_map, H, W, C).astype(x.dtype)


def waves_of_map(H: int, W: int, C: int) -> np.ndarray:
    """Of every place of a map, the waves of its row and of its column: (H, W, C) float64."""
    row = np.broadcast_to(sinusoids(H, C // 2)[:, None], (H, W, C // 2))
    column = np.broadcast_to(sinusoids(W, C // 2), (H, W, C // 2))
    return np.concatenate([row, column], axis=-1)


def sinusoids(count: int, channels: int) -> np.ndarray:
    """Waves from a wavelength of 2π to one of 10,000 · 2π.             Vaswani et al. 2017, §3.5

        PE(t, 2i) = sin(t / 10000^(2i/C))        PE(t, 2i+1) = cos(the same)

    gives (count, C) float64
    """
    t, wave = np.arange(count)[:, None], np.arange(0, channels, 2)
    angle = t / 10000.0 ** (wave / channels)  # (count, C/2)
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(count, channels)


class RelativePositionBias(Layer):
    """A learnt number for every head and displacement, added to the logits.      Bao et al. 2022

    Learns   relative_position_bias_table ((2H−1)·(2W−1) [+ 3], h)
    Takes    a grid of tokens (H, W) or smaller, and gives (h, N, N)
    extra: tokens without a place, in front of the others: for them the table's last three rows are
    from such a token to a patch, from a patch to it, and between two of them.
    """

    def __init__(self, grid: Pair, heads: int, *, extra: int = 0, init: Init) -> None:
        self.grid, self.extra = grid, extra
        rows = (2 * grid[0] - 1) * (2 * grid[1] - 1) + (3 if extra else 0)
        self.relative_position_bias_table = init.normal(rows, heads, decays=False)

    def __call__(self, grid: Pair) -> Tensor:  # type: ignore[override]
        if grid[0] > self.grid[0] or grid[1] > self.grid[1]:
            raise ValueError(
                f"{type(self).__name__}: a {grid[0]}×{grid[1]} grid is larger than that of the "
                f"table, {self.grid[0]}×{self.grid[1]}; build the model for larger images"
            )
        learnt = self.relative_position_bias_table
        index = constant(learnt.data, _index_with_extra, grid, self.grid, self.extra)  # (N, N)
        return ops.take(learnt, index).transpose(2, 0, 1)


@lru_cache(maxsize=32)
def _index_with_extra(grid: Pair, table: Pair, extra: int) -> np.ndarray:
    """Row of the table for every pair of tokens, those without a place first: (N, N)."""
    places = relative_position_index(grid, table)
    index = np.pad(places, ((extra, 0), (extra, 0)))
    last = (2 * table[0] - 1) * (2 * table[1] - 1)
    index[:extra, extra:], index[extra:, :extra], index[:extra, :extra] = last, last + 1, last + 2
    index.setflags(write=False)
    return index
