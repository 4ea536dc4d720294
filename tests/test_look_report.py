"""The page of `minswin explain`: one file, whole, whatever the picture; and clear refusals."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import minswin.explain
from minswin import cli
from minswin.explain import explain
from minswin.look import attention, receptive, report
from minswin.models.registry import MODELS

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")


def hurry(monkeypatch, folder):
    """Fewer example images and smaller models of the argument: the same page in less time."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("minswin.explain.WORK", 0)
    monkeypatch.setattr("minswin.explain.FEWEST", 4)
    monkeypatch.setattr("minswin.explain.LARGEST_MAP", 16)
    argument = receptive.argument
    monkeypatch.setattr(receptive, "argument", lambda *, rng: argument(side=32, rng=rng))
    tiny = {"img_size": 16, "patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2}
    monkeypatch.setitem(MODELS, "vit_tiny", {**tiny, "num_classes": 3})
    tiny = {"img_size": 16, "depths": (1, 1), "width": 4, "stem": "cifar", "num_classes": 3}
    monkeypatch.setitem(MODELS, "resnet20", tiny)


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    hurry(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """The page without options, of a picture with an awkward name; and the attention in it."""
    seen = []
    watch = report.attention_maps
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch, tmp_path_factory.mktemp("usual"))
        patch.setattr(report, "attention_maps", lambda *given: seen.extend(watch(*given)) or seen)
        return Page(explain(save("<b>&{{data}}.png"), "a.html")), seen


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
        data = re.search(r'<script type="application/json" id="data">(.*?)</script>', self.text)
        self.data = json.loads(data[1])

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag == "a" else []
        self.sources += [v for k, v in attributes if k in ("src", "srcset", "data")]
        if tag not in ("img", "meta", "link", "br", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "rect":
            assert self.open.pop() == tag


def test_a_page_is_one_whole_file_that_fetches_nothing(usual):
    page, _ = usual
    assert page.open == [] and len(set(page.ids)) == len(page.ids)
    assert len(page.links) == 8 and all(link[1:] in page.ids for link in page.links)
    assert page.sources and all(s.startswith("data:image/png;base64,") for s in page.sources)
    assert not re.search(r"https?://|@import|url\(", page.text)
    assert len(page.text) < 5_000_000
    assert "&lt;b&gt;&amp;{{data}}.png" in page.text  # a name is not markup, and no slot
    assert "trained on cifar10" in page.text and "random" not in page.text.split("<section")[0]


def test_the_page_holds_the_attention_of_the_model(usual):
    page, seen = usual
    assert len(seen) == 6
    for block, record in zip(page.data["blocks"], seen, strict=True):
        raw = np.frombuffer(base64.b64decode(block["probabilities"]), np.uint8)
        roots = raw.reshape(block["shape"]) / 255
        assert np.abs(roots - np.sqrt(record.probabilities)).max() <= 0.5 / 255 + 1e-6
        places = np.frombuffer(base64.b64decode(block["places"]), "<u2").reshape(block["grid"])
        assert np.array_equal(places, attention.places(record))
        assert len(block["masks"]) == (4 if any(block["shift"]) else 0)


NODE = """
const fs = require("fs"), source = fs.readFileSync(process.argv[1], "utf-8");
const body = "\\\\([\\\\s\\\\S]*?\\\\n  }\\\\n";
const pick = (name) => source.match(new RegExp("  function " + name + body))[0];
const block = JSON.parse(fs.readFileSync(0, "utf-8"));
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const state = { token: 0 };
eval(["unpack", "slot", "sees", "share"].map(pick).join("") + `
  const b = unpack(block), n = b.grid[0] * b.grid[1], all = [...Array(n).keys()];
  console.log(JSON.stringify({
    sees: all.map((q) => all.map((k) => +sees(b, q, k))),
    share: all.map((q) => all.map((k) => share(b, -1, q, k))),
  }));`);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_program_of_the_page_finds_what_python_finds():
    from tiny_models import batch, tiny_model

    from minswin.look.explorer import explorer_data
    from minswin.look.masks import visible

    script = Path(report.__file__).with_name("report.js")
    subprocess.run(["node", "--check", str(script)], check=True)
    record = attention.attention_maps(tiny_model(window_size=(2, 3)), batch(1)[0][0])[1]
    (block,) = explorer_data([record])["blocks"]
    done = subprocess.run(
        ["node", "-e", NODE, str(script)], input=json.dumps(block), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    tokens = [divmod(i, 6) for i in range(24)]
    want = [visible((4, 6), record.window, record.shift, t).ravel() for t in tokens]
    assert np.array_equal(found["sees"], want)
    exact = [attention.looks_at(record, t).ravel() for t in tokens]
    np.testing.assert_allclose(np.sqrt(found["share"]), np.sqrt(exact), atol=0.004)


def test_a_model_without_weights_says_so_and_a_vit_shows_its_positions():
    page = Page(explain(save("a.png"), "a.html", model="vit_tiny"))
    assert "The weights are random, for none were given" in page.text
    assert "The class token" in page.text and "positions.draw_similarity" in page.text
    assert [block["front"] for block in page.data["blocks"]] == [1, 1]
    assert "windows" not in page.ids and "positions" in page.ids


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P"])
def test_pictures_of_all_kinds_are_taken(mode, monkeypatch):
    seen = []
    monkeypatch.setattr(
        minswin.explain, "write_report", lambda subject, path: seen.append(subject) or path
    )
    explain(save("a.png", mode), "a.html")
    assert seen[0].pixels.shape == (3, 32, 32) and seen[0].pixels.dtype == np.uint8
    assert abs(seen[0].probabilities.sum() - 1) < 1e-6


def refusal(capsys, *arguments):
    assert cli.main(["explain", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("minswin: error: explain: ") and err.count("\n") == 1, err
    return err


def test_what_cannot_be_explained_is_refused_in_one_line(capsys, monkeypatch):
    image = str(save("a.png"))
    Path("text.png").write_text("no picture")
    assert "there is no image no.png" in refusal(capsys, "no.png")
    assert "text.png cannot be read as a picture" in refusal(capsys, "text.png")
    assert "there is no folder nowhere" in refusal(capsys, image, "-o", "nowhere/a.html")
    assert "unknown model 'swin_tinny'" in refusal(capsys, image, "--model", "swin_tinny")
    assert "nothing" in refusal(capsys, image, "--weights", "nothing")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    assert "has more than 20 pixels; make it smaller first" in refusal(capsys, image)
    assert not list(Path().glob("*.html"))


def test_the_command_explains_a_model_without_attention_too(capsys):
    assert cli.main(["explain", str(save("a.png")), "--model", "resnet20", "--measure"]) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(r"report\.html: [\d,]+ bytes; open it in a browser\n", out)
    page = Page(Path("report.html"))
    assert page.data["blocks"] == [] and "attention" not in page.ids
    assert {"patches", "features", "answer"} <= set(page.ids)
    assert "Times were measured now" in page.text
