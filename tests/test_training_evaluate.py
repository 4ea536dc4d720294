"""Evaluation: the loss and accuracy of a model, and its predictions, against an oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tiny_models import batch, tiny_model

from minswin import data_parallel
from minswin.training import evaluate, predict
from minswin.training.evaluation import mirrored


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
    forward = data_parallel(model, threads)
    for size in (4, 11):
        parts = [(x[i : i + size], labels[i : i + size]) for i in range(0, 11, size)]
        result = evaluate(model, parts, forward=forward)
        assert abs(result.loss - loss) < 1e-12 and abs(result.accuracy - accuracy) < 1e-12
        want = [r / s if s else math.nan for r, s in zip(right, seen, strict=True)]
        assert np.allclose(result.per_class, want, atol=1e-12, equal_nan=True)
        assert math.isnan(result.per_class[3])


@pytest.mark.parametrize("threads", [1, 2])
def test_with_flips_an_image_is_classified_together_with_its_mirror_image(threads):
    model, (x, labels) = tiny_model(), batch(11)
    turned = np.stack([image[:, :, ::-1] for image in x])
    logits = [model(images).data for images in (x, turned)]
    mean = (logits[0] + logits[1]) / 2
    result = evaluate(model, [(x, labels)], forward=mirrored(data_parallel(model, threads)))
    right = mean.argmax(1) == labels
    losses = [np.log(np.exp(row).sum()) - row[k] for row, k in zip(mean, labels, strict=True)]
    assert result.accuracy == right.mean() and abs(result.loss - np.mean(losses)) < 1e-12
    assert abs(result.loss - evaluate(model, [(x, labels)]).loss) > 1e-6


def test_evaluation_is_without_dropout_and_leaves_the_model_in_its_mode():
    model, (x, labels) = tiny_model(rate=0.6), batch(6)
    assert model.training
    assert evaluate(model, [(x, labels)])[0] == evaluate(model, [(x, labels)])[0]
    assert model.training
    with pytest.raises(ValueError, match="images must be"):
        evaluate(model, [(x[:, :1], labels)])
    assert model.training
    with pytest.raises(ValueError, match="evaluate: batches hold no image; give at least one"):
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
