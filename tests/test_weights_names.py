"""Names of other implementations: recognised, one to one, and their buffers checked."""

from __future__ import annotations

import os
import re
import tracemalloc

import numpy as np
import pytest

import minswin
from minswin.cli import main
from minswin.models import create_model, list_models
from minswin.models.registry import CLASSES
from minswin.weights.convert import describe
from minswin.weights.families import DIALECTS, FAMILIES, TABLES
from minswin.weights.families.swin_buffers import check
from minswin.weights.load import load
from minswin.weights.recognise import dialect, fitting, recognise, settings_of
from minswin.weights.rename import rename

SWIN = {
    "img_size": 32,
    "patch_size": 2,
    "window_size": 4,
    "embed_dim": 6,
    "depths": (2, 1, 2),
    "num_heads": (1, 3, 2),
    "num_classes": 5,
}
VIT = {
    "img_size": (8, 20),
    "patch_size": 4,
    "embed_dim": 6,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 5,
}
TNT = {"img_size": 8, "embed_dim": 6, "inner_dim": 4, "depth": 2, "num_heads": 2}
MODELS = {
    "swin": ("swin_cifar", SWIN),
    "swinv2": ("swinv2_cifar", SWIN),
    "vit": ("vit_cifar", VIT),
    "deit": ("deit_cifar_distilled", VIT),
    "tnt": ("tnt_cifar", TNT),
    "resnet": ("resnet18", {"width": 4, "depths": (1, 2), "num_classes": 5}),
}


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and deviation of red, green, blue
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def small(family):
    """A name and settings; of a family without a line above, the last name of its class."""
    last = [name for name in list_models() if CLASSES[name].family == family][-1]
    return MODELS.get(family, (last, {}))


def model(family, **more):
    name, settings = small(family)
    rng = np.random.default_rng(3)
    made = create_model(name, rng=rng, **{**settings, **more})
    for array in made.state_dict().values():
        if array.dtype.kind == "f":
            array += rng.standard_normal(array.shape).astype(array.dtype)
    return made


def same(a, b):
    return a.keys() == b.keys() and all(
        a[n].dtype == b[n].dtype and np.array_equal(a[n], b[n]) for n in a
    )


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
        made = model(family)
        theirs = rename(made.state_dict(), "minswin", other, model=made)
        assert other in DIALECTS
        assert len({id(name) for name in theirs}) == len(theirs)


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


# ── buffers ──────────────────────────────────────────────────────────────────────────────────────


def test_the_originals_buffers_are_as_many_as_published():
    """190 entries of Swin-T: 173 parameters, 12 indices, 5 masks."""
    blank = create_model("swin_tiny", rng=np.random.default_rng(0)).state_dict()
    state = rename(blank, "minswin", "microsoft")  # its geometry is known by its name
    _, buffers = FAMILIES["swin"].split(state)
    assert len(state) == 190 and len(buffers) == 17
    masks = {n: a.shape for n, a in buffers.items() if n.endswith("attn_mask")}
    assert masks == {
        "layers.0.blocks.1.attn_mask": (64, 49, 49),
        "layers.1.blocks.1.attn_mask": (16, 49, 49),
        **{f"layers.2.blocks.{j}.attn_mask": (4, 49, 49) for j in (1, 3, 5)},
    }
    assert len(rename(blank, "minswin", "torchvision")) == 185
    assert len(rename(blank, "minswin", "transformers")) == 233
    assert len(rename(blank, "minswin", "timm")) == 173
    known = recognise(state)
    assert fitting(known) == ["swin_tiny"]
    assert settings_of(known)["img_size"] == (224, 224)


@pytest.mark.parametrize(
    ("family", "name", "said"),
    [
        ("swin", "layers.0.blocks.1.attn.relative_position_index", "tokens 2 and 3"),
        ("swin", "layers.1.blocks.0.attn.relative_position_index", "tokens 2 and 3"),
        ("swin", "layers.0.blocks.1.attn_mask", "not the mask"),
        ("swinv2", "layers.2.blocks.1.attn.relative_coords_table", "log-spaced"),
        ("swinv2", "layers.2.blocks.0.attn.relative_position_index", "tokens 2 and 3"),
    ],
)
def test_a_buffer_that_differs_is_refused(family, name, said):
    made = model(family)
    file = rename(made.state_dict(), "minswin", "microsoft", model=made)
    file[name] = file[name].copy()
    at = (0, 2, 3) if file[name].ndim == 3 else (0, 2, 3, 0) if file[name].ndim == 4 else (2, 3)
    file[name][at] += 1
    for use in (lambda: rename(file, "microsoft", "timm"), lambda: load(made, file)):
        with pytest.raises(ValueError, match=said) as error:
            use()
        assert name in str(error.value)


