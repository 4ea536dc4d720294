"""Average precision is that of the definition and of COCO, by hand and by a slow oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dense_cases import slow_iou, some
from drawn import law

from minswin.dense import average_precision
from minswin.dense.metrics import OVERLAPS, RECALLS
from minswin.testing.claims import assert_close
from minswin.testing.strategies import seeds

A, B = [0.0, 0, 10, 10], [20.0, 0, 30, 10]


def image(*boxes: Any, labels: Any = None, scores: Any = None) -> tuple[Any, ...]:
    n = len(boxes)
    made = np.array(boxes, float).reshape(n, 4)
    labels = np.zeros(n, int) if labels is None else np.array(labels)
    return (made, labels) if scores is None else (made, np.array(scores, float), labels)


BY_HAND: dict[str, tuple[list[Any], list[Any], float, float]] = {  # found, truth, AP50, AP50:95
    "all found": ([image(A, B, scores=(0.9, 0.8))], [image(A, B)], 1, 1),
    # precision 1 at the recalls 0, 0.01, …, 0.50, and 0 at the other 50
    "one of two found": ([image(A, scores=(0.9,))], [image(A, B)], 51 / 101, 51 / 101),
    "a mistake before the object": (
        [image([50, 0, 60, 10], A, scores=(0.9, 0.8))], [image(A)], 0.5, 0.5,
    ),
    "a mistake after the object": (
        [image(A, [50, 0, 60, 10], scores=(0.9, 0.8))], [image(A)], 1, 1,
    ),
    "found twice: the second is a mistake": (
        [image(A, A, B, scores=(0.9, 0.8, 0.7))], [image(A, B)],
        (51 + 50 * 2 / 3) / 101, (51 + 50 * 2 / 3) / 101,
    ),
    # overlap 0.72: right at 0.50, 0.55, 0.60, 0.65, 0.70
    "found inexactly": ([image([0, 0, 10, 7.2], scores=(0.5,))], [image(A)], 1, 0.5),
    "the better of two takes the object": (
        [image([0, 0, 10, 8], A, scores=(0.9, 0.8))], [image(A)], 1, (7 * 1 + 3 * 0.5) / 10,
    ),
    "another class": ([image(A, labels=(1,), scores=(0.9,))], [image(A)], 0, 0),
    # class 0 all found; class 1 not at all; class 2 is nowhere and does not count
    "the mean over classes": (
        [image(A, scores=(0.9,))], [image(A, B, labels=(0, 1))], 0.5, 0.5,
    ),
    "nothing found": ([image(scores=())], [image(A)], 0, 0),
    "a mistake in an image without objects": (
        [image(A, scores=(0.9,)), image(A, scores=(0.8,))], [image(), image(A)], 0.5, 0.5,
    ),
    "images do not lend each other objects": (
        [image(A, A, scores=(0.9, 0.8)), image(scores=())], [image(A), image(A)],
        51 / 101, 51 / 101,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BY_HAND)
def test_average_precision_by_hand(case: str) -> None:
    found, truth, ap50, ap = BY_HAND[case]
    result = average_precision(found, truth, 3)
    assert_close(result.ap50, ap50)
    assert_close(result.ap, ap)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
@pytest.mark.parametrize(("height", "ap"), [(10, 0.1), (13, 0.4), (14, 0.5), (18, 0.9), (19, 1.0)])
def test_an_overlap_that_equals_a_threshold_reaches_it(dtype: Any, height: int, ap: float) -> None:
    """13/20 = 0.65 is right at 0.50, 0.55, 0.60 and 0.65, as COCO has it."""
    true = np.array([[0, 0, 20, 20]], dtype), np.array([0])
    found = np.array([[0, 0, 20, height]], dtype), np.array([0.9]), np.array([0])
    result = average_precision([found], [true], 1)
    assert_close(result.ap, ap)
    assert result.ap50 == 1


def slow_average_precision(found: Any, truth: Any, classes: int) -> float:
    """From the definition: every cut through the ranking is one pair of precision and recall."""
    each = []
    for c, overlap in np.ndindex(classes, len(OVERLAPS)):
        objects = [(i, j) for i, t in enumerate(truth) for j in range(len(t[1])) if t[1][j] == c]
        ranked = [
            (f[1][j], i, j) for i, f in enumerate(found) for j in range(len(f[1])) if f[2][j] == c
        ]
        ranked.sort(key=lambda row: -row[0])
        taken: set[Any] = set()
        points = []
        for rank, (_, i, j) in enumerate(ranked, 1):
            near = [(slow_iou(found[i][0][j], truth[i][0][o[1]]), o) for o in objects if o[0] == i]
            free = [pair for pair in near if pair[1] not in taken]
            if free and max(free)[0] >= OVERLAPS[overlap]:
                taken.add(max(free)[1])
            points.append((len(taken) / max(len(objects), 1), len(taken) / rank))
        if objects:
            best = [max((p for r, p in points if r >= level), default=0) for level in RECALLS]
            each.append(np.mean(best))
    return float(np.mean(each))


@law(seed=seeds, examples=15)
def test_average_precision_is_that_of_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, truth = [], []
    scores = iter(rng.permutation(60) / 60)  # all different
    for _ in range(4):
        boxes, labels = some(rng, 3), rng.integers(0, 2, 3)
        seen = rng.integers(0, 3, 5)
        moved = boxes[seen] + rng.normal(0, 1.0, (5, 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        called = np.where(rng.random(5) < 0.8, labels[seen], 1 - labels[seen])
        found.append((moved, np.array([next(scores) for _ in range(5)]), called))
        truth.append((boxes, labels))
    assert_close(average_precision(found, truth, 2).ap, slow_average_precision(found, truth, 2))


def test_only_the_best_hundred_of_a_class_in_an_image_count() -> None:
    many = np.tile([[50.0, 0, 60, 10]], (100, 1))
    boxes = np.concatenate([many, [A]])
    found = (boxes, np.linspace(1, 0.1, 101), np.zeros(101, int))
    assert average_precision([found], [image(A)], 1).ap == 0
    others = (boxes, found[1], np.append(np.ones(100, int), 0))  # of another class: no matter
    assert average_precision([others], [image(A)], 2).ap == 1
    assert average_precision([found], [image(A)], 1, most=101).ap50 > 0


def test_nothing_to_find_and_results_that_are_missing_are_errors() -> None:
    with pytest.raises(ValueError, match="no image has an object; there is nothing to find"):
        average_precision([image(A, scores=(0.9,))], [image()], 3)
    with pytest.raises(ValueError, match="2 images need as many results, got 1"):
        average_precision([image(A, scores=(0.9,))], [image(A), image()], 3)
