"""Vision Transformer: patches are words; every token looks at every token.  Dosovitskiy et al. 2021

A block, the model. The shapes of ViT-S/16:

    image 224×224×3 → patches 14×14×768 → 196×384 → with the class token 197×384 → 384 → classes
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin import ops
from minswin.arguments import Pair, Seed, one_of, pair, whole
from minswin.arrays import Array
from minswin.autograd import Tensor
from minswin.layers import (
    MSA,
    AxisPositions,
    Dropout,
    DropPath,
    Layer,
    LayerNorm,
    Linear,
    Mlp,
    Parameter,
    RelativePositionBias,
    SinusoidalPositions,
    recompute,
)
from minswin.layers.embeddings import patch_embedding
from minswin.layers.parameters import Dtype, Init
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

EPS = 1e-6  # of every layer norm
POSITIONS = ("learned", "learned_2d", "sinusoidal", "relative", "none")
POOLS = ("token", "avg")


class Block(Layer):
    """Attention, then an MLP, each on the normalised tokens and added to them.        Eq. (2), (3)

    Takes tokens (B, N, C), and the grid of those that are patches        Gives (B, N, C)
    attention: more settings of MSA
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        hidden: int,
        *,
        rel_pos: RelativePositionBias | None,
        drop_rate: float,
        drop_path_rate: float,
        init: Init,
        **attention: Any,
    ) -> None:
        self.norm1 = LayerNorm(channels, eps=EPS, init=init)
        self.attn = MSA(channels, heads, drop_rate=drop_rate, init=init, **attention)
        self.rel_pos = rel_pos
        self.drop_path = DropPath(drop_path_rate, init=init)
        self.norm2 = LayerNorm(channels, eps=EPS, init=init)
        self.mlp = Mlp(channels, hidden, drop_rate=drop_rate, init=init)

    def __call__(self, x: Tensor, grid: Pair) -> Tensor:  # type: ignore[override]
        bias = None if self.rel_pos is None else self.rel_pos(grid)  # (h, N, N)
        x = x + self.drop_path(self.attn(self.norm1(x), bias))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def macs(self, tokens: int) -> int:
        """Multiply-adds: 4NC² + 2N²C for attention, 2·ratio·NC² for the MLP."""
        C, hidden = self.mlp.fc2.weight.shape
        return tokens * (4 * C * C + 2 * tokens * C + 2 * C * hidden)


class PreLogits(Layer):
    """The hidden layer of the paper's head while it pre-trains: linear, then tanh.      §3.1

    Learns   fc: Linear(C, D)        Takes (B, C)        Gives (B, D)
    """

    def __init__(self, channels: int, size: int, *, init: Init) -> None:
        self.fc = Linear(channels, size, init=init)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.tanh(self.fc(x))


