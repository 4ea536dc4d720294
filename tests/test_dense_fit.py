"""`fit` lowers the loss by steps that are what they should be, within its time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dense_cases import backbone

from minswin import ops
from minswin.dense import Segmenter, fit, pixel_cross_entropy
from minswin.dense.learning import _learning_rate
from minswin.testing.claims import assert_close, assert_same
from minswin.training import Diverged


def problem(rng: np.random.Generator) -> tuple[Any, Any]:
    model = Segmenter(backbone("swin", rng), 3, width=8, rng=rng, dtype=np.float64)

    def batch(rng: np.random.Generator) -> tuple[Any, Any]:
        masks = rng.permutation(3)[:, None, None] + np.zeros((1, 10, 14), int)  # one each
        return rng.standard_normal((3, 3, 10, 14)) + 3 * (masks[:, None] - 1), masks

    return model, batch


def test_fit_lowers_the_loss_and_repeats_itself() -> None:
    runs = []
    for _ in range(2):
        rng = np.random.default_rng(6)
        model, batch = problem(rng)
        losses = fit(model.eval(), batch, pixel_cross_entropy, steps=16, lr=1e-2, rng=rng)
        assert model.training
        runs.append(losses)
    assert runs[0] == runs[1]
    assert np.mean(runs[0][-5:]) < np.mean(runs[0][:5]) - 0.2


def test_fit_clips_the_gradient_and_lets_the_weights_decay() -> None:
    """A gradient of almost no length moves nothing: what is left is the decay of the weights."""
    rng = np.random.default_rng(13)
    model, batch = problem(rng)
    before = model.classifier.weight.data.copy()
    own = {"steps": 1, "lr": 0.5, "clip": 1e-14, "weight_decay": 0.3, "rng": rng}
    fit(model, batch, pixel_cross_entropy, **own)
    assert_close(model.classifier.weight.data, before * (1 - 0.01 * 0.3), 1e-7)  # lr/50 at first


def test_each_step_of_fit_has_the_gradient_of_its_own_batch() -> None:
    rng = np.random.default_rng(15)
    model, batch = problem(rng)
    x, masks = batch(rng)
    own = {"steps": 3, "lr": 1e-13, "clip": 1e9, "rng": rng}
    fit(model, lambda rng: (x, masks), pixel_cross_entropy, **own)
    last = model.classifier.weight.grad.copy()
    model.zero_grad()
    pixel_cross_entropy(model(x), masks).backward()
    assert_close(last, model.classifier.weight.grad, 1e-9)


def test_fit_ends_when_the_time_is_over() -> None:
    rng = np.random.default_rng(7)
    model, batch = problem(rng)
    losses = fit(model, batch, pixel_cross_entropy, steps=10**6, minutes=1e-3, rng=rng)
    assert 1 <= len(losses) < 1000


def test_the_rate_rises_from_a_fiftieth_and_falls_to_nothing() -> None:
    rates = [_learning_rate(done, 0.5) for done in (0, 0.05, 0.525, 1)]
    assert_close(rates, [0.01, 0.5, 0.25, 0])


def test_fit_refuses_no_time_and_stops_when_the_loss_is_no_number() -> None:
    rng = np.random.default_rng(8)
    model, batch = problem(rng)
    with pytest.raises(ValueError, match="steps and minutes must be above 0, got 0 and None"):
        fit(model, batch, pixel_cross_entropy, steps=0, rng=rng)
    with pytest.raises(ValueError, match="got 1 and 0"):
        fit(model, batch, pixel_cross_entropy, steps=1, minutes=0, rng=rng)
    before = {name: a.copy() for name, a in model.state_dict().items()}
    with pytest.raises(Diverged, match="in step 1 the loss became nan"):
        fit(model, batch, lambda y, t: ops.sum(y) * float("nan"), steps=3, rng=rng)
    for name, array in model.state_dict().items():
        assert_same(array, before[name])