def test_an_index_of_keys_minus_queries_is_refused():
    made = model("swin")
    file = rename(made.state_dict(), "minswin", "torchvision", model=made)
    name = "features.1.0.attn.relative_position_index"
    file[name] = np.ascontiguousarray(file[name].reshape(16, 16).T).reshape(-1)
    with pytest.raises(
        ValueError, match=r"tokens 0 and 1 have the bias in row 23; the file has 25"
    ):
        rename(file, "torchvision", "minswin")


@pytest.mark.parametrize("window", [(2, 4), (4, 2)])
def test_the_buffers_of_windows_that_are_not_square_are_made_and_read(window):
    made = model("swin", window_size=window, img_size=(32, 48), depths=(2, 2, 2))
    file = rename(made.state_dict(), "minswin", "microsoft", model=made)
    assert same(rename(file, "microsoft", "minswin"), made.state_dict())
    assert same(rename(file, "microsoft", "microsoft", model=made), file)
    own = settings_of(recognise(file))
    assert own["window_size"] == window and own["img_size"] == (32, 48)


def test_the_window_of_the_pre_training_is_read_from_the_coordinates():
    made = model("swinv2", pretrained_window_sizes=(3, 6, 0))
    file = rename(made.state_dict(), "minswin", "microsoft", model=made)
    own = settings_of(recognise(file))
    assert own["pretrained_window_sizes"] == (3, 6, 0) and own["window_size"] == (4, 4)
    assert same(rename(file, "microsoft", "microsoft"), file)  # the file itself tells all


@pytest.mark.parametrize(("other", "ape"), [("torchvision", False), ("microsoft", True)])
def test_an_index_is_not_guessed_for_a_table_of_no_square_window(other, ape):
    made = model("swin", window_size=(2, 4), ape=ape)
    with pytest.raises(ValueError, match=r"the window that.*model="):
        rename(made.state_dict(), "minswin", other)
    file = rename(made.state_dict(), "minswin", other, model=made)
    assert same(rename(file, other, "minswin"), made.state_dict())


@pytest.mark.parametrize(
    ("name", "shape"),
    [("attn.relative_position_index", (700, 1)), ("attn_mask", (1, 700, 1))],
)
def test_a_thin_buffer_is_refused_before_a_square_one_is_made(name, shape):
    buffers = {f"layers.0.blocks.1.{name}": np.zeros(shape, np.int8)}
    with pytest.raises(ValueError, match="is not the"):
        check(buffers, {})  # imports what the first call imports
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="is not the"):
            check(buffers, {})
        assert tracemalloc.get_traced_memory()[1] < 700 * 700
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("last", [3e38, 350.0])
def test_coordinates_beyond_all_windows_are_refused(last):
    made = model("swinv2")
    file = rename(made.state_dict(), "minswin", "microsoft", model=made)
    name = "layers.0.blocks.0.attn.relative_coords_table"
    file[name] = file[name].copy()
    file[name][0, -1, 0, 0] = last
    with pytest.raises(ValueError, match="log-spaced"):
        rename(file, "microsoft", "minswin")


def test_masks_need_a_model_where_nothing_tells_the_size_of_the_image():
    made = model("swin")
    with pytest.raises(ValueError, match=r"size of the image.*model="):
        rename(made.state_dict(), "minswin", "microsoft")


# ── loading ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("family", "other"), TABLES)
def test_weights_of_every_dialect_load(family, other):
    made = model(family)
    file = rename(made.state_dict(), "minswin", other, model=made)
    name, settings = small(family)
    loaded = minswin.create_model(name, weights=file, **settings)
    assert same(loaded.state_dict(), made.state_dict())


def test_everything_that_does_not_fit_is_said_in_one_message():
    made = model("swin")
    before = {name: array.copy() for name, array in made.state_dict().items()}
    file = rename(made.state_dict(), "minswin", "timm")
    file["head.fc.weight"] = np.zeros((7, 24), np.float32)
    file["extra.gamma"] = file.pop("norm.bias")
    with pytest.raises(ValueError) as error:
        load(made, file)
    said = str(error.value)
    for part in ("missing (1): norm.bias", "unexpected (1): extra.gamma", "wrong shape (1): head"):
        assert part in said
    assert "num_classes" in said
    assert same(made.state_dict(), before)


