"""Names of other implementations are recognised, go to ours and back, and are never guessed."""

from __future__ import annotations

import re

import numpy as np
import pytest
from named_models import VIT, model, small
from weight_files import same

import minswin
from minswin import weights
from minswin.models import create_model, list_models
from minswin.models.blank import BLANK
from minswin.models.registry import CLASSES, MODELS
from minswin.weights import dialect, load, rename, save_weights
from minswin.weights.families import DIALECTS, FAMILIES, MINSWIN, TABLES
from minswin.weights.families.rows import OURS, THEIRS, ZEROS, rows, translate
from minswin.weights.recognise import fitting, recognise

# ── one to one ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("family", "other"), TABLES)
def test_weights_go_to_other_names_and_back_bit_for_bit(family, other):
    made = model(family)
    ours = made.state_dict()
    theirs = rename(ours, "minswin", other, model=made)
    assert same(rename(theirs, other, "minswin"), ours)
    assert same(rename(rename(theirs, other, "minswin"), "minswin", other, model=made), theirs)


PAIRS = [(f, a, b) for f, a in TABLES for g, b in TABLES if f == g and a != b]


@pytest.mark.parametrize(("family", "source", "target"), PAIRS)
def test_files_go_through_another_dialect_and_back_with_their_buffers(family, source, target):
    made = model(family)
    file = rename(made.state_dict(), "minswin", source, model=made)
    there = rename(file, source, target, model=made)
    assert same(rename(there, target, source, model=made), file)


@pytest.mark.parametrize(("family", "other"), TABLES)
def test_every_dialect_is_recognised(family, other):
    made = model(family)
    theirs = rename(made.state_dict(), "minswin", other, model=made)
    first = next(of for f, of in TABLES if f == family) if family == "resnet" else other
    assert dialect(theirs) == (first if other == "timm" else other)
    assert recognise(theirs).family == family


# What has names in a model that others of its family have not.
CHOICES = {
    "swin": [{"ape": True}, {"stem": "convolutions"}, {"qkv_bias": False}, {"patch_norm": False}],
    "swinv2": [{"ape": True}, {"stem": "convolutions"}, {"qkv_bias": False}],
    "vit": [
        {"positions": "relative"},
        {"positions": "learned_2d"},
        {"positions": "sinusoidal", "embed_dim": 8},
        {"stem": "convolutions"},
        {"qkv_bias": False},
        {"global_pool": "avg"},
        {"representation_size": 7},
    ],
    "deit": [{"positions": "relative"}, {"positions": "learned_2d"}, {"stem": "convolutions"}],
    "tnt": [{"qkv_bias": True}, {"legacy": True}],
    "resnet": [{"block": "bottleneck"}, {"shortcut": "padding"}, {"stem": "cifar"}],
}
NAMED = [(CLASSES[name].family, name, {}) for name in list_models()]
OWN_NAMES = [*NAMED, *((f, small(f)[0], {**small(f)[1], **x}) for f in CHOICES for x in CHOICES[f])]


@pytest.mark.parametrize(("family", "name", "settings"), OWN_NAMES)
def test_every_model_is_recognised_under_our_own_names(family, name, settings):
    build = CLASSES[name]
    state = build(**{**MODELS[name], **settings}, rng=BLANK).state_dict()
    known = recognise(state)
    assert known.family == family and not known.unknown and known.weights.keys() == state.keys()
    assert translate(state, family, MINSWIN, towards=OURS) == (state, [])
    assert settings or name in fitting(known)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_under_our_own_names_is_described_and_converted(family, tmp_path):
    made = model(family)
    save_weights(tmp_path / "a.npz", made.state_dict())
    told = weights.describe(tmp_path / "a.npz")
    assert FAMILIES[family].paper in told and "\nfits " in told and "problem" not in told
    for of in (*FAMILIES[family].tables, MINSWIN):
        weights.convert(tmp_path / "a.npz", tmp_path / "b.npz", to=of, model=made)
        weights.convert(tmp_path / "b.npz", tmp_path / "c.npz", to=MINSWIN)
        assert same(weights.read_weights(tmp_path / "c.npz"), made.state_dict())


