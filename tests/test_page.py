"""The page of `minswin explain`: one file, whole, whatever the picture; and clear refusals."""

from __future__ import annotations

import base64
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import minswin.explain
from minswin import cli
from minswin.explain import explain
from minswin.look import attention, features, planes
from minswin.look.page import data, samples, subject, words, write
from minswin.look.page.recorded import recorded_attention
from minswin.look.page.weights import runs_in_the_page
from minswin.models import SwinTransformer, create_model
from minswin.models.registry import CLASSES, MODELS
from minswin.training.checkpoints import DEFAULT, load_trained_model, pretrained

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")


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
    """The page without options, of a picture with an awkward name."""
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch, tmp_path_factory.mktemp("usual"))
        return Page(explain(save("<b>&{{data}}.png"), "a.html"))


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


def test_a_page_is_one_whole_file_that_fetches_nothing(usual):
    page = usual
    assert page.open == [] and len(set(page.ids)) == len(page.ids) > 30
    assert page.sources == [] and set(page.links) <= {"#explore"}
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", page.text)
    assert len(page.text) < 5_000_000 and "{{" not in page.text.replace("{{data}}.png", "")
    assert "&lt;b&gt;&amp;{{data}}.png" in page.text  # a name is not markup, and no slot
    assert "trained on cifar10" in page.text and "random" not in page.lead
    assert page.data["samples"][0]["name"] == "<b>&{{data}}.png"


def test_the_first_page_holds_the_model_and_says_how_exact_it_is(usual):
    assert usual.data["weights"]["settings"]["depths"] == [2, 2, 2]
    assert "They were so from the beginning." in usual.text
    assert "running in this page" in usual.text and len(usual.data["samples"]) == 8


def test_each_section_of_the_article_is_short_quotes_our_code_and_ends_in_something_to_do(usual):
    parts = re.findall(r'<section class="part".*?</section>', usual.text, re.S)
    swin = [part for part in parts if 'data-for="vit"' not in part and "plain" not in part[:90]]
    assert len(swin) == 8
    for part in swin:
        prose = re.search(r"<p>(.*?)</p>", part, re.S)[1]
        assert 30 < len(re.sub("<.*?>", "", prose).split()) <= 120
        assert 'class="line"' in part and 'class="do"' in part and "<math>" in part


@pytest.mark.parametrize("name", words.QUOTES)
def test_a_quoted_line_is_the_line_of_the_file(name):
    file, number, text = words.quoted(words.QUOTES[name])
    lines = (Path(minswin.explain.__file__).parents[1] / file).read_text("utf-8").splitlines()
    assert words.QUOTES[name].fragment in text and lines[number - 1].strip() == text


