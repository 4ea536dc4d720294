"""`minswin evaluate`: which images it is about, and figures only where there is a loss."""

from __future__ import annotations

import command_line
import numpy as np
import pytest
from command_line import TRAIN, refusal
from tiny_training import tiny_load

import minswin
import minswin.training.evaluation
from minswin import cli
from minswin.training.checkpoints import LAST, read_checkpoint, save_checkpoint

tiny, trained = command_line.tiny, command_line.trained  # the fixtures


def test_evaluate_prints_each_class_and_the_accuracy_of_the_run(capsys, trained):
    assert cli.main(["evaluate", str(trained), "--threads", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["red", "green", "blue"]
    best = read_checkpoint(trained / "best.safetensors").info["accuracy"]
    assert lines[3].startswith(f"accuracy {best:.2%}   loss ")
    assert lines[3].endswith("(33 test images of shapes)")
    assert cli.main(["evaluate", str(trained), "--split", "train"]) == 0
    assert "(60 train images of shapes)" in capsys.readouterr().out
    assert cli.main(["evaluate", str(trained), "--flips"]) == 0
    flipped = capsys.readouterr().out.splitlines()[3]
    assert flipped.endswith("(33 test images of shapes, each with its mirror image)")
    assert flipped.split()[3] != lines[3].split()[3]  # the loss


def test_evaluate_knows_which_images_the_run_learnt_from_and_which_it_held_out(
    capsys, tmp_path, monkeypatch
):
    small = ["--count", "50", "--holdout", "9", "--seed", "4"]
    assert cli.main([*TRAIN, *small, "-o", "run"]) == 0
    assert cli.main([*TRAIN, "--seed", "4", "-o", "whole"]) == 0
    seen = []
    classify = minswin.training.evaluation.evaluation_batches
    monkeypatch.setattr(
        "minswin.training.evaluation.evaluation_batches",
        lambda images, *settings: seen.append(images) or classify(images, *settings),
    )
    capsys.readouterr()
    for split, number in (("train", 41), ("held-out", 9), ("test", 33)):
        assert cli.main(["evaluate", "run", "--split", split]) == 0
        assert f"({number} {split} images of shapes)" in capsys.readouterr().out
    whole = tiny_load("shapes", split="train", count=50)
    train, held_out = whole.split(9, rng=np.random.default_rng(4))
    assert np.array_equal(seen[0].images, train.images)
    assert np.array_equal(seen[1].images, held_out.images)
    assert cli.main(["evaluate", "run", "--split", "train", "--data", "cifar10"]) == 0
    assert "(60 train images of cifar10)" in capsys.readouterr().out  # not those of the run
    message = refusal(capsys, "evaluate", "whole", "--split", "held-out")
    assert "the run in whole held out no images" in message
    message = refusal(capsys, "evaluate", "run", "--split", "held-out", "--data", "cifar10")
    assert "held out images of 'shapes', not of 'cifar10'; leave out --data" in message


@pytest.mark.parametrize("value", [np.nan, 1e30])
def test_a_model_without_a_loss_is_not_given_figures(capsys, trained, tmp_path, value):
    from PIL import Image

    checkpoint = read_checkpoint(trained)
    for name, array in checkpoint.weights.items():
        if name.endswith("weight"):
            array[...] = value * np.sign(np.random.default_rng(1).standard_normal(array.shape))
    save_checkpoint(tmp_path / LAST, checkpoint)
    message = refusal(capsys, "evaluate", str(tmp_path))
    assert "the loss of the 33 images is nan" in message and "use another checkpoint" in message
    Image.fromarray(tiny_load("shapes", split="test").images[0].transpose(1, 2, 0)).save("a.png")
    message = refusal(capsys, "predict", "a.png", "--checkpoint", str(tmp_path))
    assert "answers with nan" in message and "use another checkpoint" in message


def test_evaluating_on_other_classes_is_refused(capsys, trained, monkeypatch):
    def other(name, **settings):
        return tiny_load(name, **settings).__class__(
            np.zeros((2, 3, 8, 8), np.uint8), np.zeros(2, np.int64), ("cat",), name
        )

    monkeypatch.setattr("minswin.data.load", other)
    message = refusal(capsys, "evaluate", str(trained), "--data", "cifar10")
    assert "tells the 3 classes of 'shapes' apart, not the 1 of 'cifar10'; leave out --data" in (
        message
    )
