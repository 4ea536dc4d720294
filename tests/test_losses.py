"""Losses where a logit is infinite: a class that is ruled out, an answer that is certain."""

from __future__ import annotations

import numpy as np
import pytest

from minswin import Tensor, kernels, ops
from minswin.models.deit import soft_distillation_loss

INF = np.inf


def gradient(loss: Tensor, x: Tensor) -> list[float]:
    loss.backward(np.ones(loss.shape, loss.dtype))
    return x.grad.tolist()


@pytest.fixture(params=kernels.BACKENDS, autouse=True)
def backend(request):
    with kernels.using(request.param):
        yield


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "targets", [np.array([2]), np.array([[0.0, 0.0, 1.0]])], ids=["hard", "soft"]
)
def test_a_class_that_is_ruled_out_adds_nothing_to_cross_entropy(dtype, targets):
    targets = targets if targets.ndim == 1 else targets.astype(dtype)
    x = Tensor(np.array([[-INF, 0, 1]], dtype), requires_grad=True)
    loss = ops.cross_entropy(x, targets)
    assert loss.item() == pytest.approx(np.log(1 + np.exp(-1)), rel=1e-6)
    p = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(gradient(loss, x), [[0, 1 - p, p - 1]], rtol=1e-6)


def test_a_target_that_is_ruled_out_costs_infinitely_much():
    x = np.array([[-INF, 0.0, 1.0]])
    assert ops.cross_entropy(x, [0]).item() == INF
    assert ops.cross_entropy(x, np.array([[0.5, 0.5, 0.0]])).item() == INF
    assert ops.cross_entropy(x, [2], smoothing=0.1).item() == INF
    assert np.isnan(ops.cross_entropy(np.array([[np.nan, 0.0, 1.0]]), [2]).item())


def test_binary_cross_entropy_of_a_certain_answer():
    x = Tensor(np.array([INF, -INF, INF, -INF]), requires_grad=True)
    loss = ops.binary_cross_entropy(x, np.array([1.0, 0.0, 0.0, 1.0]))
    assert loss.data.tolist() == [0, 0, INF, INF]
    assert gradient(loss, x) == [0, 0, 1, -1]
    far = ops.binary_cross_entropy(np.array([100.0, -100.0]), np.array([1.0, 0.0]))
    np.testing.assert_allclose(far.data, np.exp(-100), rtol=1e-12)  # not 0: it is 4e-44


def test_focal_loss_of_a_certain_answer():
    x = Tensor(np.array([INF, -INF, INF, -INF]), requires_grad=True)
    loss = ops.focal_loss(x, np.array([1, 0, 0, 1]))
    assert loss.data.tolist() == [0, 0, INF, INF]
    assert gradient(loss, x) == [0, 0, 0.75, -0.25]  # alpha of the target, towards it


def test_log_softmax_and_attention_beside_what_is_ruled_out():
    x = Tensor(np.array([[-INF, 0.0, 1.0]]), requires_grad=True)
    y = ops.log_softmax(x)
    assert y.data[0, 0] == -INF
    assert np.isfinite(gradient(y[:, 1:].sum(), x)).all() and x.grad[0, 0] == 0
    rng = np.random.default_rng(0)
    q, k, v = (Tensor(rng.standard_normal((2, 3, 4)), requires_grad=True) for _ in range(3))
    mask = np.where(np.eye(3, dtype=bool), -INF, 0.0)
    ops.attention(q, k, v, mask).sum().backward()
    few = ops.attention(q.data[:, :1], k.data[:, 1:], v.data[:, 1:], None)  # all but the first
    np.testing.assert_allclose(ops.attention(q, k, v, mask).data[:, :1], few.data, rtol=1e-12)
    assert all(np.isfinite(t.grad).all() for t in (q, k, v))


def test_a_teacher_may_rule_a_class_out():
    rng = np.random.default_rng(1)
    heads = [Tensor(rng.standard_normal((2, 4)), requires_grad=True) for _ in range(2)]
    teacher = rng.standard_normal((2, 4))
    teacher[0, 1] = -INF
    loss = soft_distillation_loss(tuple(heads), np.array([0, 2]), teacher, alpha=1.0)
    p = np.exp(teacher / 3) / np.exp(teacher / 3).sum(1, keepdims=True)
    q = np.exp(heads[1].data / 3) / np.exp(heads[1].data / 3).sum(1, keepdims=True)
    truth = 9 * np.where(p > 0, p * (np.log(np.where(p > 0, p, 1)) - np.log(q)), 0).mean()
    assert loss.item() == pytest.approx(truth, rel=1e-12)
    loss.backward()
    assert np.isfinite(heads[1].grad).all()
