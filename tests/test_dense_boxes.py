"""Boxes overlap, are clipped and suppress each other as by hand and by a slow oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dense_cases import NONE, slow_iou, some
from drawn import law
from hypothesis import strategies as st

from minswin.dense import box_iou, clip_boxes, nms
from minswin.testing.claims import assert_close, assert_same
from minswin.testing.strategies import seeds


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_iou_by_hand(dtype: Any) -> None:
    a = np.array([[0, 0, 4, 2], [5, 5, 5, 5]], dtype)
    b = np.array([[2, 1, 6, 3], [0, 0, 4, 2], [4, 0, 6, 2], [5, 5, 5, 5]], dtype)
    assert_close(box_iou(a, b), [[2 / 14, 1, 0, 0], [0, 0, 0, 0]])
    assert box_iou(NONE, b).shape == (0, 4)
    large = np.array([[0, 0, 200, 100]], dtype)  # 20,000 pixels
    assert_close(box_iou(large, large // 2), [[1 / 4]])


def test_clipping_keeps_what_lies_inside_and_says_what_does() -> None:
    boxes = np.array([[-3.0, 1, 4, 9], [7, 2, 12, 3], [8, 1, 9, 2], [2, -5, 3, -1]])
    clipped, real = clip_boxes(boxes, (6, 8))
    assert_same(clipped[:2], [[0, 1, 4, 6], [7, 2, 8, 3]])
    assert_same(real, [True, True, False, False])


@law(seed=seeds, n=st.integers(0, 12), overlap=st.floats(0.1, 0.9))
def test_suppression_leaves_what_no_better_survivor_overlaps(
    seed: int, n: int, overlap: float
) -> None:
    rng = np.random.default_rng(seed)
    boxes, scores, labels = some(rng, n), rng.permutation(n) / 20, rng.integers(0, 2, n)
    alive: list[int] = []
    for i in sorted(range(n), key=lambda i: -scores[i]):
        same = [j for j in alive if labels[j] == labels[i]]
        if all(slow_iou(boxes[i], boxes[j]) <= overlap for j in same):
            alive.append(i)
    assert nms(boxes, scores, labels, overlap=overlap).tolist() == alive


def test_boxes_that_are_none_are_named() -> None:
    one = np.array([[0.0, 0, 2, 2]])
    with pytest.raises(ValueError, match=r"box_iou: box 1 is .* from x, y, width, height"):
        box_iou(np.array([[0.0, 0, 2, 2], [5, 5, 2, 2]]), one)
    with pytest.raises(ValueError, match=r"nms: boxes must be \(n, 4\), got \(4,\)"):
        nms(np.zeros(4), np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match="1 boxes need as many scores and labels"):
        nms(one, np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="nan"):
        box_iou(one, np.array([[0, 0, np.nan, 2]]))
