"""Weights come from wherever people have them, and what is not taken is named."""

from __future__ import annotations

import json
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import weight_files as build

import minswin
from minswin import cli
from minswin.models import create_model
from minswin.weights import dialect, load, read_file, read_weights, rename, save_weights
from minswin.weights.convert import convert, describe
from minswin.weights.recognise import fitting, recognise

SMALL = {"embed_dim": 6, "depths": (2, 1), "num_heads": (2, 3), "num_classes": 5}
VIT = {"img_size": 16, "embed_dim": 12, "depth": 2, "num_heads": 2, "num_classes": 5}


def swin(seed: int = 0):
    return create_model("swin_shapes", rng=np.random.default_rng(seed), **SMALL)


def vit(name: str = "vit_cifar", seed: int = 0, **settings):
    return create_model(name, rng=np.random.default_rng(seed), **{**VIT, **settings})


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in b)


STATE = swin().state_dict()
TIMM = rename(STATE, "minswin", "timm")


# ── prefixes and strays ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "prefix", ["net.", "encoder.", "backbone.", "module.", "_orig_mod.", "module.net.model.x."]
)
@pytest.mark.parametrize("state", [STATE, TIMM], ids=["our names", "timm's"])
def test_a_prefix_of_all_names_is_taken_off_and_told(prefix, state) -> None:
    lines: list[str] = []
    wrapped = {prefix + name: x for name, x in state.items()}
    assert same(load(swin(1), wrapped, tell=lines.append).state_dict(), STATE)
    assert lines == [f"names: without the prefix {prefix!r}"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(load(swin(1), wrapped).state_dict(), STATE)


def test_what_stands_beside_the_prefix_is_left_out_and_named() -> None:
    wrapped = {f"net.{name}": x for name, x in TIMM.items()}
    wrapped["criterion.weight"] = np.ones(3)
    lines: list[str] = []
    assert same(load(swin(1), wrapped, tell=lines.append).state_dict(), STATE)
    assert lines[1] == "left out, beside the prefix 'net.': criterion.weight"
    with pytest.warns(UserWarning, match=r"load: the weights: left out, .*criterion\.weight"):
        load(swin(1), wrapped)


def test_a_head_beside_the_prefix_belongs_to_the_model() -> None:
    wrapped = {n if n.startswith("head.") else f"backbone.{n}": x for n, x in STATE.items()}
    assert same(load(swin(1), wrapped).state_dict(), STATE)
    wrapped["backbone.head.weight"] = wrapped["head.weight"] + 1
    with pytest.warns(UserWarning, match=r"beside the prefix 'backbone.': head.weight$"):
        loaded = load(swin(1), wrapped)
    assert np.array_equal(loaded.head.weight.data, STATE["head.weight"] + 1)


def test_unknown_names_inside_the_prefix_are_an_error() -> None:
    wrapped = {f"net.{name}": x for name, x in STATE.items()} | {"net.more.weight": np.ones(3)}
    with pytest.raises(ValueError, match=r"unexpected \(1\): more\.weight"):
        load(swin(1), wrapped)


def test_two_models_in_one_state_are_told_apart_by_key(tmp_path) -> None:
    both = {f"student.{n}": x for n, x in TIMM.items()}
    both |= {f"teacher.{n}": x * 2 for n, x in TIMM.items()}
    with pytest.raises(ValueError, match=r"with 'student', \d+ with 'teacher'; choose one .* key="):
        load(swin(1), both)
    for form in ("npz", "safetensors", "pth"):
        save_weights(tmp_path / f"a.{form}", both)
        loaded = load(swin(1), tmp_path / f"a.{form}", key="teacher")
        assert same(loaded.state_dict(), {n: 2 * x for n, x in STATE.items()})
    assert same(load(swin(1), both, key="student").state_dict(), STATE)


def test_a_prefix_is_described_and_what_stands_beside_it(tmp_path) -> None:
    wrapped = {f"net.{n}": x for n, x in STATE.items()} | {"criterion.weight": np.ones(3)}
    save_weights(tmp_path / "a.npz", wrapped)
    text = describe(tmp_path / "a.npz")
    assert "found       without the prefix 'net.'\nbeside      criterion.weight\n" in text
    line = convert(tmp_path / "a.npz", tmp_path / "b.npz", to="timm")
    assert "left out, beside the prefix 'net.': criterion.weight" in line
    assert same(read_weights(tmp_path / "b.npz"), TIMM)


def test_a_model_that_no_table_has_takes_its_own_names_behind_a_prefix() -> None:
    made = vit(stem="convolutions", seed=3)
    wrapped = {f"net.{name}": x for name, x in made.state_dict().items()}
    loaded = load(vit(stem="convolutions"), wrapped)
    assert same(loaded.state_dict(), made.state_dict())


@pytest.mark.parametrize(
    ("name", "settings", "shown"),
    [
        ("swin_shapes", {"stem": "convolutions"}, "patch_size=4, stem=convolutions, stem_depth=0"),
        (
            "swin_shapes",
            {"stem": "convolutions", "stem_depth": 2, "patch_size": 2},
            "patch_size=2, stem=convolutions, stem_depth=2",
        ),
        ("vit_cifar", {"stem": "convolutions"}, "patch_size=4, stem=convolutions, stem_depth=0"),
        ("swin_shapes", {"stem": "overlapping"}, "4 with stem=overlapping, or 7 with stem=patches"),
        ("swin_shapes", {"stem": "overlapping", "ape": True}, "or 7 with stem=patches, depths"),
        ("vit_cifar", {"patch_size": 2, "stem": "overlapping"}, "or 3 with stem=patches, depth"),
        ("swin_shapes", {}, "patch_size=4, stem=patches, depths"),
    ],
)
def test_what_makes_tokens_is_described_as_it_is(name, settings, shown, tmp_path) -> None:
    usual = {"swin_shapes": SMALL, "vit_cifar": VIT}[name]
    made = create_model(name, rng=0, **{**usual, **settings})
    save_weights(tmp_path / "a.npz", made.state_dict())
    text = describe(tmp_path / "a.npz")
    told = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert shown in told["settings"] and "unknown" not in told
    if settings.get("stem") == "overlapping":
        assert "img_size" not in told["settings"]
        assert told["settings"].count("stem=") == 2
    assert told["parameters"] == f"{made.parameter_count():,}"


def test_a_stem_of_convolutions_fits_the_model_that_has_one_and_has_names_of_ours_alone() -> None:
    named = {"swin_cifar_stem", "swin_cifar_small"}
    for name in named:
        state = create_model(name, rng=0).state_dict()
        assert named & set(fitting(recognise(state))) == {name}
    with pytest.raises(ValueError, match=r"timm has no name for patch_embed\.convs\.0\.weight"):
        rename(create_model("swin_cifar_stem", rng=0).state_dict(), "minswin", "timm")


def test_an_index_is_written_for_patches_that_may_be_overlapping() -> None:
    state = create_model("swin_shapes", rng=0, stem="overlapping").state_dict()
    theirs = rename(state, "minswin", "torchvision")
    assert len(theirs["features.1.0.attn.relative_position_index"]) == 4**4
    assert same(rename(theirs, "torchvision", "minswin"), state)


# ── key= ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_dot_behind_the_beginning_of_names_changes_nothing() -> None:
    both = {"net." + n: x for n, x in STATE.items()} | {"ema." + n: x for n, x in doubled().items()}
    assert same(load(swin(1), both, key="ema.").state_dict(), doubled())


def test_two_stages_of_one_depth_are_shown_as_two(tmp_path: Path) -> None:
    model = create_model("swin_shapes", **{**SMALL, "depths": (2, 2)})
    save_weights(tmp_path / "two.safetensors", model.state_dict())
    shown = describe(tmp_path / "two.safetensors")
    assert "depths=(2,2)" in shown and "window_size=4," in shown


def two_entries(path: Path) -> Path:
    """A checkpoint with two states, one of them inside another entry."""
    items = [build.dictionary(entries_of(state)) for state in (STATE, doubled())]
    inner = build.dictionary([("weights", items[1])])
    tree = build.dictionary([("first", items[0]), ("second", inner)])
    numbers = [build.raw(x) for state in (STATE, doubled()) for x in state.values()]
    path.write_bytes(build.pth_file(build.HEAD + tree + build.END, numbers))
    return path


def doubled() -> dict[str, np.ndarray]:
    return {name: 2 * x for name, x in STATE.items()}


def entries_of(state: dict[str, np.ndarray]) -> list[tuple[str, bytes]]:
    first = 0 if state["head.bias"] is STATE["head.bias"] else len(STATE)
    made = []
    for key, (label, array) in enumerate(state.items(), first):
        store = build.storage("Float", str(key), array.size)
        steps = tuple(int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim))
        made.append((label, build.tensor(store, 0, array.shape, steps)))
    return made


