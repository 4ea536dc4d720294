"""Detection: boxes, what tokens are to say, losses, average precision by hand and by oracle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from drawn import fill, law
from hypothesis import strategies as st
from test_dense_maps import slow_giou
from test_dense_segmentation import backbone

from minswin.autograd import Tensor
from minswin.dense import (
    Backbone,
    Detector,
    average_precision,
    box_iou,
    clip_boxes,
    detect,
    detection_batches,
    detection_losses,
    nms,
)
from minswin.dense.batches import mirrored
from minswin.dense.locations import CENTRAL, REACH, Locations, centreness
from minswin.dense.metrics import OVERLAPS, RECALLS
from minswin.testing.claims import assert_close, assert_derivative, assert_same
from minswin.testing.strategies import seeds

NONE = np.zeros((0, 4), np.float32)
SIZE, STRIDES = (26, 34), (4, 8)


def some(rng: np.random.Generator, count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Boxes inside an image."""
    sides = rng.uniform(3, 24, (count, 2))
    start = rng.random((count, 2)) * (np.array(size[::-1]) - sides)
    return np.concatenate([start, start + sides], axis=1).astype(np.float32)


def slow_iou(a: Any, b: Any) -> float:
    a, b = np.asarray(a).tolist(), np.asarray(b).tolist()
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * high
    return wide * high / union if union else 0.0


# ── boxes ────────────────────────────────────────────────────────────────────────────────────────


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


# ── what tokens are to say ───────────────────────────────────────────────────────────────────────


def test_centreness_by_hand() -> None:
    distances = np.array([[2.0, 3, 2, 3], [1, 2, 4, 2], [1, 1, 4, 9], [0, 1, 2, 1], [-1, 1, 2, 1]])
    assert_close(centreness(distances), [1, 1 / 2, 1 / 6, 0, 0])


def test_tokens_lie_in_the_middle_of_their_cells_row_by_row() -> None:
    locations = Locations.of((6, 10), (4, 8))
    assert_same(locations.places[:6], [[2, 2], [6, 2], [10, 2], [2, 6], [6, 6], [10, 6]])
    assert_same(locations.places[6:], [[4, 4], [12, 4]])
    assert_same(locations.strides[:, 0], [4] * 6 + [8] * 2)
    assert_same(locations.reach[[0, 6]], [[0, 4 * REACH], [4 * REACH, np.inf]])


@law(seed=seeds, n=st.integers(0, 6))
def test_each_token_aims_at_the_smallest_object_that_fits_it(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, labels, locations = some(rng, n), rng.integers(0, 5, n), Locations.of(SIZE, STRIDES)
    aims = locations.aims([boxes], [labels])
    assert aims.labels.shape == (1, len(locations.places))
    for p, ((x, y), (stride,)) in enumerate(zip(locations.places, locations.strides, strict=True)):
        best, smallest = -1, math.inf
        for i, (x0, y0, x1, y1) in enumerate(boxes):
            far = max(x - x0, y - y0, x1 - x, y1 - y)
            inside = x0 < x < x1 and y0 < y < y1
            in_reach = far <= 4 * REACH if stride == 4 else far > 4 * REACH
            off = max(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2))
            size = (x1 - x0) * (y1 - y0)
            if inside and in_reach and off < CENTRAL * stride and size < smallest:
                best, smallest = i, size
        assert aims.labels[0, p] == (labels[best] if best >= 0 else -1)
        if best >= 0:
            x0, y0, x1, y1 = boxes[best].astype(float)
            assert_same(aims.boxes[0, p], boxes[best])
            wide = min(x - x0, x1 - x) / max(x - x0, x1 - x)
            high = min(y - y0, y1 - y) / max(y - y0, y1 - y)
            assert_close(aims.centre[0, p], math.sqrt(wide * high), 1e-5)