@pytest.mark.parametrize("family", ["swin", "swinv2"])
@pytest.mark.parametrize("other", ["microsoft", "timm"])
def test_a_swin_without_a_head_is_recognised_by_the_place_of_its_merges(family, other):
    made = model(family)
    theirs = rename(made.state_dict(), "minswin", other, model=made)
    body = {name: array for name, array in theirs.items() if "head" not in name}
    assert dialect(body) == other
    back = rename(body, other, "minswin")
    assert same(back, {n: a for n, a in made.state_dict().items() if "head" not in n})


def test_every_table_is_of_a_known_dialect_and_uses_each_name_once():
    for family, other in TABLES:
        assert other in DIALECTS
        written = [row for row in rows(family, other) if not {"read", "checked"} & {*row.marks}]
        for side in (OURS, THEIRS):
            names = [name.text for row in written for name in row.sides[side]]
            names = [name for name in names if name != ZEROS]
            assert len(set(names)) == len(names) > 0, (family, other)


def test_names_of_a_published_file_typed_by_hand():
    ours = model("swin").state_dict()
    named = {
        "timm": ("layers.1.downsample.norm.weight", "layers.0.downsample.norm.weight"),
        "torchvision": ("features.5.1.mlp.3.bias", "layers.2.blocks.1.mlp.fc2.bias"),
        "transformers": (
            "swin.encoder.layers.2.blocks.0.attention.output.dense.weight",
            "layers.2.blocks.0.attn.proj.weight",
        ),
    }
    for other, (theirs, mine) in named.items():
        assert rename(ours, "minswin", other)[theirs] is ours[mine]
    key = rename(ours, "minswin", "transformers")[
        "swin.encoder.layers.1.blocks.0.attention.self.key.bias"
    ]
    assert np.array_equal(key, ours["layers.1.blocks.0.attn.qkv.bias"][12:24])


def test_torchvisions_bias_of_the_keys_must_be_zero():
    made = model("swinv2")
    theirs = rename(made.state_dict(), "minswin", "torchvision", model=made)
    name = "features.1.0.attn.qkv.bias"
    assert not theirs[name][6:12].any() and theirs[name].shape == (18,)
    theirs[name][7] = 1e-3
    with pytest.raises(ValueError, match="numbers other than 0"):
        rename(theirs, "torchvision", "minswin")


def test_older_names_of_torchvision_are_read():
    ours = model("vit").state_dict()
    theirs = rename(ours, "minswin", "torchvision")
    older = (("mlp.0", "mlp.linear_1"), ("mlp.3", "mlp.linear_2"))
    old = dict(theirs)
    for new, was in older:
        old = {name.replace(new, was): array for name, array in old.items()}
    assert old.keys() != theirs.keys()
    assert same(rename(old, "torchvision", "minswin"), ours)


@pytest.mark.parametrize(
    ("name", "base"), [("vit_cifar_small", "vit."), ("swin_cifar_small", "swin.")]
)
def test_a_model_that_transformers_saved_without_its_head_is_recognised(name, base):
    model = create_model(name)
    theirs = rename(model.state_dict(), "minswin", "transformers", model=model)
    theirs = {n.removeprefix(base): x for n, x in theirs.items() if n.startswith(base)}
    again = load(name, theirs, head="fresh")
    for own, array in model.state_dict().items():
        assert own.startswith("head.") or np.array_equal(again.state_dict()[own], array), own


def test_a_stem_of_convolutions_fits_the_model_that_has_one_and_has_names_of_ours_alone() -> None:
    named = {"swin_cifar_stem", "swin_cifar_small"}
    for name in named:
        state = create_model(name, rng=0).state_dict()
        assert named & set(fitting(recognise(state))) == {name}
    with pytest.raises(ValueError, match=r"timm has no name for patch_embed\.convs\.0\.weight"):
        rename(create_model("swin_cifar_stem", rng=0).state_dict(), "minswin", "timm")


# ── what is refused ──────────────────────────────────────────────────────────────────────────────


