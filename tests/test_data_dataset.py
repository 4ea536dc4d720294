"""The data set as a value: what it refuses, subsets, splits, normalization, random streams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minswin.data.dataset import STATISTICS, Dataset, normalize, stream

N, H, W = 11, 5, 7


def small(**changes):
    rng = np.random.default_rng(3)
    start = rng.integers(0, (W - 1, H - 1), (N, 2))
    stop = rng.integers(start + 1, (W + 1, H + 1))
    fields = {
        "images": rng.integers(0, 256, (N, 3, H, W), dtype=np.uint8),
        "labels": rng.integers(0, 4, N),
        "classes": ("ant", "bee", "cat", "dog"),
        "name": "small",
        "masks": rng.random((N, H, W)) < 0.5,
        "boxes": np.concatenate([start, stop], axis=1).astype(np.int32),
    }
    return Dataset(**{**fields, **changes})


def with_box(*box):
    boxes = np.tile(np.array([0, 0, 1, 1], np.int32), (N, 1))
    boxes[6] = box
    return {"boxes": boxes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": np.array([0, 1, 2, 4, *[0] * 7])}, r"labels\[3\] is 4, expected 0 to 3"),
        ({"labels": np.array([0, -1, *[0] * 9])}, r"labels\[1\] is -1, expected 0 to 3"),
        ({"labels": np.zeros(N - 1, np.int64)}, r"labels is int64 \(10,\), expected int64 \(11,\)"),
        ({"labels": np.zeros(N, np.float32)}, "labels is float32"),
        ({"images": np.zeros((N, H, W, 3), np.uint8)}, r"expected \(N, 3, H, W\)"),
        ({"images": np.zeros((N, 3, H, W), np.float32)}, "images is float32"),
        ({"masks": np.zeros((N, W, H), bool)}, r"masks is bool \(11, 7, 5\)"),
        ({"boxes": np.zeros((N, 4), np.int64)}, "boxes is int64"),
        (with_box(2, 1, 2, 4), r"boxes\[6\] is \[2, 1, 2, 4\]"),
        (with_box(0, 0, 7, 6), r"0 <= y0 < y1 <= 5"),
        (with_box(-1, 0, 7, 5), r"0 <= x0 < x1 <= 7"),
    ],
)
def test_dataset_refuses_what_does_not_fit_together_and_says_where(changes, said):
    with pytest.raises(ValueError, match=said):
        small(**changes)


def test_boxes_may_touch_the_far_corner():
    assert len(small(**with_box(0, 0, 7, 5))) == N


@pytest.mark.parametrize(
    "indices", [slice(2, 9, 3), [4, 0, 4, -1], np.arange(N) % 2 == 0], ids=["slice", "list", "mask"]
)
def test_subset_takes_the_same_rows_of_every_field(indices):
    whole = small()
    rows = np.arange(N)[indices]
    part = whole.subset(indices)
    assert len(part) == len(rows)
    assert (part.classes, part.name) == (whole.classes, whole.name)
    for field in ("images", "labels", "masks", "boxes"):
        for mine, row in zip(getattr(part, field), rows, strict=True):
            np.testing.assert_array_equal(mine, getattr(whole, field)[row])


def test_subset_of_a_set_without_masks_and_boxes_has_none():
    part = small(masks=None, boxes=None).subset([1, 2])
    assert part.masks is None and part.boxes is None


def numbered(count):
    images = np.zeros((count, 3, 1, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    return Dataset(images, np.zeros(count, np.int64), ("thing",), "numbered")


@given(st.integers(2, 60), st.data())
def test_split_parts_the_set_in_two_and_keeps_the_order(count, data):
    holdout = data.draw(st.integers(1, count - 1))
    rest, held = numbered(count).split(holdout, rng=np.random.default_rng(count))
    kept, taken = (list(part.images[:, 0, 0, 0]) for part in (rest, held))
    assert len(taken) == holdout
    assert kept == sorted(kept) and taken == sorted(taken)
    assert sorted(kept + taken) == list(range(count))


def test_split_is_random_but_repeats_with_the_same_generator():
    def taken(seed):
        _, held = numbered(200).split(20, rng=np.random.default_rng(seed))
        return held.images[:, 0, 0, 0].tolist()

    assert taken(1) == taken(1) != taken(2)


@pytest.mark.parametrize("holdout", [0, N, -2])
def test_split_refuses_an_empty_side(holdout):
    with pytest.raises(ValueError, match=f"holdout is {holdout}, expected 1 to 10"):
        small().split(holdout, rng=np.random.default_rng(0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normalize_is_the_formula_for_every_byte(dtype):
    images = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    mean, std = STATISTICS["cifar100"]
    got = normalize(images, mean=mean, std=std, dtype=dtype)
    assert got.dtype == dtype
    for channel in range(3):
        expected = (images[0, channel] / 255 - mean[channel]) / std[channel]
        # three roundings: of the scale, the product and the difference, of numbers below 4
        assert np.abs(got[0, channel] - expected).max() < 3 * 4 * np.finfo(dtype).eps


def test_normalize_with_the_measured_figures_gives_mean_0_and_deviation_1():
    images = small().images
    mean, std = images.mean(axis=(0, 2, 3)) / 255, images.std(axis=(0, 2, 3)) / 255
    x = normalize(images, mean=mean, std=std, dtype=np.float64)
    np.testing.assert_allclose(x.mean(axis=(0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(x.std(axis=(0, 2, 3)), 1, rtol=1e-12)


def test_normalize_refuses_floats_and_a_deviation_of_0():
    with pytest.raises(TypeError, match="float32, expected uint8"):
        normalize(np.zeros((2, 3, 4, 5), np.float32), mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ValueError, match="std above 0"):
        normalize(np.zeros((2, 3, 4, 5), np.uint8), mean=(0, 0, 0), std=(1, 0, 1))


def test_streams_of_different_places_share_no_numbers():
    places = [(), (0,), (0, 0), (0, 0, 0), (1,), (0, 1), (1, 0)]
    seeds = [0, 1, 2**32, 2**64]
    first = {stream(seed, *place).integers(2**63) for seed in seeds for place in places}
    assert len(first) == len(seeds) * len(places)


def test_stream_repeats_and_refuses_a_negative_seed():
    assert stream(5, 1, 2).integers(2**63) == stream(5, 1, 2).integers(2**63)
    with pytest.raises(ValueError, match="seed is -1"):
        stream(-1)


HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((float("nan"), 0.5, 0.5), HALF),
        ((128, 128, 128), (64, 64, 64)),
        ((0.5, -0.1, 0.5), HALF),
        (HALF, (0.5, float("inf"), 0.5)),
        (HALF, (0.5, -0.1, 0.5)),
        ("a", HALF),
        (HALF, None),
        (0.5, 0.5),
    ],
)
def test_normalize_refuses_statistics_that_cannot_be(mean, std):
    with pytest.raises(ValueError, match=r"^normalize: mean is .* three numbers .* from 0 to 1"):
        normalize(np.zeros((1, 3, 2, 2), np.uint8), mean=mean, std=std)


@pytest.mark.parametrize("shape", [(1, 2, 2, 3), (3, 2), (2, 4, 2, 2), ()])
def test_normalize_refuses_images_of_another_layout(shape):
    with pytest.raises(ValueError, match=r"^normalize: images must be \(\.\.\., 3, H, W\), got"):
        normalize(np.zeros(shape, np.uint8), mean=HALF, std=HALF)
