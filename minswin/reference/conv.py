"""Convolution as a matrix product over unfolded patches."""

from __future__ import annotations

from minswin.arrays import Array, Vjp, array_module
from minswin.reference.linear import linear

Pair = tuple[int, int]


def unfold(x: Array, *, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> tuple[Array, Vjp]:
    """Every patch of a map as one row, channel-major: column c·kh·kw + i·kw + j.

    x (B, C, H, W)   gives (B, H', W', C·kh·kw),   H' = ⌊(H + 2 padding − kh) / stride⌋ + 1
    """
    xp = array_module(x)
    (kh, kw), (sh, sw), (ph, pw) = kernel, stride, padding
    around = ((0, 0), (0, 0), (ph, ph), (pw, pw))
    padded = xp.pad(x, around) if ph or pw else x
    B, C, H, W = padded.shape
    grid = (H - kh) // sh + 1, (W - kw) // sw + 1
    patches = xp.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
    patches = patches[:, :, ::sh, ::sw]  # (B, C, H', W', kh, kw), a view
    columns = patches.transpose(0, 2, 3, 1, 4, 5).reshape(B, *grid, C * kh * kw)

    def vjp(g: Array) -> tuple[Array]:
        g = g.reshape(B, *grid, C, kh, kw)
        dx = xp.zeros((B, C, H, W), dtype=x.dtype)
        for i in range(kh):  # an element lies in several patches: add
            for j in range(kw):
                rows, cols = slice(i, i + sh * grid[0], sh), slice(j, j + sw * grid[1], sw)
                dx[:, :, rows, cols] += g[..., i, j].transpose(0, 3, 1, 2)
        return (dx[:, :, ph : H - ph, pw : W - pw],)

    return columns, vjp


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
) -> tuple[Array, Vjp]:
    """Cross-correlation of a map with learnt filters, as everyone calls convolution.

    x (B, C, H, W)   weight (D, C, kh, kw)   bias (D,) or None   gives (B, D, H', W')
    """
    kernel = weight.shape[2:]
    patches, undo_unfold = unfold(x, kernel=kernel, stride=stride, padding=padding)
    matrix = weight.reshape(weight.shape[0], -1)  # (D, C·kh·kw)
    y, undo_linear = linear(patches, matrix, bias)  # (B, H', W', D)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        dpatches, dmatrix, dbias = undo_linear(g.transpose(0, 2, 3, 1))
        return *undo_unfold(dpatches), dmatrix.reshape(weight.shape), dbias

    return y.transpose(0, 3, 1, 2), vjp
