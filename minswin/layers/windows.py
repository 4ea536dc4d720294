"""W-MSA and SW-MSA: attention inside windows and shifted windows.       Liu et al. 2021, §3.2

MSA is multi-head self-attention. `WindowAttention` is the layer: it chooses the window and the
shift, pads the map, and learns the bias and the linear maps. What it does between the two linear
maps stands in `composites.shifted_window_attention`. `PatchMerging` is the step between stages.
"""

from __future__ import annotations

from functools import partial

from minswin import ops
from minswin.arguments import Pair, pair
from minswin.autograd import Tensor
from minswin.composites import relative_position_bias, shifted_window_attention, spelled_out
from minswin.layers.attention import check_heads
from minswin.layers.base import Layer
from minswin.layers.basic import Dropout, LayerNorm, Linear
from minswin.layers.parameters import Init


def fit_window(grid: int | Pair, window: int | Pair) -> tuple[Pair, bool]:
    """The window that a map of size `grid` gets, and whether it may be shifted.

    A map larger than the window on both axes keeps the window. Otherwise nothing is shifted, and
    a square window shrinks to the shorter side of the map, as in the original; a non-square window
    shrinks on each axis by itself.
    """
    H, W = pair("fit_window", "grid", grid)
    Mh, Mw = window = pair("fit_window", "window", window)
    if H > Mh and W > Mw:
        return window, True
    side = min(H, W)
    return ((side, side) if Mh == Mw else (min(H, Mh), min(W, Mw))), False


class WindowAttention(Layer):
    """W-MSA; with shift=True SW-MSA: windows displaced by half a window.

    Learns   relative_position_bias_table ((2Mh−1)·(2Mw−1), h): one bias per displacement and head
             qkv: Linear(C, 3C)   proj: Linear(C, C)
    Takes and gives a map (B, H, W, C) of any size. A map that the window does not divide is padded
    with zeros at the bottom and right BEFORE the roll, so that the mask keeps its ends apart. The
    padding is not masked: it stands among the keys, as in the original.
    On its own: WindowAttention(12, 3, 4, shift=True, rng=0, dtype=np.float64), called with a Tensor
    (autograd.py) of shape (B, H, W, 12). In a model `init` holds rng and dtype.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int | Pair,
        *,
        shift: bool = False,
        qkv_bias: bool = True,
        attn_drop_rate: float = 0.0,
        drop_rate: float = 0.0,
        init: Init,
    ) -> None:
        check_heads(type(self).__name__, channels, heads)
        self.heads, self.shift = heads, shift
        self.window = window = pair(type(self).__name__, "window", window)
        rows = (2 * window[0] - 1) * (2 * window[1] - 1)
        self.relative_position_bias_table = init.normal(rows, heads, decays=False)
        self.qkv = Linear(channels, 3 * channels, bias=qkv_bias, init=init)
        self.proj = Linear(channels, channels, init=init)
        self.attn_drop = Dropout(attn_drop_rate, init=init)
        self.proj_drop = Dropout(drop_rate, init=init)

    def __call__(self, x: Tensor) -> Tensor:
        check_map(type(self).__name__, x, self.proj.weight.shape[0])
        _, H, W, _ = x.shape
        window, may_shift = fit_window((H, W), self.window)
        shift = (window[0] // 2, window[1] // 2) if self.shift and may_shift else (0, 0)
        x = pad_map(x, window)  # (B, H', W', C)
        x = self.shifted_windows(self.qkv(x), window, shift)  # (B, H', W', C)
        x = crop_map(x, (H, W))  # (B, H, W, C)
        return self.proj_drop(self.proj(x))

    def shifted_windows(self, qkv: Tensor, window: Pair, shift: Pair) -> Tensor:
        """The attention of all windows: qkv (B, H, W, 3C) gives (B, H, W, C)."""
        inputs = qkv, self.relative_position_bias_table
        geometry = {"window": window, "shift": shift, "table_window": self.window}
        if self.attn_drop.active:  # no kernel draws random numbers
            attend = partial(spelled_out, drop=self.attn_drop)
            defined = shifted_window_attention.function
            return defined(*inputs, heads=self.heads, **geometry, attend=attend)
        return shifted_window_attention(*inputs, heads=self.heads, **geometry)

    def forget_bias(self) -> None:
        """Keep the bias at zero, so that no displacement in a window differs from another."""
        self.relative_position_bias_table.leave_out()

    def bias(self, window: Pair) -> Tensor:
        """The bias of every head for every pair of tokens of a window: (h, N, N)."""
        return relative_position_bias(self.relative_position_bias_table, window, self.window)


def check_map(who: str, x: Tensor, channels: int) -> None:
    if x.ndim != 4 or x.shape[3] != channels:
        raise ValueError(f"{who}: x must be a map (B, H, W, {channels}), got {x.shape}")


def pad_map(x: Tensor, window: Pair) -> Tensor:
    """Zeros at the bottom and right of a map (B, H, W, C) up to the next multiple of the window."""
    bottom, right = -x.shape[1] % window[0], -x.shape[2] % window[1]
    if not (bottom or right):
        return x
    return ops.pad(x, width=((0, 0), (0, bottom), (0, right), (0, 0)))


def crop_map(x: Tensor, grid: Pair) -> Tensor:
    """Take the padding off again: the first rows and columns of a map."""
    return x if x.shape[1:3] == grid else x[:, : grid[0], : grid[1]]


class PatchMerging(Layer):
    """Halve the map and double the channels: each 2×2 neighbourhood becomes one token.      §3.1

    Learns   reduction: Linear(4C, 2C), no bias   norm: LayerNorm(4C)
    Takes a map (B, H, W, C); an odd side is padded with zeros   Gives (B, ⌈H/2⌉, ⌈W/2⌉, 2C)
    """

    def __init__(self, channels: int, *, init: Init) -> None:
        self.reduction = Linear(4 * channels, 2 * channels, bias=False, init=init)
        self.norm = LayerNorm(4 * channels, init=init)

    def __call__(self, x: Tensor) -> Tensor:
        check_map(type(self).__name__, x, self.norm.weight.size // 4)
        x = ops.patch_merge(pad_map(x, (2, 2)))  # (B, H/2, W/2, 4C)
        return self.reduction(self.norm(x))  # (B, H/2, W/2, 2C)
