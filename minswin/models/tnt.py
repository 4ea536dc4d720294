"""Transformer in Transformer: patches are sentences, their pixels are words.       Han et al. 2021

How pixels become words, a block, the model. The shapes of TNT-S:

    image 224×224×3 → 196 patches 16×16×3 → words 196×(16×24), sentences 197×384 → 384 → classes
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from minswin import ops
from minswin.arguments import Pair, Seed, pair, whole
from minswin.arrays import Array
from minswin.autograd import Tensor
from minswin.composites import merge_heads, split_heads
from minswin.layers import Dropout, DropPath, Layer, LayerNorm, Linear, Mlp, WordEmbed
from minswin.layers.attention import attend, check_heads
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
)


class Attention(Layer):
    """Multi-head self-attention whose values have a linear map of their own.

    Learns   qk: Linear(C, 2C)   v: Linear(C, C)   proj: Linear(C, C)   Takes and gives (B, N, C)
    """

    def __init__(
        self, channels: int, heads: int, *, qkv_bias: bool, attn_drop_rate: float, drop_rate: float,
        init: Init,
    ) -> None:  # fmt: skip
        check_heads("TNT", channels, heads)
        self.heads = heads
        self.qk = Linear(channels, 2 * channels, bias=qkv_bias, init=init)
        self.v = Linear(channels, channels, bias=qkv_bias, init=init)
        self.proj = Linear(channels, channels, init=init)
        self.attn_drop = Dropout(attn_drop_rate, init=init)
        self.proj_drop = Dropout(drop_rate, init=init)

    def __call__(self, x: Tensor) -> Tensor:
        qkv = ops.concatenate(self.qk(x), self.v(x), axis=-1)  # (B, N, 3C)
        q, k, v = split_heads(qkv, self.heads)  # (B, h, N, d) each
        y = attend(q, k, v, None, self.attn_drop)  # (B, h, N, d)
        return self.proj_drop(self.proj(merge_heads(y)))  # (B, N, C)


class Block(Layer):
    """Words look at each other in every patch, and tell it; then patches look at each other.

    Takes and gives words (B·patches, m, c) and sentences (B, 1 + patches, D), the class token first
    Dropped paths: those of words for each patch, those of sentences for each image.
    """

    def __init__(
        self,
        channels: int,
        inner: int,
        words: int,
        *,
        heads: int,
        inner_heads: int,
        mlp_ratio: float,
        legacy: bool,
        drop_path_rate: float,
        init: Init,
        drop_rate: float,
        **attention: Any,
    ) -> None:
        hidden, inner_hidden = (mlp_width("TNT", mlp_ratio, C) for C in (channels, inner))
        self.legacy = legacy
        self.inner_norm1 = LayerNorm(inner, init=init)
        self.inner_attn = Attention(inner, inner_heads, drop_rate=drop_rate, init=init, **attention)
        self.inner_norm2 = LayerNorm(inner, init=init)
        self.inner_mlp = Mlp(inner, inner_hidden, drop_rate=drop_rate, init=init)
        self.proj_norm1 = LayerNorm(inner if legacy else words * inner, init=init)
        self.proj = Linear(words * inner, channels, bias=legacy, init=init)
        self.proj_norm2 = None if legacy else LayerNorm(channels, init=init)
        self.outer_norm1 = LayerNorm(channels, init=init)
        self.outer_attn = Attention(channels, heads, drop_rate=drop_rate, init=init, **attention)
        self.outer_norm2 = LayerNorm(channels, init=init)
        self.outer_mlp = Mlp(channels, hidden, drop_rate=drop_rate, init=init)
        self.drop_path = DropPath(drop_path_rate, init=init)

    def __call__(self, inner: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        inner = inner + self.drop_path(self.inner_attn(self.inner_norm1(inner)))
        inner = inner + self.drop_path(self.inner_mlp(self.inner_norm2(inner)))
        patches = outer[:, 1:] + self.sentences(inner, outer.shape[0])  # (B, patches, D)
        outer = ops.concatenate(outer[:, :1], patches, axis=1)  # the class token hears no words
        outer = outer + self.drop_path(self.outer_attn(self.outer_norm1(outer)))
        outer = outer + self.drop_path(self.outer_mlp(self.outer_norm2(outer)))
        return inner, outer

    def sentences(self, inner: Tensor, images: int) -> Tensor:
        """What the words (B·patches, m, c) of each patch tell it: (B, patches, D)."""
        if self.legacy:  # every word is normalised by itself
            inner = self.proj_norm1(inner)
        x = inner.reshape(images, -1, inner.shape[1] * inner.shape[2])  # (B, patches, m·c)
        if self.proj_norm2 is None:
            return self.proj(x)
        return self.proj_norm2(self.proj(self.proj_norm1(x)))

    def macs(self, patches: int, words: int) -> int:
        """Multiply-adds: of the words in each patch, of what they tell it, of the patches."""
        sentence = _sentence_macs(self.proj)
        if self.proj_norm2 is None:
            sentence -= self.proj.weight.shape[0]
        inner = _block_macs(words, self.inner_mlp) + sentence
        return patches * inner + _block_macs(patches + 1, self.outer_mlp)


def _block_macs(tokens: int, mlp: Mlp) -> int:
    C, hidden = mlp.fc2.weight.shape
    return tokens * (4 * C * C + 2 * tokens * C + 2 * C * hidden + 2 * C)


def _sentence_macs(proj: Linear) -> int:
    """From the words of a patch to its sentence, with a norm before and after."""
    return proj.weight.size + sum(proj.weight.shape)


class TNT(Model):
    """The whole model: images (B, 3, H, W) in, logits (B, num_classes) out.

    img_size, patch_size: an int, or (height, width)   inner_stride: pixels from word to word
    embed_dim, num_heads: of patches   inner_dim, inner_num_heads: of words
    legacy: the variant of timm's older weights, which is another function. Filters see across the
    borders of patches; in a block each word is normalised by itself before it tells its patch, the
    linear map has a bias, and no norm follows.
    The original's files also hold `outer_tokens` (1, patches, D), which nothing uses or trains; the
    65.6 M that are published for TNT-B count them.
    """

    name = family = "tnt"
    position_names = ("outer_pos",)

    def __init__(
        self,
        *,
        img_size: int | Pair = 224,
        patch_size: int | Pair = 16,
        embed_dim: int = 384,
        inner_dim: int = 24,
        depth: int = 12,
        num_heads: int = 6,
        inner_num_heads: int = 4,
        inner_stride: int = 4,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        legacy: bool = False,
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
        D, c = whole(who, "embed_dim", embed_dim), whole(who, "inner_dim", inner_dim)
        self._add_embedding(D, c, whole(who, "inner_stride", inner_stride), legacy, init)
        self.pos_drop = Dropout(drop_rate, init=init)
        block_of = partial(
            Block, D, c, math.prod(self.patch_embed.words), mlp_ratio=mlp_ratio, legacy=legacy,
            heads=whole(who, "num_heads", num_heads),
            inner_heads=whole(who, "inner_num_heads", inner_num_heads), qkv_bias=qkv_bias,
            drop_rate=drop_rate, attn_drop_rate=attn_drop_rate, init=init,
        )  # fmt: skip
        rates = drop_path_rates(drop_path_rate, whole(who, "depth", depth, 0))
        self.blocks = [block_of(drop_path_rate=rate) for rate in rates]
        self.norm = LayerNorm(D, init=init)
        self.head = Linear(D, whole(who, "num_classes", num_classes), init=init)

    def _add_embedding(self, D: int, c: int, stride: int, legacy: bool, init: Init) -> None:
        """Patches, their words, the positions of both, and the map from words to a patch."""
        self.grid = patch_grid(self.img_size, self.patch_size, who=type(self).__name__)
        embed = WordEmbed(c, self.patch_size, stride, legacy=legacy, init=init)
        patches, words = math.prod(self.grid), math.prod(embed.words)
        self.cls_token = init.normal(1, 1, D, decays=False)
        self.outer_pos = init.normal(1, patches + 1, D, decays=False)
        self.inner_pos = init.normal(1, words, c, decays=False)
        self.patch_embed = embed
        self.proj_norm1 = LayerNorm(words * c, init=init)
        self.proj = Linear(words * c, D, init=init)
        self.proj_norm2 = LayerNorm(D, init=init)

    # ── forward ──────────────────────────────────────────────────────────────────────────────────

    def __call__(self, x: Tensor | Array) -> Tensor:
        """Images (B, 3, H, W) to logits (B, num_classes)."""
        return self.head(self.tokens(x)[:, 0])

    def tokens(self, x: Tensor | Array) -> Tensor:
        """Images (B, 3, H, W) to the normalised sentences (B, 1 + patches, D)."""
        inner, outer = self.embed(x)
        for block in self.blocks:
            inner, outer = block(inner, outer)
        return self.norm(outer)

    def feature_maps(self, x: Tensor | Array) -> list[Tensor]:
        """Images (B, 3, H, W) to the map of sentences (B, H/p, W/p, D) after every block."""
        inner, outer = self.embed(x)
        tokens = []
        for block in self.blocks:
            inner, outer = block(inner, outer)
            tokens.append(outer)
        tokens[-1:] = [self.norm(outer)]
        return [y[:, 1:].reshape(y.shape[0], *self.grid, -1) for y in tokens]

    def embed(self, x: Tensor | Array) -> tuple[Tensor, Tensor]:
        """Images to words (B·patches, m, c) and sentences (B, 1 + patches, D), with positions."""
        x = as_images(type(self).__name__, x, 3, self.head.weight.dtype)
        grid = patch_grid((x.shape[2], x.shape[3]), self.patch_size, who=type(self).__name__)
        check_grid(type(self).__name__, "the positions were", self.grid, grid, self.patch_size)
        B, D = x.shape[0], self.norm.weight.size
        inner = self.patch_embed(x) + self.inner_pos  # (B·patches, m, c)
        outer = inner.reshape(B, math.prod(grid), -1)  # (B, patches, m·c)
        outer = self.proj_norm2(self.proj(self.proj_norm1(outer)))  # (B, patches, D)
        cls = ops.broadcast_to(self.cls_token, shape=(B, 1, D))
        outer = ops.concatenate(cls, outer, axis=1) + self.outer_pos  # (B, 1 + patches, D)
        return inner, self.pos_drop(outer)

    # ── what it is made of ───────────────────────────────────────────────────────────────────────

    def summary(self, img_size: int | Pair | None = None) -> list[Row]:
        """One row per step: name, shape, parameters, multiply-adds of one image.

        Counts products, and one per element of a layer norm: so the published totals come out.
        """
        who = type(self).__name__
        size = self.img_size if img_size is None else pair(who, "img_size", img_size)
        grid, (ph, pw) = patch_grid(size, self.patch_size, who=who), self.patch_size
        patches, words = math.prod(grid), math.prod(self.patch_embed.words)
        D, c = self.norm.weight.size, self.inner_pos.shape[-1]
        learnt = Learnt()
        of_words, of_blocks = learnt(self.patch_embed, self.inner_pos), learnt(*self.blocks)
        of_norm, of_head = learnt(self.norm), learnt(self.head)
        rest = self.parameter_count() - of_words - of_blocks - of_norm - of_head
        cost = patches * words * self.patch_embed.proj.weight.size
        rows = [
            Row("image", (*size, 3), 0, 0),
            Row("patches", (patches, ph, pw, 3), 0, 0),
            Row("words", (patches, words, c), of_words, cost),
            Row("sentences", (patches + 1, D), rest, patches * _sentence_macs(self.proj)),
        ]
        if self.blocks:
            cost = sum(block.macs(patches, words) for block in self.blocks)
            rows.append(Row(f"{len(self.blocks)} blocks", (patches + 1, D), of_blocks, cost))
        rows.append(Row("norm, class token", (D,), of_norm, (patches + 1) * D))
        return [*rows, Row("head", self.head.weight.shape[:1], of_head, self.head.weight.size)]