def test_key_chooses_in_python(tmp_path) -> None:
    path = two_entries(tmp_path / "two.pth")
    assert same(load(swin(1), path, key="first").state_dict(), STATE)
    made = minswin.create_model("swin_shapes", weights=path, key="second.weights", **SMALL)
    assert same(made.state_dict(), doubled())
    assert same(load(swin(1), {"a": STATE, "b": doubled()}, key="b").state_dict(), doubled())
    with pytest.raises(ValueError, match=r"Choose with key= \(--key\); 'a' or 'b' hold tensors"):
        load(swin(1), {"a": STATE, "b": doubled()})


def test_the_only_entry_that_holds_tensors_is_taken() -> None:
    whole = {"epoch": 3, "generator": STATE, "optimizer": {"lr": 0.1}}
    assert same(load(swin(1), whole).state_dict(), STATE)


def test_key_chooses_on_the_command_line(tmp_path, capsys) -> None:
    Image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    made = create_model("swin_shapes", rng=np.random.default_rng(0))
    save_weights(
        tmp_path / "a.npz", {f"{k}.{n}": x for k in "ab" for n, x in made.state_dict().items()}
    )
    weights = ["--model", "swin_shapes", "--weights", str(tmp_path / "a.npz")]
    commands = (
        ["predict", str(tmp_path / "a.png"), *weights],
        ["trace", *weights, "--batch", "1", "--no-grad", "-o", str(tmp_path / "trace")],
        ["convert", str(tmp_path / "a.npz"), str(tmp_path / "b.npz"), "--to", "timm"],
    )
    for command in commands:
        assert cli.main(command) == 2 and "--key" in capsys.readouterr().err
        assert cli.main([*command, "--key", "b"]) == 0, capsys.readouterr().err
    assert cli.main(["info", str(tmp_path / "a.npz"), "--key", "a"]) == 0
    assert "under 'a'" in capsys.readouterr().out
    assert cli.main(["predict", str(tmp_path / "a.png"), "--key", "a"]) == 2
    assert "--key chooses an entry of the file of --weights" in capsys.readouterr().err


