"""Whose tensor is whose: by name, by a map, by shape and value; nothing is turned in silence."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import score
from hypothesis import given
from hypothesis import strategies as st

from minswin.crosscheck.align import align, fit, read_theirs, without_copies
from minswin.crosscheck.compare import compare
from minswin.crosscheck.diagnose import diagnose
from minswin.crosscheck.fingerprints import SWIN
from minswin.crosscheck.layouts import Windows
from minswin.crosscheck.names import known_layers, resolve
from minswin.crosscheck.results import data_of, report
from minswin.models import create_model
from minswin.weights import save_weights
from minswin.weights.rename import rename


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


# ── pairing ──────────────────────────────────────────────────────────────────────────────────────


def test_equal_names_come_first_though_the_values_differ() -> None:
    ours = {"a": rng().standard_normal((2, 3)), "b": rng().standard_normal((2, 3)) + 1}
    theirs = {"a": ours["b"].copy(), "b": ours["a"].copy()}
    found = align(ours, theirs)
    assert {n: f.name for n, f in found.items()} == {"a": "a", "b": "b"}


def test_a_map_comes_before_equal_names() -> None:
    ours = {"a": rng().standard_normal((2, 3)), "b": rng().standard_normal((2, 3))}
    theirs = {"a": ours["b"], "c": ours["a"]}
    found = align(ours, theirs, resolve([("a", "c"), ("b", "a")], ours, theirs))
    assert {n: f.name for n, f in found.items()} == {"a": "c", "b": "a"}


def test_without_names_values_decide_and_rounding_does_not_matter() -> None:
    ours = {n: rng().standard_normal((2, 3, 4)) + i for i, n in enumerate("abc")}
    theirs = {f"t{n}": ours[n].astype("f4") * np.float32(1.0001) for n in "cab"}
    found = align(ours, theirs)
    assert {n: f.name for n, f in found.items()} == {"a": "ta", "b": "tb", "c": "tc"}
    assert all(f.note == "found by its values" for f in found.values())


def test_what_is_left_over_goes_to_the_only_one_of_its_shape() -> None:
    ours = {"a": rng().standard_normal((2, 3)), "b": rng().standard_normal(7)}
    found = align(ours, {"x": np.zeros((2, 3)), "y": ours["b"]})
    assert found["a"].name == "x" and found["a"].note == "the only one of this shape"


def test_what_has_the_name_of_a_layer_is_what_its_last_step_gives() -> None:
    """A block is no step. A copy of what is paired, as of what was written into, is nothing."""
    x, y = (np.random.default_rng(i).standard_normal((2, 3)) for i in (0, 1))
    ours = {"a.weight": x[0], "a.add": x, "a.relu": y, "b.relu": 2 * y}
    theirs = {"a": y + 1, "sum": x}
    found = align(ours, theirs, known=["a.weight"])
    assert {n: m.name for n, m in found.items()} == {"a.add": "sum", "a.relu": "a"}
    found = align(ours, {"sum": x, "a": x.copy()}, known=["a.weight"])
    assert list(found) == ["a.add"]


def test_a_layer_is_known_by_its_weights_whatever_it_gives() -> None:
    """Not where it has one weight more, where images and windows are one axis, nor of one token."""
    ours = {f"{n}.weight": rng().standard_normal((4, 3)) + i for i, n in enumerate("abcd")}
    ours |= {n: rng().standard_normal((2, 5, 5, 4)) for n in "abcd"}
    theirs = {f"own.{i}.weight": ours[f"{n}.weight"].T for i, n in enumerate("abcd")}
    theirs["own.3"] = np.zeros((2, 1, 4))
    theirs |= {"own.0": 0 * ours["a"].transpose(0, 3, 1, 2), "own.1": 0 * ours["b"]}
    theirs |= {"own.1.bias": np.arange(4.0), "own.2": np.zeros((50, 1, 4))}
    found = align(ours, theirs, known=[n for n in ours if n.endswith("weight")])
    assert {n: t.name for n, t in found.items() if n in tuple("abcd")} == {"a": "own.0"}
    assert found["a"].note == "found by its layer's weights, from (2, 4, 5, 5), channels moved"
    assert found["a"].array.shape == (2, 5, 5, 4)


def test_a_layer_that_keeps_tokens_in_front_of_images_is_known_by_its_weights() -> None:
    ours = {"a.weight": rng().standard_normal((4, 3)), "a": rng().standard_normal((2, 5, 4))}
    wrong = ours["a"] * 2
    theirs = {"own.weight": ours["a.weight"], "own": wrong.swapaxes(0, 1)}
    found = align(ours, theirs, known=["a.weight"])["a"]
    np.testing.assert_array_equal(found.array, wrong)
    assert found.note == "found by its layer's weights, tokens in front of images"


def test_layers_with_the_same_weights_are_not_told_apart_by_them() -> None:
    shared, own = rng().standard_normal((4, 3)), rng().standard_normal((4, 3)) + 1
    ours = {"a.weight": shared, "b.weight": shared, "c.weight": own}
    ours |= {n: rng().standard_normal((2, 5, 4)) for n in "abc"}
    theirs = {f"own.{n}.weight": ours[f"{n}.weight"] for n in "bac"}
    theirs |= {f"own.{n}": np.zeros((2, 5, 4)) for n in "abc"}
    found = align(ours, theirs, known=[n for n in ours if n.endswith("weight")])
    assert {n: t.name for n, t in found.items() if n in tuple("abc")} == {"c": "own.c"}


@pytest.mark.parametrize("called", ["fc", "l"])
@pytest.mark.parametrize("tokens", ["class token", "one kept", "too few"])
def test_another_size_is_wrong_but_for_that_of_one_token(tokens: str, called: str) -> None:
    """Behind the last attention only the class token is needed: many ports go on with it alone."""
    x, weight, image = (rng().standard_normal(s) for s in ((2, 5, 3), (3, 4), (2, 7)))
    ours = {"image": image, "fc.weight": weight, "fc": x}
    y = {"class token": x[:, 0], "one kept": x[:, :1], "too few": x[:, 1:]}[tokens]
    theirs = {"image": image, f"{called}.weight": weight, called: y + 1}
    found = align(ours, theirs, known=("image", "fc.weight"))
    assert ("fc" in found) == (tokens == "too few")


def test_one_number_under_the_name_of_a_layer_is_not_what_it_gives() -> None:
    ours = {"a.weight": rng().standard_normal((4, 3)), "a": rng().standard_normal((2, 4))}
    theirs = {"own.weight": ours["a.weight"], "own": np.array(3.0)}
    assert list(align(ours, theirs, known=["a.weight"])) == ["a.weight"]


def test_what_a_layer_gives_is_no_step_in_front_of_one_that_is_left_out() -> None:
    """Nor is the layer of a known library an error then."""
    ours = {n: rng().standard_normal((2, 3)) + i for i, n in enumerate(("a.add", "a.out", "b"))}
    theirs = {"a": ours["a.out"], "b.fc": ours["b"], "c": ours["a.add"] + 9}
    names = resolve([("a.out", "-"), ("b", "-"), ("a.add", "c")], ours, theirs)
    assert list(align(ours, theirs, names, layers={"b.fc": "b"})) == ["a.add"]
    names = resolve([("a.out", "-"), ("b", "-")], ours, theirs)
    assert align(ours, theirs, names, layers={"b.fc": "b"}) == {}


def test_a_copy_of_what_was_paired_is_no_question() -> None:
    x = rng().standard_normal((2, 3, 4))
    rest = {"copy": x.reshape(6, 4).copy(), "other": x + 1, "nearly": x * (1 + 1e-7)}
    assert without_copies(rest, [(x, None), (x[0], None)]) == ["other", "nearly"]
    assert without_copies({"one": np.ones(1)}, [(np.ones(1), None)]) == ["one"]  # anything


def test_the_same_numbers_in_another_order_of_axes_or_of_one_token_are_a_copy() -> None:
    x = rng().standard_normal((2, 4, 8, 3))
    windows = Windows((4, 8), (2, 4), (1, 2), (4, 8))
    rolled = np.roll(x, (-1, -2), (1, 2)).reshape(2, 2, 2, 2, 4, 3).transpose(0, 1, 3, 2, 4, 5)
    tokens = x.reshape(2, 32, 3)
    rest = {
        "channels first": x.transpose(0, 3, 1, 2),
        "windows": rolled.reshape(8, 8, 3),
        "class token": tokens[:, 0],
    }
    assert not without_copies(rest, [(x, windows), (tokens, None)])
    assert without_copies(rest, [(x, None)]) == ["windows", "class token"]
    turned = {"rows for columns": x.reshape(2, 8, 4, 3).swapaxes(1, 2), "one of all": tokens[0]}
    assert without_copies({"shuffled": rng().permutation(x, axis=3)}, [(x, windows)])
    assert len(without_copies(turned, [(x, windows), (tokens, None)])) == 2


def test_a_weight_that_is_cut_is_no_question() -> None:
    qkv = rng().standard_normal((12, 4))
    cut = {"query": qkv[:4].T.copy(), "key of a head": qkv[4:6], "zeros": np.zeros((4, 4))}
    cut["other"] = np.concatenate([qkv[:3], -qkv[3:4]])
    assert without_copies(cut, [], [qkv]) == ["zeros", "other"]


def test_what_a_map_leaves_out_stays_out_and_no_gradient_is_guessed() -> None:
    ours = {"a": rng().standard_normal((2, 3)), "b": rng().standard_normal(7)}
    theirs = {"x": np.zeros((2, 3)), "y": ours["b"]}
    assert align(ours, theirs, resolve([("b", "y")], ours, theirs)).keys() == {"b"}
    gradients = {"cotangent/a": ours["a"], "after/c": rng().standard_normal((4, 1, 4))}
    assert align(gradients, {"x": np.zeros((2, 3)), "y": np.zeros((4, 1, 4))}) == {}


def test_what_the_map_gives_to_another_is_not_taken_by_its_name() -> None:
    ours = {n: rng().standard_normal((2, 3)) + i for i, n in enumerate("ab")}
    theirs = {"b": ours["a"] + 7}
    found = align(ours, theirs, resolve([("a", "b")], ours, theirs))
    assert {n: f.name for n, f in found.items()} == {"a": "b"}


def test_equal_names_of_other_sizes_are_first_looked_for_by_value() -> None:
    """Another library counts its stages from where the merge stands."""
    names = [f"layers.{i}.downsample.norm" for i in range(3)]
    ours = {names[0]: rng().standard_normal((2, 3, 8)), names[1]: rng().standard_normal((2, 2, 16))}
    theirs = {names[1]: ours[names[0]], names[2]: ours[names[1]]}
    found = align(ours, theirs)
    assert {n: f.name for n, f in found.items()} == dict(pairwise(names))
    theirs[names[1]] = theirs[names[1]] + 1  # wrong: then the shape is what can be said
    assert align(ours, {names[1]: theirs[names[1]]})[names[0]].name == names[1]
    theirs[names[1]] = np.zeros((2, 5, 3))
    assert align(ours, {names[1]: theirs[names[1]]})[names[1]].array.shape == (2, 5, 3)


@pytest.mark.parametrize(("dialect", "their", "block"), [
    ("transformers5", "swin.encoder.layers.0.blocks.1.attention.o_proj",
     "swin.encoder.layers.0.blocks"),
    ("torchvision", "features.1.1.attn.proj", "features.1"),
])  # fmt: skip
def test_a_known_library_tells_which_layer_a_wrong_tensor_is_of(
    dialect: str, their: str, block: str
) -> None:
    """Its values are those of none; a block, a stage and windows inside the roll are told too."""
    model = create_model("swin_tiny", **SWIN, rng=np.random.default_rng(0))
    shapes = {n: x.shape for n, x in model.state_dict().items()}
    names = {
        n.rpartition(".")[0] for n in rename(model.state_dict(), "minswin", dialect, model=model)
    }
    layers = known_layers(shapes, {*names, their, f"{block}.1", "nothing"})
    assert layers[their] == "layers.0.blocks.1.attn.proj"
    assert layers[f"{block}.1"] == "layers.0.blocks.1" and "nothing" not in layers
    ours = {"layers.0.blocks.1.attn.proj": rng().standard_normal((2, 6, 8, 5))}
    windows = {"layers.0.blocks.1.attn.proj": Windows((6, 8), (3, 4), (1, 2), (6, 8))}
    theirs = {their: rng().standard_normal((8, 12, 5)) + 9}
    (match,) = align(ours, theirs, None, windows, layers=layers).values()
    assert match.name == their and match.array.shape == (2, 6, 8, 5)
    assert match.array[0, 1, 2, 0] == theirs[their][0, 0, 0]  # rolled back by (1, 2)


def test_windows_of_a_layer_that_may_be_rolled_otherwise_are_left_out() -> None:
    """All that is kept as windows has values of none of ours, so that the roll may be the mistake;
    one that has ours says that it is not.
    """
    names = [f"layers.0.blocks.1.attn.{n}" for n in ("qkv", "proj")]
    ours = {n: rng().standard_normal((2, 6, 8, 5)) for n in names}
    of = Windows((6, 8), (3, 4), (1, 2), (6, 8))
    other = ours[names[0]].reshape(2, 2, 3, 2, 4, 5).swapaxes(2, 3).reshape(8, 12, 5)  # no roll
    rolled = np.roll(ours[names[0]], (-1, -2), (1, 2))
    right = rolled.reshape(2, 2, 3, 2, 4, 5).swapaxes(2, 3).reshape(8, 12, 5)
    theirs = {names[0]: other + 1, names[1]: other + 9}
    windows, layers = dict.fromkeys(names, of), {n: n for n in names}
    assert align(ours, theirs, None, windows, layers=layers) == {}
    assert set(align(ours, {**theirs, names[0]: right}, None, windows, layers=layers)) == {*names}
    assert set(align(ours, {names[1]: other + 9}, None, windows, layers=layers)) == {names[1]}


def test_of_two_alike_none_is_guessed() -> None:
    ours = {"a": rng().standard_normal((2, 3)), "b": rng().standard_normal((2, 3))}
    assert align(ours, {"x": np.zeros((2, 3))}) == {}
    assert align(ours, {"x": np.zeros((2, 3)), "y": np.ones((2, 3))}) == {}


# ── shapes ───────────────────────────────────────────────────────────────────────────────────────

x = np.random.default_rng(1).standard_normal((3, 4, 2, 5, 6))  # (B, nW, h, N, d)


def test_images_and_windows_may_be_one_axis() -> None:
    found = fit(x, x.reshape(12, 2, 5, 6), "t")
    assert np.array_equal(found.array, x) and found.note == "reshaped from (12, 2, 5, 6)"


def test_joined_axes_are_parted_though_the_values_are_wrong() -> None:
    found = fit(x, x.reshape(12, 2, 5, 6) + 7, "t")
    assert np.array_equal(found.array, x + 7) and "reshaped" in found.note


def test_channels_first_is_taken_and_said() -> None:
    found = fit(x[0, 0], np.moveaxis(x[0, 0], -1, 0), "t")
    assert np.array_equal(found.array, x[0, 0])
    assert found.note == "from (6, 2, 5), equal after transposing to (2, 0, 1)"


def test_channels_first_with_wrong_values_is_no_match_but_a_wrong_shape() -> None:
    found = fit(x[0, 0], np.moveaxis(x[0, 0], -1, 0) + 9, "t")
    assert found.array.shape == (6, 2, 5) and not found.note


@given(st.integers(2, 6))
def test_a_square_matrix_that_is_transposed_is_not_turned_back(n: int) -> None:
    a = np.random.default_rng(n).standard_normal((n, n))
    found = fit(a, a.T.copy(), "t")
    assert np.array_equal(found.array, a.T) and not found.note


def test_a_transposed_square_weight_is_a_finding() -> None:
    truth = score.truth("square")
    theirs = dict(truth.arrays["float32"])
    name = "layers.0.blocks.0.attn.proj.weight"
    theirs[name] = theirs[name].T.copy()
    found = compare(truth, theirs)
    assert found.first is not None and found.first.name == name
    assert "exchanging its axes" in report(
        data_of(truth, found, diagnose(truth, found, seconds=0.1))
    )


def test_square_weights_are_turned_where_all_others_are() -> None:
    truth = score.truth("square")
    theirs = dict(truth.arrays["float32"])
    for name, x in truth.arrays["float32"].items():
        if x.ndim == 2 and name.endswith("weight") and not name.startswith("cotangent/"):
            theirs[name] = x.T.copy()
    found = compare(truth, theirs)
    assert found.passed, found.first
    notes = {f.name: f.note for f in found.findings}
    assert "equal after transposing" in notes["layers.0.blocks.0.attn.proj.weight"]
    own = {f"t/{n}": x for n, x in theirs.items()}
    assert compare(truth, own).passed
    theirs["head.weight"] = theirs["head.weight"].T.copy()  # not all: then each is a finding
    first = compare(truth, theirs).first
    assert first is not None and first.name == "layers.0.blocks.0.attn.proj.weight"


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["npz", "safetensors", "pth"])
def test_tensors_come_from_a_file(tmp_path: Path, form: str) -> None:
    own = {"a": x.astype("f4"), "b": np.arange(5)}
    save_weights(tmp_path / f"t.{form}", own)
    found = read_theirs(tmp_path / f"t.{form}")
    assert found.keys() == own.keys()
    assert all(np.array_equal(found[n], own[n]) for n in own)


def test_several_arrays_in_one_npy_file_are_refused(tmp_path: Path) -> None:
    with open(tmp_path / "head.npy", "wb") as file:
        np.savez(file, a=np.zeros(3), b=np.ones(2))
    for size in (None, 40):
        (tmp_path / "head.npy").write_bytes((tmp_path / "head.npy").read_bytes()[:size])
        with pytest.raises(ValueError, match=r"head\.npy cannot be read \(it is an \.npz"):
            read_theirs(tmp_path)


def test_tensors_come_from_npy_files_in_folders_and_of_both_byte_orders(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    np.save(tmp_path / "deep" / "a.b.npy", x.astype(">f4"))
    np.save(tmp_path / "n.npy", np.float64(3.5))
    np.save(tmp_path / "e.npy", np.zeros((0, 3), "f4"))
    found = read_theirs(tmp_path)
    assert found.keys() == {"deep/a.b", "n", "e"}
    assert found["deep/a.b"].dtype == np.float32
    assert np.array_equal(found["deep/a.b"], x.astype("f4"))
    assert found["n"].shape == () and found["n"] == 3.5 and found["e"].shape == (0, 3)


@pytest.mark.parametrize("name", ["grad/head", "head.grad", "cotangent_head", "after/head"])
def test_the_only_tensor_of_a_shape_is_no_value_if_its_name_says_gradient(name: str) -> None:
    mine, theirs = np.random.default_rng(0).standard_normal((2, 3, 7))
    assert align({"head": mine}, {"logits": theirs})["head"].name == "logits"
    assert not align({"head": mine}, {name: theirs})
