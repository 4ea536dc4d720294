"""A picture file of any kind becomes the pixels that a viewer shows."""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import numpy as np
import pytest

from minswin.data import pictures
from minswin.data.pictures import read_image

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


# ── EXIF ─────────────────────────────────────────────────────────────────────────────────────────

TURNED = {  # what a viewer shows, by the orientation: EXIF 2.32, table 6
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, 3),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, 1),
}


def exif(*entries):
    """The bytes of EXIF, whatever they mean: entries are (tag, type, count, content)."""
    table, data, start = struct.pack("<H", len(entries)), b"", 8 + 2 + 12 * len(entries) + 4
    for tag, kind, count, content in entries:
        table += struct.pack("<HHI", tag, kind, count)
        table += (
            content.ljust(4, b"\0") if len(content) < 5 else struct.pack("<I", start + len(data))
        )
        data += content if len(content) > 4 else b""
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + table + bytes(4) + data


def orientation(number):
    return 0x112, 3, 1, struct.pack("<H", number)


def shown(path, size):
    return read_image(path, height=size[0], width=size[1]).transpose(1, 2, 0)


@pytest.mark.parametrize("number", TURNED)
@pytest.mark.parametrize("ending", ["png", "webp", "tiff"])
def test_a_picture_taken_on_its_side_is_turned_upright(tmp_path, number, ending):
    rgb, want = pixels(3), TURNED[number](pixels(3))
    settings = {"lossless": True} if ending == "webp" else {}
    tags = Image.Exif()
    tags[0x112] = number
    Image.fromarray(rgb).save(tmp_path / f"a.{ending}", exif=tags, **settings)
    assert np.array_equal(shown(tmp_path / f"a.{ending}", want.shape), want)


ODD = {
    "a resolution over nothing": (0x11A, 10, 1, struct.pack("<ii", -1, 0)),
    "a resolution in words": (0x11A, 2, 6, b"high!\0"),
    "a maker that is a number": (0x10F, 5, 1, struct.pack("<II", 1, 3)),
    "a description that is nan": (0x10E, 12, 1, struct.pack("<d", np.nan)),
    "a type that does not exist": (0x11A, 99, 1, b"abcd"),
    "more than the file holds": (0x11A, 5, 2**31, b"abcd"),
    "a place that is a word": (0x8825, 2, 6, b"south\0"),
}


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("ending", ["png", "webp"])
def test_odd_tags_beside_the_orientation_do_not_matter(tmp_path, what, ending):
    rgb, settings = pixels(3), {"lossless": True} if ending == "webp" else {}
    tags = exif(*sorted([orientation(6), ODD[what]]))
    Image.fromarray(rgb).save(tmp_path / f"a.{ending}", exif=tags, **settings)
    assert np.array_equal(shown(tmp_path / f"a.{ending}", (WIDTH, HEIGHT)), np.rot90(rgb, 3))
    Image.fromarray(rgb).save(tmp_path / "a.jpg", exif=tags, quality=100, subsampling=0)
    assert (
        np.abs(shown(tmp_path / "a.jpg", (WIDTH, HEIGHT)) - np.rot90(rgb, 3).astype(int)).max() < 9
    )


SILENT = {
    "nothing": b"",
    "0": exif(orientation(0)),
    "9": exif(orientation(9)),
    "a word": exif((0x112, 2, 2, b"6\0")),
    "over nothing": exif((0x112, 5, 1, struct.pack("<II", 1, 0))),
    "cut off in the head": exif(orientation(6))[:9],
    "cut off in the table": exif(orientation(6))[:18],
    "zeros": b"Exif\0\0" + bytes(40),
    "anything": b"Exif\0\0" + bytes(range(100)),
}


@pytest.mark.parametrize("what", SILENT)
def test_an_orientation_that_cannot_be_read_turns_nothing(tmp_path, what):
    rgb = pixels(3)
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=SILENT[what])
    assert np.array_equal(shown(tmp_path / "a.png", (HEIGHT, WIDTH)), rgb)


# ── other kinds ──────────────────────────────────────────────────────────────────────────────────


def test_of_an_animation_the_first_picture_is_seen(tmp_path):
    rgb = [pixels(3, seed=i) for i in range(3)]
    first, *rest = map(Image.fromarray, rgb)
    for ending in ("png", "tiff"):
        first.save(tmp_path / f"a.{ending}", save_all=True, append_images=rest)
        assert np.array_equal(shown(tmp_path / f"a.{ending}", (HEIGHT, WIDTH)), rgb[0])


