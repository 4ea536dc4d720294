"""Laws that hold for every definition: its derivative, its dtype, its manners."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minswin import Tensor, ops
from minswin.check import check_vjp, samples
from minswin.reference import elementwise, shape

ROWS = [
    pytest.param(*row, id=f"{i}-{row[0].__name__}")
    for i, row in enumerate(samples(np.random.default_rng(0)))
]
every_definition = pytest.mark.parametrize(("definition", "arrays", "settings"), ROWS)


def is_float(x) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


@every_definition
def test_the_derivative_agrees_with_finite_differences(definition, arrays, settings) -> None:
    check_vjp(definition, *arrays, rng=np.random.default_rng(1), **settings)


@every_definition
def test_float32_in_gives_float32_out_and_the_same_numbers(definition, arrays, settings) -> None:
    value, pull = definition(*arrays, **settings)
    g = np.random.default_rng(2).standard_normal(value.shape)
    low = [x.astype(np.float32) if is_float(x) else x for x in arrays]
    value32, pull32 = definition(*low, **settings)
    gradients32 = pull32(g.astype(np.float32))
    assert value32.dtype == np.float32
    # A few operations on numbers of order 1, each within 6e-8 relative.
    np.testing.assert_allclose(value32, value, rtol=1e-5, atol=1e-5)
    for x, dx, truth in zip(low, gradients32, pull(g), strict=True):
        if is_float(x) and truth is not None:
            assert dx.dtype == np.float32
            np.testing.assert_allclose(dx, truth, rtol=1e-4, atol=1e-5)


@every_definition
def test_inputs_and_cotangent_are_never_written_into(definition, arrays, settings) -> None:
    for x in arrays:
        if isinstance(x, np.ndarray):
            x.setflags(write=False)
    value, pull = definition(*arrays, **settings)
    g = np.random.default_rng(3).standard_normal(value.shape)
    g.setflags(write=False)
    pull(g)  # writing would raise


@every_definition
def test_strides_do_not_matter(definition, arrays, settings) -> None:
    """The same numbers stored backwards and with gaps give the same result."""
    value, pull = definition(*arrays, **settings)
    g = np.random.default_rng(4).standard_normal(value.shape)
    strided = [scattered(x) if isinstance(x, np.ndarray) and x.ndim else x for x in arrays]
    value_strided, pull_strided = definition(*strided, **settings)
    np.testing.assert_allclose(value_strided, value, rtol=1e-13, atol=1e-13)
    pairs = zip(pull_strided(scattered(g) if g.ndim else g), pull(g), strict=True)
    for dx, truth in pairs:
        if truth is not None:
            np.testing.assert_allclose(dx, truth, rtol=1e-12, atol=1e-12)


def scattered(x: np.ndarray) -> np.ndarray:
    """x with reversed, widened strides."""
    room = np.empty((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    room[..., ::-2] = x
    return room[..., ::-2]


@every_definition
def test_the_lifted_operation_is_the_definition(definition, arrays, settings) -> None:
    inputs = [Tensor(x, requires_grad=True) if is_float(x) else x for x in arrays]
    result = getattr(ops, definition.__name__)(*inputs, **settings)
    value, pull = definition(*arrays, **settings)
    np.testing.assert_allclose(result.numpy(), value, rtol=1e-12, atol=1e-14)
    g = np.random.default_rng(5).standard_normal(value.shape)
    result.backward(g)
    for x, truth in zip(inputs, pull(g), strict=True):
        if isinstance(x, Tensor) and truth is not None:
            np.testing.assert_allclose(x.grad, truth, rtol=1e-12, atol=1e-12)


# ── single facts ─────────────────────────────────────────────────────────────────────────────────


def test_erf_is_within_two_units_of_the_last_digit() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20001), np.array([0.0, 1.0, -1.0, 6.0, 1e-300, 40.0])])
    truth = np.array([math.erf(v) for v in x])
    assert np.max(abs(elementwise.erf(x) - truth)) <= 2.3e-16
    np.testing.assert_array_equal(elementwise.erf(np.array([np.inf, -np.inf])), [1, -1])
    assert np.isnan(elementwise.erf(np.array(np.nan)))


def test_exact_and_tanh_gelu_differ_by_what_is_known() -> None:
    x = np.linspace(-8, 8, 100_001)
    gap = abs(elementwise.gelu(x)[0] - elementwise.gelu_tanh(x)[0])
    assert 4.72e-4 < gap.max() < 4.74e-4
    assert abs(abs(x[gap.argmax()]) - 2.7) < 0.05


def test_embedding_equals_one_hot_times_the_matrix() -> None:
    rng = np.random.default_rng(6)
    table, rows = rng.standard_normal((5, 3)), rng.integers(0, 5, (2, 7))
    one_hot = np.eye(5)[rows]  # (2, 7, 5)
    value, pull = shape.take(table, rows)
    np.testing.assert_array_equal(value, one_hot @ table)
    g = rng.standard_normal((2, 7, 3))
    np.testing.assert_allclose(pull(g)[0], np.einsum("abl,abc->lc", one_hot, g), rtol=1e-13)


def test_relu_keeps_nan_and_has_no_gradient_at_zero() -> None:
    value, pull = elementwise.relu(np.array([-1.0, 0.0, 2.0, np.nan]))
    np.testing.assert_array_equal(value, [0, 0, 2, np.nan])
    np.testing.assert_array_equal(pull(np.array([5.0, 5.0, 5.0, 5.0]))[0], [0, 0, 5, 0])


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2, -4])
def test_a_stack_along_any_axis_gives_each_array_its_own_gradient(axis: int) -> None:
    xs = [np.full((2, 3, 4), float(i)) for i in range(5)]
    y, vjp = shape.stack(*xs, axis=axis)
    g = np.random.default_rng(0).standard_normal(y.shape)
    for i, (x, dx) in enumerate(zip(xs, vjp(g), strict=True)):
        assert np.array_equal(np.take(y, i, axis), x)
        assert np.array_equal(dx, np.take(g, i, axis))
