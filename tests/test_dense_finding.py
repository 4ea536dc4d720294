"""The output of a detector is read as the boxes that it means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dense_cases import NONE, SIZE, backbone, detector

from minswin.autograd import Tensor
from minswin.dense import Backbone, Detector, average_precision, detect
from minswin.testing.claims import assert_close, assert_same


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
