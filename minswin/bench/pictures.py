"""The measurements as a picture: ratios as bars, and cost against image side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minswin.bench.race import Result, ratios
from minswin.bench.sweep import Sweep, base
from minswin.look.canvas import COLOURS, empty_figure, save

WHAT = {"train": "training step", "infer": "inference", "memory": "peak memory of training"}


def save_pictures(races: Mapping[str, Result], sweep: Sweep | None, path: Path) -> bool:
    """Draw what was measured side by side into a .png; False where there is nothing to draw."""
    shown = {name: ratios(result) for name, result in races.items() if "minswin" in ratios(result)}
    panels = len(shown) + bool(sweep)
    if not panels:
        return False
    figure = empty_figure(4.6 * panels, 3.8)
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for (name, by_ours), below in zip(shown.items(), axes, strict=False):
        draw_ratios(below, name, by_ours)
    if sweep:
        draw_sweep(axes[-1], sweep)
    save(figure, path)
    return True


def draw_ratios(axes: Any, name: str, by_ours: dict[str, dict[str, float]]) -> Any:
    """Bars: each contender's time and memory by minswin's; give the axes."""
    width = 0.8 / len(by_ours)
    for i, (contender, figures) in enumerate(by_ours.items()):
        places = [place + (i - (len(by_ours) - 1) / 2) * width for place in range(len(WHAT))]
        heights = [figures[what] for what in WHAT]
        bars = axes.bar(places, heights, width, label=contender, color=COLOURS[i % len(COLOURS)])
        axes.bar_label(bars, [f"{height:.2f}" for height in heights], fontsize=7)
    axes.axhline(1, color="black", lw=0.8)
    axes.set_xticks(range(len(WHAT)), [text.replace(" of ", "\nof ") for text in WHAT.values()])
    axes.set_ylabel("multiple of minswin's")
    axes.set_title(name)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def draw_sweep(axes: Any, sweep: Sweep) -> Any:
    """Inference time against side, both logarithmic: a cost linear in the area has slope 2."""
    for (name, points), colour in zip(sweep.items(), COLOURS, strict=False):
        sides = [p.side for p in points]
        axes.plot(sides, [p.times.median * 1e3 for p in points], "o-", color=colour, label=name)
        start = base(points)
        linear = [start.times.median * 1e3 * (side / start.side) ** 2 for side in sides]
        axes.plot(sides, linear, ":", color=colour, lw=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted({p.side for points in sweep.values() for p in points})
    axes.set_xticks(ticks, [str(side) for side in ticks])
    axes.minorticks_off()
    axes.set_xlabel("image side (dotted: linear in the area)")
    axes.set_ylabel("inference of one image [ms]")
    axes.set_title("cost against image side")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
