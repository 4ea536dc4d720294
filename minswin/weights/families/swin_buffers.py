"""Arrays that files hold beside the weights though they follow from the model: checked, or made.

They are Swin's: the index of position biases, the masks of shifted windows, and V2's table of
coordinates. Nothing is taken from those of a file but what they tell about windows and image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isqrt, prod
from typing import Any, NamedTuple

import numpy as np

from minswin.arguments import Pair
from minswin.layers.windows import fit_window
from minswin.layers.windows_v2 import log_spaced
from minswin.models.base import patch_grid
from minswin.models.swin import halve
from minswin.reference.windows import attention_mask, relative_position_index
from minswin.weights.families.family import Facts, State, Told

INDEX, MASK, COORDINATES = "relative_position_index", "attn_mask", "relative_coords_table"
BUFFERS = (INDEX, MASK, COORDINATES)
ROUNDING = 1e-6  # of the coordinates, which others compute in float32


# ── checking ─────────────────────────────────────────────────────────────────────────────────────


def check(buffers: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]) -> Facts:
    """Compare every buffer with the one that we compute; raises where they differ."""
    facts = Facts({}, {}, {})
    for name, array in buffers.items():
        place, _, kind = name.rpartition(".")
        stage = int(name.split(".")[1]) if name.startswith("layers.") else 0
        if kind == INDEX:
            table = weights.get(place + ".relative_position_bias_table")
            facts.windows[stage] = _check_index(name, array, None if table is None else len(table))
        elif kind == COORDINATES:
            window, side = _check_coordinates(name, array)
            facts.windows.setdefault(stage, window)
            if side:
                facts.pretrained[stage] = side
        elif kind == MASK:
            facts.grids[stage] = _check_mask(name, array)
    return facts


def _check_index(name: str, index: np.ndarray, rows: int | None) -> Pair:
    """The window whose index this is."""
    N = _tokens(index)
    for window in _factors(N):
        fits = rows is None or rows == (2 * window[0] - 1) * (2 * window[1] - 1)
        if fits and np.array_equal(index, relative_position_index(window)):
            return window
    table = "" if rows is None else f" and a bias table of {rows} rows"
    raise ValueError(
        f"{name} {index.shape} is not the index of any window of {N} tokens{table}"
        f"{_first_difference(index)}; with the weights of this file, pairs of tokens would get "
        "each other's bias"
    )


def _tokens(index: np.ndarray) -> int:
    """Tokens of the window of an index (N, N); 0 where its shape is another."""
    return len(index) if index.ndim == 2 and index.shape[0] == index.shape[1] else 0


def _first_difference(index: np.ndarray) -> str:
    square = next((w for w in _factors(_tokens(index)) if w[0] == w[1]), None)
    if square is None:
        return ""
    ours = relative_position_index(square)
    p, q = np.argwhere(index != ours)[0] if (index != ours).any() else (0, 0)
    return (
        f" (in a {square[0]}×{square[1]} window, tokens {p} and {q} have the bias in row "
        f"{ours[p, q]}; the file has {index[p, q]})"
    )


def _check_mask(name: str, mask: np.ndarray) -> Pair:
    """The size of the map whose mask this is."""
    count, N = mask.shape[:2] if mask.ndim == 3 and mask.shape[1] == mask.shape[2] else (0, 0)
    for window in sorted(_factors(N), key=lambda w: abs(w[0] - w[1])):
        for rows, columns in sorted(_factors(count), key=lambda w: abs(w[0] - w[1])):
            grid = rows * window[0], columns * window[1]
            shift = window[0] // 2, window[1] // 2
            if np.array_equal(mask, attention_mask(grid, window, shift)):
                return grid
    raise ValueError(
        f"{name} {mask.shape} is not the mask of any map of {count} windows of {N} tokens that "
        "are shifted by half a window; the weights were trained with other masks"
    )


def _check_coordinates(name: str, table: np.ndarray) -> tuple[Pair, int]:
    """The window, and the side of that of pre-training, 0 where it is the window itself."""
    shape = table.shape
    _, rows, columns, _ = shape if len(shape) == 4 else (0, 0, 0, 0)
    window = (rows + 1) // 2, (columns + 1) // 2
    if shape == (1, 2 * window[0] - 1, 2 * window[1] - 1, 2) and np.isfinite(table).all():
        scale = 2.0 ** min(3 * float(table[0, -1, 0, 0]), 99.0) - 1  # 8 (M−1) / (W−1)
        side = 1 + round(8 * (window[0] - 1) / scale) if scale > 0 else window[0]
        for pretrained in (window, (side, side)):
            ours = log_spaced(window, pretrained).reshape(shape)
            if side < 1024 and np.allclose(table, ours, rtol=0, atol=ROUNDING):
                return window, 0 if pretrained == window else side
    raise ValueError(
        f"{name} {shape} is not a table of log-spaced coordinates of any pre-training window; "
        "the position bias of this file would mean something else in minswin"
    )


def _factors(n: int) -> list[Pair]:
    return [(k, n // k) for k in range(1, n + 1) if n % k == 0]


# ── making ───────────────────────────────────────────────────────────────────────────────────────


class StageWindows(NamedTuple):
    """Windows of one stage."""

    grid: Pair
    window: Pair
    depth: int
    pretrained: int  # 0: as the window


def stages_of(settings: Mapping[str, Any]) -> list[StageWindows]:
    """The windows of a Swin with these settings, which need img_size and window_size."""
    size, patch, window = (_pair(settings[k]) for k in ("img_size", "patch_size", "window_size"))
    grid, stages = patch_grid(size, patch), []
    depths = settings["depths"]
    sides = settings.get("pretrained_window_sizes") or (0,) * len(depths)
    for depth, side in zip(depths, sides, strict=True):
        stages.append(StageWindows(grid, fit_window(grid, window)[0], depth, side))
        grid = halve(grid)
    return stages


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def make(stages: list[StageWindows], *, v2: bool) -> State:
    """The buffers that the original keeps, under its names."""
    made: State = {}
    for i, (grid, window, depth, side) in enumerate(stages):
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}."
            if j % 2 and fit_window(grid, window)[1]:
                shift = window[0] // 2, window[1] // 2
                padded = grid[0] + -grid[0] % window[0], grid[1] + -grid[1] % window[1]
                made[block + MASK] = attention_mask(padded, window, shift)
            if v2:
                t = log_spaced(window, (side, side) if side else window)
                shape = (1, 2 * window[0] - 1, 2 * window[1] - 1, 2)
                made[f"{block}attn.{COORDINATES}"] = t.reshape(shape).astype(np.float32)
            index = relative_position_index(window).astype(np.int64)
            made[f"{block}attn.{INDEX}"] = index
    return made


def make_probe(*, v2: bool) -> State:
    """The buffers of a small model: their names are those of any."""
    return make([StageWindows((4, 4), (2, 2), 2, 0)], v2=v2)


def buffers_of(
    weights: State, kept: Callable[[str], bool], told: Told, model: Any, *, v2: bool
) -> State:
    """The buffers that files have: see `make` of Family."""
    probe = [name for name in make_probe(v2=v2) if kept(name)]
    if not probe:
        return {}
    if model is not None:
        stages = windows_of(model)
    else:
        masks = any(name.endswith(MASK) for name in probe)
        stages = guess_windows(*told(), weights, masks=masks)
    return {name: x for name, x in make(stages, v2=v2).items() if kept(name)}


# ── whose windows ────────────────────────────────────────────────────────────────────────────────


def windows_of(model: Any) -> list[StageWindows]:
    """The windows of a model's stages."""
    attentions = [[block.attn for block in stage.blocks] for stage in model.layers]
    first = next(row[0] for row in attentions if row)
    settings = {
        "img_size": model.img_size,
        "patch_size": model.patch_size,
        "window_size": first.window,
        "depths": [len(row) for row in attentions],
    }
    pretrained = [getattr(row[0], "pretrained", row[0].window) for row in attentions]
    return [
        stage._replace(window=row[0].window, pretrained=0 if side == row[0].window else side[0])
        for stage, row, side in zip(stages_of(settings), attentions, pretrained, strict=True)
    ]


