"""Convolution as a matrix product over unfolded patches, and pooling."""

from __future__ import annotations

import math
from collections.abc import Callable

from minswin.arguments import Pair
from minswin.arrays import Array, Vjp, array_module, sliding_windows
from minswin.reference.linear import linear

__all__ = ["avg_pool2d", "conv2d", "max_pool2d", "unfold"]


def unfold(x: Array, *, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> tuple[Array, Vjp]:
    """Every patch of a map as one row, channel-major: column c·kh·kw + i·kw + j.

    x (B, C, H, W)   gives (B, H', W', C·kh·kw),   H' = ⌊(H + 2 padding − kh) / stride⌋ + 1
    """
    patches = _patches(x, kernel, stride, padding)
    B, C, *grid, kh, kw = patches.shape
    columns = patches.transpose(0, 2, 3, 1, 4, 5).reshape(B, *grid, C * kh * kw)

    def vjp(g: Array) -> tuple[Array]:
        g = g.reshape(B, *grid, C, kh, kw).transpose(4, 5, 0, 3, 1, 2)  # (kh, kw, B, C, H', W')
        return (_put_back(lambda i, j: g[i, j], x, kernel, stride, padding),)

    return columns, vjp


def _patches(x: Array, kernel: Pair, stride: Pair, padding: Pair, outside: float = 0) -> Array:
    """The patches of a map with `outside` around it: a view (B, C, H', W', kh, kw)."""
    xp, (ph, pw) = array_module(x), padding
    around = ((0, 0), (0, 0), (ph, ph), (pw, pw))
    padded = xp.pad(x, around, constant_values=outside) if ph or pw else x
    sh, sw = stride
    return sliding_windows(padded, kernel)[:, :, ::sh, ::sw]


def _put_back(
    part: Callable[[int, int], Array], x: Array, kernel: Pair, stride: Pair, padding: Pair
) -> Array:
    """Add up for every element of x what it gets as element (i, j) of patches: undoes _patches.

    part(i, j): for element (i, j) of each patch, (B, C, H', W')
    """
    (kh, kw), (sh, sw), (ph, pw) = kernel, stride, padding
    B, C, H, W = x.shape
    dx = array_module(x).zeros((B, C, H + 2 * ph, W + 2 * pw), dtype=x.dtype)
    for i in range(kh):  # an element lies in several patches: add
        for j in range(kw):
            g = part(i, j)
            rows, cols = slice(i, i + sh * g.shape[2], sh), slice(j, j + sw * g.shape[3], sw)
            dx[:, :, rows, cols] += g
    return dx[:, :, ph : H + ph, pw : W + pw]


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


# ── pooling ──────────────────────────────────────────────────────────────────────────────────────


def max_pool2d(
    x: Array, *, kernel: Pair, stride: Pair, padding: Pair = (0, 0)
) -> tuple[Array, Vjp]:
    """The largest element of every patch, whose place gets all of its gradient.

    x (B, C, H, W)   gives (B, C, H', W').   Nothing is larger than what is there: the padding is
    −∞. Of equal maxima the first counts, row by row; NaN counts as the largest.
    """
    patches = _patches(x, kernel, stride, padding, outside=-math.inf)
    rows = patches.reshape(*patches.shape[:4], -1)  # (B, C, H', W', kh·kw)
    winner = rows.argmax(axis=-1)  # (B, C, H', W')
    y = array_module(x).take_along_axis(rows, winner[..., None], axis=-1)[..., 0]

    def vjp(g: Array) -> tuple[Array]:
        def won(i: int, j: int) -> Array:
            return g * (winner == i * kernel[1] + j)

        return (_put_back(won, x, kernel, stride, padding),)

    return y, vjp


def avg_pool2d(x: Array, *, kernel: Pair, stride: Pair) -> tuple[Array, Vjp]:
    """The mean of every patch.        x (B, C, H, W)   gives (B, C, H', W')"""
    y = _patches(x, kernel, stride, (0, 0)).mean(axis=(-2, -1))

    def vjp(g: Array) -> tuple[Array]:
        share = g * (1 / (kernel[0] * kernel[1]))
        return (_put_back(lambda i, j: share, x, kernel, stride, (0, 0)),)

    return y, vjp