# ── formats ──────────────────────────────────────────────────────────────────────────────────────


def shards(folder: Path, form: str = "safetensors") -> Path:
    """Three files and their index; gives the index."""
    names = list(TIMM)
    base = "model" if form == "safetensors" else "pytorch_model"
    ending = "safetensors" if form == "safetensors" else "bin"
    places = {}
    for k in range(3):
        file = f"{base}-{k + 1:05}-of-00003.{ending}"
        part = {name: TIMM[name] for name in names[k::3]}
        save_weights(folder / f"part.{form}", part)
        os.replace(folder / f"part.{form}", folder / file)
        places |= dict.fromkeys(part, file)
    index = folder / f"{base}.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("form", ["safetensors", "pth"])
def test_shards_are_read_by_their_index_or_their_folder(form, tmp_path) -> None:
    index = shards(tmp_path, form)
    for path in (index, tmp_path):
        assert same(read_weights(path), TIMM)
        assert same(load(swin(1), path).state_dict(), STATE)
    size = sum(file.stat().st_size for file in tmp_path.iterdir() if file != index)
    assert f"in 3 files, {size:,} bytes" in describe(index)
    if form == "safetensors":
        assert not any(x.flags.owndata or x.flags.writeable for x in read_weights(index).values())


def test_a_missing_shard_is_named(tmp_path) -> None:
    index = shards(tmp_path)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"lists 3 files, and model-00002-of-00003\S+ cannot"
    ):
        read_weights(index)


