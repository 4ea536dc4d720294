"""MSA beside W-MSA on maps of growing side: multiply-adds counted as they run, and their time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minswin.autograd import Tensor, no_grad
from minswin.bench.breakdown import Ledger, watching
from minswin.bench.clock import Step, seconds
from minswin.layers import MSA, WindowAttention
from minswin.layers.parameters import Init
from minswin.look.cost import CostPoint


def attention_cost(
    sides: Sequence[int], *, channels: int, heads: int, window: int, rounds: int = 0
) -> tuple[list[CostPoint], list[CostPoint]]:
    """Points of MSA and of W-MSA on maps of side × side tokens; rounds: of timing, 0 for none."""
    rng = np.random.default_rng(0)
    init = Init(rng)
    whole = MSA(channels, heads, init=init)
    cut = WindowAttention(channels, heads, (window, window), init=init)
    both: tuple[list[CostPoint], list[CostPoint]] = [], []
    for side in sides:
        x = Tensor(rng.standard_normal((1, side, side, channels), dtype=np.float32))
        tokens = x.reshape(1, side * side, channels)
        for points, step in zip(both, (_run(whole, tokens), _run(cut, x)), strict=True):
            points.append(_point(side, step, rounds))
    return both


def _run(layer: MSA | WindowAttention, x: Tensor) -> Step:
    def step() -> None:
        with no_grad():
            layer(x)

    return step


def _point(side: int, step: Step, rounds: int) -> CostPoint:
    with watching(Ledger()) as ledger:
        step()
    times = [seconds(step) for _ in range(rounds)]
    return CostPoint(side, ledger.macs, min(times) if times else None)
