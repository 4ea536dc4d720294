"""Mistakes in the relative position bias and in the mask of shifted windows."""

from __future__ import annotations

import numpy as np

from minswin.crosscheck import formulas
from minswin.crosscheck.mistakes import mistake
from minswin.crosscheck.recording import Step

Array = np.ndarray

# ── the index ────────────────────────────────────────────────────────────────────────────────────

INDEX = "(rₚ − r_q + Mh − 1) · (2 Mw − 1) + (cₚ − c_q + Mw − 1), p the query, q the key"


@mistake(
    "the displacement is key minus query", "index",
    remedy=INDEX, threads="microsoft/Swin-Transformer#281",
)  # fmt: skip
def key_minus_query(step: Step) -> Array:
    return formulas.index(step).T


@mistake(
    "rows and columns are exchanged in the index (meshgrid 'xy')", "index",
    remedy=INDEX, threads="leondgarse/keras_cv_attention_models#26",
)  # fmt: skip
def rows_and_columns_exchanged(step: Step) -> Array:
    (dr, dc), (Mh, Mw) = formulas.displacements(step), step.geometry["table_window"]
    return (dc + Mw - 1) * (2 * Mh - 1) + dr + Mh - 1


@mistake(
    "the height multiplies in the index where the width should", "index",
    remedy=INDEX, threads="282857341/nnFormer#8",
)  # fmt: skip
def multiplied_by_height(step: Step) -> Array:
    (dr, dc), (Mh, Mw) = formulas.displacements(step), step.geometry["table_window"]
    return _inside(step, (dr + Mh - 1) * (2 * Mh - 1) + dc + Mw - 1)


@mistake("the index multiplies by 2M instead of 2M − 1", "index", remedy=INDEX)
def multiplied_by_two_windows(step: Step) -> Array:
    (dr, dc), (Mh, Mw) = formulas.displacements(step), step.geometry["table_window"]
    return _inside(step, (dr + Mh - 1) * 2 * Mw + dc + Mw - 1)


@mistake(
    "the index lacks the offset M − 1, and counts from the end of the table", "index", remedy=INDEX
)
def without_offset(step: Step) -> Array:
    (dr, dc), (Mh, Mw) = formulas.displacements(step), step.geometry["table_window"]
    rows = (2 * Mh - 1) * (2 * Mw - 1)
    return (dr * (2 * Mw - 1) + dc) % rows


@mistake("the sum of the coordinates is used instead of their difference", "index", remedy=INDEX)
def summed(step: Step) -> Array:
    Mh, Mw = step.geometry["window"]
    row, column = np.divmod(np.arange(Mh * Mw), Mw)
    return (row[:, None] + row) * (2 * Mw - 1) + column[:, None] + column


def _inside(step: Step, index: Array) -> Array:
    """Frameworks wrap or clip an index beyond the table; a port that fails loudly needs no help."""
    Mh, Mw = step.geometry["table_window"]
    rows = (2 * Mh - 1) * (2 * Mw - 1)
    if index.max() >= rows:
        raise IndexError("beyond the table")
    return index


# ── the bias ─────────────────────────────────────────────────────────────────────────────────────

BIAS = "table[index] is (N, N, heads): move the heads to the front"


@mistake(
    "all heads share the bias of the first", "bias", remedy="the table has a column for each head"
)
def shared_bias(step: Step, table: Array, rows: Array) -> Array:
    right = formulas.bias(step, table, rows)
    return np.broadcast_to(right[:1], right.shape)


@mistake("there is no relative position bias", "bias", remedy="add table[index] to the logits")
def no_bias(step: Step, table: Array, rows: Array) -> Array:
    return np.zeros_like(formulas.bias(step, table, rows))


@mistake("the bias is reshaped to the heads instead of transposed", "bias", remedy=BIAS)
def bias_reshaped(step: Step, table: Array, rows: Array) -> Array:
    right = formulas.bias(step, table, rows)
    return table[rows.astype(int)].reshape(right.shape)


@mistake("query and key of the bias are exchanged", "bias", remedy=INDEX)
def bias_transposed(step: Step, table: Array, rows: Array) -> Array:
    return formulas.bias(step, table, rows).swapaxes(-1, -2)


# ── the mask ─────────────────────────────────────────────────────────────────────────────────────

REGIONS = "label the rolled map by the slices [0, −M), [−M, −s), [−s, end) of each axis; −100 apart"


@mistake(
    "there is no mask", "mask",
    remedy=REGIONS, threads="huggingface/candle#1655 zzd1992/FlashWindowAttention#1",
)  # fmt: skip
def no_mask(step: Step) -> Array:
    return np.zeros_like(formulas.mask(step))


@mistake("the mask is the wrong way round", "mask", remedy="0 for a pair of one region, −100 apart")
def mask_inverted(step: Step) -> Array:
    return -100 - formulas.mask(step)


