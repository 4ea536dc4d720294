"""Tiles, panels and vectors against NumPy: what the kernels are made of."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from kernel_cases import DTYPES, LAYOUTS, assert_close
from numba import njit

from minswin.arrays import Array
from minswin.kernels.cpu import matmul, simd
from minswin.kernels.cpu import rows as many
from minswin.kernels.cpu.functions import polynomial
from minswin.kernels.cpu.products import multiply, padded, panels, turn
from minswin.kernels.cpu.simd import LANES
from minswin.kernels.cpu.tiles import panel_width

multiplied = njit(lambda A, B, D, C, *sizes: multiply(A, B, D, C, *sizes))
OFFSET = 3  # of every array below, so that no start is aligned


def in_a_line(matrix: Array, step: int) -> Array:
    """The rows of a matrix, `step` numbers apart, after OFFSET numbers; NaN in between."""
    line = np.full(OFFSET + len(matrix) * step, np.nan, matrix.dtype)
    line[OFFSET:].reshape(-1, step)[:, : matrix.shape[1]] = matrix
    return line


def left(matrix: Array, transposed: bool) -> tuple[Any, ...]:
    """The factor A of multiply, by rows or by columns."""
    step = max(matrix.shape) + 2
    if transposed:
        return in_a_line(matrix.T, step), OFFSET, 1, step
    return in_a_line(matrix, step), OFFSET, step, 1


def right(matrix: Array, packed: bool) -> tuple[Any, ...]:
    """The factor B: packed in panels, or as its rows lie."""
    if packed:
        return panels(matrix), 0, 0
    step = matrix.shape[1] + 5
    return in_a_line(matrix, step), OFFSET, step


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [8, 16, 24, 40, 48, 104])
@pytest.mark.parametrize("depth", [1, 5, 16])
def test_tiles_multiply_and_add_as_numpy_does(depth: int, columns: int, dtype: type) -> None:
    """C = D + A B for 1 to 20 rows; D is a matrix, one row, or C itself. Nothing else changes."""
    rng, step = np.random.default_rng(depth * columns), columns + 3
    for rows, transposed, packed in product(range(1, 21), (False, True), (False, True)):
        a, b, d = (
            rng.standard_normal(shape).astype(dtype)
            for shape in ((rows, depth), (depth, columns), (rows, columns))
        )
        for start in ("matrix", "row", "itself"):
            c = in_a_line(d if start == "itself" else np.full_like(d, np.nan), step)
            other = in_a_line(d, step + 4), OFFSET, 0 if start == "row" else step + 4
            D = (c, OFFSET, step) if start == "itself" else other
            multiplied(
                left(a, transposed), right(b, packed), D, (c, OFFSET, step), rows, depth, columns
            )
            before = d[:1] if start == "row" else d
            bound = np.finfo(dtype).eps * (depth + 1) * (abs(before) + abs(a) @ abs(b))
            y = c[OFFSET:].reshape(rows, step)
            exact = before + a.astype(np.longdouble) @ b
            assert np.all(abs(y[:, :columns] - exact) <= bound), (rows, transposed, packed, start)
            assert np.isnan(c[:OFFSET]).all() and np.isnan(y[:, columns:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_of_depth_0_is_what_it_is_added_to(dtype: type) -> None:
    d, nothing = np.arange(48, dtype=dtype), np.zeros(0, dtype)
    c = np.empty_like(d)
    multiplied((nothing, 0, 1, 1), (nothing, 0, 8), (d, 0, 8), (c, 0, 8), 6, 0, 8)
    assert np.array_equal(c, d)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("deep", [None, 3, 8])
@pytest.mark.parametrize("shape", [(1, 8), (3, 16), (5, 24), (17, 40), (9, 104), (4, 0)])
def test_panels_hold_the_columns(shape: tuple[int, int], deep: int | None, dtype: type) -> None:
    matrix = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for layout in LAYOUTS:
        of = layout(matrix)
        packed = panels(of, deep)
        assert packed.dtype == dtype and packed.flags.c_contiguous and packed.size == matrix.size
        for k in range(0, len(matrix), deep or len(matrix)):
            piece, left = of[k : k + (deep or len(matrix))], 0
            while left < shape[1]:
                panel = piece[:, left : left + panel_width(shape[1] - left, matrix.itemsize)]
                assert np.array_equal(packed[: panel.size].reshape(panel.shape), panel)
                packed, left = packed[panel.size :], left + panel.shape[1]
        assert packed.size == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("K", [8, 520, 1600])
@pytest.mark.parametrize("M", [16, 600])
def test_rows_meet_a_matrix_and_its_gradient(K: int, M: int, dtype: type) -> None:
    """Wide rows are copied before they are read, and a deep matrix is cut; n is no multiple of 8.

    Nothing before the first row or behind the last changes.
    """
    n, rng, skip = 203, np.random.default_rng(0), 3
    x, g = (rng.standard_normal((skip + n + 2, w)).astype(dtype) for w in (K, M))
    weight, bias = rng.standard_normal((M, K)).astype(dtype), np.arange(M, dtype=dtype)
    room = many.scratch(n, K, M, dtype=dtype)
    assert many.rows_of_a_part(n, max(K, M)) == n + -n % LANES
    y = np.full((skip + n + 2, M), np.nan, dtype)
    flat = [a.reshape(-1) for a in (x, g, y)]
    matrix = many.packed(weight.T)
    many.multiply_rows(flat[0], skip * K, matrix, bias, flat[2], skip * M, room, n, K, M)
    eps, some, dsome = np.finfo(dtype).eps, x[skip : skip + n], g[skip : skip + n]
    exact = bias + some.astype(np.float64) @ weight.T  # of BLAS, with an error of its own
    bound = 2 * eps * (K + 2) * (bias + abs(some) @ abs(weight.T))
    assert np.all(abs(y[skip : skip + n] - exact) <= bound)
    assert np.isnan(y[:skip]).all() and np.isnan(y[skip + n :]).all()
    of_weight, of_bias = np.ones((M, K), dtype), np.ones(M, dtype)
    gradients = of_weight.reshape(-1), of_bias, np.ones(1, dtype)
    many.add_gradient(flat[1], skip * M, flat[0], skip * K, *gradients, room, n, K, M)
    exact = 1 + dsome.astype(np.float64).T @ some
    assert np.all(abs(of_weight - exact) <= 2 * eps * (n + 2) * (1 + abs(dsome).T @ abs(some)))
    assert np.all(abs(of_bias - 1 - dsome.sum(0)) <= eps * (n + 2) * (1 + abs(dsome).sum(0)))


def test_padded_is_the_next_multiple() -> None:
    for n, multiple in product(range(40), (1, 8, 16)):
        assert padded(n, multiple) % multiple == 0 and 0 <= padded(n, multiple) - n < multiple


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(8, 8), (8, 24), (40, 16)])
def test_turn_transposes(shape: tuple[int, int], dtype: type) -> None:
    a = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    wide = np.concatenate([a, a + 9], axis=1)
    b = np.full((shape[1], shape[0] + 5), np.nan, dtype)
    turn(wide.reshape(-1), wide.shape[1], b.reshape(-1), b.shape[1], *shape)
    assert np.array_equal(b[:, : shape[0]], a.T) and np.isnan(b[:, shape[0] :]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (16, 16, 16), (65, 130, 71), (3, 64, 64)])
def test_the_tiled_product_equals_the_product(shape: tuple[int, ...], dtype: type) -> None:
    N, K, M = shape
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(s).astype(dtype) for s in ((2, 1, N, K), (3, K, M)))
    tolerance = np.finfo(dtype).eps * (16 + K)
    for layout in LAYOUTS:
        p, q = layout(x), layout(y)
        assert_close("tiled", matmul.tiled_matmul(p, q), p @ q, tolerance)
        assert_close(
            "tiled, no batch", matmul.tiled_matmul(p[0, 0], q[0]), p[0, 0] @ q[0], tolerance
        )
        assert matmul.tiled_matmul(p[:, :, :, :0], q[:, :0]).shape == (2, 3, N, M)
        assert matmul.tiled_matmul(p, q[:, :, :0]).shape == (2, 3, N, 0)


# ── vectors ──────────────────────────────────────────────────────────────────────────────────────

_cubic = polynomial(single=(1.0, -2.0, 0.0, 3.0), double=(1.0, -2.0, 0.0, 4.0))


@njit
def all_functions(a: Any, b: Any, out: Any, numbers: Any) -> None:
    x, y = simd.load(a, 1), simd.load(b, 1)  # not aligned
    simd.store(out, 0, x + y)
    simd.store(out, 8, x - y)
    simd.store(out, 16, x * y)
    simd.store(out, 24, x / y)
    simd.store(out, 32, simd.fma(x, y, y))
    simd.store(out, 40, simd.larger(x, y))
    simd.store(out, 48, simd.smaller(x, y))
    simd.store(out, 56, simd.absolute(x))
    simd.store(out, 64, simd.where_negative(x, y, x))
    simd.store(out, 72, simd.splat(a[2]))
    simd.store(out, 80, simd.broadcast(b, 3))
    simd.store(out, 88, simd.full(x, 0.1))
    simd.store(out, 96, _cubic(x))
    numbers[0], numbers[1], numbers[2] = simd.first(x), simd.total(x), simd.largest(x)


def run_all_functions(x: Array, y: Array) -> tuple[Array, Array]:
    a, b = np.concatenate([[7], x]).astype(x.dtype), np.concatenate([[8], y]).astype(y.dtype)
    out, numbers = np.full(13 * LANES + 1, np.nan, x.dtype), np.empty(3, x.dtype)
    all_functions(a, b, out, numbers)
    assert np.isnan(out[-1])
    return out[:-1].reshape(-1, LANES), numbers


@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors_compute_as_numpy_does(dtype: type) -> None:
    x, y = np.random.default_rng(0).standard_normal((2, LANES)).astype(dtype)
    out, numbers = run_all_functions(x, y)
    exact = [
        x + y, x - y, x * y, x / y, None, np.maximum(x, y), np.minimum(x, y), abs(x),
        np.where(x < 0, y, x), np.full(8, x[1]), np.full(8, y[2]), np.full(8, 0.1, dtype),
    ]  # fmt: skip
    for i, want in enumerate(exact):
        assert want is None or np.array_equal(out[i], want), i
    wide = x.astype(np.longdouble)
    once = (wide * y + y).astype(dtype)  # of float64, the long product is rounded itself, rarely
    assert np.array_equal(out[4], once) or dtype is np.float64
    eps = np.finfo(dtype).eps
    assert np.all(abs(out[4] - (wide * y + y)) <= eps * abs(once))
    cubic = 1 - 2 * wide + (3 if dtype is np.float32 else 4) * wide**3
    assert np.all(abs(out[12] - cubic) <= 3 * eps * (1 + 2 * abs(wide) + 4 * abs(wide) ** 3))
    assert numbers[0] == x[0] and numbers[2] == x.max()
    assert abs(numbers[1] - wide.sum()) <= 3 * eps * abs(x).sum()


@pytest.mark.parametrize("place", range(LANES))
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_nan_goes_where_the_vectors_say(dtype: type, place: int) -> None:
    """larger and smaller give b where a is NaN or b is; where_negative, and a sum, as it is."""
    x, y = np.random.default_rng(0).standard_normal((2, LANES)).astype(dtype)
    odd = x.copy()
    odd[place] = np.nan
    out, numbers = run_all_functions(odd, y)
    assert out[5, place] == out[6, place] == y[place]
    assert np.isnan(out[7, place]) and np.isnan(out[8, place]) and np.isnan(numbers[1])
    out, _ = run_all_functions(y, odd)
    assert np.isnan(out[5, place]) and np.isnan(out[6, place])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_is_found_in_every_lane(dtype: type) -> None:
    x = np.random.default_rng(0).standard_normal(LANES).astype(dtype)
    for place in range(LANES):
        high = x.copy()
        high[place] = 50
        assert run_all_functions(high, x)[1][2] == 50
    low = np.full(LANES, -np.inf, dtype)
    assert run_all_functions(low, x)[1][2] == -np.inf
