"""What Swin V2 changes in the windows: cosine attention, a position bias from a small network."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from minswin import ops
from minswin.arguments import Pair, pair
from minswin.autograd import Tensor
from minswin.composites import relative_position_bias, shifted_window_attention
from minswin.devices import constant
from minswin.layers.attention import attend, check_heads
from minswin.layers.base import Layer, Parameter
from minswin.layers.basic import Dropout, LayerNorm, Linear
from minswin.layers.parameters import Init
from minswin.layers.windows import PatchMerging, WindowAttention, check_map, pad_map

LARGEST = math.log(100)  # of logit_scale; what is learnt beyond it has no effect
BIAS = 16.0  # the largest position bias
HIDDEN = 512  # channels of cpb_mlp


# ── cosine attention ─────────────────────────────────────────────────────────────────────────────


def unit(x: Tensor) -> Tensor:
    """Vectors of length 1: x / max(‖x‖, 10⁻¹²), over the last axis.

    The maximum is taken of the squares, before the root, which has no derivative at 0: the keys of
    padding are exactly 0.
    """
    squares = (x * x).sum(axis=-1, keepdims=True)  # (..., 1)
    return x / ops.sqrt(ops.relu(squares - 1e-24) + 1e-24)


def cosine_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: Tensor, bias: Tensor, drop: Dropout | None = None
) -> Tensor:
    """softmax(τ cos(q, k) + bias) v.                                    Liu et al. 2022, eq. (2)

    q, k, v (..., h, N, d)   scale: τ (h, 1, 1)   bias -> (..., h, N, N)   gives (..., h, N, d)
    """
    scale = scale * q.shape[-1] ** 0.5  # since `attend` divides by √d
    return attend(unit(q) * scale, unit(k), v, bias, drop)


# ── where a token is ─────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=32)
def log_spaced(window: Pair, pretrained: Pair) -> np.ndarray:
    """The coordinates of every displacement in a window: ((2Mh−1)·(2Mw−1), 2), read-only.

        t = sign(Δ) log₂(1 + 8 |Δ| / (W−1)) / 3        Liu et al. 2022, eq. (4), with its code

    Rows as in relative_position_index   W: side of the `pretrained` window, where |Δ| = W−1 gives
    log₂ 9 / 3 = 1.06. A larger window goes a little beyond it: by the logarithm, not much.
    """
    axes = [
        8 * np.arange(1 - M, M) / max(W - 1, 1) for M, W in zip(window, pretrained, strict=True)
    ]
    along = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    t = np.sign(along) * np.log2(1 + abs(along)) / 3
    t.setflags(write=False)  # it is cached: nobody may change it
    return t


# ── the layers ───────────────────────────────────────────────────────────────────────────────────


class WindowAttentionV2(WindowAttention):
    """WindowAttention by cosines, its bias computed from displacements.     Liu et al. 2022, §3

        logits = τ cos(q, k) + B + mask      τ = exp(min(logit_scale, ln 100))
        B = 16 σ(cpb_mlp(t))                 t: see log_spaced

    Learns   logit_scale (h, 1, 1)   q_bias, v_bias (C,); keys have none
             cpb_mlp: Linear(2, 512), ReLU, Linear(512, h)   qkv: Linear(C, 3C)   proj: Linear(C, C)
    pretrained: the window of the pre-training, where it differs from this one
    mask_value: added to the logits of two tokens that may not see each other. The original's −100
    holds while logits differ by less, but here they may differ by 2 τ + 16 = 216: at the clamp of
    τ, a masked key of cosine 1 (100 − 100) beats an allowed one of cosine −1 (−100). −np.inf
    always holds; the published weights were trained with −100, and transformers adds it twice.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int | Pair,
        *,
        shift: bool = False,
        pretrained: int | Pair | None = None,
        mask_value: float = -100.0,
        qkv_bias: bool = True,
        attn_drop_rate: float = 0.0,
        drop_rate: float = 0.0,
        init: Init,
    ) -> None:
        who = type(self).__name__
        check_heads(who, channels, heads)
        if not mask_value < 0:
            raise ValueError(
                f"{who}: mask_value must be negative, got {mask_value}; use -100, as "
                "the original, or -np.inf"
            )
        self.heads, self.shift, self.mask_value = heads, shift, float(mask_value)
        self.window = window = pair(who, "window", window)
        self.pretrained = pair(who, "pretrained", pretrained or window)
        scale = np.full((heads, 1, 1), math.log(10), init.dtype)
        self.logit_scale = Parameter(scale, decays=False)
        self.q_bias = init.zeros(channels) if qkv_bias else None
        self.v_bias = init.zeros(channels) if qkv_bias else None
        first = Linear(2, HIDDEN, init=init)
        last = Linear(HIDDEN, heads, bias=False, init=init)
        first.weight.decays = last.weight.decays = False
        self.cpb_mlp: list[Callable[[Tensor], Tensor]] = [first, ops.relu, last]
        self.qkv = Linear(channels, 3 * channels, bias=False, init=init)
        self.proj = Linear(channels, channels, init=init)
        self.attn_drop = Dropout(attn_drop_rate, init=init)
        self.proj_drop = Dropout(drop_rate, init=init)

    def shifted_windows(self, qkv: Tensor, window: Pair, shift: Pair) -> Tensor:
        """The attention of all windows: qkv (B, H, W, 3C) gives (B, H, W, C)."""
        if self.q_bias is not None and self.v_bias is not None:
            qkv = qkv + ops.concatenate(self.q_bias, 0 * self.q_bias.data, self.v_bias)
        return shifted_window_attention.function(
            qkv,
            self.bias_table(window),
            heads=self.heads,
            window=window,
            shift=shift,
            table_window=window,
            mask_value=self.mask_value,
            attend=self._attend,
        )

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return cosine_attention(q, k, v, self.scale(), bias, self.attn_drop)

    def scale(self) -> Tensor:
        """τ of every head, 100 at most: (h, 1, 1)."""
        return ops.exp(LARGEST - ops.relu(LARGEST - self.logit_scale))

    def forget_bias(self) -> None:
        """Keep the small network at zero: 8 for every pair, which a softmax does not see."""
        for step in self.cpb_mlp:
            for p in step.parameters() if isinstance(step, Layer) else ():
                p.leave_out()

    def bias(self, window: Pair) -> Tensor:
        """B, the bias of every head for every pair of tokens of a window: (h, N, N), in 0…16."""
        return relative_position_bias(self.bias_table(window), window, window)

    def bias_table(self, window: Pair) -> Tensor:
        """The bias of every displacement in a window and every head: ((2Mh−1)·(2Mw−1), h)."""
        weight = self.logit_scale.data
        t = constant(weight, log_spaced, window, self.pretrained)
        x = Tensor(t.astype(weight.dtype))  # (displacements, 2)
        for step in self.cpb_mlp:
            x = step(x)  # (displacements, h), in the end
        return BIAS * ops.sigmoid(x)


class PatchMergingV2(PatchMerging):
    """PatchMerging with the norm after the linear map.                     Liu et al. 2022, code

    Learns   reduction: Linear(4C, 2C), no bias   norm: LayerNorm(2C)
    Takes a map (B, H, W, C); an odd side is padded with zeros   Gives (B, ⌈H/2⌉, ⌈W/2⌉, 2C)
    """

    def __init__(self, channels: int, *, init: Init) -> None:
        self.reduction = Linear(4 * channels, 2 * channels, bias=False, init=init)
        self.norm = LayerNorm(2 * channels, init=init)

    def __call__(self, x: Tensor) -> Tensor:
        check_map(type(self).__name__, x, self.norm.weight.size // 2)
        x = ops.patch_merge(pad_map(x, (2, 2)))  # (B, H/2, W/2, 4C)
        return self.norm(self.reduction(x))  # (B, H/2, W/2, 2C)
