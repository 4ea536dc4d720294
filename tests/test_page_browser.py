"""The page in a real browser: everything a reader does, beside what the reference answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_page_engine import SWITCHES, reference

import minswin.explain
from minswin import cli, data
from minswin.look import attention, receptive
from minswin.look.features import pooled_features
from minswin.look.page import samples
from minswin.look.planes import principal_axes
from minswin.models import create_model
from minswin.models.registry import MODELS
from minswin.training.checkpoints import DEFAULT, load_trained_model, pretrained

Image = pytest.importorskip("PIL.Image")
HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browser():
    """Chromium, and node with playwright-core; or why they cannot be used."""
    given = os.environ.get("MINSWIN_BROWSER")
    path = given or next((p for p in map(shutil.which, BROWSERS) if p), None)
    if path is None:
        pytest.skip("no Chromium is installed; MINSWIN_BROWSER names one that lies elsewhere")
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    asked = ["node", "-e", "require.resolve('playwright-core')"]
    if subprocess.run(asked, cwd=HERE, capture_output=True).returncode:
        pytest.skip("playwright-core is missing: npm install playwright-core, and set NODE_PATH")
    return path


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What a walk through the page of the packaged model, and a recorded page, have shown."""
    chromium, folder = browser(), tmp_path_factory.mktemp("pages")
    odd = np.random.default_rng(0).integers(0, 256, (23, 301, 4)).astype(np.uint8)
    Image.fromarray(odd, "RGBA").save(folder / "odd.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minswin.explain, "FEWEST", 8)
        patch.setattr(minswin.explain, "WORK", 0)
        assert cli.main(["explain", "-o", str(folder / "live.html")]) == 0
        patch.setitem(MODELS, "swinv2_cifar", RECORDED)
        others = {"recorded": "swinv2_cifar", "vit": "vit_cifar_small", "resnet": "resnet20"}
        for name, model in others.items():
            page = str(folder / f"{name}.html")
            assert cli.main(["explain", "-o", page, "--model", model]) == 0
    text = (folder / "live.html").read_text("utf-8")
    assert "MAIN_THREAD = 40e6" in text  # whichever the model needs, the other is tried too
    small = load_trained_model(DEFAULT)[0].flops() <= 40e6
    other = text.replace("MAIN_THREAD = 40e6", f"MAIN_THREAD = {1 if small else 1e12}")
    (folder / "other.html").write_text(other, "utf-8")
    command = ["node", str(HERE / "page_browser.js"), chromium, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


RECORDED = {
    "img_size": (20, 14),
    "patch_size": 2,
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (2, 2),
    "window_size": 4,
    "num_classes": 3,
}


@pytest.fixture
def packaged():
    """The packaged model, and how it is given pixels (3, 32, 32)."""
    model, info = load_trained_model(DEFAULT)
    mean, std = info["data"]["mean"], info["data"]["std"]
    return model, lambda pixels: data.normalize(np.asarray(pixels)[None], mean=mean, std=std)


def as_pixels(numbers):
    return np.array(numbers, np.uint8).reshape(3, 32, 32)


def first_sample():
    return samples.draw(next(iter(samples.DRAWINGS)), (32, 32))


def walk(seen, name):
    assert "error" not in seen[name], seen[name]["error"]
    return seen[name]


# ── the page as a whole ──────────────────────────────────────────────────────────────────────────


def test_nothing_is_fetched_and_nothing_is_said_in_the_console(seen):
    assert seen["heard"] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize("kind", ["live", "recorded", "vit", "resnet"])
def test_a_screen_of_any_width_shows_all_and_can_be_read(kind, width, theme, seen):
    screen = seen["screens"][f"{kind}, {width}, {theme}"]
    assert screen["theme"] == theme and screen["width"] == width
    assert screen["cut"] == [] and screen["faint"] == []
    assert screen["token"] >= 24 or screen["zoom"]


# ── pins ─────────────────────────────────────────────────────────────────────────────────────────


def place(row, column, side=16):
    return {"y": (row + 0.5) / side, "x": (column + 0.5) / side}


def test_a_pin_survives_the_pointer_a_second_stands_beside_it_escape_lets_go(seen):
    pins = walk(seen, "pin")
    assert pins["empty"] == [None, None]
    assert pins["set"] == [place(5, 6), None] == pins["moved"]
    assert "(6, 7) of 16×16" in pins["readout"] and "From (16, 4)" in pins["readout"]
    assert pins["two"] == [place(5, 6), place(12, 10)] and pins["maps"] == 2
    assert pins["let1"] == [place(5, 6), None] and pins["let2"] == [None, None]


def test_the_keyboard_reaches_everything_and_pins(seen):
    keys = walk(seen, "keyboard")
    for name in (
        "skip",
        "theme",
        "picture",
        "file",
        "reset",
        "shift",
        "temperature",
        "mask",
        "bias",
    ):
        assert name in keys["reached"]
    assert keys["both"] == [place(9, 9), place(11, 9)] and keys["one"] == [place(9, 9), None]
    assert keys["nameless"] == []


# ── answers ──────────────────────────────────────────────────────────────────────────────────────


def close(got, want):
    return abs(np.array(got) - want).max() < 1e-5


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_changes_the_answer_as_the_reference_says(switch, seen, packaged, monkeypatch):
    results, (model, given) = walk(seen, "switches"), packaged
    trained = reference(model, given(first_sample()))[0]
    assert close(results["trained"], trained) and results["as trained"] == results["trained"]
    SWITCHES[switch][1](model, monkeypatch)
    want = reference(model, given(first_sample()))[0]
    assert close(results[switch], want) and not close(results[switch], trained)
    if switch != "a head off":
        shares = np.exp(want - want.max()) / np.exp(want - want.max()).sum()
        shown = [share for _, share in results[f"{switch}, shown"]]
        np.testing.assert_allclose(shown, np.sort(shares)[::-1][:5], atol=1e-5)


def test_a_picture_that_is_dropped_chosen_or_pasted_is_answered_as_by_the_reference(seen, packaged):
    drop, (model, given) = walk(seen, "drop"), packaged
    pixels = as_pixels(drop["pixels"])
    assert pixels.std() > 5  # noise that was squeezed
    assert close(drop["logits"], reference(model, given(pixels))[0])
    assert drop["refused"] and drop["chosen"] == drop["logits"] == drop["pasted"]


def test_what_is_drawn_is_answered_as_by_the_reference(seen, packaged):
    drawn, (model, given) = walk(seen, "draw"), packaged
    pixels = as_pixels(drawn["pixels"])
    assert (pixels != first_sample()).any(axis=0).sum() > 40
    assert close(drawn["logits"], reference(model, given(pixels))[0])
    assert not close(drawn["logits"], np.array(drawn["before"]))
    by_key = as_pixels(drawn["byKey"]["pixels"])
    assert 0 < (by_key != pixels).any(axis=0).sum() < 40
    assert close(drawn["byKey"]["logits"], reference(model, given(by_key))[0])


def test_a_worker_and_the_page_itself_answer_alike(seen, packaged, monkeypatch):
    model, given = packaged
    SWITCHES["no mask"][1](model, monkeypatch)
    assert close(seen["other"], reference(model, given(first_sample()))[0])


# ── digits ───────────────────────────────────────────────────────────────────────────────────────


def test_the_digits_shown_are_those_of_the_reference(seen, packaged, tmp_path):
    shown, (model, given) = walk(seen, "digits")["shown"], packaged
    np.save(tmp_path / "x.npy", given(first_sample()).astype(np.float32))
    command = ["trace", "--model", model.name, "--no-grad", "--form", "npy"]
    command += ["--weights", str(pretrained()[DEFAULT])]
    command += ["--input", str(tmp_path / "x.npy"), "-o", str(tmp_path / "trace")]
    assert cli.main(command) == 0
    arrays = {f.stem: np.load(f).ravel() for f in (tmp_path / "trace" / "float64").glob("*.npy")}
    kinds = set()
    for step, index, text, value, tag in shown:
        want = arrays[step][index]
        assert abs(value - want) < 1e-5 * max(1, abs(want)), (step, index)
        if text and "^" not in text:
            number = float(text.replace("−", "-").split("·")[0])
            if "·" not in text and abs(want) >= 5e-5:
                assert abs(number - want) <= (0.5e-4 if abs(want) < 100 else 0.5e-2) + 1e-5
        kinds.add((step.split(".")[-1], tag))
    assert len(shown) > 1000
    steps = {"norm1", "q", "k", "v", "scores", "bias", "mask", "logits", "probabilities", "heads"}
    assert {step for step, _ in kinds} >= {*steps, "proj", "residual"}


def test_pointing_at_a_number_marks_its_token(seen):
    marks = walk(seen, "marks")
    assert marks["marked"] is not None and marks["after"] is None


# ── figures ──────────────────────────────────────────────────────────────────────────────────────


def test_motion_has_phases_in_words_and_stands_still_for_those_who_ask(seen):
    motion = walk(seen, "motion")
    shift, merge = motion["values"]
    assert shift == ["Windows", "Shift", "Roll", "Regions", "Mask", "Roll back"]
    assert merge[0] == "Four neighbours" and len(merge) == 4
    assert motion["after"] == 1  # reduced motion: the next phase, at once


def test_a_token_depends_on_what_gradients_say(seen, packaged):
    small, _ = packaged
    model = create_model(small.name, **{**small.settings, "dtype": np.float64})
    model.load_state_dict({k: x.astype(np.float64) for k, x in small.state_dict().items()})
    rng = np.random.default_rng(0)
    for stage, got in enumerate(seen["reach"]):
        side = 16 // 2**stage
        features = receptive.features_of(model, stage)
        token = side // 2 - 1, side // 2 - 1
        want = receptive.dependence(features, (32, 32), token, rng=rng, draws=1)
        assert np.array_equal(np.array(got).reshape(32, 32) > 0, want), stage


def test_the_star_moves_with_the_picture(seen, packaged):
    star, (model, given) = walk(seen, "star"), packaged
    examples = data.load("shapes", split="test", count=8).images
    vectors = pooled_features(model, np.concatenate([given(image) for image in examples]))
    axes, _ = principal_axes(vectors)
    for at, pixels in (
        (star["before"], first_sample()),
        (star["after"], as_pixels(star["pixels"])),
    ):
        want = (pooled_features(model, given(pixels))[0] - vectors.mean(axis=0)) @ axes.T
        np.testing.assert_allclose(at, want, atol=1e-4)


def test_recorded_shares_are_those_of_the_model_to_half_a_step(seen):
    model = create_model("swinv2_cifar", rng=np.random.default_rng(0), **RECORDED)
    pixels = samples.draw(next(iter(samples.DRAWINGS)), (20, 14))
    x = data.normalize(pixels[None], mean=(0.5,) * 3, std=(0.5,) * 3)[0]
    for got, record in zip(seen["recorded"], attention.attention_maps(model, x), strict=True):
        H, W = record.grid
        tokens = [divmod(i, W) for i in range(H * W)]
        want = np.array([attention.looks_at(record, token).ravel() for token in tokens])
        np.testing.assert_allclose(np.sqrt(got), np.sqrt(want), atol=0.004)