def test_a_file_of_half_precision_loads_and_a_double_too():
    made = model("vit")
    for kind in (np.float16, np.float64):
        file = {n: a.astype(kind) for n, a in made.state_dict().items()}
        loaded = load("vit_cifar", file, **VIT).state_dict()
        assert all(np.array_equal(loaded[n], file[n].astype(np.float32)) for n in file)


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_converted_and_described(tmp_path, capsys):
    from minswin import cli
    from minswin.weights.files import read_weights, save_weights

    made = create_model("swin_cifar_small", rng=np.random.default_rng(0))
    state = made.state_dict()
    save_weights(tmp_path / "a.safetensors", state)
    for there, to in (("b.pth", "microsoft"), ("c.npz", "transformers"), ("d.safetensors", None)):
        given = ["convert", str(tmp_path / "a.safetensors"), str(tmp_path / there)]
        assert cli.main([*given, "--to", to] if to else given) == 0
        assert there in capsys.readouterr().out
        back = dict(read_weights(tmp_path / there))
        assert same(rename(back, to, "minswin") if to else back, state)
        assert cli.main(["info", str(tmp_path / there)]) == 0
        said = capsys.readouterr().out
        assert "swin_cifar_small" in said and f"of {to or 'microsoft'}" in said
        assert "float32" in said and f"{(tmp_path / there).stat().st_size:,} bytes" in said
    assert "equal to those that minswin computes" in describe(tmp_path / "b.pth")
    loaded = minswin.create_model("swin_cifar_small", weights=tmp_path / "c.npz")
    assert same(loaded.state_dict(), state)


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("patch_embed.proj.weight", None),
        ("patch_embed.proj.weight", np.ones(3)),
        ("layers.0.blocks.0.attn.relative_position_bias_table", np.ones(3)),
        ("layers.1.blocks.0.attn.relative_position_bias_table", None),
        ("layers.0.blocks.0.mlp.fc1.weight", None),
        ("head.weight", np.array(3.0)),
    ],
)
def test_a_part_of_a_model_is_described_as_one(name, to, tmp_path, capsys):
    from minswin import cli
    from minswin.weights.files import save_weights

    state = model("swin").state_dict()
    if to is None:
        del state[name]
    else:
        state[name] = to
    save_weights(tmp_path / "a.npz", state)
    assert cli.main(["info", str(tmp_path / "a.npz")]) == 0
    problem = capsys.readouterr().out.splitlines()[-1]
    assert problem.startswith("problem") and "in one of several files?" in problem
    assert to is not None or name in problem


def test_a_file_that_is_not_there_is_not_taken_for_a_model(tmp_path, capsys):
    from minswin import cli

    for path, why in (("a.pth", "does not exist"), ("", "is a folder")):
        assert cli.main(["info", str(tmp_path / path)]) == 2
        assert why in capsys.readouterr().err
    assert cli.main(["info", os.devnull]) == 2
    assert "is no plain file" in capsys.readouterr().err


def test_a_wrapper_and_the_rest_of_a_checkpoint_are_described_as_they_are(tmp_path):
    from minswin.weights.files import save_weights

    state = model("vit").state_dict()
    save_weights(tmp_path / "a.pth", state, wrapper="model")
    assert "found       under 'model'\n" in describe(tmp_path / "a.pth")
    save_weights(tmp_path / "b.pth", {f"module.{name}": x for name, x in state.items()})
    assert "found       without the prefix 'module.'\n" in describe(tmp_path / "b.pth")
    run = {f"{group}/{name}": x for group in ("weights", "optimizer") for name, x in state.items()}
    save_weights(tmp_path / "c.npz", run)
    assert f"numbers ({len(state)} of float32)" in describe(tmp_path / "c.npz")


def test_running_averages_are_not_counted_as_parameters(tmp_path):
    from minswin.weights.files import save_weights

    made = model("resnet")
    save_weights(tmp_path / "a.pth", made.state_dict())
    assert f"parameters  {made.parameter_count():,}\n" in describe(tmp_path / "a.pth")


