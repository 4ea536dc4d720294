"""The operations of RandAugment: slow loops as oracles, laws, and Pillow as a second opinion."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minswin.data.operations import GREY, OPERATIONS, warp

B, H, W = 3, 9, 12
UNSCALED = ("autocontrast", "equalize")  # these have no strength
SCALED = [name for name in OPERATIONS if name not in UNSCALED]


def pictures(seed=0, shape=(B, 3, H, W)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def strengths(name, seed=1):
    """One for each image, different, of both signs where the operation goes both ways."""
    part = np.random.default_rng(seed).uniform(0.2, 1, B)
    sign = np.array([1, -1, 1]) if OPERATIONS[name].signed else 1
    return OPERATIONS[name].strength * part * sign


# ---- for every operation ---------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_keeps_shape_and_dtype_and_its_input(name):
    images = pictures()
    before = images.copy()
    out = OPERATIONS[name].apply(images, strengths(name))
    assert (out.shape, out.dtype) == (images.shape, np.uint8)
    assert not np.shares_memory(out, images)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_treats_each_image_by_itself(name):
    images, strength = pictures(), strengths(name)
    out = OPERATIONS[name].apply(images, strength)
    for i in range(B):
        alone = OPERATIONS[name].apply(images[i : i + 1], strength[i : i + 1])
        np.testing.assert_array_equal(out[i], alone[0])


@pytest.mark.parametrize("name", SCALED)
def test_strength_0_changes_nothing(name):
    images = pictures()
    np.testing.assert_array_equal(OPERATIONS[name].apply(images, np.zeros(B)), images)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "identity"])
def test_full_strength_changes_something_in_every_image(name):
    images = pictures() // 2 + 40  # room for a change of contrast
    out = OPERATIONS[name].apply(images, np.full(B, OPERATIONS[name].strength))
    assert (out != images).any(axis=(1, 2, 3)).all()


def test_the_table_has_the_fourteen_operations_of_the_paper():
    values = {"identity", "autocontrast", "equalize", "solarize", "posterize"}
    enhancements = {"color", "contrast", "brightness", "sharpness"}
    places = {"rotate", "shear_x", "shear_y", "translate_x", "translate_y"}
    assert set(OPERATIONS) == values | enhancements | places


# ---- places ----------------------------------------------------------------------------------


def warp_slowly(image, matrix):
    """One image (3, H, W): a pixel of a grey plane wherever the source lies outside."""
    _, height, width = image.shape
    out = np.empty(image.shape)
    for row in range(height):
        for column in range(width):
            x, y = column - (width - 1) / 2, row - (height - 1) / 2
            sx = matrix[0][0] * x + matrix[0][1] * y + matrix[0][2] + (width - 1) / 2
            sy = matrix[1][0] * x + matrix[1][1] * y + matrix[1][2] + (height - 1) / 2
            left, top = math.floor(sx), math.floor(sy)
            total = np.zeros(3)
            for j, share_y in ((top, 1 - (sy - top)), (top + 1, sy - top)):
                for i, share_x in ((left, 1 - (sx - left)), (left + 1, sx - left)):
                    inside = 0 <= i < width and 0 <= j < height
                    total += share_x * share_y * (image[:, j, i] if inside else GREY)
            out[:, row, column] = total
    return out


@given(st.integers(0, 2**32 - 1))
def test_warp_equals_slow_bilinear_loops(seed):
    rng = np.random.default_rng(seed)
    images = pictures(seed, (2, 3, 6, 7))
    matrix = rng.uniform(-2, 2, (2, 2, 3)).astype(np.float32)
    matrix[:, :, 2] *= 2
    for got, image, m in zip(warp(images, matrix), images, matrix.astype(float), strict=True):
        # half a level of rounding, and the float32 of a sum of numbers up to 255
        assert np.abs(got - warp_slowly(image, m)).max() <= 0.5 + 1e-2


def slow(name, image, strength):
    """The matrix that takes a pixel of the result to its source, from the words alone."""
    angle = math.radians(strength)
    return warp_slowly(
        image,
        {
            "rotate": [
                [math.cos(angle), -math.sin(angle), 0],
                [math.sin(angle), math.cos(angle), 0],
            ],
            "shear_x": [[1, strength, 0], [0, 1, 0]],
            "shear_y": [[1, 0, 0], [strength, 1, 0]],
            "translate_x": [[1, 0, strength * W], [0, 1, 0]],
            "translate_y": [[1, 0, 0], [0, 1, strength * H]],
        }[name],
    )


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_a_movement_equals_slow_loops(name):
    images, strength = pictures(), strengths(name)
    out = OPERATIONS[name].apply(images, strength)
    for got, image, s in zip(out, images, strength, strict=True):
        assert np.abs(got - slow(name, image, s)).max() <= 0.5 + 1e-2


def test_translation_by_whole_pixels_is_slicing_and_what_comes_in_is_grey():
    images = pictures()
    right = OPERATIONS["translate_x"].apply(images, np.full(B, -3 / W))
    np.testing.assert_array_equal(right[..., 3:], images[..., :-3])
    assert (right[..., :3] == GREY).all()
    up = OPERATIONS["translate_y"].apply(images, np.full(B, 2 / H))
    np.testing.assert_array_equal(up[:, :, :-2], images[:, :, 2:])
    assert (up[:, :, -2:] == GREY).all()


def test_a_quarter_turn_is_rot90_to_the_left():
    images = pictures(shape=(2, 3, 8, 8))
    quarter = OPERATIONS["rotate"].apply(images, np.array([90.0, -90.0]))
    np.testing.assert_array_equal(quarter[0], np.rot90(images[0], 1, axes=(1, 2)))
    np.testing.assert_array_equal(quarter[1], np.rot90(images[1], -1, axes=(1, 2)))


# ---- values ----------------------------------------------------------------------------------


def test_solarize_inverts_the_brightest_levels_only():
    images, levels = pictures(), np.array([256.0, 100.0, 1.0])
    out = OPERATIONS["solarize"].apply(images, levels)
    for got, image, count in zip(out, images, levels, strict=True):
        expected = [255 - v if v >= 256 - count else v for v in image.ravel().tolist()]
        assert got.ravel().tolist() == expected


def test_posterize_clears_the_lowest_bits():
    images = pictures()
    out = OPERATIONS["posterize"].apply(images, np.array([1.0, 3.6, 2.0]))
    for got, image, bits in zip(out, images, (1, 4, 2), strict=True):
        assert got.ravel().tolist() == [v >> bits << bits for v in image.ravel().tolist()]


def test_autocontrast_stretches_each_channel_to_the_full_range():
    images = pictures() // 3 + 50
    out = OPERATIONS["autocontrast"].apply(images, np.zeros(B))
    assert (out.min(axis=(2, 3)) == 0).all() and (out.max(axis=(2, 3)) == 255).all()
    for got, plane in zip(out.reshape(-1, H * W), images.reshape(-1, H * W), strict=True):
        low, high = int(plane.min()), int(plane.max())
        exact = [255 * (int(v) - low) / (high - low) for v in plane]
        assert np.abs(got - np.array(exact)).max() <= 0.5 + 1e-4


def test_equalize_sends_a_level_to_its_rank():
    images = pictures() // 16 * 3 + 20  # many pixels to a level
    out = OPERATIONS["equalize"].apply(images, np.zeros(B))
    for got, plane in zip(out.reshape(-1, H * W), images.reshape(-1, H * W), strict=True):
        first = int((plane == plane.min()).sum())
        for value, level in zip(got.tolist(), plane, strict=True):
            rank = int((plane <= level).sum())
            assert value == round(255 * (rank - first) / (H * W - first))


def test_an_even_image_stays_even_and_unchanged_by_contrast_operations():
    even = np.array([17, 0, 255], np.uint8)[None, :, None, None].repeat(H, 2).repeat(W, 3)
    for name in ("autocontrast", "equalize", "sharpness"):
        out = OPERATIONS[name].apply(even, np.array([0.7]))
        np.testing.assert_array_equal(out, even, err_msg=name)


# ---- a second opinion ------------------------------------------------------------------------


PILLOW = {
    "color": lambda pillow, image, s: pillow.ImageEnhance.Color(image).enhance(1 + s),
    "contrast": lambda pillow, image, s: pillow.ImageEnhance.Contrast(image).enhance(1 + s),
    "brightness": lambda pillow, image, s: pillow.ImageEnhance.Brightness(image).enhance(1 + s),
    "sharpness": lambda pillow, image, s: pillow.ImageEnhance.Sharpness(image).enhance(1 + s),
    "autocontrast": lambda pillow, image, s: pillow.ImageOps.autocontrast(image),
    "posterize": lambda pillow, image, s: pillow.ImageOps.posterize(image, 8 - round(s)),
    "solarize": lambda pillow, image, s: pillow.ImageOps.solarize(image, 256 - round(s)),
    "rotate": lambda pillow, image, s: image.rotate(
        s, pillow.Image.Resampling.BILINEAR, fillcolor=(GREY,) * 3
    ),
}


@pytest.mark.parametrize("name", PILLOW)
def test_an_operation_is_the_one_that_pillow_has_under_that_name(name):
    pillow = pytest.importorskip("PIL", reason='needs Pillow: pip install "minswin[plot]"')
    for part in ("Image", "ImageEnhance", "ImageOps"):
        pytest.importorskip(f"PIL.{part}")
    images, strength = pictures(), strengths(name)
    out = OPERATIONS[name].apply(images, strength)
    for got, image, s in zip(out, images, strength, strict=True):
        picture = pillow.Image.fromarray(image.transpose(1, 2, 0))
        other = np.asarray(PILLOW[name](pillow, picture, s)).transpose(2, 0, 1).astype(int)
        if name == "rotate":  # Pillow leaves out pixels whose source is at the very edge
            got, other = got[:, 3:-3, 4:-4], other[:, 3:-3, 4:-4]
        # Pillow rounds down, and rounds its grey and its blurred picture before using them
        assert np.abs(got - other).max() <= 2
        assert np.abs(got - other).mean() < 1
