"""Cross-entropy, for class indices and for soft labels."""

from __future__ import annotations

from minswin.arrays import Array, Vjp, array_module
from minswin.reference.normalize import log_softmax

__all__ = ["cross_entropy"]


def cross_entropy(logits: Array, targets: Array, *, smoothing: float = 0.0) -> tuple[Array, Vjp]:
    """Mean over the batch of −Σ t log softmax(logits).                    Szegedy et al. 2016, §7

    logits (B, K)   targets (B,) integers or (B, K): classes, or their probabilities   gives ()
    With smoothing ε the target t becomes (1 − ε) t + ε/K.
    """
    xp = array_module(logits)
    B, K = logits.shape
    if targets.ndim == 1:
        soft = xp.zeros_like(logits)
        soft[xp.arange(B), targets] = 1  # one-hot
    else:
        soft = targets
    if smoothing:
        soft = soft * (1 - smoothing) + smoothing / K
    y, undo_log_softmax = log_softmax(logits)

    def vjp(g: Array) -> tuple[Array, Array | None]:
        share = g * (-1 / B)
        dtargets = None if targets.ndim == 1 else share * (1 - smoothing) * y
        return *undo_log_softmax(share * soft), dtargets

    counted = xp.where(soft == 0, 0, y)  # 0 · log 0 is 0
    return -(soft * counted).sum() / B, vjp
