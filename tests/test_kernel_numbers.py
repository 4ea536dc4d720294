"""Kernels on numbers that are not ordinary, and their accuracy against the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from kernel_cases import DTYPES, assert_equals_definition
from numba import njit
from table import definition_of

from minswin.arrays import Array
from minswin.kernels import FAST
from minswin.kernels.cpu.functions import bell, exp, falling_exp
from minswin.kernels.cpu.simd import LANES, load, store

# ── numbers that are not ordinary ────────────────────────────────────────────────────────────────


ODD_ROWS = {
    "a NaN": {3: np.nan},
    "NaN first and last": {0: np.nan, -1: np.nan},
    "some −∞": {4: -np.inf, -1: -np.inf},
    "∞": {5: np.inf},
    "−∞ only": {i: -np.inf for i in range(21)},
    "NaN and −∞": {2: np.nan, 7: -np.inf},
    "large": {i: 5e3 + i for i in range(21)},
    "constant": dict.fromkeys(range(21), 3.0),
    "one huge": {1: -1e30},
    "subnormal": {i: (i - 9) * 1e-40 for i in range(21)},
}


def odd_row(row: str, dtype: type) -> Array:
    x = np.random.default_rng(0).standard_normal((1, 21)).astype(dtype)
    for i, number in ODD_ROWS[row].items():
        x[0, i] = number
    return x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", ODD_ROWS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "gelu", "gelu_tanh"])
def test_odd_numbers_come_out_as_in_the_definition(name: str, row: str, dtype: type) -> None:
    assert_equals_definition(name, FAST[name]["numba"], (odd_row(row, dtype),), {})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", ODD_ROWS)
def test_layer_norm_of_odd_numbers_and_with_odd_gains_is_the_definition_s(
    row: str, dtype: type
) -> None:
    rng = np.random.default_rng(2)
    odd, x = odd_row(row, dtype), rng.standard_normal((3, 21)).astype(dtype)
    gain, bias = (rng.standard_normal(21).astype(dtype) for _ in range(2))
    for arrays in ((odd, gain, bias), (x, odd[0], bias), (x, gain, odd[0])):
        assert_equals_definition("layer_norm", FAST["layer_norm"]["numba"], arrays, {})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", ODD_ROWS)
def test_cross_entropy_of_odd_numbers_is_the_definition_s(row: str, dtype: type) -> None:
    """Of odd logits and of odd targets; an ordinary row follows."""
    rng = np.random.default_rng(2)
    x, soft = (rng.standard_normal((2, 21)).astype(dtype) for _ in range(2))
    odd = np.concatenate([odd_row(row, dtype), x[:1]])
    kernel = FAST["cross_entropy"]["numba"]
    for smoothing in (0.0, 0.1):
        for logits, targets in ((odd, np.array([4, 20])), (odd, soft), (x, odd)):
            assert_equals_definition(
                "cross_entropy", kernel, (logits, targets), {"smoothing": smoothing}
            )


@pytest.mark.parametrize("targets", [[0, 5], [-6, 1], [0.0, 1.0], [0, 1, 2]])
def test_labels_that_name_no_class_never_reach_the_loop(targets: list[float]) -> None:
    """−1 is the last class in the definition; the loop would read outside of the logits."""
    x, targets = np.ones((2, 5), np.float32), np.array(targets)
    with pytest.raises((IndexError, ValueError)):
        FAST["cross_entropy"]["numba"](x, targets)
    last = np.array([-1, 3])
    assert_equals_definition("cross_entropy", FAST["cross_entropy"]["numba"], (x, last), {})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["gelu", "gelu_tanh"])
def test_gelu_of_a_subnormal_number_is_its_half(name: str, dtype: type) -> None:
    step = np.finfo(dtype).smallest_subnormal
    x = step * np.arange(-40, 41, dtype=dtype)
    y, vjp = FAST[name]["numba"](x)
    assert y.any() and abs(y - x / 2).max() <= step
    assert np.array_equal(vjp(x)[0], y)  # the derivative at 0 is ½ as well


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_logit_of_minus_infinity_gets_probability_and_gradient_zero(dtype: type) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 49)).astype(dtype)
    x[:, ::3] = -np.inf
    p, vjp = FAST["softmax"]["numba"](x)
    (dx,) = vjp(rng.standard_normal(p.shape).astype(dtype))
    assert not p[:, ::3].any() and not dx[:, ::3].any()
    assert p[:, 1::3].all() and dx[:, 1::3].all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_attention_equals_the_definition(dtype: type) -> None:
    """Queries that see all keys, some, none."""
    rng = np.random.default_rng(0)
    qkv = tuple(rng.standard_normal((2, 3, 16, 8)).astype(dtype) for _ in range(3))
    for value in (-100, -np.inf):
        bias = np.where(rng.random((3, 16, 16)) < 0.4, dtype(value), dtype(0))
        bias[1, 2] = value
        assert_equals_definition("attention", FAST["attention"]["numba"], (*qkv, bias), {})


def test_probabilities_too_small_for_normal_numbers_are_zero() -> None:
    x = np.concatenate([[0], np.linspace(-80, -110, 301)]).astype(np.float32)
    truth, _ = definition_of("softmax")(x)
    p, _ = FAST["softmax"]["numba"](x)
    smallest = np.finfo(np.float32).tiny
    assert ((truth > 0) & (truth < smallest)).sum() > 100, "the definition gives subnormal numbers"
    assert not ((p > 0) & (p < smallest)).any()
    assert abs(p - truth).max() < 1e-37


# ── accuracy, against the truth rather than against the definition ───────────────────────────────


@njit
def exp_of(x: Array) -> Array:
    y = np.empty_like(x)
    for i in range(0, len(x), LANES):
        store(y, i, exp(load(x, i)))
    return y


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-7), (np.float64, 4e-16)])
def test_exp_is_accurate_from_the_smallest_to_half_of_the_largest_number(
    dtype: type, bound: float
) -> None:
    lowest, highest = math.log(np.finfo(dtype).tiny), math.log(np.finfo(dtype).max / 2)
    x = np.linspace(0.999 * lowest, highest, 20_000).astype(dtype)
    truth = np.exp(x.astype(np.longdouble))
    assert abs(exp_of(x) / truth - 1).max() < bound
    ends = np.array([0, -0.0, 1.001 * lowest, -np.inf, np.nan, -1e30, lowest - 5, 1], dtype)
    want = np.array([1, 1, 0, 0, np.nan, 0, 0, np.exp(dtype(1))], dtype)
    np.testing.assert_allclose(exp_of(ends), want, rtol=bound, atol=0)


@njit
def falling_of(x: Array, y: Array, z: Array) -> None:
    for i in range(0, len(x), LANES):
        store(y, i, falling_exp(load(x, i)))
        store(z, i, bell(load(x, i)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_falling_exponentials_are_accurate_down_to_the_smallest_number(dtype: type) -> None:
    """falling_exp to two roundings; bell to those of the square, the power of which it is."""
    lowest, eps = 0.999 * math.log(np.finfo(dtype).tiny), np.finfo(dtype).eps
    x = np.linspace(lowest, 0, 20_000).astype(dtype)
    a = np.sqrt(-2 * x)
    y, z = np.empty_like(x), np.empty_like(x)
    falling_of(x, y, z)
    assert abs(y / np.exp(x.astype(np.longdouble)) - 1).max() < 2 * eps
    falling_of(a, np.empty_like(x), z)
    wide = a.astype(np.longdouble)
    assert np.all(abs(z / np.exp(-wide * wide / 2) - 1) < eps * (2 + wide * wide))
    ends = np.array([0, -0.0, 1.001 * lowest / 0.999, -np.inf, np.nan, -1e30, 2 * lowest, 0], dtype)
    y, z = np.empty_like(ends), np.empty_like(ends)
    falling_of(ends, y, z)
    np.testing.assert_array_equal(y, np.array([1, 1, 0, 0, np.nan, 0, 0, 1], dtype))
    falling_of(np.array([0, 1e30, np.inf, np.nan, 1e3, 0, 0, 0], dtype), y, z)
    np.testing.assert_array_equal(z, np.array([1, 0, 0, 0, 0, 1, 1, 1], dtype))


@pytest.mark.parametrize(("dtype", "last"), [(np.float32, -12.0), (np.float64, -36.0)])
def test_gelu_is_accurate_in_its_tail(dtype: type, last: float) -> None:
    """Relative to itself, though it falls to 1e-32 and below; the definition has 0 there."""
    x = np.linspace(last / 3, -0.01, 500).astype(dtype)
    truth = np.array([t * math.erfc(-t / math.sqrt(2)) / 2 for t in x.tolist()])
    y, _ = FAST["gelu"]["numba"](x)
    # A rounding of x²/2 in e^(−x²/2), and of x/√2 in erfc, is x²/2 and x² roundings of the result.
    assert abs(y / truth - 1).max() < (16 + 1.5 * x[0] ** 2) * np.finfo(dtype).eps


def test_layer_norm_takes_the_variance_around_the_mean() -> None:
    """E[x²] − E[x]² would lose all digits here."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((5, 64)) + 3000).astype(np.float32)
    exact, _ = definition_of("layer_norm")(x.astype(np.float64), np.ones(64), np.zeros(64))
    y, _ = FAST["layer_norm"]["numba"](x, np.ones(64, np.float32), np.zeros(64, np.float32))
    assert abs(y - exact).max() < 1e-3  # 3000 · 6e-8: the rounding of the mean


def test_layer_norm_sums_a_large_batch_as_accurately_as_float32_holds() -> None:
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal((40_000, 8)).astype(np.float32) + 0.1 for _ in range(2))
    weight, bias = np.ones(8, np.float32), np.zeros(8, np.float32)
    _, vjp = FAST["layer_norm"]["numba"](x, weight, bias)
    wide = (a.astype(np.float64) for a in (x, weight, bias))
    _, exact = definition_of("layer_norm")(*wide)
    for ours, truth in zip(vjp(g)[1:], exact(g.astype(np.float64))[1:], strict=True):
        # A running sum in float32 is off by 6e-6 of the largest.
        assert abs(ours - truth).max() < 1e-6 * abs(truth).max()
