"""What `minswin info` says of a file of weights: what it is of, and what is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from named_models import model
from weight_files import same
from weight_states import SMALL, STATE, TIMM, VIT

from minswin import cli
from minswin.models import create_model
from minswin.weights import read_weights, save_weights
from minswin.weights.convert import convert, describe


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

    for path, why in (("a.pth", "does not exist"), ("", "is a folder")):
        assert cli.main(["info", str(tmp_path / path)]) == 2
        assert why in capsys.readouterr().err
    assert cli.main(["info", os.devnull]) == 2
    assert "is no plain file" in capsys.readouterr().err


def test_a_wrapper_and_the_rest_of_a_checkpoint_are_described_as_they_are(tmp_path):
    state = model("vit").state_dict()
    save_weights(tmp_path / "a.pth", state, wrapper="model")
    assert "found       under 'model'\n" in describe(tmp_path / "a.pth")
    save_weights(tmp_path / "b.pth", {f"module.{name}": x for name, x in state.items()})
    assert "found       without the prefix 'module.'\n" in describe(tmp_path / "b.pth")
    run = {f"{group}/{name}": x for group in ("weights", "optimizer") for name, x in state.items()}
    save_weights(tmp_path / "c.npz", run)
    assert f"numbers ({len(state)} of float32)" in describe(tmp_path / "c.npz")


def test_running_averages_are_not_counted_as_parameters(tmp_path):
    made = model("resnet")
    save_weights(tmp_path / "a.pth", made.state_dict())
    assert f"parameters  {made.parameter_count():,}\n" in describe(tmp_path / "a.pth")


def test_a_prefix_is_described_and_what_stands_beside_it(tmp_path) -> None:
    wrapped = {f"net.{n}": x for n, x in STATE.items()} | {"criterion.weight": np.ones(3)}
    save_weights(tmp_path / "a.npz", wrapped)
    text = describe(tmp_path / "a.npz")
    assert "found       without the prefix 'net.'\nbeside      criterion.weight\n" in text
    line = convert(tmp_path / "a.npz", tmp_path / "b.npz", to="timm")
    assert "left out, beside the prefix 'net.': criterion.weight" in line
    assert same(read_weights(tmp_path / "b.npz"), TIMM)


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


def test_two_stages_of_one_depth_are_shown_as_two(tmp_path: Path) -> None:
    model = create_model("swin_shapes", **{**SMALL, "depths": (2, 2)})
    save_weights(tmp_path / "two.safetensors", model.state_dict())
    shown = describe(tmp_path / "two.safetensors")
    assert "depths=(2,2)" in shown and "window_size=4," in shown
