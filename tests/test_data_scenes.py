"""Scenes: repeatable, boxes that are tight, masks that agree with them, and objects that fit."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from minswin.data.dataset import STATISTICS, stream
from minswin.data.scenes import IGNORED, Scenes, scenes
from minswin.data.shapes import BLOCK, KINDS, draw, shapes


@pytest.fixture(scope="module")
def some() -> Scenes:
    return scenes(60, seed=3, size=72, most=4)


def test_the_same_arguments_give_the_same_bytes_and_fewer_pictures_are_the_first(some) -> None:
    again = scenes(7, seed=3, size=72, most=4)
    assert np.array_equal(again.images, some.images[:7])
    assert np.array_equal(again.masks, some.masks[:7])
    for one, other in zip(again.boxes, some.boxes, strict=False):
        assert np.array_equal(one, other)


def test_splits_and_seeds_share_nothing(some) -> None:
    for wish in ({"seed": 3, "split": "test"}, {"seed": 4}):
        other = scenes(5, size=72, most=4, **wish)
        assert not (other.images == some.images[:5]).all(axis=(1, 2, 3)).any()


def test_scenes_and_shapes_draw_from_streams_of_their_own(monkeypatch) -> None:
    drawn: dict[Any, set[Any]] = {scenes: set(), shapes: set()}
    for make, places in drawn.items():

        def noted(*place: int, places: set[Any] = places) -> np.random.Generator:
            places.add(place)
            return stream(*place)

        monkeypatch.setattr(sys.modules[make.__module__], "stream", noted)
        for split in ("train", "test"):
            make(1, seed=3, size=48, split=split)
        assert len(places) == 2
    assert not drawn[scenes] & drawn[shapes]


def test_a_pixel_belongs_to_the_object_that_covers_half_of_it_or_more(monkeypatch) -> None:
    covered = []

    def noted(*place: Any, **more: Any) -> np.ndarray:
        covered.append(draw(*place, **more))  # (b, H, W)
        return covered[-1]

    monkeypatch.setattr(sys.modules[scenes.__module__], "draw", noted)
    masks = scenes(BLOCK, seed=5, size=48, most=1).masks  # one object each
    coverage = np.concatenate(covered)
    assert len(coverage) == BLOCK
    partly = (coverage > 0.02) & (coverage < 0.98)
    assert partly.sum() > 10 * BLOCK
    assert (masks > 0).sum() == (coverage >= 0.5).sum()


def test_every_box_is_tight_around_pixels_of_its_class(some) -> None:
    for mask, boxes, labels in zip(some.masks, some.boxes, some.labels, strict=True):
        left = mask.copy()
        for (x0, y0, x1, y1), label in zip(boxes.astype(int), labels, strict=True):
            own = mask[y0:y1, x0:x1] == label + 1
            for edge in (own[0], own[-1], own[:, 0], own[:, -1]):
                assert edge.any()
            left[y0:y1, x0:x1] = 0
        assert not left.any()  # no object without a box
        assert set(np.unique(mask)) == {0, *(labels + 1)}


def test_objects_vary_in_number_class_and_size(some) -> None:
    counts = [len(boxes) for boxes in some.boxes]
    assert set(counts) == {1, 2, 3, 4}
    assert set(np.concatenate(some.labels)) == set(range(len(KINDS)))
    sides = np.concatenate([(b[:, 2:] - b[:, :2]).max(axis=1) for b in some.boxes])
    assert sides.max() > 2.3 * sides.min()
    assert sides.min() >= 7


def test_objects_stand_out_from_their_background(some) -> None:
    """In lightness, by more than the noise; the set's statistics fit them roughly."""
    light = np.einsum("nchw,c->nhw", some.images / 255, [0.299, 0.587, 0.114])
    for picture, mask in zip(light, some.masks, strict=True):
        ground = np.median(picture[mask == 0])
        assert abs(np.median(picture[mask > 0]) - ground) > 0.05
    mean, std = STATISTICS["shapes"]
    assert abs(some.images.mean() / 255 - np.mean(mean)) < 0.06
    assert abs(some.images.std() / 255 - np.mean(std)) < 0.06


def test_a_subset_keeps_pictures_masks_and_objects_together(some) -> None:
    part = some.subset([5, 2])
    assert len(part) == 2
    assert np.array_equal(part.images, some.images[[5, 2]])
    assert np.array_equal(part.masks[1], some.masks[2])
    assert np.array_equal(part.boxes[0], some.boxes[5])
    assert np.array_equal(part.labels[0], some.labels[5])


def made(boxes: Any = ((1, 2, 6, 8),), labels: Any = (3,), masks: Any = None) -> Scenes:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    masks = np.zeros((1, 9, 7), np.uint8) if masks is None else masks
    images = np.zeros((1, 3, 9, 7), np.uint8)
    return Scenes(images, masks, (boxes,), (np.array(labels, np.int64),))


def test_a_picture_may_be_empty_and_a_box_may_fill_it() -> None:
    assert made((), ()).boxes[0].shape == (0, 4)
    assert len(made(((0, 0, 7, 9),))) == 1


@pytest.mark.parametrize(
    ("box", "where"),
    [
        ((-1, 2, 6, 8), "-1.0"),
        ((1, 2, 8, 8), "8.0"),
        ((1, 2, 6, 10), "10.0"),
        ((3, 2, 3, 8), "3.0"),
    ],
)
def test_a_box_outside_of_the_picture_or_without_area_is_an_error(box: Any, where: str) -> None:
    with pytest.raises(ValueError, match=rf"image 0: boxes\[0\] is .*{where}.* x1 <= 7 .* clip it"):
        made((box,))
    with pytest.raises(ValueError, match="nan"):
        made(((float("nan"), 2, 6, 8),))


def test_what_does_not_belong_together_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"labels\[0\] is 10, expected 0 to 9"):
        made(labels=(10,))
    with pytest.raises(ValueError, match=r"expected boxes \(n, 4\) and labels \(n,\)"):
        made(labels=(1, 2))
    with pytest.raises(ValueError, match=r"masks is uint8 \(1, 7, 9\), expected uint8 \(1, 9, 7\)"):
        made(masks=np.zeros((1, 7, 9), np.uint8))
    with pytest.raises(ValueError, match="need as many arrays of boxes and of labels, got 0 and 0"):
        Scenes(np.zeros((1, 3, 9, 7), np.uint8), np.zeros((1, 9, 7), np.uint8), (), ())
    assert len(KINDS) < IGNORED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count is 0, expected 1 or more"),
        ({"size": 47}, "size is 47, expected 48 or more"),
        ({"most": 0}, "most is 0, expected 1 to 20"),
        ({"split": "val"}, "split is 'val'"),
    ],
)
def test_wrong_wishes_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"scenes: {message}"):
        scenes(**{"count": 1, "seed": 0, **arguments})