def test_mirrored_boxes_give_mirrored_aims() -> None:
    """Where the grid is its own mirror image."""
    rng = np.random.default_rng(0)
    boxes, labels = some(rng, 4, (24, 32)), np.arange(4)
    locations = Locations.of((24, 32), (4,))
    there = mirrored(boxes, 32)
    aims = locations.aims([boxes, there], [labels, labels])
    first, second = aims.labels.reshape(2, 6, 8)
    assert (first >= 0).any()
    assert_same(first, second[:, ::-1])
    assert_close(mirrored(there, 32), boxes, 1e-6)


def test_a_picture_without_objects_asks_for_nothing() -> None:
    locations = Locations.of(SIZE, STRIDES)
    aims = locations.aims(
        [NONE, some(np.random.default_rng(1), 3)], [np.zeros(0, int), np.arange(3)]
    )
    assert (aims.labels[0] == -1).all()
    assert (aims.labels[1] >= 0).any()


# ── the model and its losses ─────────────────────────────────────────────────────────────────────


def detector(kind: str, rng: np.random.Generator) -> Detector:
    own = {"width": 9, "depth": 1, "rng": rng, "dtype": np.float64}
    return fill(Detector(backbone(kind, rng), 3, **own), rng)


@pytest.mark.parametrize("kind", ["swin", "resnet"])
@pytest.mark.parametrize("size", [(10, 14), (22, 18)])
def test_there_is_one_row_for_every_location(kind: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    model = detector(kind, rng)
    y = model(rng.standard_normal((2, 3, *size)))
    assert y.shape == (2, len(model.locations(size).places), 3 + 5)


def test_a_detector_has_the_derivative_of_its_value() -> None:
    rng = np.random.default_rng(3)
    model = detector("swin", rng)
    own = [p for name, p in model.named_parameters() if not name.startswith("backbone.")]
    assert_derivative(model, rng.standard_normal((2, 3, 10, 14)), rng, own)


def test_a_fresh_detector_sees_nothing() -> None:
    rng = np.random.default_rng(4)
    model = Detector(backbone("swin", rng), 3, width=5, rng=rng, dtype=np.float64)
    y = model(rng.standard_normal((2, 3, 10, 14))).data[..., :3]
    assert abs(1 / (1 + np.exp(-y)) - 0.01).max() < 0.005


def example(rng: np.random.Generator) -> tuple[Locations, Any]:
    locations = Locations.of(SIZE, STRIDES)
    boxes = [some(rng, 3), NONE, some(rng, 2)]
    labels = [np.array([1, 0, 2]), np.zeros(0, int), np.array([2, 2])]
    return locations, locations.aims(boxes, labels)


def test_the_losses_are_those_of_the_paper_token_by_token() -> None:
    rng = np.random.default_rng(5)
    locations, aims = example(rng)
    P = len(locations.places)
    output = rng.standard_normal((3, P, 8))
    got = detection_losses(Tensor(output), aims, locations)
    what, where, near, count, weights = 0.0, 0.0, 0.0, 0, 0.0
    for b, p in np.ndindex(3, P):
        row, label = output[b, p], aims.labels[b, p]
        for k in range(3):
            chance = 1 / (1 + math.exp(-row[k]))
            if k == label:
                what -= 0.25 * (1 - chance) ** 2 * math.log(chance)
            else:
                what -= 0.75 * chance**2 * math.log(1 - chance)
        if label >= 0:
            (x, y), stride = locations.places[p], float(locations.strides[p, 0])
            left, up, right, down = (stride * math.exp(v) for v in row[3:7])
            c, chance = float(aims.centre[b, p]), 1 / (1 + math.exp(-row[7]))
            box = (x - left, y - up, x + right, y + down)
            where += c * (1 - slow_giou(box, aims.boxes[b, p].astype(float)))
            near -= c * math.log(chance) + (1 - c) * math.log(1 - chance)
            count, weights = count + 1, weights + c
    assert count > 5
    # The aims are float32: seven digits.
    assert_close(got.what, what / count, 1e-12)
    assert_close(got.where, where / weights, 1e-6)
    assert_close(got.centre, near / count, 1e-6)
    assert_close(got.total, got.what.data + got.where.data + got.centre.data)


def test_the_sum_of_the_losses_has_the_right_derivative() -> None:
    rng = np.random.default_rng(6)
    locations, aims = example(rng)
    output = rng.standard_normal((3, len(locations.places), 8))
    assert_derivative(lambda y: detection_losses(y, aims, locations).total, output, rng)


def test_a_batch_without_objects_only_teaches_that_nothing_is_there() -> None:
    rng = np.random.default_rng(7)
    locations = Locations.of(SIZE, STRIDES)
    aims = locations.aims([NONE, NONE], [np.zeros(0, int)] * 2)
    output = Tensor(rng.standard_normal((2, len(locations.places), 8)), requires_grad=True)
    losses = detection_losses(output, aims, locations)
    losses.total.backward()
    assert (losses.where.item(), losses.centre.item()) == (0, 0)
    assert (output.grad[..., :3] > 0).all()
    assert not output.grad[..., 3:].any()


def test_aims_of_other_images_or_classes_are_errors() -> None:
    locations, aims = example(np.random.default_rng(8))
    P = len(locations.places)
    with pytest.raises(ValueError, match=rf"aims must be for \(2, {P}\) images and tokens"):
        detection_losses(Tensor(np.zeros((2, P, 8))), aims, locations)
    with pytest.raises(ValueError, match="labels must lie in 0…1, got 2; build the Detector for"):
        detection_losses(Tensor(np.zeros((3, P, 7))), aims, locations)


# ── finding ──────────────────────────────────────────────────────────────────────────────────────


class Oracle(Detector):
    """A detector that says of every image what it was told to say."""

    def __init__(self, backbone: Backbone, rng: np.random.Generator, output: np.ndarray) -> None:
        super().__init__(backbone, 3, width=5, rng=rng, dtype=np.float64)
        self.output = output

    def __call__(self, x: Any) -> Tensor:
        return Tensor(self.output[x[:, 0, 0, 0].astype(int)])  # the first pixel is the number


def perfect(seed: int) -> tuple[Oracle, np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """A detector without mistakes, images of 26×34 and their objects; the second has none."""
    rng = np.random.default_rng(seed)
    model = Oracle(backbone("swin", rng), rng, np.zeros(0))
    boxes = [np.array([[1.5, 2, 11, 14], [18, 10, 33, 25]], np.float32), NONE]
    boxes += [np.array([[3, 6, 33, 19]], np.float32)]
    labels = [np.array([2, 0]), np.zeros(0, int), np.array([2])]
    locations = model.locations(SIZE)
    aims = locations.aims(boxes, labels)
    place = locations.places
    distances = np.concatenate([place - aims.boxes[..., :2], aims.boxes[..., 2:] - place], axis=-1)
    output = np.full((*aims.labels.shape, 8), -12.0)
    seen = aims.labels >= 0
    output[..., :3][seen, aims.labels[seen]] = 9
    logs = np.log(distances[seen] / np.broadcast_to(locations.strides, (*seen.shape, 1))[seen])
    output[..., 3:7][seen] = logs
    output[..., 7] = np.log(aims.centre.clip(1e-6) / (1 - aims.centre.clip(0, 1 - 1e-6)))
    model.output = output
    images = np.zeros((3, 3, *SIZE))
    images[:, 0, 0, 0] = np.arange(3)
    return model, images, boxes, labels


@pytest.mark.parametrize("batch", [1, 2, 32])
def test_a_perfect_output_is_read_as_the_boxes_that_it_means(batch: int) -> None:
    model, images, boxes, labels = perfect(8)
    found = detect(model, images, batch=batch)
    assert [len(f.boxes) for f in found] == [2, 0, 1]
    for f, box, label in zip(found, boxes, labels, strict=True):
        order = np.argsort(f.boxes[:, 0])
        assert_close(f.boxes[order], box, 1e-5)
        assert_same(f.labels[order], label)
        assert (np.diff(f.scores) <= 0).all()
    assert average_precision(found, list(zip(boxes, labels, strict=True)), 3).ap == 1


def test_boxes_that_reach_beyond_the_image_are_cut_at_its_edge_or_dropped() -> None:
    model, images, *_ = perfect(9)
    model.output[2, :, 3:7] = 5.0  # e⁵ tokens to each side
    found = detect(model, images[2:])
    assert_same(found[0].boxes, [[0, 0, 34, 26]])
    model.output[2, :, 3:7] = -40.0  # no area is left
    assert detect(model, images[2:], overlap=0.99)[0].boxes.shape == (0, 4)


def test_at_most_so_many_objects_are_found_and_none_below_the_threshold() -> None:
    model, images, *_ = perfect(10)
    every = detect(model, images)
    for most in (1, 2):
        few = detect(model, images, most=most)
        assert [len(f.boxes) for f in few] == [most, 0, 1]
        assert_same(few[0].scores, every[0].scores[:most])
    threshold = float(every[0].scores.mean())
    for few, all_ in zip(detect(model, images, threshold=threshold), every, strict=True):
        assert_same(few.scores, all_.scores[all_.scores > threshold])


def test_an_object_is_found_though_many_tokens_are_surer_of_another_one() -> None:
    model, images, *_ = perfect(14)
    (first, second) = (np.nonzero(model.output[0, :, k] > 0)[0] for k in (0, 2))
    model.output[0, second, 7] = model.output[0, first, 7].min() - 1
    assert 3 < len(first) < 15
    assert detect(model, images, most=3)[0].labels.tolist() == [0, 2]


def test_a_worse_box_stays_if_it_overlaps_a_better_one_by_no_more_than_is_asked() -> None:
    model, images, boxes, _ = perfect(11)
    token = np.nonzero(model.output[2, :, 2] > 0)[0][0]
    locations = model.locations(SIZE)
    to_right = 21 - locations.places[token, 0]  # instead of 33: 18 of 30 pixels overlap
    model.output[2, token, 5] = np.log(to_right / locations.strides[token, 0])
    (alone,) = detect(model, images[2:], overlap=0.58)
    assert_close(alone.boxes, boxes[2], 1e-5)
    (both,) = detect(model, images[2:], overlap=0.62)
    assert_close(both.boxes, [boxes[2][0], [3, 6, 21, 19]], 1e-5)


def test_detect_finds_the_same_whatever_the_batch_and_leaves_the_mode() -> None:
    rng = np.random.default_rng(12)
    model, x = detector("resnet", rng), rng.standard_normal((5, 3, 10, 14))
    whole = detect(model.eval(), x)
    assert all(len(f.boxes) > 1 for f in whole)
    for f, g in zip(whole, detect(model.train(), x, batch=2), strict=True):
        for ours, theirs in zip(f, g, strict=True):
            assert_close(ours, theirs)
    assert model.training


def test_mirrored_pictures_come_with_mirrored_aims() -> None:
    """A picture that is dark but for its object: the object is where the aims say."""
    images, box = np.zeros((2, 3, 24, 32), np.uint8), np.array([[3, 5, 13, 17]], np.float32)
    images[:, :, 5:17, 3:13] = 255
    locations = Locations.of((24, 32), (4,))
    one = np.zeros(1, int)
    batch = detection_batches(images, [box, box], [one, one], 12, locations=locations)
    x, aims = batch(np.random.default_rng(0))
    places = locations.places.astype(int)
    mirrors = 0
    for picture, labels, boxes in zip(x, aims.labels, aims.boxes, strict=True):
        (seen,) = np.nonzero(labels >= 0)
        assert len(seen)
        assert (picture[0, places[seen, 1], places[seen, 0]] > 0).all()
        mirrors += boxes[seen[0], 0] == 32 - 13
    assert 0 < mirrors < 12
    with pytest.raises(ValueError, match="2 images need as many arrays of boxes and of labels"):
        detection_batches(images, [box], [one], 2, locations=locations)
    outside = [box, box + 20]
    with pytest.raises(ValueError, match=r"detection_batches: image 1: boxes\[0\] is .* clip it"):
        detection_batches(images, outside, [one, one], 2, locations=locations)


# ── average precision ────────────────────────────────────────────────────────────────────────────

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