def test_a_shard_alone_points_to_the_others(tmp_path) -> None:
    shards(tmp_path)
    with pytest.raises(ValueError, match=r"It is one of several files: give their folder"):
        load(swin(1), tmp_path / "model-00001-of-00003.safetensors")


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"weight_map": {"a": "../model.safetensors"}}, "which is no file beside it"),
        ({"weight_map": {"a": "/etc/passwd"}}, "which is no file beside it"),
        ({"weight_map": {"a": ["b"]}}, "which is no file beside it"),
        ({"weight_map": {}}, "lists 0 files"),
        ({"hidden_size": 3}, "is a JSON text without a weight_map"),
        ([1], "is a JSON text without a weight_map"),
        ({"weight_map": {"other": "model-00001-of-00003.safetensors"}}, "does not hold it"),
    ],
)
def test_an_index_that_is_none_is_refused(table, why, tmp_path) -> None:
    shards(tmp_path).write_text(json.dumps(table))
    with pytest.raises(ValueError, match=rf"read_weights: \S+index\.json .*{why}"):
        read_weights(tmp_path / "model.safetensors.index.json")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"weight_map": 3e'])
def test_an_index_that_is_damaged_is_refused(text, tmp_path) -> None:
    index = shards(tmp_path)
    index.write_text(text)
    with pytest.raises(ValueError, match=r"read_weights: \S+index\.json "):
        read_weights(index)


def test_a_damaged_shard_is_named(tmp_path) -> None:
    index = shards(tmp_path)
    file = tmp_path / "model-00003-of-00003.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"lists model-00003-of-00003.safetensors, which has"):
        read_weights(index)


