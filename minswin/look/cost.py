"""What attention costs against the side of the image: the formulas, and points that lie on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minswin.look.canvas import BLUE, ROSE

__all__ = ["CostPoint", "draw_cost", "draw_time", "msa_macs", "wmsa_macs"]


class CostPoint(NamedTuple):
    """One run of MSA or W-MSA on a map of side × side tokens."""

    side: int
    macs: int  # counted while it ran
    seconds: float | None = None  # None: not measured


def msa_macs(h: int, w: int, C: int) -> int:
    """Multiply-adds of attention over a whole map, 4hwC² + 2(hw)²C.     Liu et al. 2021, eq. (1)"""
    return 4 * h * w * C**2 + 2 * (h * w) ** 2 * C


def wmsa_macs(h: int, w: int, C: int, M: int) -> int:
    """Multiply-adds of attention in M×M windows, 4hwC² + 2M²hwC.        Liu et al. 2021, eq. (2)"""
    return 4 * h * w * C**2 + 2 * M**2 * h * w * C


def draw_cost(
    axes: Any,
    whole: Sequence[CostPoint],
    windows: Sequence[CostPoint],
    *,
    C: int,
    M: int,
    patch: int,
) -> Any:
    """Counted multiply-adds of both against the side of the image, on the lines of the formulas.

    patch: pixels along the side of a token
    """
    largest = max((p.side for p in (*whole, *windows)), default=8 * M)
    sides = np.unique(np.linspace(M, 2 * largest, 60).round().astype(int))
    formulas = [msa_macs(s, s, C) for s in sides], [wmsa_macs(s, s, C, M) for s in sides]
    names = "MSA: 4hwC² + 2(hw)²C", "W-MSA: 4hwC² + 2M²hwC"
    for points, line, name, colour in zip(
        (whole, windows), formulas, names, (ROSE, BLUE), strict=True
    ):
        axes.plot(patch * sides, line, color=colour, lw=1.2, label=name)
        pixels = [patch * p.side for p in points]
        axes.plot(pixels, [p.macs for p in points], "o", color=colour, ms=4)
    return _finish(axes, whole, patch, "multiply-adds (points: counted)")


def draw_time(
    axes: Any, whole: Sequence[CostPoint], windows: Sequence[CostPoint], *, patch: int
) -> Any:
    """Measured time of both against the side of the image."""
    for points, name, colour in ((whole, "MSA", ROSE), (windows, "W-MSA", BLUE)):
        timed = [(patch * p.side, p.seconds * 1e3) for p in points if p.seconds is not None]
        axes.plot(*zip(*timed, strict=True), "o-", color=colour, ms=4, lw=1.2, label=name)
    return _finish(axes, whole, patch, "measured time of one forward [ms]")


def _finish(axes: Any, points: Sequence[CostPoint], patch: int, what: str) -> Any:
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted({patch * p.side for p in points})
    axes.set_xticks(ticks, [str(side) for side in ticks])
    axes.minorticks_off()
    axes.set_xlabel("side of the image [pixels]")
    axes.set_ylabel(what)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
