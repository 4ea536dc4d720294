"""The built-in set: repeatable, well outlined, mirror-safe, and beyond a linear classifier."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minswin.data.dataset import STATISTICS
from minswin.data.shapes import BLOCK, KINDS, boxes_of, draw, shapes

each_kind = pytest.mark.parametrize("kind", KINDS)


def one(kind, canvas, x, y, radius, angle):
    return draw(
        kind,
        canvas,
        centre=np.array([[x, y]]),
        radius=np.array([radius]),
        angle=np.array([angle]),
    )[0]


# ---- objects ---------------------------------------------------------------------------------


@given(
    st.sampled_from(KINDS), st.floats(-9, 40), st.floats(-9, 30), st.floats(2, 15), st.floats(-7, 7)
)
def test_the_mirror_image_of_an_object_is_that_object_turned_the_other_way(kind, x, y, r, angle):
    got = one(kind, (23, 31), x, y, r, angle)[:, ::-1]
    np.testing.assert_allclose(got, one(kind, (23, 31), 31 - x, y, r, -angle), atol=1e-4)


@given(st.sampled_from(KINDS), st.floats(6, 15), st.floats(-7, 7))
def test_an_object_stays_in_the_disc_of_its_radius(kind, radius, angle):
    covered = one(kind, (37, 41), 20, 18, radius, angle)
    y, x = np.mgrid[:37, :41] + 0.5
    away = np.hypot(x - 20, y - 18) - radius
    assert covered.max() == 1
    assert covered[away > 0].max() < 0.5  # so masks stay inside
    assert covered[away > 1.7].max() == 0  # a soft edge, long at a sharp point: ½ / sin 18°


@each_kind
def test_an_object_moves_with_its_centre_and_grows_with_its_radius(kind):
    here = one(kind, (40, 50), 15.3, 17.8, 9.0, 0.7)
    there = one(kind, (40, 50), 22.3, 19.8, 9.0, 0.7)
    np.testing.assert_allclose(there[2:, 7:], here[:-2, :-7], atol=1e-4)
    areas = [one(kind, (99, 97), 50, 49, r, 0.7).sum() / r**2 for r in (20, 40)]
    assert abs(areas[0] / areas[1] - 1) < 0.01


@each_kind
def test_an_object_turns_clockwise_by_its_angle(kind):
    upright = one(kind, (41, 41), 20.5, 20.5, 17.0, 0.2)
    turned = one(kind, (41, 41), 20.5, 20.5, 17.0, 0.2 + np.pi / 2)
    np.testing.assert_allclose(turned, np.rot90(upright, -1), atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "area"),
    [
        ("disc", np.pi * 0.95**2),
        ("ring", np.pi * (0.98**2 - 0.52**2)),
        ("square", 1.4**2),
        ("triangle", 3**1.5 / 4),
        ("cross", 4 * 0.28 * (2 * 0.95 - 0.28)),
        ("bars", 2 * 0.48 * 1.32),
    ],
)
def test_the_coverage_adds_up_to_the_area_of_the_figure(kind, area):
    radius = 60.0
    covered = one(kind, (130, 134), 66.4, 65.1, radius, 0.3).sum()
    assert abs(covered / (area * radius**2) - 1) < 0.005


@pytest.mark.parametrize(
    ("kind", "reach", "points"),
    [("star", 75, 5), ("cross", 75, 4), ("square", 85, 4), ("triangle", 65, 3)],
)
def test_a_circle_meets_as_many_points_as_the_figure_has(kind, reach, points):
    covered = one(kind, (201, 201), 100.5, 100.5, 100.0, 0.1)
    turn = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    x, y = (np.floor(100.5 + reach * part(turn)).astype(int) for part in (np.sin, np.cos))
    inside = covered[y, x] > 0.5
    assert (inside & ~np.roll(inside, 1)).sum() == points


def test_several_objects_fit_on_a_larger_canvas():
    centre = np.array([[20.0, 30.0], [70.0, 25.0]])
    covered = draw(
        "heart", (60, 96), centre=centre, radius=np.array([9.0, 14.0]), angle=np.zeros(2)
    )
    assert covered.shape == (2, 60, 96)
    assert covered.dtype == np.float32
    assert not np.logical_and(*(covered > 0)).any()
    for cover, (x, y) in zip(covered, centre, strict=True):
        rows, columns = np.nonzero(cover)
        assert abs(columns.mean() + 0.5 - x) < 0.1
        assert abs(rows.mean() + 0.5 - y) < 2.5


def test_an_unknown_kind_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"'blob', expected one of disc, ring"):
        one("blob", (8, 9), 4, 4, 3, 0)


# ---- samples ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def train():
    return shapes(2000, seed=0)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others():
    def images(**changes):
        return shapes(7, **{"seed": 5, **changes}).images

    np.testing.assert_array_equal(images(), images())
    for changes in ({"seed": 6}, {"split": "test"}):
        assert (images() != images(**changes)).mean() > 0.9, changes


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_first_samples_do_not_depend_on_the_count(split):
    few, many = (shapes(count, seed=1, split=split) for count in (BLOCK + 3, 2 * BLOCK + 1))
    for field in ("images", "labels", "masks", "boxes"):
        np.testing.assert_array_equal(getattr(few, field), getattr(many, field)[: BLOCK + 3])


def test_blocks_splits_and_seeds_share_no_sample():
    images = [shapes(2 * BLOCK, seed=s, split=p).images for s in (0, 1) for p in ("train", "test")]
    whole = np.concatenate(images).reshape(8 * BLOCK, -1)
    assert len(np.unique(whole, axis=0)) == len(whole)


def test_the_set_is_complete_and_balanced(train):
    assert train.images.shape == (2000, 3, 32, 32)
    assert train.classes == KINDS and len(KINDS) == 10
    assert np.bincount(train.labels).tolist() == [200] * 10


def test_size_sets_the_side_and_the_objects_grow_with_it():
    small, large = shapes(BLOCK, seed=2, size=24), shapes(BLOCK, seed=2, size=48)
    assert small.images.shape == (BLOCK, 3, 24, 24)
    ratio = large.masks.sum(axis=(1, 2)) / small.masks.sum(axis=(1, 2))
    assert 3.6 < np.median(ratio) < 4.4


def test_boxes_are_the_tightest_around_the_masks(train):
    for mask, box in zip(train.masks, train.boxes, strict=True):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_the_box_of_a_single_pixel_is_one_pixel_wide():
    masks = np.zeros((3, 5, 7), bool)
    for number, (y, x) in enumerate([(0, 6), (4, 0), (2, 3)]):
        masks[number, y, x] = True
    assert boxes_of(masks).tolist() == [[6, 0, 7, 1], [0, 4, 1, 5], [3, 2, 4, 3]]


def test_objects_lie_inside_and_are_large_enough(train):
    sides = train.boxes[:, 2:] - train.boxes[:, :2]
    assert sides.max(axis=1).min() >= 12
    assert sides.max() <= 27
    assert train.boxes.min() >= 0 and train.boxes.max() <= 32
    assert not train.masks[:, 0, 0].any()


def test_the_mask_is_where_the_object_stands_out_from_the_background(train):
    x = train.images.astype(np.float64)
    inside, outside = train.masks[:, None], ~train.masks[:, None]
    on = (x * inside).sum(axis=(2, 3)) / inside.sum(axis=(2, 3))  # (N, 3)
    off = (x * outside).sum(axis=(2, 3)) / outside.sum(axis=(2, 3))
    assert np.median(np.abs(on - off).max(axis=1)) > 60
    assert (np.abs(on - off).max(axis=1) > 15).all()


def test_objects_are_mostly_but_not_always_lighter_than_the_background(train):
    grey = train.images.mean(axis=1)
    lighter = [g[m].mean() > g[~m].mean() for g, m in zip(grey, train.masks, strict=True)]
    assert 0.65 < np.mean(lighter) < 0.75


def test_the_known_mean_and_deviation_are_those_of_the_images(train):
    mean, std = STATISTICS["shapes"]
    # 2,000 images: the standard error of the mean is about 0.25 / √2000 = 0.006
    np.testing.assert_allclose(train.images.mean(axis=(0, 2, 3)) / 255, mean, atol=0.015)
    np.testing.assert_allclose(train.images.std(axis=(0, 2, 3)) / 255, std, atol=0.015)


def test_a_linear_classifier_on_the_pixels_stays_below_45_percent():
    """Ridge regression on one-hot targets, the best of three strengths, on 16×16 means.

    On all pixels, trained on 10,000 and tested on 2,000 images: ridge 37.2 %, multinomial
    logistic regression 39.2 % (the best of three strengths and of all its steps).
    """
    train, test = shapes(4000, seed=0), shapes(1000, seed=0, split="test")

    def features(images):
        small = images.reshape(len(images), 3, 16, 2, 16, 2).mean(axis=(3, 5)) / 255
        return small.reshape(len(images), -1)

    x, x_test = features(train.images), features(test.images)
    centre = x.mean(axis=0)
    x, x_test = x - centre, x_test - centre
    aim = x.T @ np.eye(10)[train.labels]
    accuracy = []
    for strength in (10.0, 100.0, 1000.0):
        weight = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), aim)
        accuracy.append(((x_test @ weight).argmax(axis=1) == test.labels).mean())
    assert 0.15 < max(accuracy) < 0.45, accuracy


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"count": 0}, "count must be a positive int, got 0"),
        ({"size": 15}, "size must be an int of 16 or more, got 15"),
        ({"split": "valid"}, "split is 'valid'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_shapes_refuses_what_it_cannot_make(changes, said):
    settings = {"count": 3, "seed": 0, **changes}
    with pytest.raises(ValueError, match=said):
        shapes(settings.pop("count"), **settings)