def test_pipes_folders_and_empty_files_say_what_they_are(tmp_path) -> None:
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileNotFoundError, match="is no plain file but a pipe"):
            read_weights(tmp_path / "pipe")
    (tmp_path / "empty.pth").touch()
    with pytest.raises(ValueError, match=r"empty\.pth is empty, expected weights"):
        load(swin(1), tmp_path / "empty.pth")
    save_weights(tmp_path / "some.npz", STATE)
    with pytest.raises(FileNotFoundError, match=r"is a folder; .* in it are empty\.pth, some\.npz"):
        load(swin(1), tmp_path)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_protocol_of_torch_save_is_read(protocol, new, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(x.copy()) for name, x in STATE.items()}
    beside = {"epoch": 3, "big": 2**40, "neg": -(2**40), "yes": True, "no": False, "lr": 0.1}
    torch.save(
        {**beside, "é": [1, (2, 3)], "model": state},
        tmp_path / "a.pth",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=new,
    )
    assert same(read_weights(tmp_path / "a.pth"), STATE)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_protocol_0_says_what_to_do(new, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    file = tmp_path / "a.pth"
    torch.save({"a": torch.ones(2)}, file, pickle_protocol=0, _use_new_zipfile_serialization=new)
    with pytest.raises(ValueError, match=r"saved with pickle_protocol=0, .* save it again without"):
        read_weights(file)


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_pickle_without_tensors_says_what_it_is(protocol, tmp_path) -> None:
    """Not only what torch writes today: built here, so that it runs without torch."""
    tree = pickle.dumps({"epoch": 3, "best": True, "big": 2**70}, protocol)
    (tmp_path / "a.pth").write_bytes(build.pth_file(tree, []))
    why = "saved with pickle_protocol=0" if protocol == 0 else "found: 'epoch', 'best', 'big'"
    with pytest.raises(ValueError, match=why):
        read_weights(tmp_path / "a.pth")


# ── tensors and models where arrays are expected ─────────────────────────────────────────────────


def test_tensors_of_torch_are_taken_everywhere(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    state = {n: torch.nn.Parameter(torch.from_numpy(x.copy())) for n, x in STATE.items()}
    assert same(load(swin(1), state).state_dict(), STATE)
    assert same(minswin.create_model("swin_shapes", weights=state, **SMALL).state_dict(), STATE)
    assert dialect(state) == "microsoft"
    assert same(rename(state, "minswin", "timm"), TIMM)
    save_weights(tmp_path / "a.npz", state)
    assert same(read_weights(tmp_path / "a.npz"), STATE)
    half = {name: x.detach().to(torch.bfloat16) for name, x in state.items()}
    wide = {name: x.float().numpy() for name, x in half.items()}
    assert same(load(swin(1), half).state_dict(), wide)


def test_tensors_of_torch_are_taken_by_load_state_dict_too() -> None:
    torch = pytest.importorskip("torch")
    made = swin(1)
    made.load_state_dict({n: torch.nn.Parameter(torch.from_numpy(x)) for n, x in STATE.items()})
    assert same(made.state_dict(), STATE)
    images = torch.ones(1, 3, 32, 32, requires_grad=True)
    assert np.array_equal(made(images).data, made(images.detach().numpy()).data)
    with pytest.raises(TypeError, match=r"expected arrays by name, got str; a file is read by"):
        made.load_state_dict("a.pth")


def test_a_model_is_taken_for_its_state() -> None:
    class Module:
        def state_dict(self):
            return {f"module.{name}": x for name, x in TIMM.items()}

    assert same(load(swin(1), Module()).state_dict(), STATE)
    assert same(load(swin(1), swin()).state_dict(), STATE)


def test_what_is_no_weights_is_refused_by_its_type() -> None:
    with pytest.raises(TypeError, match=r"load: weights must be a file, .* got int"):
        load(swin(1), 3)
    with pytest.raises(TypeError, match=r"load: epoch is a int, expected an array"):
        load(swin(1), {**STATE, "epoch": 3})


def test_the_folder_of_a_run_gives_its_best_epoch(tmp_path) -> None:
    for name, state in (("last", doubled()), ("best", STATE)):
        save_weights(
            tmp_path / f"{name}.safetensors", {f"weights/{n}": x for n, x in state.items()}
        )
    assert same(load(swin(1), tmp_path).state_dict(), STATE)
    (tmp_path / "best.safetensors").unlink()
    assert same(load(swin(1), tmp_path).state_dict(), doubled())


# ── the wrong family, and parts that ours do not have ────────────────────────────────────────────


def test_another_family_is_named_in_one_sentence(tmp_path) -> None:
    save_weights(tmp_path / "a.npz", create_model("swin_cifar_small").state_dict())
    with pytest.raises(ValueError) as caught:
        load(vit(), tmp_path / "a.npz")
    assert str(caught.value) == (
        f"load: {tmp_path / 'a.npz'} holds a Swin Transformer (names of microsoft), but vit_cifar "
        "is a Vision Transformer; it fits swin_cifar_small"
    )
    deit = vit("deit_cifar_distilled").state_dict()
    with pytest.raises(
        ValueError, match=r"holds a DeiT with a distillation token .* but vit_cifar"
    ):
        load(vit(), deit)


def test_names_of_no_family_give_no_long_list() -> None:
    names = {f"encoder.block{i}.conv.weight": np.ones(3) for i in range(300)}
    with pytest.raises(ValueError, match="none of the known families") as caught:
        load(swin(1), names)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("fc_norm.weight", "normalises after pooling"),
        ("reg_token", "register tokens"),
        ("blocks.0.ls1.gamma", "layer scale"),
        ("blocks.1.attn.q_norm.weight", "normalise queries and keys"),
        ("norm_pre.bias", "a norm before the blocks"),
    ],
)
def test_a_part_of_timms_vits_that_ours_lacks_is_explained(name, why, tmp_path) -> None:
    state = {**vit().state_dict(), name: np.ones(12, np.float32)}
    with pytest.raises(ValueError, match=why):
        load(vit(), state)
    save_weights(tmp_path / "a.npz", state)
    assert why in describe(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=why):
        convert(tmp_path / "a.npz", tmp_path / "b.npz", to="transformers")


