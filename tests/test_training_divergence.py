"""A run whose numbers are no longer finite stops, and saves none of them."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_runs
from tiny_training import tiny_load, tiny_settings

from minswin.training import Diverged, Evaluation, evaluate, load_trained_model, train
from minswin.training.checkpoints import BEST, LAST, read_checkpoint
from minswin.training.folder import Folder
from minswin.training.inputs import evaluation_batches
from minswin.training.run import Run
from minswin.training.updates import Updates

tiny = tiny_runs.tiny  # the fixture


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_no_number_stops_before_the_weights_change(
    tmp_path, monkeypatch, what
):
    differentiate, seen = Updates._forward_backward, []

    def broken(updates, *batch):
        numbers = differentiate(updates, *batch)  # loss, right answers, length of the gradient
        seen.append({n: p.data.copy() for n, p in updates.run.model.named_parameters()})
        if len(seen) == 6:
            numbers[0 if what == "loss" else 2] = np.nan if what == "loss" else np.inf
        broken.model = updates.run.model
        return numbers

    monkeypatch.setattr(Updates, "_forward_backward", broken)
    message = (
        rf"train: (the loss became nan|a gradient became inf) in epoch 1, step 6 \(lr .*\); this "
        rf"update was not made\. Try a smaller --lr \(say 0\.0025\).*last good checkpoint.*{LAST}"
    )
    with pytest.raises(Diverged, match=message):
        train(tiny_settings(tmp_path))
    now = broken.model.state_dict()
    assert all(np.array_equal(now[n], a) for n, a in seen[-1].items())
    assert read_checkpoint(tmp_path).info["step"] == 3


def test_a_learning_rate_far_too_high_is_reported_not_trained_on(tmp_path):
    with pytest.raises(Diverged, match="Try a smaller --lr"):
        train(tiny_settings(tmp_path, optimizer="sgd", lr=1e20, clip=0.0, warmup=0))
    assert np.isfinite(read_checkpoint(tmp_path).weights["head.weight"]).all()


def test_what_is_called_the_last_good_checkpoint_has_a_loss(tmp_path):
    settings = tiny_settings(
        tmp_path, lr=1e30, clip=0.0, warmup=0, checkpoint_every=1, ema=0.0, augment="none"
    )
    with pytest.raises(Diverged, match=r"not saved.*last good checkpoint is .*last\.safetensors"):
        train(settings)
    assert not (tmp_path / BEST).exists()
    model, info = load_trained_model(tmp_path / LAST)
    result = evaluate(model, evaluation_batches(tiny_load("shapes", split="train")))
    assert np.isfinite(result.loss) and info["step"] == 0


@pytest.mark.parametrize("group", ["weights", "optimizer", "average"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_never_saved(tmp_path, group, value):
    run = Run(tiny_settings(tmp_path))
    saved = Folder.begin(run)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    part = {"weights": run.model, "optimizer": run.optimizer, "average": run.average}[group]
    name = {"optimizer": "square.head.weight"}.get(group, "head.weight")
    part.state_dict()[name][1, 2] = value
    for file in (LAST, BEST):
        with pytest.raises(Diverged, match=f"'{name}' .*no longer finite.*not saved"):
            saved.save(file)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    saved.close()
    run.close()


def test_an_evaluation_without_a_loss_stops_the_run_and_is_not_the_best(tmp_path, monkeypatch):
    seen = iter([1.0, float("nan")])

    def broken(*arguments, **settings):
        return Evaluation(next(seen), 0.5, np.zeros(3))

    monkeypatch.setattr("minswin.training.run.evaluate", broken)
    message = r"the loss of the 33 images .* epoch 2, step 14.* Try a smaller --lr"
    with pytest.raises(Diverged, match=message):
        train(tiny_settings(tmp_path))
    assert read_checkpoint(tmp_path / BEST).info["epoch"] == 1
    assert read_checkpoint(tmp_path / LAST).info["step"] == 12
