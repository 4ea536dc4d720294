"""The loop learns, keeps its books, and draws its curves."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest
import tiny_runs
from tiny_runs import records
from tiny_training import DRAW_CURVES, tiny_load, tiny_settings

from minswin.look.curves import draw_accuracy, draw_loss
from minswin.training import Evaluation, evaluate, load_trained_model, loop, train, warmup_cosine
from minswin.training.checkpoints import BEST, LAST, read_checkpoint
from minswin.training.inputs import evaluation_batches, training_batches
from minswin.training.progress import Progress, read_journal
from minswin.training.run import Run

tiny = tiny_runs.tiny  # the fixture


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.1), ("adamw", 0.02), ("muon", 0.02)])
def test_a_small_swin_learns_the_three_colours(tmp_path, optimizer, lr, capsys):
    plain = {"mixup": 0.0, "cutmix": 0.0, "smoothing": 0.0, "epochs": 6, "ema": 0.0, "clip": 1.0}
    result = train(tiny_settings(tmp_path, optimizer=optimizer, lr=lr, **plain))
    assert result.test_accuracy > 0.9
    assert result.steps == 6 * 7 and result.epochs == 6 and result.interrupted is None
    assert capsys.readouterr().out.count("test accuracy") == 6


def test_the_log_has_every_step_once_with_its_rate_and_every_epoch(tmp_path):
    settings = tiny_settings(tmp_path, warmup=0.5)
    train(settings)
    assert [r["step"] for r in records(tmp_path, "step")] == list(range(1, 22))
    assert [(r["step"], r["epoch"]) for r in records(tmp_path, "epoch")] == [
        (7, 1),
        (14, 2),
        (21, 3),
    ]
    schedule = {"steps": 21, "warmup": 4, "base": 0.01, "start": 1e-4, "final": 1e-4}
    want = [warmup_cosine(step, **schedule) for step in range(21)]
    assert [r["lr"] for r in records(tmp_path, "step")] == want
    assert [r["lr"] for r in records(tmp_path, "epoch")] == [want[6], want[13], want[20]]
    run = records(tmp_path, "run")
    assert len(run) == 1 and run[0]["model"] == "tiny" and run[0]["seed"] == 0


def test_steps_are_logged_in_order(tmp_path):
    train(tiny_settings(tmp_path, log_every=2, epochs=2))
    assert [r["step"] for r in records(tmp_path, "step")] == [2, 4, 6, 8, 10, 12, 14]
    assert all(a["step"] <= b["step"] for a, b in pairwise(records(tmp_path)[1:]))


def test_the_loss_of_an_epoch_is_the_mean_of_its_steps(tmp_path):
    train(tiny_settings(tmp_path, epochs=2))
    steps = records(tmp_path, "step")
    for epoch in records(tmp_path, "epoch"):
        own = [r for r in steps if r["epoch"] == epoch["epoch"]]
        assert epoch["loss"] == pytest.approx(np.mean([r["loss"] for r in own]), rel=1e-12)
        assert epoch["accuracy"] == pytest.approx(np.mean([r["accuracy"] for r in own]))


def test_the_evaluations_are_those_of_the_averaged_weights(tmp_path):
    train(tiny_settings(tmp_path, epochs=1))
    model, _ = load_trained_model(tmp_path / LAST)
    result = evaluate(model, evaluation_batches(tiny_load("shapes", split="test")))
    (epoch,) = records(tmp_path, "epoch")
    assert epoch["evaluation_loss"] == pytest.approx(result.loss, rel=1e-6)
    checkpoint = read_checkpoint(tmp_path / LAST)
    model.load_state_dict(checkpoint.weights)
    own = evaluate(model, evaluation_batches(tiny_load("shapes", split="test")))
    assert abs(own.loss - result.loss) > 1e-4


def test_the_best_epoch_is_chosen_by_the_held_out_images_and_then_tested(tmp_path, monkeypatch):
    seen = iter([0.9, 0.9, 0.2, 0.4])
    monkeypatch.setattr(Run, "evaluate", lambda run: Evaluation(1.0, next(seen), np.zeros(3)))
    result = train(tiny_settings(tmp_path, holdout=20, epochs=4, lr=0.1, ema=0.0))
    epochs = records(tmp_path, "epoch")
    assert {r["evaluated_on"] for r in epochs} == {"held-out"}
    assert epochs[0]["step"] == 40 // 8  # the held-out images were not trained on
    assert result.best_accuracy == 0.9 == read_checkpoint(tmp_path / BEST).info["best_accuracy"]
    assert read_checkpoint(tmp_path / BEST).info["epoch"] == 1  # the first of two equal ones
    best, last = (
        evaluate(load_trained_model(path)[0], evaluation_batches(tiny_load("shapes", split="test")))
        for path in (tmp_path, tmp_path / LAST)
    )
    assert best.accuracy != last.accuracy
    assert result.test_accuracy == best.accuracy == records(tmp_path, "test")[0]["accuracy"]


def test_pieces_are_shown_in_the_first_epochs_of_a_run(tmp_path):
    settings = tiny_settings(tmp_path, piece=6, piece_epochs=2)
    batches = training_batches(tiny_load("shapes", split="train"), settings)
    assert [batches.batch(epoch, 0)[0].shape[2:] for epoch in range(3)] == [(6, 6), (6, 6), (8, 8)]
    assert train(settings).epochs == 3


# ── curves ────────────────────────────────────────────────────────────────────────────────────────


def test_curves_are_drawn_and_a_missing_matplotlib_is_only_a_hint(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "_draw_curves", DRAW_CURVES)
    train(tiny_settings(tmp_path / "with", epochs=1))
    assert (tmp_path / "with" / "curves.png").read_bytes()[:4] == b"\x89PNG"
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    train(tiny_settings(tmp_path / "without", epochs=1))
    assert 'no curves.png: matplotlib is missing; pip install "minswin[plot]"' in (
        capsys.readouterr().out
    )
    assert not (tmp_path / "without" / "curves.png").exists()


def test_nothing_after_the_last_checkpoint_hides_the_result(tmp_path, monkeypatch, capsys):
    def broken(*arguments, **settings):
        raise RuntimeError("no backend")

    log = Progress.log
    full = OSError(28, "No space left on device")

    def log_until_full(progress, kind, **record):
        if kind == "test":
            raise full
        log(progress, kind, **record)

    monkeypatch.setattr(loop, "_draw_curves", DRAW_CURVES)
    monkeypatch.setattr("minswin.look.curves.save_curves", broken)
    monkeypatch.setattr(Progress, "log", log_until_full)
    result = train(tiny_settings(tmp_path, epochs=1, holdout=20))
    assert result.test_accuracy is not None and result.epochs == 1
    out = capsys.readouterr().out
    assert "no curves.png: no backend\n" in out and f"no entry in the log: {full}\n" in out


def test_the_curves_are_drawn_into_the_axes_that_are_given(tmp_path):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    train(tiny_settings(tmp_path, epochs=2, holdout=20))
    left, right = figure.subplots(1, 2)
    lines = read_journal(tmp_path / "log.jsonl")
    assert draw_loss(left, lines) is left and draw_accuracy(right, lines) is right
    steps, training, held_out = left.get_lines()
    assert len(steps.get_xdata()) == 10 and steps.get_xdata()[-1] == 2.0
    assert list(training.get_xdata()) == [0.5, 1.5] and list(held_out.get_xdata()) == [1, 2]
    assert list(held_out.get_ydata()) == [r["evaluation_loss"] for r in records(tmp_path, "epoch")]
    assert [t.get_text() for t in right.get_legend().get_texts()] == ["training", "held-out"]
    empty = figure.add_subplot()
    assert draw_loss(empty, []).get_xlabel() == "step"  # a run that logged nothing yet
