"""Mistakes that put the right numbers in wrong places: rolls, windows, heads, merges."""

from __future__ import annotations

import numpy as np

from minswin.crosscheck import formulas
from minswin.crosscheck.mistakes import mistake
from minswin.crosscheck.recording import Step

Array = np.ndarray

# ── the roll ─────────────────────────────────────────────────────────────────────────────────────

ROLL = "roll by (−s, −s) on rows and columns before the windows, by (+s, +s) after them"


def _require(possible: bool) -> None:
    """A mistake that this step cannot have: a map is rolled back, or put together."""
    if not possible:
        raise ValueError("not at this step")


def _rolled(step: Step, x: Array, rows: int, columns: int) -> Array:
    sh, sw = step.geometry["shift"]
    return np.roll(x, (rows * sh, columns * sw), axis=(1, 2))


@mistake("the map is not shifted", "shifted", remedy=ROLL, threads="pytorch/vision#6266")
def not_shifted(step: Step, x: Array) -> Array:
    return x


@mistake("the map is rolled down and right", "shifted", remedy=ROLL)
def rolled_down(step: Step, x: Array) -> Array:
    return _rolled(step, x, 1, 1)


@mistake("only rows are rolled", "shifted", remedy=ROLL)
def rolled_rows(step: Step, x: Array) -> Array:
    return _rolled(step, x, -1, 0)


@mistake("only columns are rolled", "shifted", remedy=ROLL)
def rolled_columns(step: Step, x: Array) -> Array:
    return _rolled(step, x, 0, -1)


@mistake(
    "the map is rolled by a whole window", "shifted", remedy="the shift is half a window, M // 2"
)
def rolled_by_a_window(step: Step, x: Array) -> Array:
    Mh, Mw = step.geometry["window"]
    return np.roll(x, (-Mh, -Mw), axis=(1, 2))


@mistake("the shifts of rows and columns are exchanged", "shifted", remedy=ROLL)
def rolled_exchanged(step: Step, x: Array) -> Array:
    sh, sw = step.geometry["shift"]
    return np.roll(x, (-sw, -sh), axis=(1, 2))


@mistake(
    "the map is rolled before it is padded", "shifted",
    remedy="pad first, then roll: else the mask does not part the ends of the image",
    threads="huggingface/pytorch-image-models#2438",
)  # fmt: skip
def rolled_before_padding(step: Step, x: Array) -> Array:
    """Padding is one and the same vector everywhere, so it is taken from the corner."""
    H, W = step.geometry["H"], step.geometry["W"]
    y = np.broadcast_to(x[:, -1:, -1:], x.shape).copy()
    y[:, :H, :W] = _rolled(step, x[:, :H, :W], -1, -1)
    return y


@mistake("the map is not rolled back", "map", remedy=ROLL)
def not_rolled_back(step: Step, x: Array) -> Array:
    _require(any(step.geometry["shift"]))
    return x


@mistake("the map is rolled up and left again instead of back", "map", remedy=ROLL)
def rolled_again(step: Step, x: Array) -> Array:
    _require(any(step.geometry["shift"]))
    return _rolled(step, x, -1, -1)


@mistake("only rows are rolled back", "map", remedy=ROLL)
def rows_rolled_back(step: Step, x: Array) -> Array:
    _require(any(step.geometry["shift"]))
    return _rolled(step, x, 1, 0)


# ── windows ──────────────────────────────────────────────────────────────────────────────────────

CUT = "reshape to (B, H/Mh, Mh, W/Mw, Mw, C), exchange axes 2 and 3, then join"
JOIN = "reshape to (B, H/Mh, W/Mw, Mh, Mw, C), exchange axes 2 and 3, then join"


@mistake("the map is cut into windows by a reshape alone", "windows", remedy=CUT)
def cut_without_transposing(step: Step, x: Array) -> Array:
    Mh, Mw = step.geometry["window"]
    return x.reshape(x.shape[0], -1, Mh * Mw, x.shape[-1])


