"""The page of `minswin explain`: one file, whole, whatever the picture; and clear refusals."""

from __future__ import annotations

import base64
import json
import os
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
from minswin.look import attention, planes, receptive
from minswin.look.page import report, sections, subject
from minswin.look.page.sections_attention import left_over, told
from minswin.models import create_model
from minswin.models.registry import MODELS
from minswin.training.pretrained import pretrained

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
    monkeypatch.setattr(planes, "methods_here", lambda: ("pca",))
    for name, settings in TINY.items():
        monkeypatch.setitem(MODELS, name, {**settings, "num_classes": 3})


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

    from minswin.look.masks import visible
    from minswin.look.page.explorer import explorer_data

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


@pytest.mark.parametrize(
    ("name", "keys", "says"),
    [
        ("vit_small", ["attention", "positions"], "adds nothing to its tokens: every head adds"),
        ("deit_cifar_distilled", ["attention", "positions"], "does not tell a patch where it is"),
        ("tnt_cifar", ["attention"], "The class token"),
        ("swinv2_cifar", ["windows", "attention", "positions"], "τ cos(q, k) + B"),
    ],
)
def test_every_family_has_a_page_that_is_true_of_it(name, keys, says):
    page = Page(explain(save("a.png"), "a.html", model=name))
    found = [one for one in page.ids if one in ("windows", "attention", "positions")]
    assert found == keys and says in page.text
    assert page.open == [] and page.data["blocks"] and page.data["left_out"] == []
    assert "by a vector that is added to its token" not in page.text


@pytest.mark.parametrize("kind", ["learned", "learned_2d", "sinusoidal", "relative", "none"])
def test_a_vit_adds_a_vector_to_its_tokens_where_the_page_says_so(kind):
    model = create_model("vit_tiny", positions=kind)
    adds = model.pos_embed is not None
    assert ("by a vector that is added to its token" in told(kind)) == adds
    assert ("adds a number to the logit" in told(kind)) == (model.blocks[0].rel_pos is not None)


@pytest.mark.parametrize(
    ("scale", "mask", "says"),
    [
        (
            np.log(10),
            -100.0,
            "= 36 apart, for no τ of this model is above 10, so of a key's share ",
        ),
        (np.log(10), -100.0, "less than e^−64 is left"),
        (
            9.0,
            -100.0,
            "= 216 apart, for no τ of this model is above 100, so a masked key may still",
        ),
        (9.0, -np.inf, "Elsewhere −∞ is added to the logit"),
        (9.0, -np.inf, "nothing is left"),
    ],
)
def test_what_a_masked_key_gets_in_swin_v2_depends_on_its_factor(scale, mask, says):
    model = create_model("swinv2_cifar")
    layer = model.layers[1].blocks[1].attn
    layer.logit_scale.data[...] = scale
    for block in (block for stage in model.layers for block in stage.blocks):
        block.attn.mask_value = mask
    assert says in left_over(model) and "e⁻¹⁰⁰" not in left_over(model)
    assert "a share of about e⁻¹⁰⁰ is left" in left_over(create_model("swin_shapes"))


# ── pictures of all kinds ────────────────────────────────────────────────────────────────────────


@pytest.fixture
def subjects(monkeypatch):
    """What would be written about, in the place of a page."""
    seen = []

    def write(subject, path):
        seen.append(subject)
        path.write_text("")
        return path

    monkeypatch.setattr(minswin.explain, "write_report", write)
    return seen


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P"])
def test_pictures_of_all_kinds_are_taken(mode, subjects):
    explain(save("a.png", mode), "a.html")
    assert subjects[0].pixels.shape == (3, 32, 32) and subjects[0].pixels.dtype == np.uint8
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
    pixels = subjects[0].pixels.astype(int)  # (3, 32, 32)
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
    monkeypatch.setattr(report, "sections", lambda *given: [])
    name = os.fsdecode(b"caf\xe9.png")
    try:
        save("a.png").rename(name)
    except OSError:
        pytest.skip("the file system takes text only")
    assert cli.main(["explain", name, "--model", "vit_tiny"]) == 0
    assert "sees caf?.png" in Page(Path("report.html")).text
    assert not list(Path().glob(".*"))


# ── how large ────────────────────────────────────────────────────────────────────────────────────

# The attention of Swin-T: stages, heads and windows of 7×7 tokens.
SWIN_T = [(0, 3, 8)] * 2 + [(1, 6, 4)] * 2 + [(2, 12, 2)] * 6 + [(3, 24, 1)] * 2


def seen_by_swin_t():
    rng, seen = np.random.default_rng(0), []
    for i, (stage, heads, across) in enumerate(SWIN_T):
        p = rng.random((across**2, heads, 49, 49), np.float32)
        grid, shift = (7 * across, 7 * across), (3 * (i % 2), 3 * (i % 2))
        shift = shift if across > 1 else (0, 0)
        block = i - [one[0] for one in SWIN_T].index(stage)
        seen.append(attention.Attention(stage, block, p, (7, 7), shift, grid, grid, 0))
    return seen


