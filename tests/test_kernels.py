"""Every kernel equals its definition: the table is walked, on awkward shapes and strides."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit

import minswin.kernels.cpu  # noqa: F401  enters the kernels in the table
from minswin import Tensor, kernels, ops
from minswin.arrays import Array, Definition
from minswin.check import samples
from minswin.kernels import KERNELS
from minswin.kernels.cpu import compiled, exponential, layer_norm, matmul, softmax
from minswin.layers import basic, windows

DTYPES = (np.float32, np.float64)
NAMES = sorted(name for name, row in KERNELS.items() if "numba" in row)
LOOPS = ("attention", "gelu", "gelu_tanh", "layer_norm", "log_softmax", "softmax")


def windows_of(
    heads: int,
    window: tuple[int, int],
    shift: tuple[int, int],
    table_window: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The settings of shifted-window attention."""
    table_window = table_window or window
    return {"heads": heads, "window": window, "shift": shift, "table_window": table_window}


# ── the cases ────────────────────────────────────────────────────────────────────────────────────

# name -> (shapes of the arrays; settings). None stays None. The sizes of windows and of heads that
# the models have, sizes around the 8 and 64 of the loops, sizes of 0 and 1, any axis.
CASES: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "softmax": [
        *(((shape,), {}) for shape in ((), (1,), (3, 1), (2, 3, 4), (5, 16), (3, 49), (2, 577))),
        *(((shape,), {"axis": 1}) for shape in ((2, 5, 3), (3, 8), (2, 7, 0))),
        (((4, 3, 2),), {"axis": 0}),
        (((0, 4),), {}),
    ],
    "log_softmax": [
        *(((shape,), {}) for shape in ((), (1,), (2, 3, 5), (4, 100), (0, 3))),
        (((2, 5, 3),), {"axis": -2}),
    ],
    "gelu": [((shape,), {}) for shape in ((), (1,), (0, 3), (7, 5), (2, 3, 33))],
    "gelu_tanh": [((shape,), {}) for shape in ((), (1,), (0, 3), (7, 5), (2, 3, 33))],
    "layer_norm": [
        *(((shape, shape[-1:], shape[-1:]), {}) for shape in ((5,), (3, 2), (6, 48), (130, 96))),
        *(((shape, shape[-1:], shape[-1:]), {"eps": 0.1}) for shape in ((2, 3, 7), (3, 1), (0, 4))),
    ],
    "matmul": [
        *(((x, y), {}) for x, y in (((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((0, 3, 4), (4, 2)))),
        *(((x, y), {}) for x, y in (((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)))),
        *(((x, y), {}) for x, y in (((3, 1, 1), (1, 1, 3)), ((2, 3, 0), (0, 4)))),
        (((3, 4), (2, 4, 5)), {}),
        (((4, 3, 16, 8), (4, 3, 8, 16)), {}),
        (((2, 3, 5, 48), (2, 3, 48, 9)), {}),
    ],
    "attention": [
        *((((2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 2), bias), {}) for bias in (
            None, (3, 5, 6), (2, 1, 5, 6), (2, 3, 5, 6), (5, 6), (5, 1), (6,), (1, 1, 1, 1)
        )),
        (((5, 4), (6, 4), (6, 2), (5, 6)), {}),
        (((3, 2, 16, 16),) * 3 + ((2, 16, 16),), {}),
        (((2, 2, 3, 49, 32),) * 3 + ((2, 3, 49, 49),), {}),
        (((2, 0, 4), (2, 6, 4), (2, 6, 3), (1, 0, 6)), {}),
        (((1, 1, 1), (1, 1, 1), (1, 1, 1), None), {}),
    ],
    "linear": [
        *((((3, 5), (4, 5), bias), {}) for bias in (None, (4,))),
        (((0, 5), (4, 5), (4,)), {}),
        (((513, 2), (3, 2), (3,)), {}),  # one more than a block
        (((2, 3, 5), (4, 5), (4,)), {}),
    ],
    "mlp": [
        (((0, 3), (5, 3), (5,), (4, 5), (4,)), {}),
        (((1030, 2), (3, 2), (3,), (4, 3), (4,)), {}),  # two blocks and a bit
        (((2, 7, 3), (5, 3), (5,), (4, 5), (4,)), {}),
    ],
    "shifted_window_attention": [
        # qkv (B, H, W, 3C) and table; heads, window, shift, the window of the table
        (((2, 3, 4, 6), (35, 1)), windows_of(1, (3, 4), (0, 0))),
        (((2, 4, 4, 24), (49, 2)), windows_of(2, (2, 2), (1, 1), (4, 4))),  # a larger table
        (((2, 4, 12, 60), (33, 2)), windows_of(2, (2, 6), (1, 3))),  # heads of 10 channels
        (((3, 6, 3, 27), (25, 3)), windows_of(3, (3, 3), (2, 0))),  # rolled along one axis
        (((1, 14, 21, 48), (169, 1)), windows_of(1, (7, 7), (3, 3))),
        (((2, 8, 12, 96), (49, 2)), windows_of(2, (4, 4), (2, 2))),
        (((1, 12, 12, 24), (529, 1)), windows_of(1, (12, 12), (0, 0))),
        (((2, 4, 6, 18), (15, 2)), windows_of(2, (2, 3), (1, 1))),
    ],
}  # fmt: skip

Case = tuple[tuple[Any, ...], dict[str, Any]]


def cases(name: str, dtype: type, rng: np.random.Generator) -> Iterator[Case]:
    """(arrays, settings) of CASES, and those of the project's own samples, as `dtype`."""
    for shapes, settings in CASES.get(name, []):
        arrays = (None if s is None else 2 * rng.standard_normal(s) for s in shapes)
        yield tuple(_as(x, dtype) for x in arrays), settings
    for definition, arrays, settings in samples(rng):
        if definition.__name__ == name:
            yield tuple(_as(x, dtype) for x in arrays), settings


def _as(x: Any, dtype: type) -> Any:
    floating = isinstance(x, (np.ndarray, float)) and np.asarray(x).dtype.kind == "f"
    return np.asarray(x, dtype) if floating else x


def typical_case(name: str, dtype: type) -> Case:
    """The largest of the cases in which every argument is an array."""
    rng = np.random.default_rng(0)
    complete = [c for c in cases(name, dtype, rng) if not any(x is None for x in c[0])]
    return max(complete, key=lambda case: sum(x.size for x in case[0]))


def operation_of(name: str) -> Callable[..., Tensor]:
    """The operation on Tensors; composites are in layers/."""
    return next(getattr(home, name) for home in (ops, basic, windows) if hasattr(home, name))


# ── the walker ───────────────────────────────────────────────────────────────────────────────────


def assert_equals_definition(
    name: str, function: Definition, arrays: tuple[Any, ...], settings: dict[str, Any]
) -> None:
    """Value, gradients, shapes and dtypes are the definition's; nothing is written into."""
    rng = np.random.default_rng(1)
    before = [None if x is None else x.copy() for x in arrays]
    with kernels.using("reference"), np.errstate(all="ignore"):
        truth, true_vjp = KERNELS[name]["reference"](*arrays, **settings)
        g = laid_out_backwards(np.asarray(rng.standard_normal(truth.shape), truth.dtype))
        true_gradients = true_vjp(g)
    g_before = g.copy()
    with np.errstate(all="ignore"):
        value, vjp = function(*arrays, **settings)
        gradients = vjp(g)
    for x, old in zip((*arrays, g), (*before, g_before), strict=True):
        assert x is None or np.array_equal(x, old, equal_nan=True), f"{name} wrote into an input"
    assert isinstance(gradients, tuple)
    # A sum of n terms may differ by n roundings when they are added in another order, and the
    # functions in between by a few more. n is at most the size of an input.
    n = max(x.size for x in arrays if x is not None)
    tolerance = np.finfo(truth.dtype).eps * (16 + min(n, 600))
    assert_close(f"{name}: the value", value, truth, tolerance)
    for i, (dx, true_dx) in enumerate(zip(gradients, true_gradients, strict=True)):
        assert_close(f"{name}: gradient {i}", dx, true_dx, tolerance)


def assert_close(what: str, ours: Any, truth: Any, tolerance: float) -> None:
    """Same shape and dtype, NaN and ∞ in the same places, the rest within tolerance · scale."""
    assert (ours is None) == (truth is None), f"{what} is {ours}"
    if truth is None:
        return
    assert ours.shape == truth.shape and ours.dtype == truth.dtype, f"{what}: {ours.shape}"
    finite = np.isfinite(truth)
    assert np.array_equal(ours[~finite], truth[~finite], equal_nan=True), f"{what} is not finite"
    scale = max(1.0, float(abs(truth[finite]).max(initial=0)))
    error = float(abs(ours[finite] - truth[finite]).max(initial=0)) / scale
    assert error <= tolerance, f"{what} is off by {error:.2g}, allowed are {tolerance:.2g}"


# ── strides ──────────────────────────────────────────────────────────────────────────────────────


def laid_out_backwards(x: Array) -> Array:
    """The same numbers, stored backwards and with gaps on every axis: negative strides."""
    if x.ndim == 0:
        return x
    room = np.full(tuple(2 * n for n in x.shape), np.nan, x.dtype)
    view = room[tuple(slice(None, None, -2) for _ in x.shape)]
    view[...] = x
    return view


def laid_out_transposed(x: Array) -> Array:
    return np.asfortranarray(x)


def laid_out_in_slices(x: Array) -> Array:
    """Rows are contiguous, but neighbours in a wider array, as q, k and v are in a qkv map."""
    if x.ndim < 2:
        return x
    order = (0, *range(2, x.ndim - 1), 1, x.ndim - 1) if x.ndim > 2 else (0, 1)
    wide = np.full((*(x.shape[i] for i in order[:-1]), 3 * x.shape[-1]), np.nan, x.dtype)
    view = wide[..., x.shape[-1] : 2 * x.shape[-1]].transpose(np.argsort(order))
    view[...] = x
    return view


def repeated(x: Array) -> Array:
    """The first entry along the first axis, repeated with stride 0; read-only."""
    return np.broadcast_to(x[:1], x.shape) if x.ndim and len(x) else x


def read_only(x: Array) -> Array:
    x = x.copy()
    x.setflags(write=False)
    return x


LAYOUTS: tuple[Callable[[Array], Array], ...] = (
    np.ascontiguousarray,
    laid_out_backwards,
    laid_out_transposed,
    laid_out_in_slices,
    repeated,
    read_only,
)


def change_layout(layout: Callable[[Array], Array], arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        layout(x) if isinstance(x, np.ndarray) and x.ndim and x.dtype.kind == "f" else x
        for x in arrays
    )


# ── equality ─────────────────────────────────────────────────────────────────────────────────────


def test_all_kernels_have_cases() -> None:
    for name in NAMES:
        assert any(cases(name, np.float64, np.random.default_rng(0))), (
            f"{name}: add shapes to CASES"
        )
    assert set(LOOPS) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_has_the_arguments_of_its_definition(name: str) -> None:
    definition = getattr(operation_of(name), "text", KERNELS[name]["reference"])
    ours, truth = (
        [(p.name, p.kind, p.default) for p in signature(f).parameters.values() if p.name != "drop"]
        for f in (KERNELS[name]["numba"], definition)
    )
    assert ours == truth


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_equals_its_definition(name: str, dtype: type) -> None:
    for arrays, settings in cases(name, dtype, np.random.default_rng(0)):
        for layout in LAYOUTS:
            laid_out = change_layout(layout, arrays)
            assert_equals_definition(name, KERNELS[name]["numba"], laid_out, settings)


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_runs_its_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    row = KERNELS[name]

    def counted(*arrays: Any, **settings: Any) -> Any:
        value, vjp = row["numba"](*arrays, **settings)
        calls.append("value")
        return value, lambda g: (calls.append("vjp"), vjp(g))[1]

    monkeypatch.setitem(KERNELS, name, {**row, "numba": counted})
    arrays, settings = typical_case(name, np.float32)
    operation = next(getattr(home, name) for home in (ops, basic, windows) if hasattr(home, name))
    inputs = [None if x is None else Tensor(x, requires_grad=True) for x in arrays]
    y = operation(*inputs, **settings)
    y.backward(y.data)
    assert calls == ["value", "vjp"]
    with kernels.using("reference"):
        operation(*inputs, **settings)
    assert calls == ["value", "vjp"]


@pytest.mark.parametrize("name", LOOPS)
def test_the_compiled_loops_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function = KERNELS[name]["numba"]
    module = sys.modules[function.__module__]
    ran = set()
    for loop, run in list(vars(module).items()):
        if hasattr(run, "machine_code"):

            def counted(*arguments: Any, loop: str = loop, run: Any = run) -> None:
                ran.add(loop)
                run(*arguments)

            monkeypatch.setattr(module, loop, counted)
    for arrays, settings in cases(name, np.float32, np.random.default_rng(0)):
        value, vjp = function(*arrays, **settings)
        vjp(np.ones_like(value))
    assert ran, f"{name} computed without a compiled loop"
    assert name.startswith("gelu") or any(loop.endswith("_vjp") for loop in ran)


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


# ── the walker is tested itself ──────────────────────────────────────────────────────────────────

Spoil = Callable[[Array, tuple[Any, ...]], tuple[Array, tuple[Any, ...]]]


def factor_on_value(value: Array, gradients: tuple[Any, ...]) -> tuple[Array, tuple[Any, ...]]:
    return value * value.dtype.type(1.001), gradients


def other_dtype(value: Array, gradients: tuple[Any, ...]) -> tuple[Array, tuple[Any, ...]]:
    return value, tuple(dx.astype(np.float16) for dx in gradients)


def factor_on_gradient(i: int) -> Spoil:
    def spoil(value: Array, gradients: tuple[Any, ...]) -> tuple[Array, tuple[Any, ...]]:
        dx = gradients[i] * gradients[i].dtype.type(1.001)
        return value, (*gradients[:i], dx, *gradients[i + 1 :])

    return spoil


def swapped(i: int, j: int) -> Spoil:
    def spoil(value: Array, gradients: tuple[Any, ...]) -> tuple[Array, tuple[Any, ...]]:
        mixed = list(gradients)
        mixed[i], mixed[j] = mixed[j], mixed[i]
        return value, tuple(mixed)

    return spoil


FAULTS = [
    *((name, how) for name in NAMES for how in (factor_on_value, other_dtype)),
    *(
        (name, factor_on_gradient(i))
        for name in NAMES
        for i in range(len(typical_case(name, np.float32)[0]))
    ),
    *(("attention", swapped(i, j)) for i, j in ((0, 1), (1, 2), (0, 2))),
    ("layer_norm", swapped(1, 2)),
    ("matmul", swapped(0, 1)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "how"), FAULTS)
def test_the_walker_rejects_a_wrong_kernel(name: str, how: Spoil, dtype: type) -> None:
    def wrong(*arrays: Any, **settings: Any) -> Any:
        value, vjp = KERNELS[name]["numba"](*arrays, **settings)
        gradients = vjp(np.ones_like(value))
        return how(value, gradients)[0], lambda g: how(value, vjp(g))[1]

    arrays, settings = typical_case(name, dtype)
    with pytest.raises(AssertionError, match=f"{name}: (the value|gradient)"):
        assert_equals_definition(name, wrong, arrays, settings)


def test_the_walker_rejects_a_kernel_that_writes_into_an_input() -> None:
    def wrong(x: Array) -> Any:
        value, vjp = KERNELS["gelu"]["numba"](x)
        x += 1
        return value, vjp

    with pytest.raises(AssertionError, match="wrote into an input"):
        assert_equals_definition("gelu", wrong, (np.ones((2, 3)),), {})


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
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", ODD_ROWS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "gelu", "gelu_tanh", "layer_norm"])
def test_odd_numbers_come_out_as_in_the_definition(name: str, row: str, dtype: type) -> None:
    x = np.random.default_rng(0).standard_normal((1, 21)).astype(dtype)
    for i, number in ODD_ROWS[row].items():
        x[0, i] = number
    learnt = (np.ones(21, dtype), np.zeros(21, dtype)) if name == "layer_norm" else ()
    assert_equals_definition(name, KERNELS[name]["numba"], (x, *learnt), {})


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_logit_of_minus_infinity_gets_probability_and_gradient_zero(dtype: type) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 49)).astype(dtype)
    x[:, ::3] = -np.inf
    p, vjp = KERNELS["softmax"]["numba"](x)
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
        assert_equals_definition("attention", KERNELS["attention"]["numba"], (*qkv, bias), {})


