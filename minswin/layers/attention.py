"""Multi-head self-attention: every token looks at every token."""

from __future__ import annotations

from minswin import ops
from minswin.arrays import Array
from minswin.autograd import Tensor
from minswin.layers.base import Layer
from minswin.layers.basic import Dropout, Linear
from minswin.layers.parameters import Init
from minswin.lifting import composite


def check_heads(who: str, channels: int, heads: int) -> None:
    if heads < 1 or channels % heads:
        raise ValueError(
            f"{who}: {channels} channels do not divide into {heads} heads; "
            f"choose num_heads among the divisors of {channels}"
        )


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut the channels into q, k, v and each into heads: channel = (which · h + head) · d + t.

    qkv (..., N, 3C)   gives q, k, v, each (..., h, N, d)
    """
    *lead, N, channels = qkv.shape
    rank = len(lead)
    qkv = qkv.reshape(*lead, N, 3, heads, channels // (3 * heads))  # (..., N, 3, h, d)
    axes = (rank + 1, *range(rank), rank + 2, rank, rank + 3)
    qkv = qkv.transpose(*axes)  # (3, ..., h, N, d)
    return qkv[0], qkv[1], qkv[2]


def merge_heads(x: Tensor) -> Tensor:
    """Put the heads side by side again: (..., h, N, d) gives (..., N, h·d)."""
    *lead, h, N, d = x.shape
    rank = len(lead)
    x = x.transpose(*range(rank), rank + 1, rank, rank + 2)  # (..., N, h, d)
    return x.reshape(*lead, N, h * d)


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | Array | None, drop: Dropout | None
) -> Tensor:
    """Attention; while `drop` is active, with dropout on the probabilities, spelled out."""
    if drop is None or not drop.active:
        return ops.attention(q, k, v, bias)
    return spelled_out(q, k, v, bias, drop=drop)


@composite(bias=ops.MASK_HINT)
def spelled_out(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | Array | None = None,
    *,
    drop: Dropout | None = None,
) -> Tensor:
    """ops.attention step by step, for those who need the steps: dropout, float16 and crosscheck.

    q (..., N, d)   k (..., M, d)   v (..., M, e)   bias -> (..., N, M) floats or None
    gives (..., N, e)
    """
    swapped = (*range(k.ndim - 2), k.ndim - 1, k.ndim - 2)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(*swapped)  # (..., N, M)
    if bias is not None:
        logits = logits + bias
    probabilities = ops.softmax(logits)  # each row sums to 1
    return (probabilities if drop is None else drop(probabilities)) @ v  # (..., N, e)


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