@mistake("the mask is +100", "mask", remedy="add −100 to pairs of different regions")
def mask_positive(step: Step) -> Array:
    return -formulas.mask(step)


@mistake("the mask is −1 instead of −100", "mask", remedy="add −100 to pairs of different regions")
def mask_of_one(step: Step) -> Array:
    return formulas.mask(step) / 100


@mistake("the mask parts rows only", "mask", remedy=REGIONS)
def mask_of_rows(step: Step) -> Array:
    return _mask_from(step, *_crossed(step, True, False))


@mistake("the mask parts columns only", "mask", remedy=REGIONS)
def mask_of_columns(step: Step) -> Array:
    return _mask_from(step, *_crossed(step, False, True))


@mistake(
    "the mask is built with rows and columns exchanged", "mask",
    remedy="H is the axis of rows in the label image as well", threads="zsyOAOA/ResShift#81",
)  # fmt: skip
def mask_exchanged(step: Step) -> Array:
    (H, W), (Mh, Mw) = step.geometry["grid"], step.geometry["window"]
    if Mh != Mw:
        raise ValueError("the windows of the other grid are other windows")
    labels = _labels((W, H), step)
    return _mask_from(step, *_cut_labels(labels.reshape(H, W), step))


@mistake("the label image of the mask is cut at s instead of −s", "mask", remedy=REGIONS)
def mask_cut_at_shift(step: Step) -> Array:
    sh, sw = step.geometry["shift"]
    row, column = formulas.places(step)
    return _mask_from(step, row >= sh, column >= sw)


@mistake(
    "the mask is of a map that was not rolled", "mask",
    remedy="label the map as it is after the roll", threads="microsoft/Swin-Transformer#38",
)  # fmt: skip
def mask_not_rolled(step: Step) -> Array:
    (H, W), (sh, sw) = step.geometry["grid"], step.geometry["shift"]
    row, column = formulas.places(step)
    return _mask_from(step, (row + sh) % H >= H - sh, (column + sw) % W >= W - sw)


def _crossed(step: Step, rows: bool, columns: bool) -> tuple[Array, Array]:
    (H, W), (sh, sw) = step.geometry["grid"], step.geometry["shift"]
    row, column = formulas.places(step)
    return (row >= H - sh) & rows, (column >= W - sw) & columns


def _mask_from(step: Step, *labels: Array) -> Array:
    """Labels (nW, N) of each kind: a pair that differs in any of them is masked."""
    apart = sum((x[:, :, None] != x[:, None, :] for x in labels), start=np.zeros((), bool))
    return np.where(apart, -100.0, 0.0)[:, None]


def _labels(grid: tuple[int, int], step: Step) -> Array:
    (H, W), (Mh, Mw), (sh, sw) = grid, step.geometry["window"], step.geometry["shift"]
    rows = np.repeat([0, 1, 2], [H - Mh, Mh - sh, sh])
    columns = np.repeat([0, 1, 2], [W - Mw, Mw - sw, sw])
    return rows[:, None] * 3 + columns


def _cut_labels(labels: Array, step: Step) -> tuple[Array]:
    row, column = formulas.places(step)
    return (labels[row, column],)


# ── where bias and mask are added ────────────────────────────────────────────────────────────────

BOTH = "logits = scores + bias + mask, the mask of window w for window w of every image"


@mistake("the mask is not added", "bias_and_mask", remedy=BOTH, threads="huggingface/candle#1655")
def mask_left_out(step: Step, bias: Array, mask: Array) -> Array:
    return formulas.bias_and_mask(step, bias, np.zeros_like(mask))


@mistake("the bias is not added where there is a mask", "bias_and_mask", remedy=BOTH)
def bias_left_out(step: Step, bias: Array, mask: Array) -> Array:
    return formulas.bias_and_mask(step, np.zeros_like(bias), mask)


@mistake(
    "the masks of the windows are given out image by image: (window, image) for (image, window)",
    "logits", remedy="the axis of windows varies fastest: b · nW + w belongs to mask w",
)  # fmt: skip
def mask_of_another_window(step: Step, scores: Array, bias: Array) -> Array:
    B, nW = scores.shape[:2]
    which = np.arange(B * nW).reshape(B, nW) // B
    return scores + bias[which]


@mistake("bias and mask are not added", "logits", remedy=BOTH)
def nothing_added(step: Step, scores: Array, bias: Array) -> Array:
    return scores


@mistake("the mask is added to the logits, the bias is not", "logits", remedy=BOTH)
def only_the_mask(step: Step, scores: Array, bias: Array) -> Array:
    return scores + np.where(bias < -50, -100.0, 0.0)


@mistake("bias and mask are subtracted", "logits", remedy=BOTH)
def subtracted(step: Step, scores: Array, bias: Array) -> Array:
    return scores - bias


@mistake("bias and mask are added twice", "logits", remedy="add them once")
def added_twice(step: Step, scores: Array, bias: Array) -> Array:
    return scores + 2 * bias
