"""Swin Transformer V2: the same pyramid, made to grow.                       Liu et al. 2022

Three changes, so that large models train and weights serve larger windows: the norms come after
attention and MLP, attention goes by cosines, and a small network computes the position bias.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minswin.arguments import Pair, generator, pair, stages, whole
from minswin.autograd import Tensor
from minswin.layers import (
    Dropout,
    DropPath,
    LayerNorm,
    Linear,
    Mlp,
    Parameter,
    PatchEmbed,
    PatchMergingV2,
    WindowAttentionV2,
)
from minswin.layers.initialize import Dtype, normal
from minswin.layers.windows import fit_window
from minswin.models.base import Row, check_dtype, drop_path_rates, mlp_width, patch_grid
from minswin.models.swin import Stage, SwinBlock, SwinTransformer, halve

WHO = "SwinTransformerV2"


class SwinBlockV2(SwinBlock):
    """Attention, then an MLP, each normalised and then added to the map.                  Figure 1

    Takes and gives a map (B, H, W, C). The norm is on the branch, before the sum. Its gains start
    at 0, so that a fresh block changes nothing.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: Pair,
        *,
        shift: bool,
        pretrained: Pair | None,
        mask_value: float,
        mlp_ratio: float,
        qkv_bias: bool,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
        rng: np.random.Generator,
        dtype: Dtype,
    ) -> None:
        self.norm1 = LayerNorm(channels, dtype=dtype)
        self.attn = WindowAttentionV2(
            channels,
            heads,
            window,
            shift=shift,
            pretrained=pretrained,
            mask_value=mask_value,
            qkv_bias=qkv_bias,
            attn_drop_rate=attn_drop_rate,
            drop_rate=drop_rate,
            rng=rng,
            dtype=dtype,
        )
        self.drop_path = DropPath(drop_path_rate, rng=rng)
        self.norm2 = LayerNorm(channels, dtype=dtype)
        hidden = int(channels * mlp_ratio)
        self.mlp = Mlp(channels, hidden, drop_rate=drop_rate, rng=rng, dtype=dtype)
        for norm in (self.norm1, self.norm2):
            norm.weight.data[...] = 0

    def __call__(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.norm1(self.attn(x)))
        return x + self.drop_path(self.norm2(self.mlp(x)))


class SwinTransformerV2(SwinTransformer):
    """The whole model: images (B, 3, H, W) in, logits (B, num_classes) out, as SwinTransformer.

    pretrained_window_sizes: a side for each stage, 0 where the window is that of the pre-training;
    what they are for, and mask_value: see WindowAttentionV2.
    Parameters depend neither on the image nor on the window.
    """

    name: str = "swinv2"

    def __init__(
        self,
        *,
        img_size: int | Pair = 256,
        patch_size: int | Pair = 4,
        embed_dim: int = 96,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        num_heads: tuple[int, ...] = (3, 6, 12, 24),
        window_size: int | Pair = 8,
        pretrained_window_sizes: tuple[int, ...] | None = None,
        mask_value: float = -100.0,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        ape: bool = False,
        patch_norm: bool = True,
        num_classes: int = 1000,
        recompute: bool = False,
        rng: np.random.Generator | None = None,
        dtype: Dtype = np.float32,
    ) -> None:
        depths, num_heads = stages(WHO, "depths", depths, 0), stages(WHO, "num_heads", num_heads)
        sides = (0,) * len(depths) if pretrained_window_sizes is None else pretrained_window_sizes
        sides = stages(WHO, "pretrained_window_sizes", sides, 0)
        if not len(depths) == len(num_heads) == len(sides):
            raise ValueError(
                f"{WHO}: depths, num_heads and pretrained_window_sizes need one entry per stage, "
                f"got {depths}, {num_heads} and {sides}"
            )
        embed_dim = whole(WHO, "embed_dim", embed_dim)
        num_classes = whole(WHO, "num_classes", num_classes)
        mlp_width(WHO, mlp_ratio, embed_dim)
        check_dtype(WHO, dtype)
        self.rng = rng = generator(WHO, rng)
        self.img_size = pair(WHO, "img_size", img_size)
        self.patch_size = pair(WHO, "patch_size", patch_size)
        grid = patch_grid(self.img_size, self.patch_size, who=WHO)
        window = pair(WHO, "window_size", window_size)
        same: dict[str, Any] = {  # in all blocks
            "mask_value": mask_value,
            "mlp_ratio": mlp_ratio,
            "qkv_bias": qkv_bias,
            "drop_rate": drop_rate,
            "attn_drop_rate": attn_drop_rate,
            "rng": rng,
            "dtype": dtype,
        }

        self.absolute_pos_embed: Parameter | None = None
        if ape:
            positions = normal(rng, (1, grid[0] * grid[1], embed_dim), dtype)
            self.absolute_pos_embed = Parameter(positions)
        self.patch_embed = PatchEmbed(
            embed_dim, self.patch_size, norm=patch_norm, rng=rng, dtype=dtype
        )
        self.pos_drop = Dropout(drop_rate, rng=rng)
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        self.layers: list[Stage] = []
        channels = embed_dim
        for depth, heads, side in zip(depths, num_heads, sides, strict=True):
            blocks: list[SwinBlock] = [
                SwinBlockV2(
                    channels,
                    heads,
                    fit_window(grid, window)[0],
                    shift=j % 2 == 1,
                    pretrained=(side, side) if side else None,
                    drop_path_rate=next(rates),
                    **same,
                )
                for j in range(depth)
            ]
            last = len(self.layers) == len(depths) - 1
            merge = None if last else PatchMergingV2(channels, rng=rng, dtype=dtype)
            self.layers.append(Stage(blocks, merge, forget=recompute))
            if not last:
                grid, channels = halve(grid), 2 * channels
        self.norm = LayerNorm(channels, dtype=dtype)
        self.head = Linear(channels, num_classes, rng=rng, dtype=dtype)

    def summary(self, img_size: int | Pair | None = None) -> list[Row]:
        """SwinTransformer's, but that a merge norms the 2C channels that it gives, not 4C.

        Like the original, it leaves out the position bias, which does not grow with the image.
        """
        rows = super().summary(img_size)
        extra = [math.prod(row.shape) if row.name == "merge" else 0 for row in rows]
        return [row._replace(macs=row.macs - n) for row, n in zip(rows, extra, strict=True)]