def test_probabilities_too_small_for_normal_numbers_are_zero() -> None:
    x = np.concatenate([[0], np.linspace(-80, -110, 301)]).astype(np.float32)
    truth, _ = KERNELS["softmax"]["reference"](x)
    p, _ = KERNELS["softmax"]["numba"](x)
    smallest = np.finfo(np.float32).tiny
    assert ((truth > 0) & (truth < smallest)).sum() > 100, "the definition gives subnormal numbers"
    assert not ((p > 0) & (p < smallest)).any()
    assert abs(p - truth).max() < 1e-37


# ── accuracy, against the truth rather than against the definition ───────────────────────────────


@njit
def exp_of(x: Array) -> Array:
    y = np.empty_like(x)
    for i in range(len(x)):
        y[i] = exponential.exp(x[i])
    return y


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-7), (np.float64, 4e-16)])
def test_exp_is_accurate_down_to_the_smallest_normal_number(dtype: type, bound: float) -> None:
    lowest = math.log(np.finfo(dtype).tiny)
    x = np.linspace(0.999 * lowest, 0, 20_000).astype(dtype)
    truth = np.exp(x.astype(np.longdouble))
    assert abs(exp_of(x) / truth - 1).max() < bound
    ends = np.array([0, -0.0, 1.001 * lowest, -np.inf, np.nan], dtype)
    np.testing.assert_array_equal(exp_of(ends), np.array([1, 1, 0, 0, np.nan], dtype))


