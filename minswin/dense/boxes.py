"""Boxes (n, 4) as x0, y0, x1, y1: overlap, clipping, and non-maximum suppression."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[Any]


def box_iou(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Intersection over union of every box of a with every box of b.  (n, 4), (m, 4) to (n, m)

    Two boxes without area have 0. In float64 for boxes of any type: rounded to float32, an overlap
    of 0.7 falls below a threshold of 0.7, and differences of unsigned integers wrap around.
    """
    check_boxes("box_iou", a)
    check_boxes("box_iou", b)
    a, b = a.astype(np.float64), b.astype(np.float64)
    low = np.maximum(a[:, None, :2], b[:, :2])  # (n, m, 2)
    high = np.minimum(a[:, None, 2:], b[:, 2:])
    both = np.maximum(high - low, 0).prod(axis=-1)  # (n, m)
    union = area(a)[:, None] + area(b) - both
    return np.divide(both, union, out=np.zeros(union.shape), where=union > 0)


def area(boxes: Boxes) -> NDArray[Any]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def clip_boxes(boxes: Boxes, size: tuple[int, int]) -> tuple[Boxes, NDArray[np.bool_]]:
    """What of each box lies in an image of (H, W), and whether anything does.   (n, 4), (n,)"""
    check_boxes("clip_boxes", boxes)
    height, width = size
    clipped = boxes.clip(0, np.array([width, height, width, height], boxes.dtype))
    return clipped, np.all(clipped[:, :2] < clipped[:, 2:], axis=1)


def nms(
    boxes: Boxes, scores: NDArray[Any], labels: NDArray[Any], *, overlap: float = 0.5
) -> NDArray[np.int64]:
    """Keep the best box, drop those of its class that overlap it more; go on with the next best.

    boxes (n, 4)   scores, labels (n,)   gives the numbers of those kept, best first
    """
    check_boxes("nms", boxes)
    if scores.shape != boxes.shape[:1] or labels.shape != scores.shape:
        raise ValueError(
            f"nms: {len(boxes)} boxes need as many scores and labels, "
            f"got {scores.shape} and {labels.shape}"
        )
    order = np.argsort(-scores, kind="stable")
    rival = box_iou(boxes[order], boxes[order]) > overlap  # (n, n)
    rival &= labels[order][:, None] == labels[order]
    alive = np.ones(len(order), np.bool_)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= ~rival[i, i + 1 :]
    return order[alive]


def check_boxes(who: str, boxes: Boxes) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{who}: boxes must be (n, 4), got {boxes.shape}; none at all is (0, 4)")
    for first in np.flatnonzero(~(boxes[:, :2] <= boxes[:, 2:]).all(axis=1))[:1]:
        raise ValueError(
            f"{who}: box {first} is {boxes[first].tolist()}, expected x0, y0, x1, y1 with "
            "x0 <= x1 and y0 <= y1; from x, y, width, height, add the first two to the last"
        )