def test_names_that_nobody_uses_are_refused():
    with pytest.raises(ValueError, match="none of the known families"):
        dialect({"encoder.weight": np.zeros(3), "decoder.weight": np.zeros(3)})
    state = {**model("swin").state_dict(), "extra.gamma": np.zeros(3)}
    with pytest.raises(ValueError, match=r"microsoft for a swin, but it has no extra\.gamma"):
        dialect(state)
    with pytest.raises(ValueError, match=r"microsoft has no extra\.gamma"):
        rename(state, "microsoft", "timm")
    with pytest.raises(ValueError, match="are not those of torchvision"):
        rename(state, "torchvision", "timm")
    with pytest.raises(ValueError, match="torchvision has no tnt"):
        rename(model("tnt").state_dict(), "original", "torchvision")
    with pytest.raises(ValueError, match="target must be one of"):
        rename(model("tnt").state_dict(), "original", "jax")


def test_a_part_that_the_other_has_not_is_refused():
    made = model("vit", positions="learned_2d")
    with pytest.raises(ValueError, match=r"transformers has no name for pos_embed\.row"):
        rename(made.state_dict(), "minswin", "transformers")


def test_a_key_without_its_query_is_refused():
    theirs = rename(model("vit").state_dict(), "minswin", "transformers")
    del theirs["vit.encoder.layer.1.attention.attention.query.weight"]
    with pytest.raises(ValueError, match=r"layer\.1\.attention\.attention\.key\.weight"):
        rename(theirs, "transformers", "minswin")


# ── loading ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("family", "other"), TABLES)
def test_weights_of_every_dialect_load(family, other):
    made = model(family)
    file = rename(made.state_dict(), "minswin", other, model=made)
    name, settings = small(family)
    loaded = minswin.create_model(name, weights=file, **settings)
    assert same(loaded.state_dict(), made.state_dict())


def test_a_file_of_half_precision_loads_and_a_double_too():
    made = model("vit")
    for kind in (np.float16, np.float64):
        file = {n: a.astype(kind) for n, a in made.state_dict().items()}
        loaded = load("vit_cifar", file, **VIT).state_dict()
        assert all(np.array_equal(loaded[n], file[n].astype(np.float32)) for n in file)


def test_the_room_has_one_small_public_list():
    functions = {name for name in weights.__all__ if callable(getattr(weights, name))}
    assert functions == set(weights.__all__)
    assert {"dialect", "rename", "load", "convert", "read_weights", "save_weights"} <= functions
    made = model("vit")
    theirs = weights.rename(made.state_dict(), "minswin", "transformers")
    assert weights.dialect(theirs) == "transformers"
    loaded = weights.load("vit_cifar", theirs, **VIT)
    assert same(loaded.state_dict(), made.state_dict())


# ── windows that the model has not ───────────────────────────────────────────────────────────────

V2_WINDOWS = [((3, 6, 0), None), (None, (3, 6, 0)), ((3, 6, 0), (3, 3, 0))]


@pytest.mark.parametrize(("learnt", "built"), V2_WINDOWS)
@pytest.mark.parametrize("other", ["microsoft", "torchvision"])
def test_a_bias_that_was_learnt_in_other_windows_is_told(learnt, built, other):
    made = model("swinv2", pretrained_window_sizes=learnt)
    file = rename(made.state_dict(), "minswin", other, model=made)
    sides = re.escape(str((*(learnt or (4, 4))[:2], 4)))
    with pytest.warns(UserWarning, match=rf"with pretrained_window_sizes={sides}") as warned:
        load(model("swinv2", pretrained_window_sizes=built), file)
    assert warned[0].filename == __file__
    lines = []
    load(model("swinv2", pretrained_window_sizes=built), file, tell=lines.append)
    assert len(lines) == 1 and "windows of" in lines[0]
    lines.clear()
    load(model("swinv2", pretrained_window_sizes=learnt), file, tell=lines.append)
    assert not lines


def test_tables_of_as_many_rows_but_another_window_are_told():
    made = model("swin", window_size=(2, 4))
    file = rename(made.state_dict(), "minswin", "microsoft", model=made)
    with pytest.warns(UserWarning, match="windows of 2×4, 2×4, 2×4, the model's are 4×2"):
        load(model("swin", window_size=(4, 2)), file)
    load(made, file)