def test_four_inks_become_three_colours(tmp_path):
    ink = Image.fromarray(np.full((HEIGHT, WIDTH, 4), [255, 0, 0, 0], np.uint8), "CMYK")
    assert np.array_equal(read(ink, tmp_path / "a.tiff")[:, 0, 0], [0, 255, 255])


KINDS = {
    "png": "RGB", "jpg": "CMYK", "gif": "P", "bmp": "RGB", "tiff": "RGB", "webp": "RGBA",
    "ppm": "L", "tga": "RGB", "ico": "RGBA", "pcx": "P", "sgi": "RGB",
}  # fmt: skip


@pytest.mark.parametrize("ending", KINDS)
def test_a_damaged_picture_is_read_or_is_one_clear_error(tmp_path, ending):
    path, rng = tmp_path / f"a.{ending}", np.random.default_rng(2)
    grey = Image.fromarray(rng.integers(0, 256, (16, 20, 3)).astype(np.uint8))
    grey.convert(KINDS[ending]).save(path, **({"lossless": True} if ending == "webp" else {}))
    whole, refused = path.read_bytes(), 0
    cut = [whole[: int(size)] for size in rng.integers(0, len(whole), 20)]
    for content in [*cut, *(spoilt(whole, rng) for _ in range(60))]:
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                assert read_image(path, height=4, width=6, who="me").shape == (3, 4, 6)
            except ValueError as error:
                refused += 1
                assert re.match(rf"me: .*a\.{ending} (cannot be read as|has more than)", str(error))
    assert refused


def spoilt(whole, rng):
    content = bytearray(whole)
    for place in rng.integers(0, min(len(whole), 200), 3):
        content[place] = int(rng.integers(256))
    return bytes(content)


def test_a_pipe_is_a_picture_too(tmp_path, monkeypatch):
    rgb = pixels(3)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    out, into = os.pipe()
    os.write(into, content)
    os.close(into)
    assert np.array_equal(shown(f"/dev/fd/{out}", (HEIGHT, WIDTH)), rgb)  # as <(command) is
    os.close(out)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert np.array_equal(shown("-", (HEIGHT, WIDTH)), rgb)


def test_an_endless_pipe_and_a_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("minswin.data.pictures.MOST_PIPED", 1000)
    with pytest.raises(
        ValueError, match="more than 1,000 bytes came from /dev/zero; give a smaller one"
    ):
        read_image("/dev/zero", height=5, width=7)
    with pytest.raises(IsADirectoryError, match="is a folder; give the path of a picture"):
        read_image(tmp_path, height=5, width=7)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "me: nothing came from -; something must write to it"),
        (b"hello", "me: - cannot be read as a picture (no kind of picture that Pillow knows); "),
    ],
    ids=["nothing", "text"],
)
def test_what_a_pipe_brings_is_named_without_an_address(content, message, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        read_image("-", height=5, width=7, who="me")


@pytest.mark.parametrize("limit", [20, 10])  # of 35 pixels: a warning of Pillow, and its error
def test_a_huge_picture_is_one_clear_error(tmp_path, monkeypatch, limit):
    Image.fromarray(pixels(3)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings(record=True) as seen, pytest.raises(ValueError) as error:
        warnings.simplefilter("always")
        read_image(tmp_path / "a.png", height=5, width=7)
    assert f"a.png has more than {limit} pixels; make it smaller first" in str(error.value)
    assert seen == []


def test_two_threads_leave_the_filters_of_warnings_as_they_were(tmp_path, monkeypatch):
    """Where both were inside, they could put them back in another order than they took them."""
    Image.fromarray(pixels(3)).save(tmp_path / "a.png")
    both, met = threading.Barrier(2), []
    turn = pictures._upright

    def meeting(picture, library):
        with suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.2)
            met.append(picture)
        return turn(picture, library)

    monkeypatch.setattr(pictures, "_upright", meeting)
    before = list(warnings.filters)
    read = partial(read_image, tmp_path / "a.png", height=5, width=7)
    with ThreadPoolExecutor(2) as pool:
        one, two = (job.result() for job in [pool.submit(read) for _ in range(2)])
    assert np.array_equal(one, two) and not met and warnings.filters == before


def test_a_missing_pillow_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'pip install "minswin\[plot\]"'):
        read_image(tmp_path / "a.png", height=5, width=7)