@mistake("windows are numbered column by column", "windows", remedy=CUT)
def windows_by_column(step: Step, x: Array) -> Array:
    (H, W), (Mh, Mw) = step.geometry["grid"], step.geometry["window"]
    right = formulas.cut_windows(step, x)
    order = np.arange(H // Mh * (W // Mw)).reshape(H // Mh, W // Mw).T.ravel()
    return right[:, order]


@mistake("the tokens of a window are numbered column by column", "windows", remedy=CUT)
def tokens_by_column(step: Step, x: Array) -> Array:
    Mh, Mw = step.geometry["window"]
    return formulas.cut_windows(step, x)[:, :, np.arange(Mh * Mw).reshape(Mh, Mw).T.ravel()]


@mistake(
    "windows are put together by a reshape alone", "rolled", "map",
    remedy=JOIN, threads="ByChelsea/CMOS#4",
)  # fmt: skip
def joined_without_transposing(step: Step, x: Array) -> Array:
    _require(step.kind == "rolled" or not any(step.geometry["shift"]))
    return x.reshape(x.shape[0], *step.geometry["grid"], x.shape[-1])


@mistake(
    "the number of windows in a column is used for that in a row", "rolled", "map",
    remedy="window w stands in row w // (W / Mw) of the windows: the width counts, not the height",
)  # fmt: skip
def joined_by_height(step: Step, x: Array) -> Array:
    _require(step.kind == "rolled" or not any(step.geometry["shift"]))
    (H, W), (Mh, Mw) = step.geometry["grid"], step.geometry["window"]
    row, column = np.divmod(np.arange(H)[:, None] // Mh * (H // Mh) + np.arange(W) // Mw, 1)
    token = np.arange(H)[:, None] % Mh * Mw + np.arange(W) % Mw
    return x[:, (row + column) % x.shape[1], token]


# ── heads ────────────────────────────────────────────────────────────────────────────────────────

SPLIT = "qkv's channels are (3, heads, d), slowest first: q, k, v, and in each head after head"


def _part(step: Step, x: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Channels as `shape` instead of (3, h, d); `axes` brings (which, head, feature) in order."""
    parts = np.moveaxis(x.reshape(*x.shape[:-1], *shape), tuple(a - 3 for a in axes), (-3, -2, -1))
    return np.moveaxis(parts[..., "qkv".index(step.kind), :, :], -2, -3)


@mistake("q, k and v are interleaved head by head", "q", "k", "v", remedy=SPLIT)
def interleaved_by_head(step: Step, x: Array) -> Array:
    h = step.geometry["heads"]
    return _part(step, x, (h, 3, x.shape[-1] // (3 * h)), (1, 0, 2))


@mistake("the head varies fastest in q, k and v", "q", "k", "v", remedy=SPLIT)
def head_fastest(step: Step, x: Array) -> Array:
    h = step.geometry["heads"]
    return _part(step, x, (3, x.shape[-1] // (3 * h), h), (0, 2, 1))


@mistake("q, k, v vary fastest in the channels", "q", "k", "v", remedy=SPLIT)
def which_fastest(step: Step, x: Array) -> Array:
    h = step.geometry["heads"]
    return _part(step, x, (h, x.shape[-1] // (3 * h), 3), (2, 0, 1))


def _other(step: Step, x: Array, kind: str) -> Array:
    C, h = x.shape[-1] // 3, step.geometry["heads"]
    which = "qkv".index(kind)
    part = x[..., which * C : (which + 1) * C].reshape(*x.shape[:-1], h, C // h)
    return np.moveaxis(part, -2, -3)


@mistake(
    "q, k and v are taken in another order: here q's channels", "k", "v",
    remedy=SPLIT, threads="Oneflow-Inc/libai#146",
)  # fmt: skip
def taken_from_q(step: Step, x: Array) -> Array:
    return _other(step, x, "q")


@mistake("q, k and v are taken in another order: here k's channels", "q", "v", remedy=SPLIT)
def taken_from_k(step: Step, x: Array) -> Array:
    return _other(step, x, "k")


@mistake("q, k and v are taken in another order: here v's channels", "q", "k", remedy=SPLIT)
def taken_from_v(step: Step, x: Array) -> Array:
    return _other(step, x, "v")


@mistake("q, k, v are split into heads by a reshape alone", "q", "k", "v", remedy=SPLIT)
def split_without_transposing(step: Step, x: Array) -> Array:
    C, h, which = x.shape[-1] // 3, step.geometry["heads"], "qkv".index(step.kind)
    part = x[..., which * C : (which + 1) * C]
    return part.reshape(*part.shape[:-2], h, part.shape[-2], C // h)


@mistake(
    "heads are put together by a reshape alone", "merged",
    remedy="exchange heads and tokens first: (N, h, d), then join h and d",
    threads="jsbaan/transformer-from-scratch#6 ajhalthor/Transformer-Neural-Network#4",
)  # fmt: skip
def merged_without_transposing(step: Step, x: Array) -> Array:
    *lead, h, N, d = x.shape
    return x.reshape(*lead, N, h * d)


@mistake("the head varies fastest after merging", "merged", remedy="channel = head · d + feature")
def merged_head_fastest(step: Step, x: Array) -> Array:
    *lead, h, N, d = x.shape
    return np.moveaxis(x, -3, -1).reshape(*lead, N, h * d)


# ── merging ──────────────────────────────────────────────────────────────────────────────────────

ORDER = "[x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]]: the row varies fastest"


def _groups(x: Array, offsets: tuple[tuple[int, int], ...]) -> Array:
    return np.concatenate([x[:, r::2, c::2] for r, c in offsets], axis=-1)


@mistake(
    "the 2×2 neighbours are taken row by row", "neighbours",
    remedy=ORDER, threads="microsoft/Swin-Transformer#256 microsoft/Swin-Transformer#330",
)  # fmt: skip
def row_by_row(step: Step, x: Array) -> Array:
    return _groups(x, ((0, 0), (0, 1), (1, 0), (1, 1)))


@mistake(
    "the neighbours vary fastest in the channels, as nn.Unfold has them", "neighbours",
    remedy=f"{ORDER}; or permute weights that were trained the other way",
    threads="open-mmlab/mmdetection#6747 berniwal/swin-transformer-pytorch#22",
)  # fmt: skip
def unfolded(step: Step, x: Array) -> Array:
    B, H, W, C = x.shape
    y = x.reshape(B, H // 2, 2, W // 2, 2, C).transpose(0, 1, 3, 5, 2, 4)
    return y.reshape(B, H // 2, W // 2, 4 * C)


@mistake(
    "a neighbour is taken twice and another never", "neighbours",
    remedy=ORDER, threads="Project-MONAI/MONAI#4757 Project-MONAI/MONAI#7324",
)  # fmt: skip
def taken_twice(step: Step, x: Array) -> Array:
    return _groups(x, ((0, 0), (1, 0), (0, 1), (0, 1)))


@mistake(
    "quarters of the map are joined instead of neighbours", "neighbours",
    remedy=ORDER, threads="huggingface/candle#1655",
)  # fmt: skip
def quarters(step: Step, x: Array) -> Array:
    H, W = x.shape[1] // 2, x.shape[2] // 2
    parts = [x[:, :H, :W], x[:, H:, :W], x[:, :H, W:], x[:, H:, W:]]
    return np.concatenate(parts, axis=-1)


# ── the edges ────────────────────────────────────────────────────────────────────────────────────

PAD = "zeros at the bottom and right, up to the next multiple of the window"


@mistake(
    "the map is rolled before it is padded", "padded",
    remedy="pad first, then roll: else the mask does not part the ends of the image",
    threads="huggingface/pytorch-image-models#2438",
)  # fmt: skip
def padded_after_rolling(step: Step, x: Array) -> Array:
    return np.pad(_rolled(step, x, -1, -1), step.settings["width"])


@mistake("the padding is at the top and left", "padded", remedy=PAD)
def padded_before(step: Step, x: Array) -> Array:
    return np.pad(x, [(after, before) for before, after in step.settings["width"]])


@mistake("the padding is divided between both sides", "padded", remedy=PAD)
def padded_around(step: Step, x: Array) -> Array:
    return np.pad(x, [(sum(w) // 2, sum(w) - sum(w) // 2) for w in step.settings["width"]])


@mistake("the padding repeats the edge", "padded", remedy=PAD)
def padded_with_edge(step: Step, x: Array) -> Array:
    return np.pad(x, step.settings["width"], mode="edge")


@mistake("the padding mirrors the map", "padded", remedy=PAD)
def padded_with_mirror(step: Step, x: Array) -> Array:
    return np.pad(x, step.settings["width"], mode="reflect")


@mistake("the padding is cut off at the top and left", "cropped", remedy="keep x[:, :H, :W]")
def cropped_before(step: Step, x: Array) -> Array:
    H, W = step.geometry["grid"]
    return x[:, x.shape[1] - H :, x.shape[2] - W :]


@mistake(
    "rows and columns of the patches are exchanged",
    "patches",
    remedy="(B, C, H, W) to (B, H, W, C)",
)
def patches_transposed(step: Step, x: Array) -> Array:
    return x.transpose(0, 3, 2, 1)
