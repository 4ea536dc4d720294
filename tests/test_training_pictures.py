"""A picture file of any kind becomes the pixels that a viewer shows."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

from minswin.training.classify import read_image

Image = pytest.importorskip("PIL.Image")

HEIGHT, WIDTH = 5, 7


def pixels(channels=None, seed=0):
    shape = (HEIGHT, WIDTH) if channels is None else (HEIGHT, WIDTH, channels)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def read(picture, path, **settings):
    """What read_image gives for this picture, saved without loss, at its own size."""
    picture.save(path, **settings)
    width, height = picture.size
    return read_image(path, height=height, width=width)


def test_a_colour_picture_comes_back_as_it_is(tmp_path):
    rgb = pixels(3)
    assert np.array_equal(read(Image.fromarray(rgb), tmp_path / "a.png"), rgb.transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_sixteen_bits_of_grey_are_scaled_not_clipped(tmp_path, name):
    grey = pixels()
    got = read(Image.fromarray(grey.astype(np.uint16) * 257), tmp_path / name)
    assert np.array_equal(got, np.stack([grey] * 3))


def test_sixteen_bits_are_rounded_and_a_dark_picture_stays_dark(tmp_path):
    deep = np.random.default_rng(1).integers(0, 700, (HEIGHT, WIDTH)).astype(np.uint16)
    got = read(Image.fromarray(deep), tmp_path / "a.png")
    assert np.array_equal(got[1], np.round(deep / 257).astype(np.uint8))


def test_grey_in_whole_numbers_of_32_bits_counts_as_sixteen(tmp_path):
    grey = pixels()
    got = read(Image.fromarray(grey.astype(np.int32) * 257), tmp_path / "a.tiff")
    assert np.array_equal(got[2], grey)


@pytest.mark.parametrize("full", [1, 255, 65535])
def test_grey_in_fractions_is_scaled_from_1_or_8_or_16_bits(tmp_path, full):
    grey = pixels()
    grey[0, 0] = 255
    got = read(Image.fromarray((grey / 255 * full).astype(np.float32)), tmp_path / "a.tiff")
    assert np.array_equal(got[0], grey)


@pytest.mark.parametrize("value", [-1.0, np.nan, 1e9])
def test_greys_outside_of_every_scale_are_refused(tmp_path, value):
    grey = pixels().astype(np.float32)
    grey[1, 2] = value
    with pytest.raises(ValueError, match=r"a\.tiff cannot be read as a picture \(its greys lie in"):
        read(Image.fromarray(grey), tmp_path / "a.tiff")


def over_white(colour, alpha):
    share = alpha.astype(np.float64) / 255
    return colour * share + 255 * (1 - share)


def test_what_is_transparent_shows_white(tmp_path):
    rgba = pixels(4)
    got = read(Image.fromarray(rgba), tmp_path / "a.png").transpose(1, 2, 0)
    assert np.abs(got - over_white(rgba[..., :3], rgba[..., 3:])).max() <= 1
    la = pixels(2, seed=1)
    got = read(grey_with_alpha(la), tmp_path / "b.png")
    assert np.abs(got[0] - over_white(la[..., 0], la[..., 1])).max() <= 1


def grey_with_alpha(la):
    return Image.merge("LA", [Image.fromarray(la[..., 0]), Image.fromarray(la[..., 1])])


def test_a_transparent_colour_of_a_palette_shows_white(tmp_path):
    numbers = (pixels() % 3).astype(np.uint8)
    picture = Image.fromarray(numbers).convert("P")
    picture.putdata(numbers.ravel().tolist())
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    got = read(picture, tmp_path / "a.png", transparency=1).transpose(1, 2, 0)
    colours = np.array([[10, 20, 30], [255, 255, 255], [70, 80, 90]])
    assert np.array_equal(got, colours[numbers])


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 3), (8, 1)])
def test_a_picture_taken_on_its_side_is_turned_upright(tmp_path, orientation, turns):
    rgb, exif = pixels(3), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=exif)
    want = np.rot90(rgb, turns)
    got = read_image(tmp_path / "a.png", height=want.shape[0], width=want.shape[1])
    assert np.array_equal(got.transpose(1, 2, 0), want)


@pytest.mark.parametrize("limit", [20, 10])  # of 35 pixels: a warning of Pillow, and its error
def test_a_huge_picture_is_one_clear_error(tmp_path, monkeypatch, limit):
    Image.fromarray(pixels(3)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings(record=True) as seen, pytest.raises(ValueError) as error:
        warnings.simplefilter("always")
        read_image(tmp_path / "a.png", height=5, width=7)
    assert f"a.png has more than {limit} pixels; make it smaller first" in str(error.value)
    assert seen == []


def test_a_missing_pillow_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'pip install "minswin\[plot\]"'):
        read_image(tmp_path / "a.png", height=5, width=7)