def test_recorded_attention_is_that_of_the_model(monkeypatch):
    model = create_model("swinv2_cifar", rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((3, *model.img_size)).astype(np.float32)
    seen = attention.attention_maps(model, x)
    blocks = recorded_attention(seen)["blocks"]
    assert len(blocks) == len(seen) == 4
    for block, record in zip(blocks, seen, strict=True):
        raw = np.frombuffer(base64.b64decode(block["probabilities"]), np.uint8)
        roots = raw.reshape(block["shape"]) / 255
        assert np.abs(roots - np.sqrt(record.probabilities)).max() <= 0.5 / 255 + 1e-6
        assert block["grid"] == record.grid and block["shift"] == record.shift


def test_a_model_without_weights_says_so():
    page = Page(explain(save("a.png"), "a.html", model="vit_tiny"))
    assert "The weights are random, for there was no file of them" in page.lead
    assert page.data["weights"]["settings"]["family"] == "vit" and page.data["front"] == 1
    assert page.data["similarity"]["shape"] == [4, 4, 4, 4] and not page.data["windows"]


@pytest.mark.parametrize(
    ("name", "live", "says"),
    [
        ("vit_small", True, "adds nothing to its tokens: every head adds"),
        ("deit_cifar_distilled", True, "does not give a patch its place"),
        ("tnt_cifar", False, "This page holds recorded values"),
        ("swinv2_cifar", False, "τ cos(q, k) + B"),
    ],
)
def test_every_family_has_a_page_that_is_true_of_it(name, live, says):
    page = Page(explain(save("a.png"), "a.html", model=name))
    assert (page.data["weights"] is not None) == live and says in page.text
    assert page.open == [] and page.data["depth"] > 0 and page.data["stem"]
    if not live:
        assert page.data["blocks"] and page.data["left_out"] == [] and page.data["features"]
    assert "by a vector that is added to it" not in page.text


@pytest.mark.parametrize("kind", ["learned", "learned_2d", "sinusoidal", "relative", "none"])
def test_a_vit_adds_a_vector_to_its_tokens_where_the_page_says_so(kind):
    model = create_model("vit_tiny", positions=kind)
    adds, about = model.pos_embed is not None, words.about_positions(kind)
    assert ("by a vector that is added to its token" in about) == adds
    assert ("adds a number to the logit" in about) == (model.blocks[0].rel_pos is not None)


@pytest.mark.parametrize(
    ("scale", "mask", "says"),
    [
        (np.log(10), -100.0, "= 36 apart, for no τ of this model is above 10, so of a masked key"),
        (np.log(10), -100.0, "less than e^−64 is left"),
        (9.0, -100.0, "= 216 apart, for no τ of this model is above 100, so a masked key may"),
        (9.0, -np.inf, "The mask takes ∞ off the logit"),
        (9.0, -np.inf, "nothing is left"),
    ],
)
def test_what_a_masked_key_gets_in_swin_v2_depends_on_its_factor(scale, mask, says):
    model = create_model("swinv2_cifar")
    layer = model.layers[1].blocks[1].attn
    layer.logit_scale.data[...] = scale
    for block in (block for stage in model.layers for block in stage.blocks):
        block.attn.mask_value = mask
    assert says in words.about_mask_v2(model)


def test_weights_that_float16_cannot_hold_are_not_put_into_a_page():
    model = create_model("vit_tiny")
    assert runs_in_the_page(model)
    model.head.bias.data[0] = 1e6
    assert not runs_in_the_page(model)


def test_the_page_says_how_far_float16_moves_an_answer(monkeypatch):
    model = create_model("vit_tiny", rng=np.random.default_rng(3))
    x = np.random.default_rng(4).standard_normal((3, 16, 16)).astype(np.float32)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    moved = data.moved_by_float16(model, x)
    assert 1e-7 < moved < 1e-2 and f"by {moved:.1g}" in words.footer(moved)
    for name, array in model.state_dict().items():
        assert np.array_equal(array, before[name])


def test_the_page_among_the_examples_is_made_of_these_programs():
    path = Path(__file__).parents[1] / "examples" / "living_page.html"
    text = path.read_text("utf-8")
    assert path.stat().st_size < write.LARGEST
    for name in ("page.css", "engine.js", *(f"{program}.js" for program in write.PROGRAMS)):
        source = (write.FOLDER / name).read_text("utf-8")
        assert source in text, f"{name} has changed: minswin explain -o {path}"


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


# ── how large ────────────────────────────────────────────────────────────────────────────────────

# The attention of Swin-T: stages, heads and windows of 7×7 tokens.
SWIN_T = [(0, 3, 8)] * 2 + [(1, 6, 4)] * 2 + [(2, 12, 2)] * 6 + [(3, 24, 1)] * 2


def seen_by_swin_t():
    rng, seen = np.random.default_rng(0), []
    for i, (stage, heads, across) in enumerate(SWIN_T):
        p = rng.random((across**2, heads, 49, 49), np.float32)
        grid, shift = (7 * across, 7 * across), (3 * (i % 2), 3 * (i % 2))
        shift = shift if across > 1 else (0, 0)
        block = i - [first for first, *_ in SWIN_T].index(stage)
        seen.append(attention.Attention(stage, block, p, (7, 7), shift, grid, grid, 0))
    return seen


def about_noise(model, x):
    """A page about a picture of noise: none is larger."""
    noise = np.random.default_rng(1).integers(0, 256, x.shape).astype(np.uint8)
    two = np.stack([x, x + 1])
    nothing = subject.Examples("none", two, np.zeros(2, int), ("a", "b", "c"))
    sights = [subject.Sight(model.name, model, x, two, ("a", "b", "c"))]
    return subject.Subject(
        samples=[subject.Sample("a.png", noise)],
        x=x,
        model=model,
        origin="Random weights",
        trained=False,
        classes="abc",
        statistics=((0.5,) * 3, (0.5,) * 3),
        probabilities=np.array([0.2, 0.5, 0.3]),
        examples=nothing,
        cost=subject.Cost([], [], 96, 3, 7, 4),
        sights=sights,
    )


@pytest.mark.parametrize("taken", [400_000, 2_400_000, 4_200_000, 4_600_000])
def test_a_page_stays_below_five_million_bytes_whatever_else_it_holds(taken, monkeypatch):
    """taken: bytes of the rest, beside the programs and the picture."""
    model = create_model("swinv2_cifar")
    x = np.zeros((3, *model.img_size), np.float32)
    monkeypatch.setattr(write, "attention_maps", lambda *given: seen_by_swin_t())
    monkeypatch.setattr(data.positions, "bias_pictures", lambda *given: [])
    monkeypatch.setattr(data, "_channels", lambda about: ["é" * (taken // 6)])  # "\\u00e9"
    path = write.write_page(about_noise(model, x), "a.html")
    page = Page(path)
    assert path.stat().st_size < 5_000_000
    assert len(page.data["blocks"]) + len(page.data["left_out"]) == 12
    assert all(name in page.text for name in page.data["left_out"])
    if taken < 1_000_000:
        assert len(page.data["blocks"]) == 12
    elif taken < 4_000_000:
        assert len(page.data["blocks"]) == 10 and path.stat().st_size > 4_000_000  # stage 2: 4 of 6


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
    assert "there is no folder " in refusal(capsys, image, "-o", "nowhere/a.html")
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
    assert len(err) < 1000
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
    for folder, said in (
        ("nowhere", "there is no "),
        ("empty", "data_batch_1.bin|test_batch.bin"),
    ):
        err = refusal(capsys, str(save("a.png")), "--data-dir", folder)
        assert re.search(said, err) and folder in err and "--download" not in err


def test_a_run_that_is_to_be_drawn_beside_is_looked_for_first(capsys, monkeypatch):
    monkeypatch.setattr(minswin.explain, "predict", None)
    assert "nothing" in refusal(capsys, str(save("a.png")), "--beside", "nothing")


# ── side by side ─────────────────────────────────────────────────────────────────────────────────


def test_models_beside_are_given_the_same_images_each_in_its_own_way(subjects):
    explain(save("a.png"), "a.html", model="vit_tiny", beside=["swin_cifar_small"] * 2)
    (about,) = subjects
    names = [sight.name for sight in about.sights]
    assert names == ["vit_tiny", "swin_cifar_small", "swin_cifar_small (2)"]
    small, large = about.sights[0].examples, about.sights[1].examples
    assert small.shape == (4, 3, 16, 16) and large.shape == (4, 3, 32, 32)
    mean, std = (np.array(x)[:, None, None] for x in CIFAR)
    np.testing.assert_allclose((large * std + mean)[..., ::2, ::2], small * 0.5 + 0.5, atol=1e-6)
    picture = about.sights[1].picture * std + mean
    np.testing.assert_allclose(picture[:, ::2, ::2], about.x * 0.5 + 0.5, atol=1e-6)


CIFAR = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def test_the_picture_is_a_point_among_those_of_each_model(subjects):
    command = ["explain", str(save("a.png")), "--model", "vit_tiny", "--beside", "swin_cifar_small"]
    assert cli.main(command) == 0
    (about,) = subjects
    for sight, plane in zip(about.sights, data.all_planes(about), strict=True):
        vectors = features.pooled_features(sight.model, sight.examples)
        picture = features.pooled_features(sight.model, sight.picture[None])
        axes, _ = planes.principal_axes(vectors)
        got = np.array([point[:2] for point in plane["points"]])
        np.testing.assert_allclose(got, planes.principal_plane(vectors)[0], rtol=1e-3, atol=1e-6)
        assert len(plane["picture"]) == 2 and plane["title"].startswith(sight.name)
        joined = (picture[0] - vectors.mean(0, dtype=np.float64)) @ axes.T
        np.testing.assert_allclose(plane["picture"], joined, rtol=1e-9)
    text = words.about_points(about, ("pca",))
    assert "Not trained on these classes: vit_tiny, swin_cifar_small. " in text
    assert "t-SNE" not in text and "t-SNE" in words.about_points(about, ("pca", "tsne"))


def test_where_scikit_learn_is_there_the_page_has_t_sne_too(monkeypatch, subjects):
    pytest.importorskip("sklearn")
    explain(save("a.png"), Path("a.html"), model="vit_tiny")
    monkeypatch.setattr(planes, "available_methods", lambda: planes.METHODS)
    assert [p["title"].split(", ")[1][:5] for p in data.all_planes(subjects[0])] == [
        "PCA: ",
        "t-SNE",
    ]


def test_the_command_explains_a_model_without_attention_too(capsys):
    assert cli.main(["explain", str(save("a.png")), "--model", "resnet20", "--measure"]) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(r"report\.html: [\d,]+ bytes; open it in a browser\n", out)
    page = Page(Path("report.html"))
    assert page.data["blocks"] == [] and page.data["depth"] == 0 and page.data["features"]
    assert "Counted while the layers ran, and timed" in page.text