@pytest.mark.parametrize(("dtype", "last"), [(np.float32, -12.0), (np.float64, -36.0)])
def test_gelu_is_accurate_in_its_tail(dtype: type, last: float) -> None:
    """Relative to itself, though it falls to 1e-32 and below; the definition has 0 there."""
    x = np.linspace(last / 3, -0.01, 500).astype(dtype)
    truth = np.array([t * math.erfc(-t / math.sqrt(2)) / 2 for t in x.tolist()])
    y, _ = KERNELS["gelu"]["numba"](x)
    # A rounding of x²/2 in e^(−x²/2), and of x/√2 in erfc, is x²/2 and x² roundings of the result.
    assert abs(y / truth - 1).max() < (16 + 1.5 * x[0] ** 2) * np.finfo(dtype).eps


def test_layer_norm_takes_the_variance_around_the_mean() -> None:
    """E[x²] − E[x]² would lose all digits here."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((5, 64)) + 3000).astype(np.float32)
    exact, _ = KERNELS["layer_norm"]["reference"](x.astype(np.float64), np.ones(64), np.zeros(64))
    y, _ = KERNELS["layer_norm"]["numba"](x, np.ones(64, np.float32), np.zeros(64, np.float32))
    assert abs(y - exact).max() < 1e-3  # 3000 · 6e-8: the rounding of the mean


def test_layer_norm_sums_a_large_batch_as_accurately_as_float32_holds() -> None:
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal((40_000, 8)).astype(np.float32) + 0.1 for _ in range(2))
    weight, bias = np.ones(8, np.float32), np.zeros(8, np.float32)
    _, vjp = KERNELS["layer_norm"]["numba"](x, weight, bias)
    wide = (a.astype(np.float64) for a in (x, weight, bias))
    _, exact = KERNELS["layer_norm"]["reference"](*wide)
    for ours, truth in zip(vjp(g)[1:], exact(g.astype(np.float64))[1:], strict=True):
        assert abs(ours / truth - 1).max() < 1e-6


# ── choosing ─────────────────────────────────────────────────────────────────────────────────────


def backend_of(name: str) -> str:
    chosen = kernels.select(name, np.ones(1))
    return next(backend for backend, function in KERNELS[name].items() if function is chosen)


def test_numba_is_the_default_and_using_changes_it_inside_its_block() -> None:
    assert backend_of("softmax") == "numba"
    with kernels.using("reference"):
        assert backend_of("softmax") == "reference"
        with kernels.using("numba"):
            assert backend_of("softmax") == "numba"
        assert backend_of("softmax") == "reference"
    assert backend_of("softmax") == "numba"


def test_the_environment_chooses_and_using_wins_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINSWIN_KERNELS", "reference")
    assert backend_of("gelu") == "reference"
    with kernels.using("numba"):
        assert backend_of("gelu") == "numba"


def test_using_is_for_its_own_thread_only() -> None:
    seen = []
    with kernels.using("reference"):
        thread = threading.Thread(target=lambda: seen.append(backend_of("softmax")))
        thread.start()
        thread.join()
    assert seen == ["numba"]


def test_an_unknown_backend_is_named() -> None:
    message = "using: unknown backend 'cuda'; choose one of reference, numba"
    with pytest.raises(ValueError, match=message), kernels.using("cuda"):
        pass


def test_a_kernel_without_a_definition_is_refused() -> None:
    with pytest.raises(ValueError, match="'sofmax' has no definition"):
        kernels.kernel("sofmax", "numba")(lambda x: x)


def test_the_report_shows_which_operations_have_a_kernel() -> None:
    lines = {line.split()[0]: line.split()[1:] for line in kernels.report().splitlines()}
    assert lines["softmax"] == ["yes", "yes"]
    assert lines["roll"] == ["yes", "·"]


def run_python(text: str, **environment: str) -> str:
    """What a fresh Python prints; its warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        env={k: v for k, v in os.environ.items() if k != "MINSWIN_KERNELS"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_numba_the_error_says_how_to_install_it_and_the_definitions_run() -> None:
    text = """
import sys
sys.modules["numba"] = None
import numpy as np
from minswin import kernels, ops
try:
    ops.softmax(np.ones(3))
except ImportError as error:
    print(error)
with kernels.using("reference"):
    print(ops.softmax(np.zeros(2)).numpy())
"""
    message, result = run_python(text).splitlines()
    assert "pip install numba" in message and "MINSWIN_KERNELS=reference" in message
    assert result == "[0.5 0.5]"


# ── threads and the cache ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NAMES)
def test_a_second_call_leaves_value_and_vjp_of_the_first_alone(name: str) -> None:
    arrays, settings = typical_case(name, np.float32)
    value, vjp = KERNELS[name]["numba"](*arrays, **settings)
    before, truth = value.copy(), [dx.copy() for dx in vjp(value)]
    value, vjp = KERNELS[name]["numba"](*arrays, **settings)
    other, other_vjp = KERNELS[name]["numba"](*(x + 1 for x in arrays), **settings)
    gradients = vjp(value)
    other_vjp(other)
    for ours, true in zip((value, *gradients), (before, *truth), strict=True):
        assert np.array_equal(ours, true)


def test_threads_compute_what_one_thread_computes() -> None:
    """Kernels let go of the interpreter lock: their scratch must not be shared."""
    rng = np.random.default_rng(0)
    jobs = [typical_case(name, np.float32) for name in NAMES for _ in range(8)]
    jobs = [(tuple(rng.permuted(x) for x in arrays), settings) for arrays, settings in jobs]
    names = [name for name in NAMES for _ in range(8)]

    def work(name: str, job: Case) -> list[Array]:
        value, vjp = KERNELS[name]["numba"](*job[0], **job[1])
        return [value, *vjp(value)]

    alone = [work(*pair) for pair in zip(names, jobs, strict=True)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, names, jobs))
    for one, many in zip(alone, together, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))


