"""A batch in parts, one per thread, gives the numbers of the whole batch; and evaluation."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from minswin import kernels, ops
from minswin.models import create_model
from minswin.training import evaluate, predict
from minswin.training.parallel import Workers, one_blas_thread

SETTINGS = {
    "img_size": (8, 12),
    "patch_size": 2,
    "embed_dim": 6,
    "depths": (2,),
    "num_heads": (2,),
    "window_size": 2,
    "num_classes": 5,
}


def tiny_model(rate=0.0, dtype=np.float64):
    rng = np.random.default_rng(3)
    model = create_model("swin_shapes", rng=rng, dtype=dtype, drop_path_rate=rate, **SETTINGS)
    for p in model.parameters():
        p.data += 0.3 * rng.standard_normal(p.shape)
    return model


def batch(number, dtype=np.float64):
    rng = np.random.default_rng(4)
    return rng.standard_normal((number, 3, 8, 12)).astype(dtype), rng.integers(0, 5, number)


def plain_gradients(model, x, targets, smoothing):
    model.zero_grad()
    loss = ops.cross_entropy(model(x), targets, smoothing=smoothing)
    loss.backward()
    return loss.item(), {n: p.grad for n, p in model.named_parameters()}


@pytest.mark.parametrize("threads", [1, 2, 3, 9])
@pytest.mark.parametrize("soft", [False, True])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(threads, soft):
    model, (x, targets) = tiny_model(), batch(7)
    if soft:
        targets = np.random.default_rng(5).dirichlet(np.ones(5), 7)
    want_loss, want = plain_gradients(model, x, targets, 0.1)
    want_logits = model(x).data
    workers = Workers(model, threads)
    for _ in range(2):  # the second time finds the gradients of the first
        loss, logits = workers.gradients(x, targets, smoothing=0.1)
        assert abs(loss - want_loss) < 1e-12
        assert np.abs(logits - want_logits).max() < 1e-12
        for name, p in model.named_parameters():
            assert np.abs(p.grad - want[name]).max() < 1e-12, name
    x, targets = x[:2], targets[:2]  # fewer images than threads
    want_loss, want = plain_gradients(model, x, targets, 0.1)
    assert abs(workers.gradients(x, targets, smoothing=0.1)[0] - want_loss) < 1e-12
    assert all(np.abs(p.grad - want[n]).max() < 1e-12 for n, p in model.named_parameters())
    assert np.abs(workers.logits(x) - model(x).data).max() < 1e-12
    workers.close()


def test_twins_share_the_weights_and_nothing_else():
    model = tiny_model()
    workers = Workers(model, 2)
    for twin in workers.twins:
        assert twin is not model and twin.rng is not model.rng
        assert all(t.rng is twin.rng for t in twin.layers_within() if hasattr(t, "rng"))
        pairs = zip(model.parameters(), twin.parameters(), strict=True)
        assert all(p is not q and p.data is q.data for p, q in pairs)
    workers.close()


def test_dropped_paths_depend_on_the_state_of_the_models_generator_only():
    model, (x, targets) = tiny_model(rate=0.6), batch(8)
    workers = Workers(model, 2)
    state = model.rng.bit_generator.state
    first = workers.gradients(x, targets, smoothing=0.0)[1]
    second = workers.gradients(x, targets, smoothing=0.0)[1]
    model.rng.bit_generator.state = state
    assert np.array_equal(workers.gradients(x, targets, smoothing=0.0)[1], first)
    assert not np.array_equal(first, second)
    model.eval()
    assert np.array_equal(workers.logits(x), workers.logits(x))
    assert np.abs(workers.logits(x) - model(x).data).max() < 1e-12
    workers.close()


def test_the_parts_of_one_step_drop_different_paths():
    model = tiny_model(rate=0.6)
    x = np.repeat(batch(1)[0], 40, axis=0)  # one image, forty times
    workers = Workers(model, 2)
    logits = workers.gradients(x, np.zeros(40, np.int64), smoothing=0.0)[1]
    assert not np.array_equal(logits[:20], logits[20:])
    workers.close()


def test_the_threads_use_the_kernels_chosen_by_the_caller(monkeypatch):
    seen = []
    select = kernels.select

    def watching(name, array):
        seen.append((threading.current_thread().name, kernels.chosen(array)))
        return select(name, array)

    monkeypatch.setattr(kernels, "select", watching)
    workers = Workers(tiny_model(), 2)
    for backend in ("reference", "numba"):
        seen.clear()
        with kernels.using(backend):
            workers.logits(batch(4)[0])
        assert {chosen for _, chosen in seen} == {backend}
        assert all(name.startswith("minswin") for name, _ in seen)  # not the main thread
    workers.close()


def test_an_error_in_a_thread_reaches_the_caller():
    workers = Workers(tiny_model(), 2)
    with pytest.raises(ValueError, match="images must be"):
        workers.logits(batch(4)[0][:, :2])
    workers.close()


def test_blas_can_be_held_to_one_thread():
    assert isinstance(one_blas_thread(), bool)
    a = np.random.default_rng(0).standard_normal((300, 300))
    assert np.allclose(a @ a, np.einsum("ij,jk->ik", a, a))


# ── evaluation ───────────────────────────────────────────────────────────────────────────────────


def evaluate_oracle(model, x, labels):
    """Image by image, number by number."""
    loss, right, seen = 0.0, [0] * 5, [0] * 5
    for image, label in zip(x, labels, strict=True):
        logits = [float(v) for v in model(image[None]).data[0]]
        loss -= math.log(math.exp(logits[label]) / sum(math.exp(v) for v in logits))
        seen[label] += 1
        right[label] += logits.index(max(logits)) == label
    return loss / len(x), sum(right) / len(x), right, seen


@pytest.mark.parametrize("threads", [1, 2])
def test_evaluation_counts_like_the_oracle_whatever_the_batches(threads):
    model, (x, labels) = tiny_model(), batch(11)
    labels[labels == 3] = 1
    loss, accuracy, right, seen = evaluate_oracle(model, x, labels)
    workers = Workers(model, threads)
    for size in (4, 11):
        parts = [(x[i : i + size], labels[i : i + size]) for i in range(0, 11, size)]
        result = evaluate(model, parts, workers=workers)
        assert abs(result.loss - loss) < 1e-12 and abs(result.accuracy - accuracy) < 1e-12
        want = [r / s if s else math.nan for r, s in zip(right, seen, strict=True)]
        assert np.allclose(result.per_class, want, atol=1e-12, equal_nan=True)
        assert math.isnan(result.per_class[3])
    workers.close()


def test_evaluation_is_without_dropout_and_leaves_the_model_in_its_mode():
    model, (x, labels) = tiny_model(rate=0.6), batch(6)
    assert model.training
    assert evaluate(model, [(x, labels)])[0] == evaluate(model, [(x, labels)])[0]
    assert model.training
    with pytest.raises(ValueError, match="images must be"):
        evaluate(model, [(x[:, :1], labels)])
    assert model.training
    with pytest.raises(ValueError, match="evaluate: batches is empty; give at least one batch"):
        evaluate(model, [])


def test_predictions_are_the_softmax_of_the_logits():
    model, (x, _) = tiny_model(dtype=np.float32), batch(6, np.float32)
    probabilities = predict(model, x)
    logits = model(x).data.astype(np.float64)
    want = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert probabilities.shape == (6, 5) and np.abs(probabilities - want).max() < 1e-12
    model.head.weight.data *= 1e4  # far beyond what exp can take
    assert np.isfinite(predict(model, x)).all()


@pytest.mark.parametrize(("labels", "low", "high"), [([0, 5, 1], 0, 5), ([4, -1, 2], -1, 4)])
def test_labels_that_name_no_class_are_refused(labels, low, high):
    model, (x, _) = tiny_model(), batch(3)
    message = rf"evaluate: labels must lie in 0…4, got values from {low} to {high}"
    with pytest.raises(ValueError, match=message):
        evaluate(model, [(x, np.array(labels))])


def test_evaluation_gives_every_layer_its_own_mode_back():
    model, (x, labels) = tiny_model(), batch(3)
    model.train()
    model.norm.eval()  # frozen
    before = [layer.training for layer in model.layers_within()]
    evaluate(model, [(x, labels)])
    predict(model, x)
    assert [layer.training for layer in model.layers_within()] == before
    assert not model.norm.training and model.head.training


def test_the_loss_of_a_model_that_answers_with_no_numbers_is_nan():
    model, (x, labels) = tiny_model(), batch(3)
    model.head.bias.data[...] = np.inf
    assert math.isnan(evaluate(model, [(x, labels)]).loss)
    assert np.isnan(predict(model, x)).all()


def test_a_frozen_layer_is_frozen_in_every_thread():
    model, (x, targets) = tiny_model(rate=0.5), batch(8)
    model.train()
    model.layers[0].eval()  # no drop path here, though the model trains
    workers = Workers(model, 2)
    _, logits = workers.gradients(x, targets, smoothing=0.0)
    workers.close()
    assert np.abs(logits - model.eval()(x).data).max() < 1e-12