class VisionTransformer(Model):
    """The whole model: images (B, 3, H, W) in, logits (B, num_classes) out.

    img_size, patch_size: an int, or (height, width)   representation_size: of the pre-logits layer
    global_pool: "token": the head reads the class token; "avg": the mean, without a class token
    positions: "learned" (a vector for each token), "learned_2d" (for each row and column),
    "sinusoidal" (the same, fixed), "relative" (a bias per displacement and head in each block),
    "none". Images of another size go through with "sinusoidal" and "none"; smaller, "relative".
    stem: "patches", "overlapping" (of side 2p−1), "convolutions" (ConvStem of depth stem_depth)
    recompute: backward runs each block again: the same numbers in more time and less memory
    """

    name = family = "vit"
    position_names = ("pos_embed",)
    extra_tokens = 0  # beside the class token

    def __init__(
        self,
        *,
        img_size: int | Pair = 224,
        patch_size: int | Pair = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        global_pool: str = "token",
        positions: str = "learned",
        stem: str = "patches",
        stem_depth: int = 0,
        representation_size: int | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        num_classes: int = 1000,
        recompute: bool = False,
        rng: Seed = None,
        dtype: Dtype = np.float32,
    ) -> None:
        who, init = type(self).__name__, self._begin(rng, dtype, img_size, patch_size)
        check_rates(
            who, drop_rate=drop_rate, attn_drop_rate=attn_drop_rate, drop_path_rate=drop_path_rate
        )
        C, num_heads = whole(who, "embed_dim", embed_dim), whole(who, "num_heads", num_heads)
        self.global_pool = one_of(who, "global_pool", global_pool, POOLS)
        self.positions = one_of(who, "positions", positions, POSITIONS)
        self.stem = stem
        self.cls_token = init.normal(1, 1, C, decays=False) if global_pool == "token" else None
        self.pos_embed = self._position_embedding(C, init)
        self.patch_embed = patch_embedding(
            who, stem, C, self.patch_size, depth=stem_depth, norm=False, init=init
        )
        self.pos_drop = Dropout(drop_rate, init=init)
        self.blocks = self._blocks(
            depth, drop_path_rate, C, num_heads, mlp_width(who, mlp_ratio, C), qkv_bias=qkv_bias,
            drop_rate=drop_rate, attn_drop_rate=attn_drop_rate, init=init,
        )  # fmt: skip
        self.forget = recompute  # and compute the blocks again in backward
        self._add_head(C, representation_size, num_classes, init)

    @property
    def _grid(self) -> Pair:
        """The patches of an image of the size that the model was made for."""
        return patch_grid(self.img_size, self.patch_size, who=type(self).__name__)

    @property
    def _extra(self) -> int:
        """Tokens that are no patches."""
        return self.extra_tokens + (self.global_pool == "token")

    def _position_embedding(
        self, C: int, init: Init
    ) -> Parameter | AxisPositions | SinusoidalPositions | None:
        H, W = self._grid
        if self.positions == "learned":
            return init.normal(1, H * W + self._extra, C, decays=False)
        if self.positions == "learned_2d":
            return AxisPositions(C, (H, W), init=init)
        return SinusoidalPositions(C) if self.positions == "sinusoidal" else None

    def _add_head(self, C: int, size: int | None, classes: int, init: Init) -> None:
        """The last norm, the pre-logits layer where it has a size, and the classifier."""
        who = type(self).__name__
        self.norm = LayerNorm(C, eps=EPS, init=init)
        self.pre_logits: PreLogits | None = None
        if size is not None:
            self.pre_logits = PreLogits(C, whole(who, "representation_size", size), init=init)
        self.head = Linear(size or C, whole(who, "num_classes", classes), init=init)

    def _blocks(
        self,
        depth: int,
        rate: float,
        C: int,
        heads: int,
        hidden: int,
        *,
        init: Init,
        **settings: Any,
    ) -> list[Block]:
        def positions() -> RelativePositionBias | None:
            if self.positions != "relative":
                return None
            return RelativePositionBias(self._grid, heads, extra=self._extra, init=init)

        rates = drop_path_rates(rate, whole(type(self).__name__, "depth", depth, 0))
        settings |= {"init": init}
        return [
            Block(C, heads, hidden, rel_pos=positions(), drop_path_rate=rate, **settings)
            for rate in rates
        ]

    # ── forward ──────────────────────────────────────────────────────────────────────────────────

    def __call__(self, x: Tensor | Array) -> Tensor:
        """Images (B, 3, H, W) to logits (B, num_classes)."""
        x = self.tokens(x)  # (B, N, C)
        x = x[:, 0] if self.global_pool == "token" else x.mean(axis=1)  # (B, C)
        if self.pre_logits is not None:
            x = self.pre_logits(x)  # (B, D)
        return self.head(x)

    def tokens(self, x: Tensor | Array) -> Tensor:
        """Images (B, 3, H, W) to the normalised tokens (B, N, C), the class token first."""
        x, grid = self.embed(x)
        for block in self.blocks:
            x = self._run(block, x, grid)
        return self.norm(x)

    def feature_maps(self, x: Tensor | Array) -> list[Tensor]:
        """Images (B, 3, H, W) to the map of patches (B, H/p, W/p, C) after every block."""
        x, grid = self.embed(x)
        tokens = [x := self._run(block, x, grid) for block in self.blocks]
        tokens[-1:] = [self.norm(x)]
        front = self._extra
        return [y[:, front:].reshape(x.shape[0], *grid, -1) for y in tokens]

    def _run(self, block: Block, x: Tensor, grid: Pair) -> Tensor:
        return recompute(block, x, grid) if self.forget else block(x, grid)

    def embed(self, x: Tensor | Array) -> tuple[Tensor, Pair]:
        """Images (B, 3, H, W) to tokens (B, N, C) with their positions, and the grid of patches."""
        x = as_images(type(self).__name__, x, 3, self.head.weight.dtype)
        grid = patch_grid((x.shape[2], x.shape[3]), self.patch_size, who=type(self).__name__)
        self._check_grid(grid)
        x = self.patch_embed(x)  # (B, H/p, W/p, C)
        if isinstance(self.pos_embed, Layer):
            x = self.pos_embed(x)
        B, _, _, C = x.shape
        x = x.reshape(B, -1, C)  # (B, HW/p², C)
        front = [ops.broadcast_to(token, shape=(B, 1, C)) for token in self.front_tokens()]
        if front:
            x = ops.concatenate(*front, x, axis=1)  # (B, N, C)
        if isinstance(self.pos_embed, Parameter):
            x = x + self.pos_embed
        return self.pos_drop(x), grid

    def front_tokens(self) -> list[Parameter]:
        """The learnt tokens (1, 1, C) before those of the patches."""
        return [] if self.cls_token is None else [self.cls_token]

    def _check_grid(self, grid: Pair) -> None:
        if self.positions in ("learned", "learned_2d"):
            who, subject = type(self).__name__, f"the {self.positions} positions were"
            check_grid(
                who, subject, self._grid, grid, self.patch_size, " or positions='sinusoidal'"
            )

    # ── what it is made of ───────────────────────────────────────────────────────────────────────

    def summary(self, img_size: int | Pair | None = None) -> list[Row]:
        """One row per step: name, shape, parameters, multiply-adds of one image.

        Counts products of matrices only, as ViT's published figures do; Swin's count norms too.
        """
        who = type(self).__name__
        size = self.img_size if img_size is None else pair(who, "img_size", img_size)
        grid, C = patch_grid(size, self.patch_size, who=who), self.norm.weight.size
        tokens = grid[0] * grid[1] + len(self.front_tokens())
        learnt, heads = Learnt(), self._heads()
        of_blocks, of_norm, of_heads = learnt(*self.blocks), learnt(self.norm), learnt(*heads)
        rest = self.parameter_count() - of_blocks - of_norm - of_heads
        rows = [
            Row("image", (*size, 3), 0, 0),
            *rows_of_patches(self.patch_embed, grid),
            Row("embed", (tokens, C), rest, self.patch_embed.macs(grid)),
        ]
        if self.blocks:
            cost = sum(block.macs(tokens) for block in self.blocks)
            rows.append(Row(f"{len(self.blocks)} blocks", (tokens, C), of_blocks, cost))
        pool = "class token" if self.global_pool == "token" else "mean"
        rows.append(Row(f"norm, {pool}", (C,), of_norm, 0))
        cost = sum(p.size for head in heads for p in head.parameters() if p.ndim == 2)
        name = "head" if len(heads) == 1 else "heads"
        return [*rows, Row(name, (self.head.weight.shape[0],), of_heads, cost)]

    def _heads(self) -> list[Layer]:
        """What follows the pooled tokens."""
        return [self.head] if self.pre_logits is None else [self.pre_logits, self.head]
