"""Swin Transformer: a pyramid of maps, attention inside (shifted) windows.     Liu et al. 2021

A block, a stage of blocks and the merge after it, the model; `__call__` says what follows what. A
first reading needs the `__call__` of the three classes, and which blocks `_stages` shifts.
The shapes of Swin-T, where 48 = 4·4·3 numbers of a patch, and C = 96:

    image 224×224×3 → patches 56×56×48 → 56×56×C → 28×28×2C → 14×14×4C → 7×7×8C → classes
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin.arguments import Pair, Seed, pair, stages, whole
from minswin.arrays import Array
from minswin.autograd import Tensor
from minswin.layers import (
    Dropout,
    DropPath,
    Layer,
    LayerNorm,
    Linear,
    Mlp,
    PatchMerging,
    WindowAttention,
    recompute,
)
from minswin.layers.embeddings import patch_embedding
from minswin.layers.parameters import Dtype, Init
from minswin.layers.windows import fit_window
from minswin.models.base import (
    Learnt,
    Model,
    Row,
    as_images,
    check_grid,
    check_rates,
    drop_path_rates,
    mlp_width,
    patch_grid,
    rows_of_patches,
)


class SwinBlock(Layer):
    """Attention, then an MLP, each on the normalised map and added to it.     Figure 3 (b), eq. (3)

    Takes and gives a map (B, H, W, C)        attention: more settings of WindowAttention
    """

    Attention: type[WindowAttention] = WindowAttention

    def __init__(
        self,
        channels: int,
        heads: int,
        window: Pair,
        *,
        mlp_ratio: float,
        drop_rate: float,
        drop_path_rate: float,
        init: Init,
        **attention: Any,
    ) -> None:
        self.norm1 = LayerNorm(channels, init=init)
        self.attn = self.Attention(
            channels, heads, window, drop_rate=drop_rate, init=init, **attention
        )
        self.drop_path = DropPath(drop_path_rate, init=init)
        self.norm2 = LayerNorm(channels, init=init)
        self.mlp = Mlp(channels, int(channels * mlp_ratio), drop_rate=drop_rate, init=init)

    def __call__(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def macs(self, grid: Pair) -> int:
        """Multiply-adds on a map: 4HWC² + 2NHWC for W-MSA, 2·ratio·HWC² for the MLP, 2HWC norms.

        Counted on the map that the windows cover, padding included.                      Eq. (2)
        """
        (H, W), C = grid, self.norm1.weight.size
        (Mh, Mw), _ = fit_window(grid, self.attn.window)
        covered = (H + -H % Mh) * (W + -W % Mw)
        hidden = self.mlp.fc1.bias.size if self.mlp.fc1.bias is not None else 0
        attention = covered * (3 * C * C + 2 * Mh * Mw * C) + H * W * C * C
        return attention + H * W * (2 * C * hidden + 2 * C)


class Stage(Layer):
    """Blocks that take turns between windows and shifted windows; `merge` follows on them.

    Takes and gives a map (B, H, W, C)
    """

    def __init__(
        self, blocks: list[SwinBlock], downsample: PatchMerging | None, *, forget: bool = False
    ) -> None:
        self.blocks = blocks
        self.downsample = downsample
        self.forget = forget  # what is inside a block: backward computes it again

    def __call__(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = recompute(block, x) if self.forget else block(x)
        return x

    def merge(self, x: Tensor) -> Tensor:
        """The map for the next stage, (B, ⌈H/2⌉, ⌈W/2⌉, 2C); of the last stage x itself."""
        return x if self.downsample is None else self.downsample(x)


class SwinTransformer(Model):
    """The whole model: images (B, 3, H, W) in, logits (B, num_classes) out.

    img_size, patch_size, window_size: an int, or (height, width).
    recompute: backward runs each block again: the same numbers in more time and less memory.
    ape: learn an absolute position embedding besides the biases.
    stem: "patches", "overlapping" (patches of side 2p−1), "convolutions" (see ConvStem, whose
    depth is stem_depth; their norms are their own, and patch_norm adds none).
    shift, relative_bias: False leaves them out, as rows of the paper's Table 4 do.
    The image may have another size at call time, except with `ape`. Only two things are made for
    `img_size`: that embedding, and the bias tables of windows that shrank to fit a small map.
    """

    name = family = "swin"
    position_names = ("absolute_pos_embed",)
    Block: type[SwinBlock] = SwinBlock
    Merge: type[PatchMerging] = PatchMerging

    def __init__(
        self,
        *,
        img_size: int | Pair = 224,
        patch_size: int | Pair = 4,
        embed_dim: int = 96,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        num_heads: tuple[int, ...] = (3, 6, 12, 24),
        window_size: int | Pair = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        ape: bool = False,
        patch_norm: bool = True,
        stem: str = "patches",
        stem_depth: int = 0,
        shift: bool = True,
        relative_bias: bool = True,
        num_classes: int = 1000,
        recompute: bool = False,
        rng: Seed = None,
        dtype: Dtype = np.float32,
    ) -> None:
        who = type(self).__name__
        init = self._begin(rng, dtype, img_size, patch_size)
        check_rates(
            who, drop_rate=drop_rate, attn_drop_rate=attn_drop_rate, drop_path_rate=drop_path_rate
        )
        num_classes, C = whole(who, "num_classes", num_classes), whole(who, "embed_dim", embed_dim)
        mlp_width(who, mlp_ratio, C)
        H, W = patch_grid(self.img_size, self.patch_size, who=who)
        self.absolute_pos_embed = init.normal(1, H * W, C, decays=False) if ape else None
        self.patch_embed = patch_embedding(
            who, stem, C, self.patch_size, depth=stem_depth, norm=patch_norm, init=init
        )
        self.pos_drop = Dropout(drop_rate, init=init)
        self.layers = self._stages(
            (H, W), C, pair(who, "window_size", window_size), depths, num_heads, recompute,
            shift, drop_path_rate, mlp_ratio=mlp_ratio, qkv_bias=qkv_bias, drop_rate=drop_rate,
            attn_drop_rate=attn_drop_rate, init=init,
        )  # fmt: skip
        if not relative_bias:
            self._forget_biases()
        self.norm = LayerNorm(C * 2 ** (len(depths) - 1), init=init)
        self.head = Linear(C * 2 ** (len(depths) - 1), num_classes, init=init)

    def _stages(
        self, grid: Pair, channels: int, window: Pair, depths: Any, num_heads: Any, recompute: bool,
        shift: bool, drop_path_rate: float, *, init: Init, **settings: Any,
    ) -> list[Stage]:  # fmt: skip
        """The pyramid; `settings` are those of every block."""
        who = type(self).__name__
        depths, num_heads = stages(who, "depths", depths, 0), stages(who, "num_heads", num_heads)
        if len(depths) != len(num_heads):
            raise ValueError(
                f"{who}: depths and num_heads need one entry per stage, "
                f"got {depths} and {num_heads}"
            )
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        pyramid: list[Stage] = []
        for i, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            each = {**settings, **self.block_settings(i), "init": init}
            side = fit_window(grid, window)[0]
            shifts = (shift and j % 2 == 1 for j in range(depth))
            blocks = [
                self.Block(channels, heads, side, shift=s, drop_path_rate=next(rates), **each)
                for s in shifts
            ]
            merge = self.Merge(channels, init=init) if i < len(depths) - 1 else None
            pyramid.append(Stage(blocks, merge, forget=recompute))
            grid, channels = halve(grid), 2 * channels
        return pyramid

    def _forget_biases(self) -> None:
        for stage in self.layers:
            for block in stage.blocks:
                block.attn.forget_bias()

    def block_settings(self, stage: int) -> dict[str, Any]:
        """What a block of this stage needs besides the settings of all."""
        return {}

    # ── forward ──────────────────────────────────────────────────────────────────────────────────

    def __call__(self, x: Tensor | Array) -> Tensor:
        """Images (B, 3, H, W) to logits (B, num_classes)."""
        x = self.embed(x)  # (B, H/p, W/p, C)
        for stage in self.layers:
            x = stage.merge(stage(x))  # (B, H/2, W/2, 2C), but for the last
        x = self.norm(x)  # every token is normalised, THEN the mean is taken
        x = x.mean(axis=(1, 2))  # (B, 8C)
        return self.head(x)

    def feature_maps(self, x: Tensor | Array) -> list[Tensor]:
        """The map of every stage, before its merge: the pyramid for detection and segmentation.

        Images (B, 3, H, W) to [(B, H/p, W/p, C), (B, H/2p, W/2p, 2C), …]; the last is normalised
        by the model's final norm.
        """
        x = self.embed(x)
        maps = []
        for stage in self.layers:
            x = stage(x)
            maps.append(x)
            x = stage.merge(x)
        maps[-1] = self.norm(maps[-1])
        return maps

    def embed(self, x: Tensor | Array) -> Tensor:
        """Images (B, 3, H, W) to the map of tokens (B, H/p, W/p, C)."""
        x = as_images(type(self).__name__, x, 3, self.norm.weight.dtype)
        grid = patch_grid((x.shape[2], x.shape[3]), self.patch_size, who=type(self).__name__)
        x = self.patch_embed(x)  # (B, H/p, W/p, C)
        if self.absolute_pos_embed is not None:
            x = x + self._positions(grid)
        return self.pos_drop(x)

    def _positions(self, grid: Pair) -> Tensor:
        who, learnt = type(self).__name__, patch_grid(self.img_size, self.patch_size)
        subject = "the absolute position embedding was"
        check_grid(who, subject, learnt, grid, self.patch_size, " or ape=False")
        assert self.absolute_pos_embed is not None
        return self.absolute_pos_embed.reshape(1, *grid, -1)

    # ── what it is made of ───────────────────────────────────────────────────────────────────────

    def summary(self, img_size: int | Pair | None = None) -> list[Row]:
        """One row per step of the pyramid: name, shape, parameters, multiply-adds of one image.

        Counts like the original: products, and one per element of a layer norm.
        """
        who = type(self).__name__
        size = self.img_size if img_size is None else pair(who, "img_size", img_size)
        grid, rows = patch_grid(size, self.patch_size, who=who), [Row("image", (*size, 3), 0, 0)]
        C = self.patch_embed.proj.weight.shape[0]
        rows += rows_of_patches(self.patch_embed, grid)
        learnt = Learnt()
        patches = grid[0] * grid[1]
        cost = self.patch_embed.macs(grid)
        if getattr(self.patch_embed, "norm", None) is not None:
            cost += patches * C
        rows.append(
            Row("embed", (*grid, C), learnt(self.absolute_pos_embed, self.patch_embed), cost)
        )
        for i, stage in enumerate(self.layers):
            cost = sum(block.macs(grid) for block in stage.blocks)
            name, count = f"stage {i}: {len(stage.blocks)} blocks", learnt(*stage.blocks)
            rows.append(Row(name, (*grid, C), count, cost, is_stage=True))
            if stage.downsample is not None:
                grid = halve(grid)
                cost = grid[0] * grid[1] * (4 * C + 8 * C * C)
                C *= 2
                rows.append(Row("merge", (*grid, C), learnt(stage.downsample), cost))
        # The original divides the first map's area by 2^stages here, not the last map's: a little
        # too much (0.1 M for Swin-T), kept so that the published totals come out to the digit.
        cost = C * patches // 2 ** len(self.layers)
        rows.append(Row("norm, mean", (C,), learnt(self.norm), cost))
        classes = self.head.weight.shape[0]
        rows.append(Row("head", (classes,), learnt(self.head), C * classes))
        return rows


def halve(grid: Pair) -> Pair:
    """The size of a merged map: half, rounded up."""
    return (grid[0] + 1) // 2, (grid[1] + 1) // 2
