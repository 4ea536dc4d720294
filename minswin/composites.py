"""Operations that are made of others: attention in windows, attention step by step, the MLP.

What a Swin does between its linear maps stands in `shifted_window_attention`: roll, cut, attend,
put together, roll back. A composite is spelled out on Tensors, so its derivative follows from
those of its steps. A kernel of its name may run instead; `with kernels.using("reference"):` chooses
the text that you read here, and the definitions in reference/ of everything that it calls.
"""

from __future__ import annotations

from collections.abc import Callable

from minswin import ops
from minswin.arguments import Pair
from minswin.arrays import Array
from minswin.autograd import Tensor
from minswin.devices import constant
from minswin.lifting import checks, composite
from minswin.reference.windows import attention_mask, relative_position_index

__all__ = [
    "merge_heads",
    "mlp",
    "relative_position_bias",
    "shifted_window_attention",
    "spelled_out",
    "split_heads",
]

Attend = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # q, k, v and bias

# ── attention in windows ─────────────────────────────────────────────────────────────────────────


@composite(checks.shifted_window_attention)
def shifted_window_attention(
    qkv: Tensor,
    table: Tensor,
    *,
    heads: int,
    window: Pair,
    shift: Pair,
    table_window: Pair,
    mask_value: float = -100.0,
    attend: Attend = ops.attention,
) -> Tensor:
    """Roll the map, cut it into windows, attend in each, put them together, roll back.      §3.2

    qkv (B, H, W, 3C), H and W multiples of the window   table (rows, h), where rows is
    (2Mh−1)·(2Mw−1) of `table_window`   shift (0, 0): W-MSA; otherwise SW-MSA
    gives (B, H, W, C)
    mask_value, attend: for dropout and for Swin V2; no kernel takes these
    """
    grid = (qkv.shape[1], qkv.shape[2])
    if any(shift):
        qkv = ops.roll(qkv, shift=(-shift[0], -shift[1]))  # up and left
    qkv = ops.window_partition(qkv, window=window)  # (B, nW, N, 3C)
    q, k, v = split_heads(qkv, heads)  # (B, nW, h, N, d) each
    bias = relative_position_bias(table, window, table_window)  # (h, N, N)
    if any(shift):
        mask = constant(bias.data, attention_mask, grid, window, shift, mask_value)  # (nW, N, N)
        bias = bias + mask.astype(bias.dtype)[:, None]  # (nW, h, N, N)
    x = attend(q, k, v, bias)  # (B, nW, h, N, d)
    x = ops.window_merge(merge_heads(x), window=window, grid=grid)  # (B, H, W, C)
    return ops.roll(x, shift=shift) if any(shift) else x


def relative_position_bias(table: Tensor, window: Pair, table_window: Pair) -> Tensor:
    """The bias of every head for every pair of tokens of a window: (h, N, N), the B of eq. (4)."""
    index = constant(table.data, relative_position_index, window, table_window)  # (N, N)
    return ops.take(table, index).transpose(2, 0, 1)


# ── heads ────────────────────────────────────────────────────────────────────────────────────────


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


# ── attention step by step, and the MLP ──────────────────────────────────────────────────────────


@composite(bias=ops.MASK_HINT)
def spelled_out(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | Array | None = None,
    *,
    drop: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """ops.attention step by step, for those who need the steps: dropout, float16 and crosscheck.

    q (..., N, d)   k (..., M, d)   v (..., M, e)   bias -> (..., N, M) floats or None
    gives (..., N, e)        drop: what becomes of the probabilities
    """
    swapped = (*range(k.ndim - 2), k.ndim - 1, k.ndim - 2)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(*swapped)  # (..., N, M)
    if bias is not None:
        logits = logits + bias
    probabilities = ops.softmax(logits)  # each row sums to 1
    return (probabilities if drop is None else drop(probabilities)) @ v  # (..., N, e)


@composite()
def mlp(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """linear → GELU → linear.

    x (..., C)   w1 (hidden, C)   b1 (hidden,)   w2 (M, hidden)   b2 (M,)   gives (..., M)
    """
    return ops.linear(ops.gelu(ops.linear(x, w1, b1)), w2, b2)