def test_a_distillation_token_with_one_head_is_explained() -> None:
    """As transformers' DeiTForImageClassification saves it."""
    made = vit("deit_cifar_distilled")
    theirs = rename(made.state_dict(), "minswin", "transformers")
    theirs = {n.replace("cls_classifier", "classifier"): x for n, x in theirs.items()}
    one = {n: x for n, x in theirs.items() if not n.startswith("distillation_classifier")}
    with pytest.raises(ValueError, match=r"missing \(2\): head_dist.* The file has one head, head"):
        load(vit("deit_cifar_distilled"), one)
    loaded = load(vit("deit_cifar_distilled"), one, head="fresh")
    assert np.array_equal(loaded.dist_token.data, made.dist_token.data)


# ── what a conversion keeps ──────────────────────────────────────────────────────────────────────


def test_a_conversion_reports_widened_numbers(tmp_path) -> None:
    table = {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    content = build.safetensors_file(json.dumps(table).encode(), bytes(4))
    (tmp_path / "a.safetensors").write_bytes(content)
    line = convert(tmp_path / "a.safetensors", tmp_path / "b.npz")
    assert "1 arrays of bfloat16 were widened to float32" in line
    assert "bfloat16" not in convert(tmp_path / "b.npz", tmp_path / "c.npz")


def test_texts_of_a_safetensors_file_are_kept(tmp_path) -> None:
    save_weights(tmp_path / "a.safetensors", STATE, metadata={"format": "pt"})
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", to="timm")
    assert read_file(tmp_path / "b.safetensors").metadata == {"format": "pt"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    from minswin.training.checkpoints import export, find_trained, load_trained_model

    folder = tmp_path_factory.mktemp("exported")
    export(find_trained("swin_cifar_small"), folder / "own.safetensors")
    load_trained_model(folder / "own.safetensors")
    return folder / "own.safetensors"


@pytest.mark.parametrize("to", [None, "timm", "transformers"])
def test_weights_of_a_run_keep_their_normalisation_and_classes(to, exported, tmp_path) -> None:
    Image = pytest.importorskip("PIL.Image")
    from minswin.training.checkpoints import load_trained_model
    from minswin.training.classifiers import classifier, published_classifier

    pixels = np.random.default_rng(0).integers(0, 256, (50, 83, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    truth = classifier(exported)
    lines: list[str] = []
    convert(exported, tmp_path / "b.safetensors", to=to)
    file = tmp_path / "b.safetensors"
    converted = published_classifier("swin_cifar_small", file, tell=lines.append)
    assert list(converted.classes) == list(truth.classes) and not lines
    assert np.array_equal(converted(tmp_path / "a.png"), truth(tmp_path / "a.png"))
    assert "normalised by mean" in describe(tmp_path / "b.safetensors")
    if to is None:
        load_trained_model(tmp_path / "b.safetensors")  # still whole, with its check sum
    else:
        kept = json.loads(read_file(tmp_path / "b.safetensors").metadata["minswin"])
        assert kept.keys() == {"data"}  # no folders of the machine that trained it
        with pytest.raises(ValueError, match="not a checkpoint of 'minswin train'"):
            load_trained_model(tmp_path / "b.safetensors")


def test_a_format_that_cannot_keep_the_normalisation_says_so(exported, tmp_path) -> None:
    from minswin.training.classifiers import load_published

    line = convert(exported, tmp_path / "b.pth")
    assert "how the images of the training were normalised (mean 0.4914" in line
    lines: list[str] = []
    load_published("swin_cifar_small", tmp_path / "b.pth", tell=lines.append)
    assert lines[0].startswith("images are normalised by mean (0.485, ")


def test_a_file_that_is_no_archive_of_torch_keeps_its_error(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x07.")
    with pytest.raises(ValueError, match="pickle of protocol 7, expected 1 to 5"):
        read_weights(tmp_path / "a.pth")


def test_the_table_that_is_found_does_not_depend_on_a_prefix() -> None:
    for theirs in (STATE, TIMM, rename(STATE, "minswin", "transformers5")):
        plain, wrapped = recognise(theirs), recognise({f"a.b.{n}": x for n, x in theirs.items()})
        assert (plain.family, plain.dialect) == (wrapped.family, wrapped.dialect)
        assert same(plain.weights, wrapped.weights) and wrapped.prefix == "a.b."
