"""Multi-head self-attention: every token looks at every token."""

from __future__ import annotations

from minswin import ops
from minswin.arrays import Array
from minswin.autograd import Tensor
from minswin.composites import merge_heads, spelled_out, split_heads
from minswin.layers.base import Layer
from minswin.layers.basic import Dropout, Linear
from minswin.layers.parameters import Init


def check_heads(who: str, channels: int, heads: int) -> None:
    if heads < 1 or channels % heads:
        raise ValueError(
            f"{who}: {channels} channels do not divide into {heads} heads; "
            f"choose num_heads among the divisors of {channels}"
        )


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | Array | None, drop: Dropout | None
) -> Tensor:
    """Attention; while `drop` is active, with dropout on the probabilities, spelled out."""
    if drop is None or not drop.active:
        return ops.attention(q, k, v, bias)
    return spelled_out(q, k, v, bias, drop=drop)


class MSA(Layer):
    """Multi-head self-attention over all tokens.    Vaswani et al. 2017, §3.2; Dosovitskiy 2021, §A

    Learns   qkv: Linear(C, 3C)   proj: Linear(C, C)        Takes and gives (B, N, C)
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        qkv_bias: bool = True,
        attn_drop_rate: float = 0.0,
        drop_rate: float = 0.0,
        init: Init,
    ) -> None:
        check_heads(type(self).__name__, channels, heads)
        self.heads = heads
        self.qkv = Linear(channels, 3 * channels, bias=qkv_bias, init=init)
        self.proj = Linear(channels, channels, init=init)
        self.attn_drop = Dropout(attn_drop_rate, init=init)
        self.proj_drop = Dropout(drop_rate, init=init)

    def __call__(self, x: Tensor, bias: Tensor | Array | None = None) -> Tensor:
        q, k, v = split_heads(self.qkv(x), self.heads)  # (B, h, N, d) each
        y = attend(q, k, v, bias, self.attn_drop)  # (B, h, N, d)
        return self.proj_drop(self.proj(merge_heads(y)))  # (B, N, C)
