"""What each token of a detector is to say, and the losses of what it says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from dense_cases import NONE, SIZE, STRIDES, backbone, detector, some
from drawn import law
from hypothesis import strategies as st
from test_dense_maps import slow_giou

from minswin.autograd import Tensor
from minswin.dense import Detector, detection_batches, detection_losses
from minswin.dense.batches import mirrored
from minswin.dense.locations import CENTRAL, REACH, Locations, centreness
from minswin.testing.claims import assert_close, assert_derivative, assert_same
from minswin.testing.strategies import seeds

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


# ── the model and its losses ─────────────────────────────────────────────────────────────────────


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