def guess_windows(
    settings: Mapping[str, Any],
    named: Mapping[str, Mapping[str, Any]],
    weights: Mapping[str, np.ndarray],
    *,
    masks: bool,
) -> list[StageWindows]:
    """The windows of the model that the weights fit, or that their buffers tell of.

    settings: the settings that the weights tell   named: those of the named models that they fit
    """
    geometries = {_geometry(full) for full in named.values()}
    if settings.get("window_size") and isinstance(settings.get("img_size"), tuple):
        return _fit_tables(stages_of(settings), weights)
    if len(geometries) == 1:
        return stages_of(next(iter(named.values())))
    if settings.get("window_size") and not masks:
        any_image = {"patch_size": 1, "img_size": _large_enough(settings)}
        return _fit_tables(stages_of({**settings, **any_image}), weights)
    which = f"it may be any of {', '.join(named)}" if named else "it is no named model"
    unknown = "size of the image" if settings.get("window_size") else "window"
    raise ValueError(
        f"rename: the weights do not tell the {unknown} that their "
        f"{'masks depend' if masks else 'index depends'} on, and {which}; give the model as model="
    )


def _fit_tables(
    stages: list[StageWindows], weights: Mapping[str, np.ndarray]
) -> list[StageWindows]:
    """The same with the windows of the bias tables, which may have shrunk to fit a small map."""
    fitted = []
    for i, stage in enumerate(stages):
        table = weights.get(f"layers.{i}.blocks.0.attn.relative_position_bias_table")
        side = 0 if table is None else (isqrt(len(table)) + 1) // 2
        if table is not None and len(table) != prod(2 * M - 1 for M in stage.window):
            if len(table) != (2 * side - 1) ** 2:
                raise ValueError(
                    f"rename: the bias table of stage {i} has {len(table)} rows, which do not "
                    "tell its window; give the model as model="
                )
            stage = stage._replace(window=(side, side))
        fitted.append(stage)
    return fitted


def _geometry(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    keys = ("img_size", "patch_size", "window_size", "pretrained_window_sizes", "depths")
    return tuple(settings.get(key) for key in keys)


def _large_enough(settings: Mapping[str, Any]) -> Pair:
    """A first map on whose last one the window fits."""
    window = settings["window_size"]
    sides = window if isinstance(window, tuple) else (window, window)
    factor = 2 ** len(settings["depths"])
    return sides[0] * factor, sides[1] * factor
