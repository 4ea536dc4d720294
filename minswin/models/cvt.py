"""CvT: convolutions cut the patches and precede q, k and v; no positions.     Wu et al. 2021

Every stage begins with overlapping patches of the map before. In a block a depthwise convolution
mixes each token with its neighbours before q, k and v are taken; those of k and v have stride 2, so
that every token looks at a quarter as many. The last stage has a class token. The shapes of CvT-13:

    image 224×224×3 → 56×56×64 → 28×28×192 → 14×14×384 and the class token → 384 → classes
"""

from __future__ import annotations

from functools import partial

import numpy as np

from minswin import ops
from minswin.arguments import Pair, Seed, pair, whole
from minswin.arrays import Array
from minswin.autograd import Tensor
from minswin.composites import merge_heads
from minswin.layers import (
    BatchNorm2d,
    Conv2d,
    Depthwise,
    Dropout,
    DropPath,
    Init,
    Layer,
    LayerNorm,
    Linear,
    Mlp,
    Parameter,
)
from minswin.layers.attention import attend, check_heads
from minswin.layers.parameters import Dtype
from minswin.models.base import (
    Learnt,
    Model,
    Row,
    as_images,
    check_rates,
    drop_path_rates,
    mlp_width,
    per_stage,
)

QUERIES, KEYS = 1, 2  # strides of the convolutions before q, and before k and v


class ConvEmbed(Layer):
    """Overlapping patches of an image, or of the map of the stage before, to tokens.         §3.1

    Learns   proj: Conv2d(inputs, C, side×side)   norm: LayerNorm(C)
    Takes    (B, inputs, H, W)        Gives a map (B, H', W', C)
    """

    def __init__(self, inputs: int, channels: int, side: int, stride: int, *, init: Init) -> None:
        padding = max(side - stride + 1, 0) // 2  # a map is divided by the stride, rounded up
        self.proj = Conv2d(inputs, channels, side, stride=stride, padding=padding, init=init)
        self.norm = LayerNorm(channels, init=init)

    def __call__(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).transpose(0, 2, 3, 1))

    def grid(self, grid: Pair) -> Pair:
        """The size of the map that follows from one of this size."""
        sizes = zip(
            grid, self.proj.weight.shape[2:], self.proj.padding, self.proj.stride, strict=True
        )
        H, W = ((size + 2 * padding - side) // stride + 1 for size, side, padding, stride in sizes)
        return H, W


class ConvProjection(Layer):
    """Mix each token with its neighbours: a depthwise convolution, then batch norm.          §3.2

    Learns   conv: Depthwise(C), no bias   bn: BatchNorm2d(C)
    Takes    a map (B, H, W, C)        Gives tokens (B, ⌈H/stride⌉·⌈W/stride⌉, C)
    """

    def __init__(self, channels: int, stride: int, *, init: Init) -> None:
        self.conv = Depthwise(channels, stride=stride, bias=False, init=init)
        self.bn = BatchNorm2d(channels, init=init)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x).transpose(0, 3, 1, 2))  # (B, C, H/s, W/s)
        return x.reshape(*x.shape[:2], -1).transpose(0, 2, 1)  # (B, N/s², C)


