"""Muon's step on one matrix: momentum whose singular values are all made about 1."""

from __future__ import annotations

from minswin.arrays import Array, array_module

__all__ = ["muon_step", "orthogonal"]

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # a, b, c
TINY = 1e-7  # the shortest length that is divided by


def muon_step(
    p: Array, g: Array, v: Array, *, lr: float, momentum: float, nesterov: bool, decay: float
) -> None:
    """Muon, in place on p and v.             Jordan et al. 2024; the rate: Liu et al. 2025, eq. (4)

        v ← μ v + g        u = v (Nesterov: g + μ v)        u = U S Vᵀ
        p ← (1 − η λ) p − η · 0.2 √max(n, m) · U Vᵀ

    p, g and v are (n, m)
    The entries of U Vᵀ have the root mean square 1/√max(n, m), so those of a step have 0.2 η, like
    Adam's: learning rate and decay are those of AdamW.
    """
    v *= momentum
    v += g
    if decay:
        p *= 1 - lr * decay
    rate = lr * 0.2 * max(p.shape) ** 0.5
    p -= rate * orthogonal(g + momentum * v if nesterov else v)


def orthogonal(x: Array, steps: int = 5) -> Array:
    """About U Vᵀ, where x = U S Vᵀ, not decomposing it.     Newton–Schulz, Jordan et al. 2024

        X ← x / ‖x‖        and then in each step        A = X Xᵀ        X ← a X + (b A + c A²) X

    Since A = U S² Uᵀ, a step is U (a S + b S³ + c S⁵) Vᵀ: singular vectors stay, and of each
    singular value becomes φ(s) = a s + b s³ + c s⁵. The a, b, c are chosen for a steep start (small
    values grow by 3.4 in each step), not for an end at 1: values from 0.01 on end in 0.68 … 1.14.

    x (n, m)   gives (n, m)
    """
    xp, (a, b, c) = array_module(x), COEFFICIENTS
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x  # A is the smaller of X Xᵀ and Xᵀ X
    long = x.astype(xp.float64, copy=False).ravel()  # in float32 squares of 1e20 are infinite
    length = xp.maximum(xp.sqrt(xp.vdot(long, long)), TINY)
    x = (x / length).astype(x.dtype, copy=False)  # no singular value is longer than 1
    for _ in range(steps):
        A = x @ x.T
        x = a * x + (b * A + c * (A @ A)) @ x
    return x.T if tall else x
