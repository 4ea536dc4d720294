"""Augmentation: every result is explained, pixel by pixel, by what went in."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minswin.data.augment import (
    crop,
    cutmix,
    flip,
    mixup,
    one_hot,
    piece,
    rand_augment,
    random_erasing,
)

H, W = 6, 9
seeds = st.integers(0, 2**32 - 1)
DTYPES = [np.uint8, np.float32, np.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def batch(seed, number=5, dtype=np.uint8, height=H, width=W):
    images = np.random.default_rng(seed).integers(1, 256, (number, 3, height, width))
    return images.astype(dtype)


def soft(seed, number=5, classes=4):
    return np.random.default_rng(seed).dirichlet(np.ones(classes), number).astype(np.float32)


def generator(seed=0):
    return np.random.default_rng(seed)


CHANGES = {
    "flip": lambda images, rng: flip(images, rng=rng),
    "crop": lambda images, rng: crop(images, padding=2, rng=rng),
    "reflect": lambda images, rng: crop(images, padding=2, rng=rng, mode="reflect"),
    "random_erasing": lambda images, rng: random_erasing(images, rng=rng, probability=0.5),
    "mixup": lambda images, rng: mixup(images, soft(1, len(images)), alpha=0.8, rng=rng)[0],
    "cutmix": lambda images, rng: cutmix(images, soft(1, len(images)), alpha=1.0, rng=rng)[0],
    "rand_augment": lambda images, rng: rand_augment(images, rng=rng),
}


# ---- all of them -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype"),
    [p for p in itertools.product(CHANGES, DTYPES) if p[0] != "rand_augment" or p[1] == np.uint8],
)
def test_a_change_keeps_shape_dtype_and_input_and_repeats_with_the_generator(name, dtype):
    images = batch(1, dtype=dtype)
    before = images.copy()
    out = CHANGES[name](images, generator(2))
    assert (out.shape, out.dtype) == (images.shape, dtype)
    assert not np.shares_memory(out, images)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(out, CHANGES[name](images, generator(2)))
    assert any(not np.array_equal(out, CHANGES[name](images, generator(s))) for s in (3, 4, 5))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_takes_a_batch_of_one_and_one_that_is_not_contiguous(name):
    assert CHANGES[name](batch(1, 1), generator()).shape == (1, 3, H, W)
    images = batch(1)
    strided = images.transpose(3, 2, 0, 1).copy().transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(
        CHANGES[name](strided, generator(2)), CHANGES[name](images, generator(2))
    )


# ---- flip and crop ---------------------------------------------------------------------------


@given(seeds)
def test_flip_mirrors_an_image_or_leaves_it(seed):
    images = batch(seed)
    for got, image in zip(flip(images, rng=generator(seed)), images, strict=True):
        assert np.array_equal(got, image) or np.array_equal(got, image[:, :, ::-1])


def test_flip_mirrors_about_half_of_the_images():
    images = batch(0, 1000, height=2, width=2)
    share = (flip(images, rng=generator()) != images).any(axis=(1, 2, 3)).mean()
    assert 0.45 < share < 0.55  # 3 standard errors of 1,000 tosses


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@given(seed=seeds, padding=st.integers(0, 4))
def test_crop_is_a_slice_of_the_padded_image(mode, seed, padding):
    images = batch(seed)
    for got, image in zip(
        crop(images, padding=padding, rng=generator(seed), mode=mode), images, strict=True
    ):
        wide = np.zeros((3, H + 2 * padding, W + 2 * padding), np.uint8)
        for y, x in itertools.product(range(wide.shape[1]), range(wide.shape[2])):
            row, column = y - padding, x - padding
            if mode == "reflect":
                row, column = (
                    n - 2 * (n - length + 1) if (n := abs(place)) >= length else n
                    for place, length in ((row, H), (column, W))
                )
            if 0 <= row < H and 0 <= column < W:
                wide[:, y, x] = image[:, row, column]
        assert any(
            np.array_equal(got, wide[:, y : y + H, x : x + W])
            for y in range(2 * padding + 1)
            for x in range(2 * padding + 1)
        )


def test_crop_uses_every_place_equally_often():
    images = np.zeros((5000, 3, 5, 5), np.uint8)
    images[:, :, 2, 2] = 1
    found = crop(images, padding=1, rng=generator())[:, 0].reshape(5000, 25).argmax(axis=1)
    counts = np.bincount(found, minlength=25).reshape(5, 5)
    assert counts[1:4, 1:4].min() > 450  # of 556 expected: more than 4 standard deviations
    assert counts[1:4, 1:4].sum() == 5000


def test_crop_refuses_a_mirror_wider_than_the_image_and_unknown_modes():
    with pytest.raises(ValueError, match="padding is 6, which a 6×9 image cannot have"):
        crop(batch(0), padding=6, rng=generator(), mode="reflect")
    with pytest.raises(ValueError, match="padding must be an int of 0 or more, got -1"):
        crop(batch(0), padding=-1, rng=generator())
    with pytest.raises(ValueError, match="mode is 'wrap'"):
        crop(batch(0), padding=2, rng=generator(), mode="wrap")


@given(seed=seeds, side=st.integers(1, H))
def test_a_piece_is_a_slice_of_the_image(seed, side):
    images = batch(seed)
    out = piece(images, side=side, rng=generator(seed))
    assert out.shape == (*images.shape[:2], side, side) and out.dtype == images.dtype
    for got, image in zip(out, images, strict=True):
        assert any(
            np.array_equal(got, image[:, y : y + side, x : x + side])
            for y in range(H - side + 1)
            for x in range(W - side + 1)
        )


def test_a_piece_comes_from_every_place_equally_often():
    images = np.broadcast_to(np.arange(20).reshape(4, 5), (6000, 3, 4, 5))
    first = piece(images, side=3, rng=generator())[:, 0, 0, 0]  # of 2 × 3 places
    counts = np.bincount(first, minlength=20).reshape(4, 5)
    assert counts[:2, :3].min() > 880  # of 1000 expected: 4 standard deviations
    assert counts[:2, :3].sum() == 6000


@pytest.mark.parametrize("side", [0, H + 1])
def test_piece_refuses_a_side_that_the_image_does_not_have(side):
    with pytest.raises(ValueError, match=f"side is {side}, expected 1 to {H}, the image's"):
        piece(batch(0), side=side, rng=generator())


# ---- erasing ---------------------------------------------------------------------------------


@given(seeds)
def test_erasing_changes_one_box_and_leaves_the_rest(seed):
    images = np.full((20, 3, 16, 24), np.nan)
    out = random_erasing(images, rng=generator(seed), probability=0.5)
    for image in out:
        changed = ~np.isnan(image)
        assert (changed == changed[0]).all()  # the same box in all three channels
        rows, columns = np.nonzero(changed[0])
        if rows.size:
            tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert rows.size == tall * wide
            # one row and one column of rounding around 2 % to 1/3 of the area and 0.3 to 1/0.3
            assert (tall - 1) * (wide - 1) <= 16 * 24 / 3
            assert (tall + 1) * (wide + 1) >= 0.02 * 16 * 24
            assert (tall - 1) / (wide + 1) < 1 / 0.3 and (wide - 1) / (tall + 1) < 1 / 0.3


def test_erasing_happens_as_often_as_asked_and_anywhere():
    images = np.full((4000, 3, 12, 10), -1.0)
    out = random_erasing(images, rng=generator(), probability=0.25)
    changed = (out != -1.0)[:, 0]
    assert abs(changed.any(axis=(1, 2)).mean() - 0.25) < 0.02  # 3 standard errors
    assert (changed.sum(axis=0) > 0).all()
    middle = changed[:, 4:8, 3:7].mean()
    assert changed[:, 0, 0].mean() < middle  # corners are in fewer boxes
    np.testing.assert_array_equal(random_erasing(images, rng=generator(), probability=0.0), images)


@pytest.mark.parametrize("height, width", [(7, 5), (5, 7)])
def test_an_erased_box_is_whole_and_at_every_place_equally_often(height, width):
    images = np.full((6000, 3, height, width), -1.0)
    square = 9 / (height * width)  # 3×3 pixels
    out = random_erasing(images, rng=generator(), probability=1.0, area=(square, square), aspect=1)
    changed = (out != -1.0)[:, 0]
    assert (changed.sum(axis=(1, 2)) == 9).all()  # none hangs over the edge
    first = changed.reshape(6000, -1).argmax(axis=1)
    counts = np.bincount(first, minlength=height * width).reshape(height, width)
    places = counts[: height - 2, : width - 2]
    assert places.sum() == 6000
    assert places.min() > 400 - 80  # of 400 expected: 4 standard deviations


@pytest.mark.parametrize(
    ("height", "width", "side", "drawn"),
    [(4, 9, 3, True), (4, 9, 4, False), (9, 4, 3, True), (9, 4, 4, False), (9, 9, 0, False)],
)
def test_a_box_as_long_as_a_side_of_the_image_or_of_no_pixel_is_not_drawn(
    height, width, side, drawn
):
    area = (side**2 + 0.1) / (height * width)
    images = np.full((20, 3, height, width), -1.0)
    out = random_erasing(images, rng=generator(), probability=1.0, area=(area, area), aspect=1)
    assert ((out != -1.0).any(axis=(1, 2, 3)) == drawn).all()


def test_of_ten_tries_the_first_box_that_fits_is_drawn():
    images = np.full((4000, 3, 4, 40), -1.0)
    low, high = 1.6, 30.4  # pixels: squares with sides of 1 to 6, of which 1, 2 and 3 fit
    area = (low / 160, high / 160)
    changed = random_erasing(images, rng=generator(), probability=1.0, area=area, aspect=1) != -1.0
    sides = np.sqrt(changed[:, 0].sum(axis=(1, 2)))
    missed = 1 - (3.5**2 - low) / (high - low)
    assert set(sides) == {0, 1, 2, 3}
    assert abs((sides == 0).mean() - missed**10) < 0.006  # 4 standard errors: 39 of 4,000
    share = (3.5**2 - 2.5**2) / (3.5**2 - low) * (1 - missed**10)
    assert abs((sides == 3).mean() - share) < 0.03


def test_erased_boxes_are_tall_as_often_as_wide():
    images = np.full((1000, 3, 30, 30), -1.0)
    changed = (random_erasing(images, rng=generator(), probability=1.0) != -1.0)[:, 0]
    tall, wide = changed.any(axis=2).sum(axis=1), changed.any(axis=1).sum(axis=1)
    assert abs((tall > wide).mean() - (tall < wide).mean()) < 0.1  # 3 standard errors


def test_erasing_fills_floats_with_normal_noise_and_bytes_with_even_noise():
    for dtype, mean, std in ((np.float32, 0.0, 1.0), (np.uint8, 127.5, 73.9)):
        images = np.full((300, 3, 20, 20), 200, dtype)
        new = random_erasing(images, rng=generator(), probability=1.0)
        noise = new[new != 200].astype(float)
        assert noise.size > 20_000
        assert abs(noise.mean() - mean) < 0.03 * std
        assert abs(noise.std() / std - 1) < 0.03


# ---- RandAugment -----------------------------------------------------------------------------


def test_rand_augment_at_magnitude_0_only_stretches_or_equalizes_contrast():
    images = batch(3, 60)
    images[:, :, 0, 0], images[:, :, 0, 1] = 0, 255  # now autocontrast changes nothing
    out = rand_augment(images, rng=generator(), operations=1, magnitude=0)
    changed = (out != images).any(axis=(1, 2, 3))
    assert 0 < changed.sum() < 15  # equalize: one in fourteen
    ranks = np.argsort(images[changed].reshape(-1, H * W), axis=1, kind="stable")
    assert (np.diff(np.take_along_axis(out[changed].reshape(-1, H * W), ranks, 1)) >= 0).all()


def test_rand_augment_of_no_operations_changes_nothing():
    images = batch(3)
    np.testing.assert_array_equal(rand_augment(images, rng=generator(), operations=0), images)


def test_rand_augment_gives_each_image_its_own_operations(monkeypatch):
    from minswin.data import augment
    from minswin.data.operations import Operation

    def paint(number):
        def apply(images, strength):
            out = images.copy()
            out[:, 0, 0, 0] = out[:, 0, 0, 0] * 10 + number
            out[:, 1, 0, 0] = np.rint(np.abs(strength))
            out[:, 2, 0, 0] = np.sign(strength) + 1
            return out

        return apply

    table = {str(i): Operation(paint(i), 20.0 * i, i == 2) for i in (1, 2)}
    monkeypatch.setattr(augment, "OPERATIONS", table)
    out = rand_augment(
        np.zeros((400, 3, 2, 3), np.uint8), rng=generator(), operations=2, magnitude=5
    )
    orders, counts = np.unique(out[:, 0, 0, 0], return_counts=True)
    assert orders.tolist() == [11, 12, 21, 22]
    assert counts.min() > 70  # of 100 expected
    last = out[:, 0, 0, 0] % 10
    np.testing.assert_array_equal(out[:, 1, 0, 0], 10 * last)  # half of the strength at 10
    assert set(out[last == 1, 2, 0, 0]) == {2} and set(out[last == 2, 2, 0, 0]) == {0, 2}


def test_rand_augment_refuses_floats_and_magnitudes_above_10():
    with pytest.raises(TypeError, match="float32, expected uint8"):
        rand_augment(batch(0, dtype=np.float32), rng=generator())
    with pytest.raises(ValueError, match="magnitude is 11, expected 0 to 10"):
        rand_augment(batch(0), rng=generator(), magnitude=11)


# ---- targets and mixtures --------------------------------------------------------------------


@given(st.lists(st.integers(0, 6), min_size=1, max_size=9), st.floats(0, 0.99))
def test_one_hot_shares_the_smoothing_among_all_classes(labels, smoothing):
    got = one_hot(np.array(labels), classes=7, smoothing=smoothing, dtype=np.float64)
    for row, label in zip(got, labels, strict=True):
        for k in range(7):
            expected = smoothing / 7 + (1 - smoothing if k == label else 0)
            assert abs(row[k] - expected) < 1e-15
    assert one_hot(np.array(labels), classes=7).dtype == np.float32


def test_one_hot_refuses_labels_out_of_range():
    for labels in ([0, 7], [-1, 2]):
        with pytest.raises(ValueError, match="expected \\(B,\\) between 0 and 6"):
            one_hot(np.array(labels), classes=7)


def share_of(images, out):
    """λ of out = λ images + (1 - λ) images[::-1], by least squares."""
    apart = images - images[::-1]
    return ((out - images[::-1]) * apart).sum() / (apart * apart).sum()


@pytest.mark.parametrize("number", [4, 5])
@given(seed=seeds, alpha=st.floats(0.1, 3))
def test_mixup_is_one_convex_combination_of_images_and_targets(number, seed, alpha):
    images, targets = batch(seed, number, np.float64), soft(seed, number).astype(np.float64)
    out, mixed = mixup(images, targets, alpha=alpha, rng=generator(seed))
    share = share_of(images, out)
    assert -1e-12 <= share <= 1 + 1e-12
    np.testing.assert_allclose(out, share * images + (1 - share) * images[::-1], atol=1e-10)
    np.testing.assert_allclose(mixed, share * targets + (1 - share) * targets[::-1], atol=1e-12)
    np.testing.assert_allclose(mixed.sum(axis=1), 1)


def test_the_share_of_mixup_follows_the_beta_distribution():
    images, targets = batch(0, 2, np.float64, 2, 2), soft(0, 2)
    rng = generator()
    for alpha in (0.2, 1.0):
        shares = [
            share_of(images, mixup(images, targets, alpha=alpha, rng=rng)[0]) for _ in range(3000)
        ]
        # mean 1/2 and variance 1/(4(2α + 1)) of Beta(α, α); 5 standard errors
        assert abs(np.mean(shares) - 0.5) < 5 * np.std(shares) / 3000**0.5
        assert abs(np.var(shares) * 4 * (2 * alpha + 1) - 1) < 0.1


def test_mixup_of_bytes_rounds():
    images, targets = batch(0), soft(0)
    exact, _ = mixup(images.astype(np.float64), targets, alpha=1.0, rng=generator(7))
    got, _ = mixup(images, targets, alpha=1.0, rng=generator(7))
    assert np.abs(got - exact).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("number", [4, 5])
@given(seed=seeds, alpha=st.floats(0.1, 3))
def test_cutmix_takes_a_box_of_the_partner_and_shares_targets_by_its_area(number, seed, alpha):
    images, targets = batch(seed, number), soft(seed, number).astype(np.float64)
    images[:, 0] = np.arange(number)[:, None, None]  # the first channel says whose pixel it is
    out, mixed = cutmix(images, targets, alpha=alpha, rng=generator(seed))
    partner = number - 1 - np.arange(number)
    owner = out[:, 0].astype(int)  # (B, H, W)
    np.testing.assert_array_equal(out, np.take_along_axis(images, owner[:, None], axis=0))
    foreign = owner != np.arange(number)[:, None, None]
    assert (foreign == foreign[0])[partner != np.arange(number)].all()  # one box for the batch
    assert (owner[foreign] == np.broadcast_to(partner[:, None, None], owner.shape)[foreign]).all()
    rows, columns = np.nonzero(foreign[0])
    if rows.size:
        assert rows.size == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    share = 1 - rows.size / (H * W)
    np.testing.assert_allclose(mixed, share * targets + (1 - share) * targets[partner], atol=1e-12)


def test_cutmix_boxes_reach_every_pixel_and_have_the_drawn_area_before_clipping():
    images = np.zeros((2, 3, 20, 30), np.uint8)
    images[1] = 1
    rng = generator()
    outs = [cutmix(images, soft(0, 2), alpha=1.0, rng=rng)[0][0, 0] for _ in range(500)]
    covered = np.mean(outs, axis=0)
    assert covered.min() > 0.1
    assert covered[10, 15] > 1.5 * covered[0, 0]
    # E[1 - λ] = 1/2 in the middle if nothing were clipped; clipped at the edges it is less
    assert 0.25 < covered.mean() < 0.45


@pytest.mark.parametrize("mix", [mixup, cutmix])
@pytest.mark.parametrize("targets", [np.arange(5), np.zeros(5), np.zeros((5, 4), int)], ids=str)
def test_mixtures_refuse_hard_labels(mix, targets):
    with pytest.raises(
        ValueError, match=r"expected probabilities \(B, K\); make them with one_hot"
    ):
        mix(batch(0), targets, alpha=1.0, rng=generator())
