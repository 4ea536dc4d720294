"""Gradients are measured together and shortened to a limit, never lengthened."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_parameters import give_gradients, make_parameters

from minswin import Tensor
from minswin.training.optimizers import clip_gradients


@given(st.floats(0.01, 100), st.integers(0, 10_000))
def test_clipping_shortens_to_the_limit_and_never_lengthens(limit, seed):
    parameters = make_parameters(np.random.default_rng(seed))
    give_gradients(parameters, np.random.default_rng(seed + 1))
    before = np.concatenate([p.grad.ravel() for p in parameters.values()])
    length = clip_gradients(parameters.values(), limit)
    after = np.concatenate([p.grad.ravel() for p in parameters.values()])
    assert math.isclose(length, float(np.linalg.norm(before)), rel_tol=1e-12)
    want = before * min(1.0, limit / (length + 1e-6))
    assert np.allclose(after, want, rtol=1e-12, atol=0)


def test_clipping_does_not_write_into_a_gradient_that_two_parameters_share():
    parameters = list(make_parameters(np.random.default_rng(1)).values())[:2]
    shared = np.full(4, 3.0)
    for p in parameters:
        p.grad = shared
    assert clip_gradients([*parameters, SimpleNamespace(grad=None)], 1.0) == pytest.approx(72**0.5)
    assert np.array_equal(shared, np.full(4, 3.0))
    assert parameters[0].grad[0] == pytest.approx(3 / (72**0.5 + 1e-6), rel=1e-12)


@pytest.mark.parametrize("size", [1e20, 1e-30])
def test_the_length_of_a_gradient_of_any_size_is_measured_and_clipped(size):
    p = SimpleNamespace(grad=np.array([[3, 4], [0, 0]], np.float32) * np.float32(size))
    assert clip_gradients([p], None) == pytest.approx(5 * size, rel=1e-6, abs=0)
    clip_gradients([p], 0.5)
    want = np.float64([3, 4]) * size * min(1, 0.5 / (5 * size))
    assert p.grad.dtype == np.float32 and p.grad[0] == pytest.approx(want, rel=1e-6, abs=0)


def test_the_length_is_the_same_number_on_every_python():
    """In order, 1e16 + 1 stays 1e16; sum() of Python 3.12 would count the ones in the end."""
    gradients = [SimpleNamespace(grad=np.array([g])) for g in (1e8, *[1.0] * 64)]
    assert clip_gradients(gradients, None) == 1e8


def test_one_parameter_is_clipped_as_a_list_of_it():
    p = Tensor(np.zeros((2, 2)), requires_grad=True)
    p.grad = np.full((2, 2), 2.0)
    assert clip_gradients(p, 2.0) == 4.0
    assert np.allclose(p.grad, 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [({"a": None}, "str"), ([("a", None)], "tuple"), (3, "int"), ([np.zeros(2)], "ndarray")],
)
def test_clipping_what_has_no_gradients_is_an_error(parameters, kind):
    with pytest.raises(TypeError, match=f"must hold Parameters, got a {kind}; pass model.para"):
        clip_gradients(parameters, 1.0)


def test_clipping_with_none_only_measures():
    p = SimpleNamespace(grad=np.array([3.0, 4.0]))
    assert clip_gradients([p], None) == 5.0
    assert np.array_equal(p.grad, [3.0, 4.0])


@pytest.mark.parametrize("max_norm", [-1.0, 0.0, math.nan])
def test_clipping_to_no_positive_length_is_an_error(max_norm):
    p = SimpleNamespace(grad=np.array([3.0, 4.0]))
    with pytest.raises(ValueError, match=r"clip_gradients: max_norm must be a positive number"):
        clip_gradients([p], max_norm)
    assert p.grad.tolist() == [3, 4]
    assert clip_gradients([p], math.inf) == 5
    assert p.grad.tolist() == [3, 4]
