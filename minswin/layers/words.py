"""From pixels to the words of TNT: several small tokens for every patch."""

from __future__ import annotations

import math

from minswin import ops
from minswin.arguments import Pair
from minswin.autograd import Tensor
from minswin.layers.base import Layer
from minswin.layers.embeddings import Conv2d
from minswin.layers.parameters import Init

SIDE = 7  # of the filters that make words


class WordEmbed(Layer):
    """Cut an image into patches, and make words of the pixels of each patch.     Han et al. 2021

    Learns   proj: Conv2d(3, c, 7×7, stride s)
    Takes    images (B, 3, H, W)   Gives words (B·patches, m, c), row by row;   m = ⌈p/s⌉² per patch
    A filter at the border of a patch sees zeros, not the next patch; with `legacy` it does see it.
    """

    def __init__(
        self, channels: int, patch: Pair, stride: int, *, legacy: bool, init: Init
    ) -> None:
        if legacy and any(side % stride for side in patch):
            raise ValueError(
                f"{type(self).__name__}: legacy words lie on one grid over the image, so "
                f"inner_stride must divide the {patch[0]}×{patch[1]} patches, got {stride}"
            )
        self.patch, self.legacy = patch, legacy
        self.proj = Conv2d(3, channels, SIDE, stride=stride, padding=SIDE // 2, init=init)

    @property
    def words(self) -> Pair:
        """Rows and columns of words in a patch."""
        (ph, pw), (s, _) = self.patch, self.proj.stride
        return math.ceil(ph / s), math.ceil(pw / s)

    def __call__(self, x: Tensor) -> Tensor:
        if self.legacy:
            x = cut_patches(self.proj(x), self.words)  # (B·patches, c, mh, mw)
        else:
            x = self.proj(cut_patches(x, self.patch))  # (B·patches, c, mh, mw)
        n, c, mh, mw = x.shape
        return x.reshape(n, c, mh * mw).transpose(0, 2, 1)  # (B·patches, m, c)


def cut_patches(x: Tensor, patch: Pair) -> Tensor:
    """The patches of all images, row by row: (B, C, H, W) gives (B·H/ph·W/pw, C, ph, pw)."""
    channels = x.shape[1]
    x = ops.unfold(x, kernel=patch, stride=patch)  # (B, H/ph, W/pw, C·ph·pw)
    return x.reshape(-1, channels, *patch)
