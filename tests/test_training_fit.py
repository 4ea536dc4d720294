"""The loop that all training goes through: its steps are those of a reader with a pencil."""

from __future__ import annotations

import inspect
import sys
from contextlib import closing

import numpy as np
import pytest
from tiny_models import batch, tiny_model

from minswin import ops
from minswin.parallel import data_parallel
from minswin.training import AdamW, Diverged, fit
from minswin.training.optimizers import SGD


def batches(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    x, labels = batch(3 * count)
    return [(x[3 * i : 3 * i + 3], labels[3 * i : 3 * i + 3]) for i in range(count)]


def test_the_first_file_to_read_fits_on_a_screen() -> None:
    lines = inspect.getsource(sys.modules[fit.__module__]).splitlines()
    assert len(lines) <= 60


def test_a_step_is_forward_loss_backward_clip_and_momentum() -> None:
    """Against the same written out: v ← 0.9 v + g min(1, c / |g|), p ← p − lr v."""
    ours, theirs, clip = tiny_model(), tiny_model(), 0.5
    losses = list(fit(ours, batches(4), lr=lambda step: 0.1 / (step + 1), clip=clip))
    velocity = {name: np.zeros_like(p.data) for name, p in theirs.named_parameters()}
    for step, (x, labels) in enumerate(batches(4)):
        loss = ops.cross_entropy(theirs(x), labels)
        theirs.zero_grad()
        loss.backward()
        np.testing.assert_allclose(losses[step], loss.item(), rtol=1e-12)  # kernels fuse a·b + c
        length = np.sqrt(sum(float((p.grad**2).sum()) for p in theirs.parameters()))
        for name, p in theirs.named_parameters():
            velocity[name] = 0.9 * velocity[name] + p.grad * min(1, clip / (length + 1e-6))
            p.data -= 0.1 / (step + 1) * velocity[name]
    for name, p in ours.named_parameters():
        np.testing.assert_allclose(p.data, dict(theirs.named_parameters())[name].data, rtol=1e-9)


def test_any_loss_any_optimizer_and_a_split_batch() -> None:
    model = tiny_model()

    def loss(logits: object, labels: np.ndarray) -> object:
        return ops.cross_entropy(logits, labels, smoothing=0.3)

    with closing(data_parallel(model, 2)) as forward:
        optimizer = AdamW(model.named_parameters(), 1e-2)
        settings = {"optimizer": optimizer, "lr": 1e-2, "clip": None, "forward": forward}
        losses = list(fit(model, batches(2) * 6, loss, **settings))
    assert losses[-1] < losses[0] and optimizer.steps["head.weight"] == 12


def test_training_goes_on_only_as_far_as_it_is_asked() -> None:
    model = tiny_model()
    before = model.state_dict()["head.weight"].copy()
    steps = fit(model, batches(3))
    assert np.array_equal(model.state_dict()["head.weight"], before)
    next(steps)
    assert not np.array_equal(model.state_dict()["head.weight"], before)


@pytest.mark.parametrize("clip", [1.0, None])
def test_a_loss_that_is_no_number_stops_before_the_weights_change(clip: float | None) -> None:
    model = tiny_model()
    good, (x, labels) = batches(1)[0], batches(1)[0]
    state = None
    with pytest.raises(Diverged, match=r"fit: in step 2 the loss became nan .*try a smaller lr"):
        for _ in fit(model, [good, (x * np.nan, labels)], clip=clip, lr=0.01):
            state = {name: p.data.copy() for name, p in model.named_parameters()}
    assert state is not None
    assert all(np.array_equal(p.data, state[name]) for name, p in model.named_parameters())


def test_without_an_optimizer_it_is_sgd_with_momentum() -> None:
    ours, theirs = tiny_model(), tiny_model()
    list(fit(ours, batches(3), lr=0.05))
    list(fit(theirs, batches(3), lr=0.05, optimizer=SGD(theirs.named_parameters(), 9.9, 0.9)))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert np.array_equal(a.data, b.data)
