"""Swin Transformer V2: the same pyramid, made to grow.                       Liu et al. 2022

Three changes, so that large models train and weights serve larger windows: the norms come after
attention and MLP, attention goes by cosines, and a small network computes the position bias.
"""

from __future__ import annotations

import math
from typing import Any

from minswin.arguments import Pair, stages
from minswin.autograd import Tensor
from minswin.layers import PatchMergingV2, WindowAttentionV2
from minswin.models.base import Row
from minswin.models.swin import SwinBlock, SwinTransformer


class SwinBlockV2(SwinBlock):
    """Attention, then an MLP, each normalised and then added to the map.                  Figure 1

    Takes and gives a map (B, H, W, C). The norm is on the branch, before the sum. Its gains start
    at 0, so that a fresh block changes nothing.
    """

    Attention = WindowAttentionV2

    def __init__(self, channels: int, heads: int, window: Pair, **settings: Any) -> None:
        super().__init__(channels, heads, window, **settings)
        for norm in (self.norm1, self.norm2):
            norm.weight.data[...] = 0

    def __call__(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.norm1(self.attn(x)))
        return x + self.drop_path(self.norm2(self.mlp(x)))


class SwinTransformerV2(SwinTransformer):
    """The whole model: images (B, 3, H, W) in, logits (B, num_classes) out, as SwinTransformer.

    pretrained_window_sizes: a side for each stage, 0 where the window is that of the pre-training;
    what they are for, and mask_value: see WindowAttentionV2. The other settings: SwinTransformer's.
    Parameters depend neither on the image nor on the window.
    """

    name = family = "swinv2"
    Block = SwinBlockV2
    Merge = PatchMergingV2

    def __init__(
        self,
        *,
        img_size: int | Pair = 256,
        window_size: int | Pair = 8,
        pretrained_window_sizes: tuple[int, ...] | None = None,
        mask_value: float = -100.0,
        **settings: Any,
    ) -> None:
        who, sides = type(self).__name__, pretrained_window_sizes
        self.pretrained: tuple[int, ...] = ()
        if sides is not None:
            self.pretrained = stages(who, "pretrained_window_sizes", sides, 0)
        self.mask_value = mask_value
        super().__init__(img_size=img_size, window_size=window_size, **settings)
        if sides is not None and len(self.pretrained) != len(self.layers):
            raise ValueError(
                f"{who}: depths and pretrained_window_sizes need one entry per stage, got "
                f"{len(self.layers)} stages and {sides}"
            )

    def block_settings(self, stage: int) -> dict[str, Any]:
        side = (*self.pretrained, *[0] * (stage + 1))[stage]
        return {"pretrained": side or None, "mask_value": self.mask_value}

    def summary(self, img_size: int | Pair | None = None) -> list[Row]:
        """SwinTransformer's, but that a merge norms the 2C channels that it gives, not 4C.

        Like the original, it leaves out the position bias, which does not grow with the image.
        """
        rows = super().summary(img_size)
        extra = [math.prod(row.shape) if row.name == "merge" else 0 for row in rows]
        return [row._replace(macs=row.macs - n) for row, n in zip(rows, extra, strict=True)]
