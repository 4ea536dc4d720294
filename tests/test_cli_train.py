"""`minswin train`: what it prints, its options, and what it does with a folder that is used."""

from __future__ import annotations

import re

import command_line
from command_line import TRAIN, refusal
from tiny_training import DRAW_CURVES

import minswin
import minswin.training
from minswin import cli
from minswin.training import loop
from minswin.training.checkpoints import LAST, load_trained_model, read_checkpoint

tiny, trained = command_line.tiny, command_line.trained  # the fixtures


def test_training_prints_a_line_for_each_epoch_and_where_everything_is(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "_draw_curves", DRAW_CURVES)
    assert cli.main(TRAIN) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    line = r"epoch {}/2   loss \d\.\d+   accuracy +[\d.]+%   test loss .* images/s"
    assert re.fullmatch(line.format(1), lines[0]) and re.fullmatch(line.format(2), lines[1])
    assert re.fullmatch(r"test accuracy [\d.]+%   \(epochs 2, steps 14, \d+ s\)", lines[2])
    assert "runs/shapes-tiny-0" in lines[3] and "minswin evaluate runs/shapes-tiny-0" in out
    assert err == ""  # no bar where there is no terminal
    run = tmp_path / "runs" / "shapes-tiny-0"
    names = {"last.safetensors", "last.json", "best.safetensors", "best.json", "log.jsonl"}
    assert {p.name for p in run.iterdir()} == {*names, "curves.png"}


def test_options_of_train_become_settings_of_the_same_name():
    arguments = [*TRAIN, "--lr", "0.25", "--weight-decay", "0.125", "--optimizer", "adamw"]
    arguments += ["--ema", "0.5", "--mixup", "0.2", "--seed", "7", "-o", "here", "--clip", "0"]
    assert cli.main(arguments) == 0
    settings = read_checkpoint("here").info["settings"]
    want = {"lr": 0.25, "weight_decay": 0.125, "optimizer": "adamw", "ema": 0.5, "mixup": 0.2}
    want |= {"seed": 7, "out": "here", "clip": 0.0, "epochs": 2, "batch_size": 8}
    assert {name: settings[name] for name in want} == want


def test_a_model_is_trained_with_settings_of_its_own_and_found_again():
    own = ["--set", "depths=(1,)", "--set", "stem=overlapping", "--set", "shift = False"]
    assert cli.main([*TRAIN, *own, "-o", "here"]) == 0
    info = read_checkpoint("here").info
    assert info["settings"]["model_settings"] == {
        "depths": [1], "stem": "overlapping", "shift": False,
    }  # fmt: skip
    model, _ = load_trained_model("here")
    assert len(model.layers[0].blocks) == 1 and model.patch_embed.proj.weight.shape[2:] == (3, 3)
    assert cli.main(["train", "--resume", "here"]) == 0  # it is over; the model is built again


def test_every_option_of_train_is_a_setting():
    known = set(cli._parser().parse_args(["train"]).__dict__) - set(cli.NOT_SETTINGS)
    assert known <= set(minswin.training.Settings.__dataclass_fields__)


def test_a_used_folder_needs_resume_or_overwrite(capsys, trained):
    before = (trained / LAST).read_bytes()
    message = refusal(capsys, *TRAIN, "-o", str(trained))
    assert f"{trained} already holds a run; continue it with --resume {trained}" in message
    assert "--overwrite" in message and (trained / LAST).read_bytes() == before


def test_resume_keeps_to_the_settings_of_the_run(capsys, trained):
    message = refusal(capsys, "train", "--resume", str(trained), "--batch-size", "4")
    assert "--resume continues with the settings that the run began with" in message
    assert "leave out --batch-size" in message
    assert "leave out --set" in refusal(
        capsys, "train", "--resume", str(trained), "--set", "shift=false"
    )
    assert "leave out --overwrite" in refusal(
        capsys, "train", "--resume", str(trained), "--overwrite"
    )
    assert cli.main(["train", "--resume", str(trained), "--data-dir", "elsewhere"]) == 0


def test_a_folder_that_cannot_be_made_is_one_line_too(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    message = refusal(capsys, *TRAIN, "-o", str(tmp_path / "file" / "run"))
    assert "cannot write to the folder" in message and "--out" in message


def test_a_divergence_is_one_line_that_says_what_to_try(capsys):
    message = refusal(capsys, *TRAIN, "--lr", "1e20", "--clip", "0", "--warmup", "0")
    assert "step" in message and "Try a smaller --lr" in message
