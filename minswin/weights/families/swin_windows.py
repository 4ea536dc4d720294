"""The windows of a Swin, which the weights alone do not tell: those of a file beside a model's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from minswin.arguments import Pair
from minswin.models.swin_v2 import SwinTransformerV2
from minswin.weights.families.family import BIAS_TABLE, Facts, Settings
from minswin.weights.families.swin_buffers import COORDINATES, stages_of

POSITIONS = "absolute_pos_embed"


def windows_fit(weights: Mapping[str, np.ndarray], settings: Settings) -> bool:
    """Whether the tables of all stages are of the windows of a model with these settings."""
    return all(
        len(weights.get(f"layers.{i}.blocks.{j}.attn.{BIAS_TABLE}", range(rows))) == rows
        for i, stage in enumerate(stages_of(settings))
        for rows in [_rows(stage.window)]
        for j in range(stage.depth)
    )


def larger_later(weights: Mapping[str, np.ndarray]) -> str:
    """What is wrong with tables that grow from stage to stage; "" where they do not."""
    tables = [len(x) for name, x in weights.items() if name.endswith(BIAS_TABLE)]
    first = weights.get(f"layers.0.blocks.0.attn.{BIAS_TABLE}")
    if first is None or max(tables) <= len(first):
        return ""
    return "windows are larger in a later stage than in the first, which no Swin of minswin has"


def sizes_told(weights: Mapping[str, np.ndarray], facts: Facts) -> dict[str, Pair]:
    """The windows of tables, and the grid of positions, that the buffers tell."""
    sizes = {
        name: facts.windows[stage]
        for name in weights
        if name.endswith(BIAS_TABLE) and (stage := int(name.split(".")[1])) in facts.windows
    }
    grid, positions = facts.grids.get(0), weights.get(POSITIONS)
    if grid and positions is not None and positions.shape[1] == prod(grid):  # not a padded map
        sizes[POSITIONS] = grid
    return sizes


def other_windows(
    model: Any, buffers: Mapping[str, np.ndarray], facts: Facts, resized: bool
) -> Iterator[str]:
    """What the buffers tell of windows that the model has not, where all shapes fit the same.

    resized: tables are brought to the windows of the model; V2 has none
    """
    what = "relative position biases are those of"
    blocks = {i: stage.blocks[0] for i, stage in enumerate(model.layers) if stage.blocks}
    attentions: dict[int, Any] = {i: block.attn for i, block in blocks.items()}
    if isinstance(model, SwinTransformerV2):
        ours = {i: attn.pretrained for i, attn in attentions.items()}
        told = {int(n.split(".")[1]) for n in buffers if n.endswith(COORDINATES)}
        learnt = {**facts.windows, **{i: (side, side) for i, side in facts.pretrained.items()}}
        theirs = {i: learnt[i] for i in told}
        if _differ(ours, theirs):
            sides = tuple(theirs[i][0] for i in sorted(theirs))
            yield (
                f"{what} windows of {_by_stage(theirs)}, the model counts in "
                f"{_by_stage(ours)}: the answers are others than where they were learnt; build it "
                f"with pretrained_window_sizes={sides}"
            )
        return
    if resized:
        return
    ours = {i: attn.window for i, attn in attentions.items()}
    turned = {i: w for i, w in facts.windows.items() if i in ours and _rows(w) == _rows(ours[i])}
    if _differ(ours, turned):
        yield (
            f"{what} windows of {_by_stage(facts.windows)}, the model's are {_by_stage(ours)}: "
            "pairs of tokens get each other's; build it with the window_size of the file"
        )


def _differ(ours: dict[int, Pair], theirs: dict[int, Pair]) -> bool:
    return any(theirs[i] != window for i, window in ours.items() if i in theirs)


def _rows(window: Pair) -> int:
    return prod(2 * side - 1 for side in window)


def _by_stage(windows: dict[int, Pair]) -> str:
    return ", ".join(f"{windows[i][0]}×{windows[i][1]}" for i in sorted(windows))
