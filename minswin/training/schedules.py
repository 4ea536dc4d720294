"""The learning rate as a function of the step: a pure function, so that a resumed run continues."""

from __future__ import annotations

import math

from minswin.arguments import at_least_zero, positive


def warmup_cosine(
    step: int, *, steps: int, warmup: int, base: float, start: float, final: float
) -> float:
    """Rise in a straight line, then fall along half a cosine.     Loshchilov & Hutter 2017, eq. (5)

        t < w   start + (base − start) t/w
        t ≥ w   c base + (1 − c) final,  c = (1 + cos π (t−w)/(T−w)) / 2      t = step, w = warmup

    Steps count from 0, so the first update uses `start`, update w uses `base` exactly, and `final`
    is reached at step T = steps, one after the last update. The cosine spans the T − w steps after
    the warm-up: there is no jump at w.
    """
    if not 0 <= warmup <= steps or steps < 1:
        raise ValueError(
            f"warmup_cosine: expected 0 <= warmup <= steps and steps >= 1, "
            f"got warmup={warmup} and steps={steps}"
        )
    for name, rate in (("base", base), ("start", start), ("final", final)):
        at_least_zero("warmup_cosine", name, rate)
    if not step >= 0:
        raise ValueError(f"warmup_cosine: step counts from 0, got {step}")
    if step < warmup:
        return start + (base - start) * step / warmup
    if step >= steps:
        return final
    c = (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2  # from 1 to 0
    return c * base + (1 - c) * final


def noam(step: int, *, channels: int, warmup: int = 4000, factor: float = 1.0) -> float:
    """Rise in a straight line, then fall with 1/√t.                 Vaswani et al. 2017, eq. (3)

        factor · C^−½ · min(t^−½, t · w^−1.5)        t = step + 1, C = channels, w = warmup

    Steps count from 0 here, the paper's t from 1. The largest value, at t = w, is
    factor / √(C w): 0.0007 for the paper's C = 512 and w = 4000.
    """
    if not (warmup >= 1 and channels >= 1):
        raise ValueError(
            f"noam: warmup and channels must be 1 or more, got warmup={warmup} and "
            f"channels={channels}"
        )
    positive("noam", "factor", factor)
    if not step >= 0:
        raise ValueError(f"noam: step counts from 0, got {step}")
    t = step + 1
    return factor * channels**-0.5 * min(t**-0.5, t * warmup**-1.5)
