"""One step of an optimizer on one parameter: these functions change their arrays in place.

p, g a parameter and its gradient, any shape   v, m what the optimizer keeps, of the same shape
"""

from __future__ import annotations

import math

from minswin.arrays import Array, array_module

__all__ = ["adamw_step", "sgd_step"]


def sgd_step(
    p: Array, g: Array, v: Array, *, lr: float, momentum: float, nesterov: bool, decay: float
) -> None:
    """Stochastic gradient descent with momentum.     Polyak 1964; Sutskever et al. 2013 (Nesterov)

        g ← g + λ p        v ← μ v + g        p ← p − η v        (Nesterov: p ← p − η (g + μ v))

    The decay λ is part of the gradient here, so momentum carries it, as in torch.optim.SGD.
    """
    if decay:
        g = g + decay * p
    v *= momentum
    v += g
    p -= lr * (g + momentum * v if nesterov else v)


def adamw_step(
    p: Array, g: Array, m: Array, v: Array, *,
    lr: float, beta1: float, beta2: float, eps: float, decay: float, t: int,
) -> None:  # fmt: skip
    """Adam with decoupled weight decay.  Kingma & Ba 2015, alg. 1; Loshchilov & Hutter 2019, alg. 2

        p ← (1 − η λ) p       m ← β₁ m + (1−β₁) g       v ← β₂ v + (1−β₂) g²
        p ← p − η m̂ / (√v̂ + ε)       m̂ = m / (1−β₁ᵗ)       v̂ = v / (1−β₂ᵗ)

    t counts the steps from 1. The decay is multiplied by the learning rate η of the step, as in
    torch.optim.AdamW.
    """
    if decay:
        p *= 1 - lr * decay
    m += (1 - beta1) * (g - m)
    v *= beta2
    v += (1 - beta2) * (g * g)
    root = array_module(p).sqrt(v)  # √v̂ + ε, built up in place
    root /= math.sqrt(1 - beta2**t)
    root += eps
    p -= (lr / (1 - beta1**t)) * (m / root)