def test_predict_prepares_a_picture_as_published_and_numbers_the_classes(tmp_path, capsys):
    Image = pytest.importorskip("PIL.Image")
    from minswin import cli
    from minswin.data.pictures import prepare
    from minswin.weights.files import save_weights

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 83, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    resized = Image.fromarray(pixels).resize((59, 36), Image.Resampling.BICUBIC)  # 36·83//50
    expected = np.asarray(resized)[2:34, 14:46].transpose(2, 0, 1)  # round(13.5) is 14
    found = prepare(tmp_path / "a.png", (32, 32))
    assert found.shape == (3, 32, 32) and np.array_equal(found, expected)
    squeezed = Image.fromarray(pixels).resize((384, 384), Image.Resampling.BICUBIC)
    assert np.array_equal(prepare(tmp_path / "a.png", (384, 384)).transpose(1, 2, 0), squeezed)

    made = create_model("swin_cifar_small", num_classes=7, rng=rng)
    save_weights(tmp_path / "a.safetensors", rename(made.state_dict(), "minswin", "timm"))
    command = ["predict", str(tmp_path / "a.png"), "--model", "swin_cifar_small"]
    assert cli.main([*command, "--weights", str(tmp_path / "a.safetensors"), "--top", "7"]) == 0
    out = capsys.readouterr().out
    mean, std = (np.array(x)[:, None, None] for x in IMAGENET)
    x = ((expected / 255 - mean) / std).astype(np.float32)[None]
    logits = made.eval()(x).data[0]
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    about, _, *lines = out.splitlines()
    assert about.startswith("swin_cifar_small, 32×32, 7 classes, weights of ")
    assert lines[0].startswith(f"class {shares.argmax()} ") and len(lines) == 7
    assert f"{shares.max():.1%}" in lines[0]
    assert cli.main(command) == 2
    assert "belong together" in capsys.readouterr().err
    command[3:] = ["vit_cifar_small", "--weights", str(tmp_path / "a.safetensors")]
    assert cli.main(command) == 2
    assert "a.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "other", "expected"),
    [
        ("swin_tiny", "microsoft", IMAGENET),
        ("swinv2_tiny_window8_256", "transformers", IMAGENET),
        ("vit_base", "timm", HALF),
        ("vit_base", "transformers5", HALF),
        ("vit_base", "torchvision", IMAGENET),
        ("deit_base_distilled", "timm", IMAGENET),
        ("tnt_small", "original", HALF),
        ("resnet50", "torchvision", IMAGENET),
    ],
)
def test_pictures_are_normalised_as_in_the_training_of_the_published_weights(name, other, expected):
    from minswin.training.classifiers import statistics

    assert statistics(name, other) == expected


def test_the_room_has_one_small_public_list():
    from minswin import weights

    functions = {name for name in weights.__all__ if callable(getattr(weights, name))}
    assert functions == set(weights.__all__)
    assert {"dialect", "rename", "load", "convert", "read_weights", "save_weights"} <= functions
    made = model("vit")
    theirs = weights.rename(made.state_dict(), "minswin", "transformers")
    assert weights.dialect(theirs) == "transformers"
    loaded = weights.load("vit_cifar", theirs, **VIT)
    assert same(loaded.state_dict(), made.state_dict())


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


def test_an_entry_of_a_checkpoint_is_chosen_on_the_command_line(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    model = create_model("swin_cifar_small")
    state = {name: torch.tensor(x) for name, x in model.state_dict().items()}
    halves = {name: x / 2 for name, x in state.items()}
    torch.save({"first": state, "second": halves}, tmp_path / "two.pth")
    given = ["convert", str(tmp_path / "two.pth"), str(tmp_path / "out.npz")]
    assert main(given) == 2 and "--key" in capsys.readouterr().err
    assert main([*given, "--key", "second", "--to", "minswin"]) == 0
    with np.load(tmp_path / "out.npz") as out:
        assert np.array_equal(out["head.weight"], model.head.weight.data / 2)
    assert main(["info", given[1], "--key", "first"]) == 0
    assert "under 'first'" in capsys.readouterr().out
    whole = ["--to", "microsoft", "--model", "swin_cifar_small", "--key", "first"]
    assert main([*given, *whole]) == 0 and "100 arrays" in capsys.readouterr().out


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


# ── maps that are no square ──────────────────────────────────────────────────────────────────────


def test_the_image_of_positions_that_make_no_square_is_not_guessed():
    made = model("swin", img_size=(32, 48), depths=(2, 2, 2), ape=True)
    own = settings_of(recognise(made.state_dict()))
    assert own["img_size"] == "one of 384 patches, which are no square"
    with pytest.raises(ValueError, match="do not tell the size of the image that their masks"):
        rename(made.state_dict(), "minswin", "microsoft")
    file = rename(made.state_dict(), "minswin", "microsoft", model=made)
    assert settings_of(recognise(file))["img_size"] == (32, 48)


@pytest.mark.parametrize("family", ["vit", "deit"])
def test_nor_that_of_a_vit(family):
    own = settings_of(recognise(model(family).state_dict()))
    assert own["img_size"] == "one of 10 patches, which are no square"