@pytest.mark.parametrize("others", [1_500_000, 2_900_000, 4_500_000, 4_899_000])
def test_a_page_stays_below_five_million_bytes_whatever_the_pictures_take(others, monkeypatch):
    """others: of the other sections, of 224×224 pixels of noise measured as 2.7 to 3.1 million."""
    noise = np.random.default_rng(1).integers(0, 256, (3, 224, 224)).astype(np.uint8)
    drawn = [subject.Section("attention", "Who looks at whom", "é" * (others // 2))]  # of 2 bytes
    monkeypatch.setattr(report, "sections", lambda *given: drawn)
    monkeypatch.setattr(report, "attention_maps", lambda *given: seen_by_swin_t())
    model = create_model("vit_tiny")
    probabilities, nothing = np.array([0.2, 0.5, 0.3]), None
    about = subject.Subject(
        "a.png",
        noise,
        noise,
        model,
        "Random weights",
        False,
        "abc",
        probabilities,
        nothing,
        nothing,
    )
    path = report.write_report(about, "a.html")
    page = Page(path)
    assert path.stat().st_size < 5_000_000
    blocks = [block["name"] for block in page.data["blocks"]]
    assert len(blocks) + len(page.data["left_out"]) == 12
    assert all(name in page.text for name in page.data["left_out"])
    if others < 1_600_000:
        assert len(blocks) == 12
    elif others < 4_000_000:
        assert len(blocks) == 10 and path.stat().st_size > 4_000_000  # stage 2: 4 of 6
    assert ("explorer" in page.ids) == bool(blocks) == ("image" in page.data)


# ── what is refused ──────────────────────────────────────────────────────────────────────────────


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


def test_weights_of_another_model_are_refused_in_short_with_their_name(capsys):
    path = pretrained()["swin_cifar_small"]
    err = refusal(capsys, str(save("a.png")), "--model", "swin_shapes", "--weights", str(path))
    assert f"explain: {path}: " in err and err.endswith(
        f"'minswin info {path}' says which model it fits\n"
    )
    assert len(err) < 1000 and not re.search("num_classes|resize|given weights|fresh", err)
    for names, number in re.findall(
        r"(?:missing|unexpected) \(\d+\): (.*?), … and (\d+) more", err
    ):
        assert len(names.split(", ")) == 3 and int(number) > 0
    assert "unexpected (" in err and " more" in err


def test_an_error_counts_all_that_does_not_fit_and_names_three_of_a_kind():
    model = create_model("vit_tiny")
    names = list(model.state_dict())
    with pytest.raises(ValueError) as error:
        model.load_state_dict({name: np.zeros(1, np.float32) for name in ("a", "b", "c")})
    said = str(error.value)
    assert f"missing ({len(names)}): {', '.join(names[:3])}, … and {len(names) - 3} more;" in said
    assert "unexpected (3): a, b, c. " in said and names[3] not in said


def test_a_folder_without_cifar_is_refused_before_the_model_runs(capsys, monkeypatch):
    def run(*given):
        raise AssertionError("the model ran")

    monkeypatch.setattr(minswin.explain, "predict", run)
    Path("empty").mkdir()
    for folder, words in (
        ("nowhere", "there is no "),
        ("empty", "data_batch_1.bin|test_batch.bin"),
    ):
        err = refusal(capsys, str(save("a.png")), "--data-dir", folder)
        assert re.search(words, err) and folder in err and "--download" not in err


def test_a_run_that_is_to_be_drawn_beside_is_looked_for_first(capsys, monkeypatch):
    monkeypatch.setattr(minswin.explain, "predict", None)
    assert "nothing" in refusal(capsys, str(save("a.png")), "--beside", "nothing")


# ── side by side ─────────────────────────────────────────────────────────────────────────────────


def test_models_beside_are_given_the_same_images_each_in_its_own_way(subjects):
    explain(save("a.png"), "a.html", model="vit_tiny", beside=["swin_cifar_small"] * 2)
    (about,) = subjects
    assert [one.name for one in about.others] == ["swin_cifar_small", "swin_cifar_small (2)"]
    small, large = about.examples.x, about.others[0].x
    assert small.shape == (4, 3, 16, 16) and large.shape == (4, 3, 32, 32)
    bytes_ = small * 0.5 + 0.5
    mean, std = (np.array(x)[:, None, None] for x in CIFAR)
    np.testing.assert_allclose((large * std + mean)[..., ::2, ::2], bytes_, atol=1e-6)


CIFAR = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def test_the_command_draws_a_column_for_every_model(monkeypatch, subjects):
    drawn, draw = [], planes.draw_planes

    def watched(axes, vectors, *given, **settings):
        drawn.append((axes.shape, vectors))
        return draw(axes, vectors, *given, **settings)

    monkeypatch.setattr(planes, "draw_planes", watched)
    command = ["explain", str(save("a.png")), "--model", "vit_tiny", "--beside", "swin_cifar_small"]
    assert cli.main(command) == 0
    text = sections._plane(subjects[0])
    ((shape, vectors),) = drawn
    assert shape == (1, 2) and list(vectors) == ["vit_tiny", "swin_cifar_small"]
    assert [x.shape for x in vectors.values()] == [(4, 8), (4, 128)]
    assert "Not trained on these classes: vit_tiny, swin_cifar_small. " in text
    assert "t-SNE" not in text


def test_where_scikit_learn_is_there_the_page_has_t_sne_too(monkeypatch, subjects):
    pytest.importorskip("sklearn")
    explain(save("a.png"), Path("a.html"), model="vit_tiny")
    monkeypatch.setattr(planes, "methods_here", lambda: planes.METHODS)
    assert "Below by t-SNE" in sections._plane(subjects[0])


def test_the_command_explains_a_model_without_attention_too(capsys):
    assert cli.main(["explain", str(save("a.png")), "--model", "resnet20", "--measure"]) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(r"report\.html: [\d,]+ bytes; open it in a browser\n", out)
    page = Page(Path("report.html"))
    assert page.data["blocks"] == [] and "attention" not in page.ids
    assert {"patches", "features", "answer"} <= set(page.ids)
    assert "Times were measured now" in page.text
    assert "h = w = 7 and 14 tokens, patches of 4×4 pixels" in page.text
