"""A map of names: how it is read, what its patterns mean, what it may lack, and a draft of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import score

from minswin.cli import main
from minswin.crosscheck import folder
from minswin.crosscheck.compare import compare
from minswin.crosscheck.names import draft, read_names, resolve

OURS = [
    f"layers.{i}.blocks.{j}.{part}"
    for i in (0, 1)
    for j in (0, 1)
    for part in ("norm1", "attn.proj")
]
OURS += ["head", "cotangent/head.weight", "head.weight", "after/head.weight"]


# ── what a line means ────────────────────────────────────────────────────────────────────────────


def test_a_number_in_braces_pairs_all_stages_and_may_be_counted_from_one() -> None:
    theirs = [f"stage{i}.{j}.ln" for i in (1, 2) for j in (0, 1)]
    found = resolve([("layers.{i}.blocks.{j}.norm1", "stage{i+1}.{j}.ln")], OURS, theirs)
    assert found.pairs == {
        f"layers.{i}.blocks.{j}.norm1": f"stage{i + 1}.{j}.ln" for i in (0, 1) for j in (0, 1)
    }


def test_a_star_stands_for_anything_and_the_plainer_line_goes_before() -> None:
    theirs = ["s.0.norm1", "s.0.attn.proj", "special"]
    lines = [("layers.0.blocks.0.*", "s.0.*"), ("layers.0.blocks.0.norm1", "special")]
    found = resolve(lines, OURS, theirs)
    assert found.pairs == {
        "layers.0.blocks.0.norm1": "special",
        "layers.0.blocks.0.attn.proj": "s.0.attn.proj",
    }


def test_what_is_nothing_is_left_out_on_both_sides() -> None:
    found = resolve([("*.attn.proj", "-"), ("-", "*.tracked"), ("head.weight", "-")], OURS,
                    ["bn.tracked", "layers.0.blocks.0.attn.proj", "x"])  # fmt: skip
    assert found.ours == {n for n in OURS if n.endswith(("attn.proj", "head.weight"))}
    assert found.theirs == {"bn.tracked", "layers.0.blocks.0.attn.proj"}


def test_gradients_and_later_weights_go_with_their_tensor() -> None:
    theirs = ["fc.weight", "cotangent/fc.weight", "after/fc.weight"]
    found = resolve([("head.weight", "fc.weight")], OURS, theirs)
    assert found.pairs == {p + "head.weight": p + "fc.weight" for p in ("", "cotangent/", "after/")}


def test_a_map_may_speak_of_tensors_that_are_absent_but_not_of_none_that_is_there() -> None:
    lines = [
        ("head", "fc"),
        ("layers.7.blocks.3.norm1", "x"),
        ("cotangent/head", "g"),
        ("losses", "l"),
    ]
    found = resolve(lines, OURS, ["fc"])
    assert found.pairs == {"head": "fc"} and len(found.absent) == 3
    with pytest.raises(ValueError, match="names what is not there: layers"):
        resolve(lines[1:], OURS, ["fc"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("haed", "fc"), "did you mean head"),
        (("attn.proj", "-"), r"did you mean \*\.attn\.proj"),
        (("layers.{i+1}.blocks.0.norm1", "x"), "numbers are added on the right"),
        (("head", "s.{i}"), "none in 'head' that says"),
        (("head", "*"), "none in 'head' that says"),
    ],
)
def test_a_line_that_means_nothing_is_refused(line: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve([line], OURS, ["fc"])


# ── in a comparison ──────────────────────────────────────────────────────────────────────────────


def renamed() -> dict[str, np.ndarray]:
    """Right tensors, but for the second block of the first stage, under names of a port."""
    right = score.truth("square").arrays["float32"]
    theirs = {"image": right["image"], "fc": right["head"]}
    for i in (0, 1):
        for j in (0, 1):
            for ours, name in (("norm1", "ln_a"), ("mlp.fc1", "up"), ("output", "out")):
                theirs[f"body.{i}.{j}.{name}"] = right[f"layers.{i}.blocks.{j}.{ours}"]
    theirs["body.1.1.up"] = theirs["body.1.1.up"] * 1.5
    return theirs


def test_a_draft_has_patterns_that_pair_what_no_value_finds(tmp_path: Path, capsys: Any) -> None:
    truth, theirs = score.truth("square"), renamed()
    assert compare(truth, theirs).first is None  # the wrong one was not paired
    pairs = {n: m.name for n, m in compare(truth, theirs).given.items()}
    lines = list(draft(pairs, truth.arrays["float64"], theirs))
    assert "layers.{i}.blocks.{j}.mlp.fc1  = body.{i}.{j}.up" in [
        " ".join(x.split()).replace("fc1 =", "fc1  =") for x in lines
    ]
    (tmp_path / "map").write_text("\n".join(lines))
    first = compare(truth, theirs, read_names(tmp_path / "map")).first
    assert first is not None and first.name == "layers.1.blocks.1.mlp.fc1"
    assert {x: y for x, y in pairs.items()}.items() <= resolve(
        read_names(tmp_path / "map"), truth.steps, theirs
    ).pairs.items()


def test_a_draft_says_of_a_layer_what_holds_for_its_weights() -> None:
    """A weight under another word has a line of its own."""
    ours = {n: np.ones(2) for n in ("a.0", "a.0.weight", "a.0.bias", "b.0.weight")}
    pairs = {"a.0": "t.0", "a.0.weight": "t.0.weight", "a.0.bias": "t.0.shift"}
    pairs["b.0.weight"] = "u.0.weight"
    theirs = dict.fromkeys(pairs.values(), np.ones(2))
    lines = [" ".join(line.split()) for line in draft(pairs, ours, theirs)]
    assert lines[1:] == ["a.0 = t.0", "a.0.bias = t.0.shift", "b.0.weight = u.0.weight"]


def test_the_command_prints_a_draft_and_names_what_was_not_paired(
    tmp_path: Path, capsys: Any
) -> None:
    folder.write(score.truth("square"), tmp_path / "truth")
    np.savez(tmp_path / "x.npz", **renamed(), odd=np.arange(11.0))  # type: ignore[arg-type]
    assert main(["compare", str(tmp_path / "truth"), str(tmp_path / "x.npz"), "--draft-map"]) == 0
    printed = capsys.readouterr().out
    assert "# - = odd" in printed.replace("#   ", "# ") and "head" in printed and "✗" not in printed


def test_a_map_that_leaves_out_makes_a_strange_tensor_no_question() -> None:
    truth, right = score.truth("square"), dict(score.truth("square").arrays["float32"])
    theirs = {n: x for n, x in right.items() if n in truth.steps and n not in ("head", "loss")}
    theirs |= {
        "odd": np.ones((3, 5), "f4"),
        "even": np.zeros((3, 5), "f4"),
    }  # which are the logits?
    assert compare(truth, theirs).unknown == ["odd", "even"]
    assert compare(truth, theirs, [("-", "odd"), ("-", "even")]).passed


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def test_a_map_is_json_or_lines(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(json.dumps({"head": "fc", "norm": "ln"}))
    (tmp_path / "b").write_text("# mine\nhead = fc   # the classifier\n\nnorm=ln\n")
    lines = [("head", "fc"), ("norm", "ln")]
    assert read_names(tmp_path / "a") == read_names(tmp_path / "b") == lines


def test_a_hash_inside_a_name_begins_no_comment(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("#a = b\na = act#1 # the first\n  # b = c\nb = act#2\t#x\n")
    assert read_names(tmp_path / "a") == [("a", "act#1"), ("b", "act#2")]


@pytest.mark.parametrize("text", ["head = fc\n", '{"head": "fc"}'])
def test_a_map_may_begin_with_the_mark_of_windows(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_text(text, "utf-8-sig")
    assert read_names(tmp_path / "a") == [("head", "fc")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = x\nb = x\na = y", "says twice what 'a' is"),
        ('{"a": "x", "a": "x"}', "says twice what 'a' is"),
        ("a =", "expected lines 'ours = theirs', got 'a '"),
        ("head fc", "expected lines 'ours = theirs', got 'head fc'"),
        ("{'head': 'fc'}", "is no JSON"),
        ('{"head": 3}', "must map names to names"),
    ],
)
def test_a_map_that_cannot_be_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "map").write_text(text)
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        read_names(tmp_path / "map")
