"""Tables for a terminal: the models, the shapes inside one, probabilities as bars."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TextIO

import numpy as np

from minswin.bar import columns
from minswin.models import create_model, list_models
from minswin.models.blank import BLANK

__all__ = ["bars", "fitted", "models_table", "shapes_table", "table", "times"]

BAR = 30  # characters of a full bar


def models_table() -> str:
    """Every named model with its image size, parameters and MACs, at the size it is made for."""
    rows = [("model", "image", "parameters", "MACs")]
    for name in list_models():
        model: Any = create_model(name, rng=BLANK)
        size = times(model.img_size)
        rows.append((name, size, f"{model.parameter_count():,}", f"{model.flops():,}"))
    return table(rows)


def shapes_table(name: str, img_size: int | tuple[int, int] | None = None) -> str:
    """The way of one image through a model: shape, parameters and MACs of each step."""
    changes = {} if img_size is None else {"img_size": img_size}
    model: Any = create_model(name, rng=BLANK, **changes)
    summary = model.summary(model.img_size)
    rows = [("step", "gives", "parameters", "MACs")]
    for step, shape, parameters, macs, *_ in summary:
        rows.append((step, times(shape), f"{parameters:,}", f"{macs:,}"))
    total = sum(row[2] for row in summary), sum(row[3] for row in summary)
    rows.append(("total", "", f"{total[0]:,}", f"{total[1]:,}"))
    way = dict.fromkeys(times(shape) for _, shape, *_ in summary)  # each once, in order
    return table(rows) + "\n\n" + " → ".join(way)


def bars(names: Sequence[str], shares: Sequence[float], *, top: int | None = None) -> str:
    """One line for each name with its share as a bar; with `top`, this many, largest first."""
    order = list(range(len(names)))
    if top is not None:
        order = sorted(order, key=lambda i: -shares[i])[:top]
    width = max(len(names[i]) for i in order)
    return "\n".join(f"{names[i]:{width}}  {_bar(shares[i])}" for i in order)


def _bar(share: float) -> str:
    if np.isnan(share):
        return f"{'':{BAR}}  (none)"
    eighths = round(share * BAR * 8)
    full = "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")
    return f"{full:{BAR}}  {share:6.1%}"


def times(shape: Sequence[int]) -> str:
    """(56, 56, 96) as 56×56×96."""
    return "×".join(str(n) for n in shape)


def table(rows: Sequence[tuple[str, str, str, str]]) -> str:
    """Columns side by side, the first to the left, numbers to the right, a rule under line 1."""
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        f"{a:{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}"
        for a, b, c, d in rows
    ]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def fitted(text: str, stream: TextIO) -> str:
    """The text with no line longer than the terminal of a stream.

    What is too long is continued below, under the second column. Where there is no terminal a line
    stays one line, for the programs that read it.
    """
    if not stream.isatty():
        return text
    width = max(columns(stream), 20)
    return "\n".join(_fitted(line, width) for line in text.split("\n"))


def _fitted(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    start = re.match(r" *(\S+  +)?", line)
    indent = start.end() if start is not None and start.end() <= width // 2 else 4
    lines, now = [], ""
    for part in re.findall(r" *[^ ]+", line):
        word = part
        if now and len(now) + len(word) > width:
            lines.append(now)
            now, word = " " * indent, part.lstrip()
        while len(now) + len(word) > width:  # a word longer than a line
            room = width - len(now)
            lines.append(now + word[:room])
            now, word = " " * indent, word[room:]
        now += word
    return "\n".join([*lines, now])
