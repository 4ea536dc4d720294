"""The attention kernels equal their definitions: tiles of queries, padding, bias of every shape."""

from __future__ import annotations

import numpy as np
import pytest
from table import definition_of

from minswin import composites, kernels
from minswin.kernels import FAST

LIMIT = {np.float32: 3e-5, np.float64: 2e-13}  # 200 keys of size 1: rounding of sums of that length


@pytest.fixture(scope="module", autouse=True)
def loaded():
    with kernels.using("numba"):
        yield


def both(name, arrays, rng, dtype, **settings):
    """Largest differences of value and gradients, as shares of the largest number."""
    arrays = [None if a is None else a.astype(dtype) for a in arrays]
    mine, my_vjp = FAST[name]["numba"](*arrays, **settings)
    true, true_vjp = definition_of(name)(*arrays, **settings)
    g = rng.standard_normal(true.shape).astype(dtype)
    pairs = [(mine, true), *zip(my_vjp(g), true_vjp(g), strict=True)]
    for m, t in pairs:
        assert (m is None) == (t is None)
        if t is not None:
            assert m.shape == t.shape and m.dtype == t.dtype == dtype
            assert np.abs(m - t).max() <= LIMIT[dtype] * max(1, np.abs(t).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("N", "M", "d", "e"),
    [
        (1, 1, 1, 1),
        (63, 65, 7, 9),
        (64, 64, 16, 16),
        (65, 3, 8, 5),
        (130, 197, 12, 20),
        (2, 200, 3, 8),
    ],
)
def test_attention_in_tiles_of_queries_equals_attention(N, M, d, e, dtype):
    rng = np.random.default_rng(N * M)
    q, k, v = (rng.standard_normal((2, 3, *s)) for s in ((N, d), (M, d), (M, e)))
    both("attention", (3 * q, k, v, None), rng, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lead", [(), (3,), (1, 3), (2, 1), (2, 3)])
@pytest.mark.parametrize("rows", [1, 70])
def test_every_shape_of_bias_is_spread_and_its_gradient_collected(lead, rows, dtype):
    rng = np.random.default_rng(len(lead) + rows)
    q, k, v = (rng.standard_normal((2, 3, n, 5)) for n in (70, 11, 11))
    both("attention", (q, k, v, 2 * rng.standard_normal((*lead, rows, 11))), rng, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("keys", [8, 16])  # that fit in registers: with AVX2, with AVX-512
@pytest.mark.parametrize(
    ("N", "d", "e"), [(1, 1, 1), (16, 16, 16), (64, 7, 9), (77, 12, 20), (80, 9, 4)]
)
def test_few_keys_whose_logits_stay_in_registers_equal_attention(N, d, e, keys, dtype):
    rng = np.random.default_rng(N + keys)
    q, k, v = (rng.standard_normal((2, 3, *s)) for s in ((N, d), (keys, d), (keys, e)))
    bias = 2 * rng.standard_normal((3, N, keys))
    bias[0, :, 1], bias[1, ::2, 3:], bias[2, 0] = -np.inf, -100, 90
    both("attention", (3 * q, k, v, bias), rng, dtype)
    both("attention", (3 * q, k, v, None), rng, dtype)
    q[0, 1, N // 2, 0] = np.nan
    y, _ = FAST["attention"]["numba"](*(a.astype(dtype) for a in (q, k, v, bias)))
    lost = np.argwhere(np.isnan(y).any(-1))
    assert lost.tolist() == [[0, 1, N // 2]]


def test_a_key_that_is_masked_for_all_gets_no_weight_and_no_gradient():
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 1, 9, 4)) for _ in range(3))
    mask = np.where(np.arange(9) == 5, -np.inf, 0.0)[None]
    y, vjp = FAST["attention"]["numba"](q, k, v, mask)
    v[:, :, 5] = 1e6
    assert np.array_equal(FAST["attention"]["numba"](q, k, v, mask)[0], y)
    _, dk, dv, _ = vjp(rng.standard_normal(y.shape))
    assert not dk[:, :, 5].any() and not dv[:, :, 5].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("grid", "window", "shift", "heads", "C"),
    [
        ((4, 6), (2, 3), (1, 1), 2, 10),
        ((4, 6), (2, 3), (0, 0), 1, 3),
        ((3, 10), (3, 5), (0, 2), 3, 24),
        ((10, 3), (5, 3), (2, 0), 3, 24),
        ((22, 11), (11, 11), (5, 5), 2, 16),  # 121 tokens: two tiles of queries
        ((7, 7), (7, 7), (0, 0), 4, 32),
        ((4, 8), (4, 4), (2, 2), 15, 240),  # eight heads at a time, then seven
        ((4, 8), (2, 4), (0, 1), 3, 48),  # 8 tokens
    ],
)
def test_shifted_windows_equal_their_definition(grid, window, shift, heads, C, dtype):
    rng = np.random.default_rng(C)
    qkv = 2 * rng.standard_normal((2, *grid, 3 * C))
    table = rng.standard_normal(((2 * window[0] - 1) * (2 * window[1] - 1), heads))
    settings = {"heads": heads, "window": window, "shift": shift, "table_window": window}
    assert composites.shifted_window_attention.__name__ in FAST
    both("shifted_window_attention", (qkv, table), rng, dtype, **settings)


def test_windows_of_a_large_map_shrunk_to_a_small_one_use_part_of_the_table():
    rng = np.random.default_rng(1)
    qkv, table = rng.standard_normal((3, 2, 4, 12)), rng.standard_normal((7 * 9, 2))
    settings = {"heads": 2, "window": (2, 4), "shift": (0, 0), "table_window": (4, 5)}
    both("shifted_window_attention", (qkv, table), rng, np.float64, **settings)
