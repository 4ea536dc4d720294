"""The page of `minswin explain` is one whole file, and what it says is true of its model."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import explained
import numpy as np
import pytest
from explained import Page, hurry, save

import minswin.explain
from minswin import cli
from minswin.explain import explain
from minswin.look import attention
from minswin.look.page import data, words, write
from minswin.look.page.recorded import recorded_attention
from minswin.look.page.weights import runs_in_the_page
from minswin.models import create_model

quick = explained.quick  # the fixture


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """The page without options, of a picture with an awkward name."""
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch, tmp_path_factory.mktemp("usual"))
        return Page(explain(save("<b>&{{data}}.png"), "a.html"))


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


def test_the_command_explains_a_model_without_attention_too(capsys):
    assert cli.main(["explain", str(save("a.png")), "--model", "resnet20", "--measure"]) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(r"report\.html: [\d,]+ bytes; open it in a browser\n", out)
    page = Page(Path("report.html"))
    assert page.data["blocks"] == [] and page.data["depth"] == 0 and page.data["features"]
    assert "Counted while the layers ran, and timed" in page.text
