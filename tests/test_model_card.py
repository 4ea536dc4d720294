"""The card of a model says what its weights do, and by which command they were made."""

from __future__ import annotations

import shlex
from typing import Any

import model_card
import numpy as np
import pytest
from tiny_training import install, tiny_settings

from minswin import cli
from minswin.arguments import settings_in
from minswin.models.registry import CLASSES, MODELS
from minswin.training import load_trained_model, recipe, train
from minswin.training.evaluation import evaluate_checkpoint


def test_a_run_becomes_weights_and_a_card_that_tells_what_they_do(
    tmp_path: Any, monkeypatch: Any, capsys: Any
) -> None:
    install(monkeypatch)
    plain = {"mixup": 0.0, "cutmix": 0.0, "smoothing": 0.0, "ema": 0.0, "epochs": 2, "lr": 0.003}
    own = {"model_settings": {"depths": [1]}, "holdout": 20, "seed": 2}
    settings = tiny_settings(tmp_path / "run", **plain, **own)
    train(settings, quiet=True)
    options = ["--seconds", "1234", "--cpu", "one core", "--folder", str(tmp_path)]
    model_card.main([str(tmp_path / "run"), "mine", *options])
    text, file = (tmp_path / "mine.md").read_text("utf-8"), tmp_path / "mine.safetensors"
    model, _ = load_trained_model(file)
    known = evaluate_checkpoint(file)
    assert f"{model.parameter_count():,} parameters" in text and "depths [1]" in text
    assert f"nothing was chosen by them) | {known.result.accuracy:.1%} |" in text
    flipped = evaluate_checkpoint(file, flips=True).result.accuracy
    assert f"with its mirror image | {flipped:.1%} |" in text
    held_out = evaluate_checkpoint(file, split="held-out").result.accuracy
    assert f"with these float16 weights | {held_out:.2%} |" in text
    trained = evaluate_checkpoint(file, split="train").result.accuracy
    assert len({known.result.accuracy, flipped, held_out, trained}) == 4  # else a mistake is hidden
    for name, share in zip(known.classes, known.result.per_class, strict=True):
        assert f"| {name} | {share:.1%} |" in text
    assert "of 2 epochs" in text and "1,234 s" in text and "on one core" in text
    assert text.count("| 1 | ") == text.count("| 2 | ") == 1  # the curve


def test_a_run_that_is_a_named_model_by_its_settings_gets_the_name(
    tmp_path: Any, monkeypatch: Any
) -> None:
    install(monkeypatch)
    monkeypatch.setitem(MODELS, "short", {**MODELS["tiny"], "depths": (1,)})
    monkeypatch.setitem(MODELS, "long", {**MODELS["tiny"], "depths": (3,)})
    for name in ("short", "long"):
        monkeypatch.setitem(CLASSES, name, CLASSES["tiny"])
    run = {"model_settings": {"depths": [1]}, "holdout": 20, "epochs": 1, "ema": 0.0}
    train(tiny_settings(tmp_path / "run", **run), quiet=True)
    options = ["--seconds", "1", "--folder", str(tmp_path)]
    model_card.main([str(tmp_path / "run"), "short", *options])
    model, info = load_trained_model(tmp_path / "short.safetensors")
    assert model.name == "short" == info["settings"]["model"]
    assert "depths" not in model.settings and len(model.layers[0].blocks) == 1
    text = (tmp_path / "short.md").read_text("utf-8")
    assert "A short for" in text and "--model tiny" in text and "'depths=[1]'" in text
    same = load_trained_model(tmp_path / "run")[0].state_dict()["head.bias"].astype(np.float16)
    assert np.array_equal(model.state_dict()["head.bias"], same)
    with pytest.raises(SystemExit, match=r"another model than long: depths differ"):
        model_card.main([str(tmp_path / "run"), "long", *options])


def test_the_command_of_a_card_has_the_settings_of_the_run(tmp_path: Any) -> None:
    for wanted in (
        {"epochs": 30, "optimizer": "muon", "nesterov": False, "lr": 3e-3, "recompute": True},
        {"epochs": 12, "warmup": 0.5, "model_settings": {"stem": "convolutions", "depths": [1, 2]}},
    ):
        settings = recipe("cifar10", **wanted, out=str(tmp_path))
        line = shlex.split(model_card.command(vars(settings)))
        options = vars(cli._parser().parse_args(line[1:]))
        given = {
            k: v for k, v in options.items() if k not in cli.NOT_SETTINGS and v is not None
        }  # fmt: skip
        if options["set"]:
            given["model_settings"] = settings_in("train", options["set"])
        again = recipe(**given)
        assert vars(again) == {**vars(settings), "data_dir": "DIR", "out": ""}


@pytest.mark.parametrize(("sure", "error"), [(0.75, 0.0), (0.95, 0.2), (0.55, 0.2), (1.0, 0.25)])
def test_calibration_is_the_distance_of_confidence_and_accuracy(sure: float, error: float) -> None:
    right = np.arange(400) % 4 > 0  # three of four
    assert abs(model_card.calibration(np.full(400, sure), right) - error) < 1e-12
    mixed = np.r_[np.full(400, sure), np.full(400, 0.25)]
    assert abs(model_card.calibration(mixed, np.r_[right, ~right]) - error / 2) < 1e-12
