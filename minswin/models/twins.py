"""Twins-SVT: windows without a shift, and what they miss by looking at a summary.  Chu et al. 2021

Blocks take turns: attention inside windows (LSA), then attention of every token to a map made
small by a convolution (GSA). Positions are not learnt: a depthwise convolution after the first
block of a stage says where a token is (Chu et al. 2023, "PEG"). Names are those of timm.

    image 224×224×3 → 56×56×C → 28×28×2C → 14×14×4C → 7×7×8C → classes
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin import ops
from minswin.arguments import Pair, Seed, pair, whole
from minswin.arrays import Array
from minswin.autograd import Tensor
from minswin.composites import merge_heads, split_heads
from minswin.layers import (
    Conv2d,
    Depthwise,
    Dropout,
    DropPath,
    Init,
    Layer,
    LayerNorm,
    Linear,
    Mlp,
    PatchEmbed,
)
from minswin.layers.attention import attend, check_heads
from minswin.layers.parameters import Dtype
from minswin.layers.windows import crop_map, pad_map
from minswin.models.base import (
    Learnt,
    Model,
    Row,
    as_images,
    check_rates,
    drop_path_rates,
    mlp_width,
    patch_grid,
    per_stage,
)

EPS = 1e-6  # of the norms in blocks and at the end; those of patches and summaries have 1e-5


class LocalAttention(Layer):
    """Attention inside windows of M×M tokens; zeros fill up a map that they do not divide.   §3.2

    Learns   qkv: Linear(C, 3C)   proj: Linear(C, C)        Takes and gives a map (B, H, W, C)
    """

    def __init__(
        self, channels: int, heads: int, window: Pair, *, init: Init, **drops: float
    ) -> None:
        check_heads(type(self).__name__, channels, heads)
        self.heads, self.window = heads, window
        self.qkv = Linear(channels, 3 * channels, init=init)
        self.proj = Linear(channels, channels, init=init)
        self.attn_drop = Dropout(drops["attn_drop_rate"], init=init)
        self.proj_drop = Dropout(drops["drop_rate"], init=init)

    def __call__(self, x: Tensor) -> Tensor:
        _, H, W, _ = x.shape
        x = pad_map(x, self.window)  # (B, H', W', C)
        grid = x.shape[1], x.shape[2]
        x = ops.window_partition(x, window=self.window)  # (B, nW, M², C)
        q, k, v = split_heads(self.qkv(x), self.heads)  # (B, nW, h, M², d) each
        x = merge_heads(attend(q, k, v, None, self.attn_drop))  # (B, nW, M², C)
        x = ops.window_merge(x, window=self.window, grid=grid)  # (B, H', W', C)
        return self.proj_drop(self.proj(crop_map(x, (H, W))))  # (B, H, W, C)

    def macs(self, grid: Pair) -> int:
        C, (Mh, Mw) = self.proj.weight.shape[0], self.window
        covered = (grid[0] + -grid[0] % Mh) * (grid[1] + -grid[1] % Mw)
        return covered * (3 * C * C + 2 * Mh * Mw * C) + grid[0] * grid[1] * C * C


class SummaryAttention(Layer):
    """Every token looks at one token for each r×r region.                                    §3.2

    Learns   q: Linear(C, C)   kv: Linear(C, 2C)   proj: Linear(C, C)
             sr: Conv2d(C, C, r×r, stride r), norm: LayerNorm(C); both only where r > 1
    Takes and gives a map (B, H, W, C)
    """

    def __init__(
        self, channels: int, heads: int, ratio: int, *, init: Init, **drops: float
    ) -> None:
        check_heads(type(self).__name__, channels, heads)
        self.heads, self.ratio = heads, ratio
        self.q = Linear(channels, channels, init=init)
        self.kv = Linear(channels, 2 * channels, init=init)
        self.proj = Linear(channels, channels, init=init)
        self.attn_drop = Dropout(drops["attn_drop_rate"], init=init)
        self.proj_drop = Dropout(drops["drop_rate"], init=init)
        if ratio > 1:
            self.sr = Conv2d(channels, channels, ratio, stride=ratio, init=init)
            self.norm = LayerNorm(channels, init=init)

    def __call__(self, x: Tensor) -> Tensor:
        B, H, W, C = x.shape
        tokens, summary = x.reshape(B, H * W, C), x.reshape(B, H * W, C)
        if self.ratio > 1:
            summary = self.sr(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)  # (B, H/r, W/r, C)
            summary = self.norm(summary.reshape(B, -1, C))  # (B, M, C)
        q = self._heads(self.q(tokens))  # (B, h, N, d)
        kv = self.kv(summary)  # (B, M, 2C)
        k, v = self._heads(kv[..., :C]), self._heads(kv[..., C:])  # (B, h, M, d)
        x = merge_heads(attend(q, k, v, None, self.attn_drop))  # (B, N, C)
        return self.proj_drop(self.proj(x)).reshape(B, H, W, C)

    def _heads(self, x: Tensor) -> Tensor:
        B, N, C = x.shape
        return x.reshape(B, N, self.heads, C // self.heads).transpose(0, 2, 1, 3)

    def macs(self, grid: Pair) -> int:
        C, N = self.proj.weight.shape[0], grid[0] * grid[1]
        M = (grid[0] // self.ratio) * (grid[1] // self.ratio)
        reduced = M * self.sr.weight.size if self.ratio > 1 else 0
        return 2 * N * C * C + 2 * M * C * C + 2 * N * M * C + reduced


class Positions(Layer):
    """Say where a token is: the zeros around a map reach into it.     Chu et al. 2023, "PEG"

    Learns   proj.0: Depthwise(C)        Takes and gives a map (B, H, W, C)
    """

    def __init__(self, channels: int, *, init: Init) -> None:
        self.proj = [Depthwise(channels, init=init)]

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.proj[0](x)


class Block(Layer):
    """Attention, then an MLP, each on the normalised map and added to it.

    Takes and gives a map (B, H, W, C)        looks: a window, or the ratio of a summary
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        looks: Pair | int,
        *,
        mlp_ratio: float,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
        init: Init,
    ) -> None:
        drops = {"drop_rate": drop_rate, "attn_drop_rate": attn_drop_rate}
        self.norm1 = LayerNorm(channels, eps=EPS, init=init)
        self.attn: LocalAttention | SummaryAttention
        if isinstance(looks, int):
            self.attn = SummaryAttention(channels, heads, looks, init=init, **drops)
        else:
            self.attn = LocalAttention(channels, heads, looks, init=init, **drops)
        self.drop_path = DropPath(drop_path_rate, init=init)
        self.norm2 = LayerNorm(channels, eps=EPS, init=init)
        self.mlp = Mlp(channels, int(channels * mlp_ratio), drop_rate=drop_rate, init=init)

    def __call__(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def macs(self, grid: Pair) -> int:
        C, hidden = self.mlp.fc2.weight.shape
        return self.attn.macs(grid) + 2 * grid[0] * grid[1] * C * hidden


class Twins(Model):
    """The whole model: images (B, 3, H, W) in, logits (B, num_classes) out.

    img_size, patch_size, window_size: an int, or (height, width)
    sr_ratios: of each stage, the side of the regions that GSA makes one token of
    Images of other sizes go through, if patches and merges of 2×2 divide them.
    """

    name = family = "twins"

    def __init__(
        self,
        *,
        img_size: int | Pair = 224,
        patch_size: int | Pair = 4,
        embed_dim: int = 64,
        depths: tuple[int, ...] = (2, 2, 10, 4),
        num_heads: tuple[int, ...] = (2, 4, 8, 16),
        sr_ratios: tuple[int, ...] = (8, 4, 2, 1),
        window_size: int | Pair = 7,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        num_classes: int = 1000,
        rng: Seed = None,
        dtype: Dtype = np.float32,
    ) -> None:
        who = type(self).__name__
        init = self._begin(rng, dtype, img_size, patch_size)
        check_rates(
            who, drop_rate=drop_rate, attn_drop_rate=attn_drop_rate, drop_path_rate=drop_path_rate
        )
        C = whole(who, "embed_dim", embed_dim)
        mlp_width(who, mlp_ratio, C)
        each_stage = per_stage(who, depths=depths, num_heads=num_heads, sr_ratios=sr_ratios)
        self.patch_embeds: list[PatchEmbed] = []
        self.blocks: list[list[Block]] = []
        self.pos_block: list[Positions] = []
        self._add_stages(
            C, each_stage, pair(who, "window_size", window_size), drop_path_rate, init=init,
            mlp_ratio=mlp_ratio, drop_rate=drop_rate, attn_drop_rate=attn_drop_rate,
        )  # fmt: skip
        self.pos_drop = Dropout(drop_rate, init=init)
        self.norm = LayerNorm(C * 2 ** (len(each_stage) - 1), eps=EPS, init=init)
        self.head = Linear(self.norm.weight.size, whole(who, "num_classes", num_classes), init=init)

    def _add_stages(
        self, C: int, each_stage: list[tuple[int, ...]], window: Pair, drop_path_rate: float, *,
        init: Init, **settings: Any,
    ) -> None:  # fmt: skip
        """The pyramid; `settings` are those of every block."""
        rates = iter(drop_path_rates(drop_path_rate, sum(depth for depth, _, _ in each_stage)))
        for i, (depth, heads, ratio) in enumerate(each_stage):
            channels, side = C * 2**i, 2 if i else self.patch_size
            inputs = channels // 2 if i else 3
            embed = PatchEmbed(channels, side, image_channels=inputs, init=init)
            looks = (ratio if j % 2 else window for j in range(depth))
            blocks = [
                Block(channels, heads, at, drop_path_rate=next(rates), init=init, **settings)
                for at in looks
            ]
            self.patch_embeds.append(embed)
            self.blocks.append(blocks)
            self.pos_block.append(Positions(channels, init=init))

    # ── forward ──────────────────────────────────────────────────────────────────────────────────

    def __call__(self, x: Tensor | Array) -> Tensor:
        """Images (B, 3, H, W) to logits (B, num_classes)."""
        *_, x = self.feature_maps(x)  # (B, H/8p, W/8p, 8C), normalised
        return self.head(x.mean(axis=(1, 2)))

    def feature_maps(self, x: Tensor | Array) -> list[Tensor]:
        """Images (B, 3, H, W) to the map of every stage; the last is normalised."""
        x = as_images(type(self).__name__, x, 3, self.head.weight.dtype)
        maps: list[Tensor] = []
        for embed, blocks, positions in zip(
            self.patch_embeds, self.blocks, self.pos_block, strict=True
        ):
            x = self.pos_drop(embed(x))  # (B, H, W, C)
            for j, block in enumerate(blocks):
                x = block(x)
                if j == 0:
                    x = positions(x)
            maps.append(x)
            x = x.transpose(0, 3, 1, 2)  # (B, C, H, W), as the next patches are cut
        maps[-1] = self.norm(maps[-1])
        return maps

    # ── what it is made of ───────────────────────────────────────────────────────────────────────

    def summary(self, img_size: int | Pair | None = None) -> list[Row]:
        """One row per step of the pyramid: name, shape, parameters, products of one image."""
        who = type(self).__name__
        size = self.img_size if img_size is None else pair(who, "img_size", img_size)
        grid, rows = size, [Row("image", (*size, 3), 0, 0)]
        learnt = Learnt()
        for i, embed in enumerate(self.patch_embeds):
            grid = patch_grid(grid, embed.proj.stride, who=who)
            C, blocks = embed.proj.weight.shape[0], self.blocks[i]
            rows.append(
                Row("embed" if i == 0 else "merge", (*grid, C), learnt(embed), embed.macs(grid))
            )
            cost = sum(block.macs(grid) for block in blocks) + 9 * C * grid[0] * grid[1]
            count = learnt(*blocks, self.pos_block[i])
            name = f"stage {i}: {len(blocks)} blocks"
            rows.append(Row(name, (*grid, C), count, cost, is_stage=True))
        rows.append(Row("norm, mean", (C,), learnt(self.norm), 0))
        head = self.head.weight
        return [*rows, Row("head", head.shape[:1], learnt(self.head), head.size)]
