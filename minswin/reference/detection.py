"""Losses of detection: binary cross-entropy, focal loss, and the overlap of boxes."""

from __future__ import annotations

from minswin.arrays import Array, Vjp, array_module

__all__ = ["binary_cross_entropy", "focal_loss", "giou"]


def binary_cross_entropy(logits: Array, targets: Array) -> tuple[Array, Vjp]:
    """−t log σ(x) − (1 − t) log(1 − σ(x)) = softplus(x) − t x, for each element.

    logits, targets (...)   gives (...);   targets in [0, 1]
    The part of max(x, 0) − t x is (1 − t) x or −t x: it is 0 where the answer is certain and right.
    """
    xp = array_module(logits)
    share = (logits > 0) - targets  # of x in max(x, 0) − t x
    value = share * xp.where(share == 0, 0, logits) + xp.log1p(xp.exp(-abs(logits)))

    def vjp(g: Array) -> tuple[Array, Array]:
        return g * (_sigmoid(logits) - targets), -g * logits

    return value, vjp


def focal_loss(
    logits: Array, targets: Array, *, alpha: float = 0.25, gamma: float = 2.0
) -> tuple[Array, Vjp]:
    """Cross-entropy of yes and no in which what is easy counts little.     Lin et al. 2017, eq. (5)

        L = α_t (1 − p_t)^γ (−log p_t),   p_t = σ(s),  s = x where the target is 1, else −x
        dL/ds = −α_t (1 − p_t)^γ (1 − p_t − γ p_t log p_t)

    logits (...)   targets (...) flags: 0 and 1   gives (...), not yet added up
    alpha weighs the targets 1, 1 − alpha the targets 0.
    """
    xp = array_module(logits)
    yes = targets.astype(bool)
    sign = xp.where(yes, 1, -1).astype(logits.dtype)
    s = sign * logits
    surprise = _softplus(-s)  # −log p_t
    finite = xp.where(xp.isinf(surprise), 0, surprise)  # where it counts: p_t log p_t is 0 at 0
    weight = xp.where(yes, alpha, 1 - alpha).astype(logits.dtype) * _sigmoid(-s) ** gamma

    def vjp(g: Array) -> tuple[Array, None]:
        return -g * sign * weight * (_sigmoid(-s) + gamma * _sigmoid(s) * finite), None

    return weight * surprise, vjp


def _sigmoid(x: Array) -> Array:
    return 0.5 * array_module(x).tanh(0.5 * x) + 0.5


def _softplus(x: Array) -> Array:
    """log(1 + eˣ); nothing overflows."""
    xp = array_module(x)
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-abs(x)))


def giou(a: Array, b: Array) -> tuple[Array, Vjp]:
    """How well boxes agree, pair by pair: 1 the same, −1 far apart.    Rezatofighi et al. 2019

        I / U + U / H − 1:   I intersection, U union, H the smallest box around both

    a, b (..., 4): x0, y0, x1, y1 with x0 < x1, y0 < y1   gives (...).   Also boxes that do not
    meet have a gradient, by the hull. Where two edges are one, each box has half of it.
    """
    xp = array_module(a)
    (a0, a1), (b0, b1) = (_corners(a), _corners(b))
    low, high = xp.maximum(a0, b0), xp.minimum(a1, b1)
    across, hull = xp.maximum(high - low, 0), xp.maximum(a1, b1) - xp.minimum(a0, b0)  # (..., 2)
    of_a, of_b = a1 - a0, b1 - b0
    I, H = across.prod(axis=-1), hull.prod(axis=-1)  # (...)  # noqa: E741
    U = of_a.prod(axis=-1) + of_b.prod(axis=-1) - I

    def vjp(g: Array) -> tuple[Array, Array]:
        dU = g * (1 / H - I / (U * U))
        dI, dH = g / U - dU, -g * U / (H * H)  # U = … − I
        dacross = _times_other(dI, across) * (high > low)  # (..., 2)
        dhull = _times_other(dH, hull)
        da, db = _times_other(dU, of_a), _times_other(dU, of_b)
        first = 0.5 * ((a0 > b0) * 1.0 + (a0 >= b0)).astype(a.dtype)  # a's share in `low`
        last = 0.5 * ((a1 < b1) * 1.0 + (a1 <= b1)).astype(a.dtype)  # a's share in `high`
        da0, db0 = -dacross * first - dhull * (1 - first), -dacross * (1 - first) - dhull * first
        da1, db1 = dacross * last + dhull * (1 - last), dacross * (1 - last) + dhull * last
        return (
            xp.concatenate([da0 - da, da1 + da], axis=-1),
            xp.concatenate([db0 - db, db1 + db], axis=-1),
        )

    return I / U + U / H - 1, vjp


def _corners(boxes: Array) -> tuple[Array, Array]:
    return boxes[..., :2], boxes[..., 2:]


def _times_other(g: Array, sides: Array) -> Array:
    """The gradient of an area by its two sides: each gets the other.        (...), (..., 2)"""
    return g[..., None] * sides[..., ::-1]
