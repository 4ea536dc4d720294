"""How good is it? Mean IoU of classified pixels, average precision of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minswin.dense.boxes import Boxes, box_iou
from minswin.dense.segmentation import IGNORED, check_masks

# ── pixels ───────────────────────────────────────────────────────────────────────────────────────


def confusion(
    predicted: NDArray[Any], truth: NDArray[Any], classes: int, *, ignore: int = IGNORED
) -> NDArray[np.int64]:
    """How many pixels of class i were called j, without those that are ignored.  (K, K)

    predicted, truth: integers of one shape, 0 to K − 1; truth also `ignore`
    """
    check_masks("confusion", truth, predicted.shape, classes, ignore)
    counted = truth != ignore
    called = predicted[counted]  # (P,)
    if called.dtype.kind not in "iu":
        raise TypeError(f"confusion: predicted must hold integers, got {called.dtype}; use argmax")
    for wrong in called[(called < 0) | (called >= classes)][:1]:
        raise ValueError(
            f"confusion: predicted must hold 0…{classes - 1} where a pixel counts, got {wrong}; "
            "classes is the number of all of them, the background too"
        )
    pairs = truth[counted].astype(np.int64) * classes + called.astype(np.int64)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def mean_iou(table: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]]:
    """Intersection over union of each class, from `confusion`, and their mean.

    gives the mean, (K,).   A class that is neither true nor predicted is NaN and not in the mean.
    """
    both = np.diag(table)
    union = table.sum(axis=0) + table.sum(axis=1) - both
    if not union.any():
        raise ValueError("mean_iou: no pixel was counted; all are ignored, or there are no images")
    iou = np.divide(both, union, out=np.full(len(table), np.nan), where=union > 0)
    return float(np.nanmean(iou)), iou


# ── boxes ────────────────────────────────────────────────────────────────────────────────────────

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


class AveragePrecision(NamedTuple):
    """As COCO has it, for objects of all sizes.                                  Lin et al. 2014

    ap: the mean over the overlaps 0.50, 0.55, … 0.95   ap50: at 0.50
    per_class (K,): the mean over the overlaps; NaN for a class that no image has
    """

    ap: float
    ap50: float
    per_class: NDArray[np.float64]


def average_precision(
    predicted: Sequence[tuple[Boxes, NDArray[Any], NDArray[Any]]],
    truth: Sequence[tuple[Boxes, NDArray[Any]]],
    classes: int,
    *,
    most: int = 100,
) -> AveragePrecision:
    """Area under precision over recall, for each class and overlap; see AveragePrecision.

    predicted: for each image boxes (n, 4), scores (n,), labels (n,)
    truth: for each image boxes (m, 4), labels (m,)
    most: this many boxes of a class count in an image, the best
    """
    if len(predicted) != len(truth):
        raise ValueError(
            f"average_precision: {len(truth)} images need as many results, got {len(predicted)}"
        )
    table = np.full((classes, len(OVERLAPS)), np.nan)
    for c in range(classes):
        total = sum(int((labels == c).sum()) for _, labels in truth)
        if total:
            matched = [_match(*f, *t, c, most) for f, t in zip(predicted, truth, strict=True)]
            scores = np.concatenate([s for s, _ in matched])  # (n,)
            hits = np.concatenate([h for _, h in matched], axis=1)  # (overlaps, n)
            order = np.argsort(-scores, kind="stable")
            table[c] = [_area(row[order], total) for row in hits]
    if np.isnan(table).all():
        raise ValueError("average_precision: no image has an object; there is nothing to find")
    return AveragePrecision(
        float(np.nanmean(table)), float(np.nanmean(table[:, 0])), table.mean(axis=1)
    )


def _match(
    boxes: Boxes,
    scores: NDArray[Any],
    labels: NDArray[Any],
    true_boxes: Boxes,
    true_labels: NDArray[Any],
    c: int,
    most: int,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Which boxes of one class in one image are right: best score first, each takes the object
    that it overlaps most among those not taken yet.       gives scores (n,), hits (overlaps, n)
    """
    order = np.argsort(-scores, kind="stable")
    of_class = order[labels[order] == c][:most]
    ious = box_iou(boxes[of_class], true_boxes[true_labels == c])  # (n, m)
    hits = np.zeros((len(OVERLAPS), len(of_class)), np.bool_)
    if not ious.shape[1]:
        return scores[of_class], hits
    for row, overlap in zip(hits, OVERLAPS, strict=True):
        free = ious.copy()
        for i in range(len(of_class)):
            j = int(free[i].argmax())
            row[i] = free[i, j] >= overlap
            if row[i]:
                free[:, j] = -1  # taken
    return scores[of_class], hits


def _area(hits: NDArray[np.bool_], total: int) -> float:
    """Mean over 101 recalls of the best precision at that recall or a higher one."""
    right = np.cumsum(hits)
    recall, precision = right / total, right / np.arange(1, len(hits) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]  # to the right of each place
    place = np.searchsorted(recall, RECALLS)
    return float(np.append(highest, 0.0)[place].mean())  # 0 where the recall is never reached
