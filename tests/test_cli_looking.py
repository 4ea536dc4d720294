"""`minswin info`, `models` and `kernels`: what is there."""

from __future__ import annotations

import command_line
import numpy as np
from command_line import TRAIN

import minswin
from minswin import cli
from minswin.look.tables import bars, shapes_table
from minswin.models import create_model, list_models
from minswin.training.checkpoints import load_trained_model, read_checkpoint
from minswin.training.classifiers import load_published

tiny, trained = command_line.tiny, command_line.trained  # the fixtures


def test_info_shows_what_a_run_is_and_how_to_go_on_with_it(capsys, trained, monkeypatch):
    assert cli.main(["info", str(trained)]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    about = {name: value.strip() for name, value in lines.items()}
    assert about["model"].startswith("tiny, 8×8, ") and about["data"] == "60 images of shapes"
    assert about["classes"] == "3: red, green, blue"
    assert about["trained"] == "15 of 15 epochs, 105 steps; over"
    best = read_checkpoint(trained).info["best_accuracy"]
    assert about["accuracy"] == f"{best:.1%} of the test images at best"
    assert "lr=0.1, " in about["settings"]
    monkeypatch.setattr("minswin.training.loop.Interrupts.received", lambda interrupts: 15)
    assert cli.main([*TRAIN, "-o", "stopped"]) == 143
    capsys.readouterr()
    assert cli.main(["info", "stopped"]) == 0
    out = capsys.readouterr().out
    assert "0 of 2 epochs, 0 steps; minswin train --resume stopped goes on" in out
    assert "accuracy    none yet" in out


def test_info_of_exported_weights_knows_the_settings_of_their_model(capsys):
    own = ["--set", "depths=(1,)", "--set", "stem=convolutions"]
    assert cli.main([*TRAIN, *own, "-o", "here"]) == 0
    assert cli.main(["export", "here", "a.safetensors"]) == 0
    capsys.readouterr()
    assert cli.main(["info", "a.safetensors"]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["model"] == "tiny with depths=[1], stem=convolutions"
    assert not told.keys() & {"settings", "fits", "unknown"}
    model, _ = load_trained_model("here")
    assert told["parameters"] == f"{model.parameter_count():,}"
    published = load_published("tiny", "a.safetensors").model  # its name alone says less
    assert published.parameter_count() == model.parameter_count()


def test_info_shows_the_pyramid_and_its_total(capsys):
    assert cli.main(["info", "swin_tiny", "--img-size", "384x256"]) == 0
    out = capsys.readouterr().out
    assert "384×256×3 → 96×64×48 → 96×64×96 → 48×32×192 → 24×16×384 → 12×8×768" in out
    total = next(line for line in out.splitlines() if line.startswith("total"))
    model = create_model("tiny", rng=np.random.default_rng(0))
    assert total.split()[1] == "28,288,354"
    assert f"{model.flops():,}" in shapes_table("tiny")


def test_models_lists_every_name_with_its_published_size(capsys):
    assert cli.main(["models"]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[2:]}
    assert list(rows) == list_models()
    assert rows["swin_tiny"][:2] == ["224×224", "28,288,354"]
    model = create_model("tiny", rng=np.random.default_rng(0))  # there its weights take no room
    assert rows["tiny"] == ["8×8", f"{model.parameter_count():,}", f"{model.flops():,}"]


def test_kernels_prints_the_report(capsys):
    assert cli.main(["kernels"]) == 0
    assert capsys.readouterr().out == minswin.kernels.report() + "\n"


def test_bars_are_as_long_as_their_share():
    lines = bars(["a", "bb", "c"], [0.5, 1.0, 0.0]).splitlines()
    assert [line.count("█") for line in lines] == [15, 30, 0]
    assert [line.split()[-1] for line in lines] == ["50.0%", "100.0%", "0.0%"]
    assert [line[:2] for line in bars(["a", "bb", "c"], [0.1, 0.3, 0.6], top=2).splitlines()] == [
        "c ",
        "bb",
    ]
    assert bars(["a"], [float("nan")]).endswith("(none)")
