"""A page can be about pictures of all kinds, and about samples where none is given."""

from __future__ import annotations

import os
from pathlib import Path

import explained
import numpy as np
import pytest
from explained import Image, Page, save

import minswin.explain
from minswin import cli
from minswin.explain import explain
from minswin.look.page import samples
from minswin.models import create_model
from minswin.training.checkpoints import DEFAULT, load_trained_model

quick, subjects = explained.quick, explained.subjects  # the fixtures


# ── samples ──────────────────────────────────────────────────────────────────────────────────────


def test_without_a_picture_a_sample_is_taken():
    assert cli.main(["explain", "--model", "vit_tiny"]) == 0
    page = Page(Path("report.html"))
    assert [sample["name"] for sample in page.data["samples"]] == list(samples.DRAWINGS)


def test_a_model_of_the_built_in_set_begins_with_pictures_of_it(monkeypatch):
    loaded = minswin.explain._Loaded
    shapes = minswin.data.load("shapes", split="test", count=8)
    model = create_model("vit_tiny")
    own = loaded(model, "", True, list(shapes.classes), ((0.5,) * 3, (0.5,) * 3), "shapes")
    taken = minswin.explain._samples(own, None)
    assert [s.name for s in taken] == [shapes.classes[k] for k in shapes.labels]
    assert all(s.pixels.shape == (3, 16, 16) for s in taken)


def test_the_packaged_model_names_most_of_the_drawings():
    model, info = load_trained_model(DEFAULT)
    drawn = np.stack([samples.draw(name, (32, 32)) for name in samples.DRAWINGS])
    x = minswin.data.normalize(drawn, mean=info["data"]["mean"], std=info["data"]["std"])
    answers = [info["data"]["classes"][k] for k in model.eval()(x).data.argmax(axis=1)]
    wrong = [n for n, answer in zip(samples.DRAWINGS, answers, strict=True) if n != answer]
    assert len(wrong) <= 2, wrong


# ── pictures of all kinds ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P"])
def test_pictures_of_all_kinds_are_taken(mode, subjects):
    explain(save("a.png", mode), "a.html")
    assert (
        subjects[0].samples[0].pixels.shape == (3, 32, 32)
        and subjects[0].samples[0].pixels.dtype == np.uint8
    )
    assert abs(subjects[0].probabilities.sum() - 1) < 1e-6


def deep(path):
    Image.fromarray(np.linspace(0, 65_535, 12).astype(np.uint16).reshape(3, 4)).save(path)


def animated(path):
    first, second = (Image.new("RGB", (5, 4), colour) for colour in ("red", "blue"))
    first.save(path, save_all=True, append_images=[second])


def tiny(path):
    Image.new("RGB", (1, 1), (10, 200, 30)).save(path)


@pytest.mark.parametrize(
    ("make", "name", "corner"),
    [
        (deep, "a.png", ([0, 0, 0], [255, 255, 255])),
        (animated, "a.gif", ([255, 0, 0], [255, 0, 0])),  # its first picture
        (tiny, "a.png", ([10, 200, 30], [10, 200, 30])),
    ],
)
def test_pictures_of_odd_kinds_are_taken_too(make, name, corner, subjects):
    make(name)
    explain(name, "a.html")
    pixels = subjects[0].samples[0].pixels.astype(int)  # (3, 32, 32)
    for got, want in zip((pixels[:, 0, 0], pixels[:, -1, -1]), corner, strict=True):
        assert abs(got - want).max() <= 8  # of 16 bits: enlarged with a little overshoot


@pytest.mark.parametrize("size", [(600, 1), (1, 20_000), (83, 50)])
def test_of_a_long_thin_picture_only_the_middle_is_enlarged(size, monkeypatch):
    from minswin.data.pictures import prepare

    made, resize = [], Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda self, size, *a, **k: made.append(size) or resize(self, size, *a, **k),
    )
    ramp = (
        np.linspace(0, 255, max(size)).astype(np.uint8).reshape(size[1], -1)
        if 1 in size
        else (np.random.default_rng(0).integers(0, 256, size[::-1]).astype(np.uint8))
    )
    Image.fromarray(ramp).save("a.png")
    got = prepare("a.png", (32, 48))
    assert got.shape == (3, 32, 48) and max(w * h for w, h in made) <= 16 * 32 * 48
    if 1 in size:
        assert abs(got.astype(int) - 127).max() <= 1  # the middle of the ramp


def test_a_name_that_is_no_text_is_shown_with_a_question_mark(monkeypatch):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        save("a.png").rename(name)
    except OSError:
        pytest.skip("the file system takes text only")
    assert cli.main(["explain", name, "--model", "vit_tiny"]) == 0
    assert "sees caf?.png" in Page(Path("report.html")).text
    assert not list(Path().glob(".*"))