class ConvAttention(Layer):
    """Self-attention of tokens that have met their neighbours.                      §3.2, eq. (2)

    Learns   conv_proj_q, conv_proj_k, conv_proj_v: ConvProjection(C)
             proj_q, proj_k, proj_v, proj: Linear(C, C)
    Takes    tokens (B, N, C), the grid of those that are patches        Gives (B, N, C)
    A class token before them goes past the convolutions. Logits are divided by √C, as in the
    original, not by the root of a head's channels.
    """

    def __init__(self, channels: int, heads: int, *, init: Init, **drops: float) -> None:
        check_heads(type(self).__name__, channels, heads)
        self.heads = heads
        self.conv_proj_q = ConvProjection(channels, QUERIES, init=init)
        self.conv_proj_k = ConvProjection(channels, KEYS, init=init)
        self.conv_proj_v = ConvProjection(channels, KEYS, init=init)
        self.proj_q = Linear(channels, channels, init=init)
        self.proj_k = Linear(channels, channels, init=init)
        self.proj_v = Linear(channels, channels, init=init)
        self.attn_drop = Dropout(drops["attn_drop_rate"], init=init)
        self.proj = Linear(channels, channels, init=init)
        self.proj_drop = Dropout(drops["drop_rate"], init=init)

    def __call__(self, x: Tensor, grid: Pair) -> Tensor:  # type: ignore[override]
        B, N, C = x.shape
        front = N - grid[0] * grid[1]  # class tokens
        first, patches = x[:, :front], x[:, front:].reshape(B, *grid, C)

        def project(conv: ConvProjection, linear: Linear) -> Tensor:
            tokens = conv(patches)
            tokens = ops.concatenate(first, tokens, axis=1) if front else tokens  # (B, M, C)
            y = linear(tokens).reshape(B, -1, self.heads, C // self.heads)
            return y.transpose(0, 2, 1, 3)  # (B, h, M, d)

        q = project(self.conv_proj_q, self.proj_q) * self.heads**-0.5  # `attend` divides by √d
        k = project(self.conv_proj_k, self.proj_k)
        v = project(self.conv_proj_v, self.proj_v)
        x = merge_heads(attend(q, k, v, None, self.attn_drop))  # (B, N, C)
        return self.proj_drop(self.proj(x))

    def macs(self, grid: Pair, front: int) -> int:
        C, N = self.proj.weight.shape[0], grid[0] * grid[1]
        M = -(-grid[0] // KEYS) * -(-grid[1] // KEYS)
        linear = 2 * (N + front) * C * C + 2 * (M + front) * C * C
        return linear + 2 * (N + front) * (M + front) * C + 9 * C * (N + 2 * M)


class Block(Layer):
    """Attention, then an MLP, each on the normalised tokens and added to them.

    Takes    tokens (B, N, C), the grid of those that are patches        Gives (B, N, C)
    """

    def __init__(
        self, channels: int, heads: int, *, mlp_ratio: float, drop_path_rate: float, init: Init,
        **drops: float,
    ) -> None:  # fmt: skip
        hidden = int(channels * mlp_ratio)
        self.norm1 = LayerNorm(channels, init=init)
        self.attn = ConvAttention(channels, heads, init=init, **drops)
        self.drop_path = DropPath(drop_path_rate, init=init)
        self.norm2 = LayerNorm(channels, init=init)
        self.mlp = Mlp(channels, hidden, drop_rate=drops["drop_rate"], init=init)

    def __call__(self, x: Tensor, grid: Pair) -> Tensor:  # type: ignore[override]
        x = x + self.drop_path(self.attn(self.norm1(x), grid))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def macs(self, grid: Pair, front: int) -> int:
        return (
            self.attn.macs(grid, front) + 2 * (grid[0] * grid[1] + front) * self.mlp.fc1.weight.size
        )


class Stage(Layer):
    """Patches, then blocks; in the last stage of a model with a class token before the others.

    Takes (B, inputs, H, W)        Gives tokens (B, N, C), and the grid of those that are patches
    """

    def __init__(
        self, patch_embed: ConvEmbed, blocks: list[Block], drop: Dropout,
        cls_token: Parameter | None,
    ) -> None:  # fmt: skip
        self.cls_token = cls_token
        self.patch_embed = patch_embed
        self.pos_drop = drop
        self.blocks = blocks

    def __call__(self, x: Tensor) -> tuple[Tensor, Pair]:  # type: ignore[override]
        x = self.patch_embed(x)
        B, H, W, C = x.shape
        x = x.reshape(B, H * W, C)
        if self.cls_token is not None:
            x = ops.concatenate(ops.broadcast_to(self.cls_token, shape=(B, 1, C)), x, axis=1)
        x = self.pos_drop(x)  # (B, N, C)
        for block in self.blocks:
            x = block(x, (H, W))
        return x, (H, W)


class CvT(Model):
    """The whole model: images (B, 3, H, W) in, logits (B, num_classes) out.

    patch_sizes, strides: of the patches of each stage
    drop_path_rate: of the last block of the last stage; no other stage drops any
    Images of other sizes go through. Batch norm looks at the whole batch: train in one thread.
    """

    name = family = "cvt"

    def __init__(
        self,
        *,
        img_size: int | Pair = 224,
        patch_sizes: tuple[int, ...] = (7, 3, 3),
        strides: tuple[int, ...] = (4, 2, 2),
        embed_dims: tuple[int, ...] = (64, 192, 384),
        depths: tuple[int, ...] = (1, 2, 10),
        num_heads: tuple[int, ...] = (1, 3, 6),
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        num_classes: int = 1000,
        rng: Seed = None,
        dtype: Dtype = np.float32,
    ) -> None:
        who, init = type(self).__name__, self._begin(rng, dtype, img_size)
        check_rates(
            who, drop_rate=drop_rate, attn_drop_rate=attn_drop_rate, drop_path_rate=drop_path_rate
        )
        each_stage = per_stage(
            who, embed_dims=embed_dims, patch_sizes=patch_sizes, strides=strides, depths=depths,
            num_heads=num_heads,
        )  # fmt: skip
        drops = {"drop_rate": drop_rate, "attn_drop_rate": attn_drop_rate}
        self.stages: list[Stage] = []
        inputs = 3
        for C, side, stride, depth, heads in each_stage:
            mlp_width(who, mlp_ratio, C)
            last = len(self.stages) == len(each_stage) - 1
            embed = ConvEmbed(inputs, C, side, stride, init=init)
            block_of = partial(Block, C, heads, mlp_ratio=mlp_ratio, init=init, **drops)
            rates = drop_path_rates(drop_path_rate if last else 0.0, depth)
            blocks = [block_of(drop_path_rate=rate) for rate in rates]
            cls_token = init.normal(1, 1, C, decays=False) if last else None
            self.stages.append(Stage(embed, blocks, Dropout(drop_rate, init=init), cls_token))
            inputs = C
        self.norm = LayerNorm(inputs, init=init)
        self.head = Linear(inputs, whole(who, "num_classes", num_classes), init=init)

    # ── forward ──────────────────────────────────────────────────────────────────────────────────

    def __call__(self, x: Tensor | Array) -> Tensor:
        """Images (B, 3, H, W) to logits (B, num_classes)."""
        *_, (x, _) = self._tokens(x)  # (B, 1 + N, C), normalised
        return self.head(x[:, 0])

    def feature_maps(self, x: Tensor | Array) -> list[Tensor]:
        """Images (B, 3, H, W) to the map (B, H', W', C) of every stage; the last is normalised."""
        maps = []
        for tokens, (H, W) in self._tokens(x):
            patches = tokens[:, tokens.shape[1] - H * W :]
            maps.append(patches.reshape(tokens.shape[0], H, W, -1))
        return maps

    def _tokens(self, x: Tensor | Array) -> list[tuple[Tensor, Pair]]:
        """What every stage gives."""
        x = as_images(type(self).__name__, x, 3, self.head.weight.dtype)
        results = []
        for stage in self.stages:
            x, (H, W) = stage(x)
            results.append((x, (H, W)))
            if stage is not self.stages[-1]:  # as the next patches are cut
                x = x.reshape(x.shape[0], H, W, -1).transpose(0, 3, 1, 2)  # (B, C, H, W)
        results[-1] = self.norm(x), (H, W)
        return results

    @property
    def first_stride(self) -> Pair:
        return self.stages[0].patch_embed.proj.stride

    # ── what it is made of ───────────────────────────────────────────────────────────────────────

    def summary(self, img_size: int | Pair | None = None) -> list[Row]:
        """One row per step of the pyramid: name, shape, parameters, products of one image."""
        size = (
            self.img_size if img_size is None else pair(type(self).__name__, "img_size", img_size)
        )
        grid, rows, learnt = size, [Row("image", (*size, 3), 0, 0)], Learnt()
        for i, stage in enumerate(self.stages):
            embed, blocks, front = stage.patch_embed, stage.blocks, stage.cls_token is not None
            grid, C = embed.grid(grid), embed.norm.weight.size
            cost = grid[0] * grid[1] * embed.proj.weight.size
            rows.append(Row("merge" if i else "embed", (*grid, C), learnt(embed), cost))
            cost = sum(block.macs(grid, front) for block in blocks)
            count = learnt(stage.cls_token, *blocks)
            name = f"stage {i}: {len(blocks)} blocks"
            rows.append(Row(name, (*grid, C), count, cost, is_stage=True))
        rows.append(Row("norm, class token", (C,), learnt(self.norm), 0))
        head = self.head.weight
        return [*rows, Row("head", head.shape[:1], learnt(self.head), head.size)]
