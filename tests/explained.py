"""What the tests of `minswin explain` share: small models, a picture, a page read again."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import minswin.explain
from minswin.look import planes
from minswin.models import SwinTransformer
from minswin.models.registry import CLASSES, MODELS

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")


VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2}
TINY = {
    "vit_tiny": VIT,
    "vit_small": {**VIT, "positions": "relative"},
    "deit_cifar_distilled": {**VIT, "positions": "none"},
    "tnt_cifar": {
        "img_size": 16,
        "patch_size": 8,
        "embed_dim": 12,
        "inner_dim": 6,
        "depth": 1,
        "num_heads": 3,
        "inner_num_heads": 2,
        "inner_stride": 4,
    },
    "swinv2_cifar": {
        "img_size": (20, 16),
        "patch_size": 2,
        "embed_dim": 8,
        "depths": (2, 2),
        "num_heads": (2, 2),
        "window_size": 4,
    },
    "resnet20": {"img_size": 16, "depths": (1, 1), "width": 4, "stem": "cifar"},
}


def hurry(monkeypatch, folder):
    """Fewer example images and smaller models of the argument: the same page in less time."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("minswin.explain.WORK", 0)
    monkeypatch.setattr("minswin.explain.FEWEST", 4)
    monkeypatch.setattr("minswin.explain.LARGEST_MAP", 16)
    monkeypatch.setattr(planes, "available_methods", lambda: ("pca",))
    for name, settings in TINY.items():
        monkeypatch.setitem(MODELS, name, {**settings, "num_classes": 3})
        monkeypatch.setitem(CLASSES, name, CLASSES.get(name, SwinTransformer))


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    hurry(monkeypatch, tmp_path)


def save(path, mode="RGB", size=(20, 14)):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4)).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return Path(path)


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.sources, self.open = [], [], [], []
        self.text = path.read_text("utf-8")
        self.feed(self.text)
        self.lead = re.search(r'<p class="lead">(.*?)</p>', self.text, re.S)[1]
        data = re.search(r'<script type="application/json" id="data">(.*?)</script>', self.text)
        self.data = json.loads(data[1])

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag == "a" else []
        self.sources += [v for k, v in attributes if k in ("src", "srcset", "data")]
        if tag not in ("img", "meta", "link", "br", "rect", "input", "mspace"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "rect":
            assert self.open.pop() == tag


@pytest.fixture
def subjects(monkeypatch):
    """What would be written about, in the place of a page."""
    seen = []

    def write_nothing(subject, path):
        seen.append(subject)
        Path(path).write_text("")
        return path

    monkeypatch.setattr(minswin.explain, "write_page", write_nothing)
    return seen
