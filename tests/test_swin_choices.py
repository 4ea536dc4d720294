"""What a Swin may be made with or without: its patch embedding, the shift, the bias."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import numpy as np
import pytest
from drawn import fill, law, swin
from test_costs import multiplications

from minswin.arguments import settings_in
from minswin.autograd import Tensor
from minswin.crosscheck import recipe
from minswin.layers.embeddings import STEMS, ConvStem, PatchEmbed
from minswin.layers.parameters import Parameter
from minswin.models import SwinTransformer, SwinTransformerV2, create_model
from minswin.models.base import defaults_of
from minswin.models.registry import CLASSES, NAMED
from minswin.testing.claims import NORMED, assert_close, assert_derivative, assert_far, assert_same
from minswin.testing.strategies import seeds
from minswin.training import SGD, AdamW, Muon, Settings
from minswin.training.ema import WeightAverage
from minswin.weights import load

SIZE = (16, 24)
ONE: dict[str, Any] = {
    "img_size": SIZE, "patch_size": 2, "embed_dim": 6, "depths": (2,), "num_heads": (2,),
    "window_size": 4, "num_classes": 3, "drop_path_rate": 0.0, "dtype": np.float64,
}  # fmt: skip
BOTH = pytest.mark.parametrize("family", [SwinTransformer, SwinTransformerV2])


def images(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((2, 3, *SIZE))


def windows_turned(x: np.ndarray) -> np.ndarray:
    """A map (B, 8, 12, C) whose windows of 4×4 tokens are each turned by half a turn."""
    B, H, W, C = x.shape
    return x.reshape(B, H // 4, 4, W // 4, 4, C)[:, :, ::-1, :, ::-1].reshape(B, H, W, C)


@law(examples=3, seed=seeds)
def test_tokens_are_made_by_the_embedding_that_was_chosen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = images(rng)
    for stem in STEMS:
        model = swin(rng, img_size=SIZE, stem=stem)
        if stem == "convolutions":
            layer: Any = ConvStem(6, 2, rng=0, dtype=np.float64)
        else:
            layer = PatchEmbed(6, 2, overlap=stem == "overlapping", rng=0, dtype=np.float64)
        layer.load_state_dict(model.patch_embed.state_dict())
        assert_same(model.embed(x), layer(Tensor(x)))


@pytest.mark.parametrize(("stem", "depth"), [*((stem, 0) for stem in STEMS), ("convolutions", 1)])
def test_with_any_embedding_the_stated_cost_is_that_of_its_operations(
    stem: str, depth: int
) -> None:
    rng = np.random.default_rng(0)
    settings = {"img_size": SIZE, "patch_size": 4, "embed_dim": 12}
    model, x = swin(rng, **settings, stem=stem, stem_depth=depth), images(rng)[:1]
    counts, rows = multiplications(model, x), model.summary()
    final, last = rows[-2].macs, model.feature_maps(x)[-1].size  # stated as the original does
    area, left_out = SIZE[0] * SIZE[1], 0  # of the norms between the convolutions
    for conv in getattr(model.patch_embed, "convs", ()):
        area //= conv.stride[0] * conv.stride[1]
        left_out += area * conv.bias.size
    assert model.flops() == sum(counts.values()) - last + final - left_out
    assert sum(row.parameters for row in rows) == model.parameter_count()


@law(examples=1, seed=seeds)
def test_with_convolutions_the_model_has_the_derivative_of_its_value(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = fill(SwinTransformer(**{**ONE, "img_size": (8, 8), "stem": "convolutions"}, rng=0), rng)
    assert_derivative(model, rng.standard_normal((2, 3, 8, 8)), rng, model.parameters())


@BOTH
def test_without_the_shift_windows_never_meet(family: Any) -> None:
    rng = np.random.default_rng(1)
    x = images(rng)
    other = x.copy()
    other[:, :, :8, :8] += 1  # the first window of the map
    for shift in (True, False):
        model = fill(family(**ONE, shift=shift, rng=0), rng)
        stage = model.layers[0]  # the head's mean would mix all windows
        a, b = (stage(model.embed(image)).data for image in (x, other))
        moved = abs(a - b).max(axis=(0, 3)) > 0
        assert moved[:4, :4].any() and (moved[4:].any() or moved[:, 4:].any()) == shift


@BOTH
def test_without_the_bias_a_window_is_a_bag_of_tokens(family: Any) -> None:
    rng = np.random.default_rng(2)
    for bias in (True, False):
        model = family(**ONE, relative_bias=bias, shift=False, rng=0)
        for p in model.parameters():  # fresh ones are so small that the bias would hardly show
            p.data += 0.5 * rng.standard_normal(p.shape) if p.requires_grad else 0
        x, stage = rng.standard_normal((2, 8, 12, 6)), model.layers[0]
        turned, truth = stage(Tensor(windows_turned(x))), windows_turned(stage(Tensor(x)).data)
        assert_far(turned, truth) if bias else assert_close(turned, truth, NORMED)


@BOTH
def test_a_bias_that_was_left_out_is_not_learnt(family: Any) -> None:
    rng = np.random.default_rng(3)
    model = family(**ONE, relative_bias=False, rng=0)
    frozen = {n: p.data.copy() for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen and not any(array.any() for array in frozen.values())
    tables = sum(array.size for array in frozen.values())
    assert model.parameter_count() == family(**ONE, rng=0).parameter_count() - tables
    (model(images(rng)) ** 2).sum().backward()
    AdamW(model.named_parameters(), 0.1).step()
    for name, p in model.named_parameters():
        assert np.array_equal(p.data, frozen[name]) if name in frozen else p.grad is not None


@BOTH
def test_a_bias_that_was_left_out_stays_out_whatever_is_loaded(family: Any) -> None:
    rng = np.random.default_rng(4)
    biased, x = fill(family(**ONE, rng=0), rng), images(rng)
    without = family(**ONE, relative_bias=False, rng=0)
    zeros = {n: p.data.copy() for n, p in without.named_parameters() if p.left_out}
    with pytest.warns(UserWarning, match="left out, since the model is built without it"):
        without.load_state_dict(biased.state_dict())
    assert zeros and all(np.array_equal(without.state_dict()[n], zeros[n]) for n in zeros)
    assert_far(without(x), biased(x))
    biased.load_state_dict({**biased.state_dict(), **zeros})
    assert_same(without(x), biased(x))


def test_a_file_says_which_of_its_weights_a_model_is_built_without() -> None:
    small = {"embed_dim": 6, "depths": (1, 1), "num_heads": (1, 1), "rng": 0}
    biased, lines = create_model("swin_shapes", **small), []
    made = load("swin_shapes", biased, relative_bias=False, tell=lines.append, **small)
    assert not made.layers[1].blocks[0].attn.relative_position_bias_table.data.any()
    assert len(lines) == 1 and lines[0].startswith("left out, since the model is built without it")
    assert "layers.0.blocks.0.attn.relative_position_bias_table" in lines[0]
    with pytest.warns(UserWarning, match="load: the weights: left out, since the model") as told:
        load("swin_shapes", biased, relative_bias=False, **small)
    assert [warning.filename for warning in told] == [__file__]
    load(biased, made, tell=lines.append)  # zeros leave nothing out
    assert len(lines) == 1


def test_a_state_says_which_of_its_weights_a_model_is_built_without() -> None:
    small = {"embed_dim": 6, "depths": (1, 1), "num_heads": (1, 1), "rng": 0}
    biased, made = (create_model("swin_shapes", relative_bias=x, **small) for x in (True, False))
    says = r"left out, .*: layers\.0\.blocks\.0\.attn\.relative.* answers differ from those of a"
    with pytest.warns(UserWarning, match=f"SwinTransformer.load_state_dict: {says}") as told:
        made.load_state_dict(biased.state_dict())
    assert [warning.filename for warning in told] == [__file__]
    average = WeightAverage(made.named_parameters(), 0.5)
    average.load_state_dict(biased.state_dict(), step=1)
    with average.applied():
        assert not made.layers[1].blocks[0].attn.relative_position_bias_table.data.any()
    made.load_state_dict(recipe.weights_of(made))  # zeros leave nothing out


@pytest.mark.parametrize("name", ["swin_shapes", "vit_cifar"])
def test_a_summary_has_the_patches_that_a_stem_cuts(name: str) -> None:
    rows = {stem: create_model(name, rng=0, stem=stem).summary() for stem in STEMS}
    cut = {stem: [row.shape for row in rows[stem] if row.name == "patches"] for stem in STEMS}
    pixels = {"patches": [4 * 4 * 3], "overlapping": [7 * 7 * 3], "convolutions": []}
    assert cut == {stem: [(8, 8, n) for n in numbers] for stem, numbers in pixels.items()}


# ── switches and other settings ──────────────────────────────────────────────────────────────────

SWITCHES = [
    (named[0], key)
    for family, named in ((family, list(names)) for family, names in NAMED.items())
    for key, default in defaults_of(family).items()
    if isinstance(default, bool)
]


@pytest.mark.parametrize(("name", "key"), SWITCHES)
@pytest.mark.parametrize("value", ["no", 2, 0.0, None])
def test_a_switch_takes_true_and_false_alone(name: str, key: str, value: Any) -> None:
    for build in (partial(create_model, name), CLASSES[name]):
        with pytest.raises(ValueError, match=f"{key} must be True or False, got {value!r}"):
            build(**{key: value})


@pytest.mark.parametrize("value", [0, np.int64(0), np.bool_(False)])
def test_a_switch_is_kept_as_a_bool_whatever_it_was_written_as(value: Any) -> None:
    own = {"embed_dim": np.int64(6), "depths": (np.int64(1), 2), "num_heads": (1, 1)}
    made = create_model("swin_shapes", rng=0, shift=value, **own)
    assert made.settings["shift"] is False and json.loads(json.dumps(made.settings))
    assert not any(block.attn.shift for block in made.layers[1].blocks)
    settings = Settings(nesterov=value, model_settings={"depth": np.int64(2)})
    assert settings.nesterov is False and json.loads(json.dumps(settings.model_settings))
    assert SGD(made.named_parameters(), 0.1, nesterov=value).nesterov is False
    assert Muon(made.named_parameters(), 0.1, nesterov=value).nesterov is False


@pytest.mark.parametrize("optimizer", [SGD, Muon])
def test_a_switch_of_an_optimizer_is_no_word(optimizer: Any) -> None:
    named = [("fc.weight", Parameter(np.ones((2, 2), np.float32)))]
    who = optimizer.__name__
    with pytest.raises(ValueError, match=f"{who}: nesterov must be True or False, got 'no'"):
        optimizer(named, 0.1, nesterov="no")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train rng=3", "random numbers are no setting of a model; minswin train has --seed"),
        ("trace rng=3", "random numbers are no setting of a model; minswin trace draws none"),
        ("train name=swin_tiny", "which model it is says --model"),
        ("train dtype=float64", "no setting of a model; minswin train has --precision"),
        ("trace dtype=float64", "no setting of a model; minswin trace computes in float64"),
        ("train =3", "--set needs name=value with a Python value or a word, got '=3'"),
        ("trace two words=3", "name=value with a Python value or a word, got 'two words=3'"),
    ],
)
def test_what_is_no_setting_is_refused_with_what_to_do(text: str, says: str) -> None:
    command, _, setting = text.partition(" ")
    with pytest.raises(ValueError, match=f"^{command}: .*{re.escape(says)}"):
        settings_in(command, [setting])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("shift=false", False), ("shift=True", True), ("stem=none", None), ("size=4,2", (4, 2)),
        ("stem=convolutions", "convolutions"), ("mlp_ratio=.5", 0.5),
    ],
)  # fmt: skip
def test_a_setting_is_read_as_python_or_json_write_it(text: str, value: Any) -> None:
    assert settings_in("train", [text]) == {text.partition("=")[0]: value}