def test_the_second_run_compiles_nothing(tmp_path: Path) -> None:
    text = """
import numpy as np
from minswin.kernels.cpu import layer_norm as module
row = np.ones(3, np.float32)
module.layer_norm(row, row, row)
stats = module._layer_norm.machine_code(row.dtype).stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""
    assert run_python(text, NUMBA_CACHE_DIR=str(tmp_path)) == "0 1"
    assert run_python(text, NUMBA_CACHE_DIR=str(tmp_path)) == "1 0"


def test_code_compiled_before_a_source_file_changed_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    source, old, new = (tmp_path / f for f in ("a.py", "__pycache__/b.nbi", "__pycache__/c.nbi"))
    for path, time in ((tmp_path / "b.py", 0), (old, 100), (source, 200), (new, 300)):
        path.touch()
        os.utime(path, (time, time))
    compiled.forget_stale_code(tmp_path)
    assert new.exists() and not old.exists()


def test_a_loop_is_compiled_once_for_each_dtype_whatever_the_strides() -> None:
    for dtype in DTYPES:
        for layout in LAYOUTS:
            x = layout(np.ones((3, 4), dtype))
            KERNELS["layer_norm"]["numba"](x, x[0], x[1])
            KERNELS["softmax"]["numba"](x)
        for loop in (layer_norm._layer_norm, softmax._softmax):
            assert len(loop.machine_code(np.dtype(dtype)).signatures) == 1
