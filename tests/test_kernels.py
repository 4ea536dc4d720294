"""Every kernel equals its definition: the table is walked, on awkward shapes and strides."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from kernel_cases import (
    DTYPES,
    LAYOUTS,
    NAMES,
    Case,
    assert_equals_definition,
    assert_takes_what_its_definition_takes,
    cases,
    change_layout,
    typical_case,
)

from minswin.arrays import Array
from minswin.kernels import FAST

# ── equality ─────────────────────────────────────────────────────────────────────────────────────


def test_all_kernels_have_cases() -> None:
    for name in NAMES:
        assert any(cases(name, np.float64, np.random.default_rng(0))), (
            f"{name}: add shapes to CASES"
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_has_the_arguments_of_its_definition(name: str) -> None:
    assert_takes_what_its_definition_takes(name, "numba")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_equals_its_definition(name: str, dtype: type) -> None:
    for arrays, settings in cases(name, dtype, np.random.default_rng(0)):
        for layout in LAYOUTS:
            laid_out = change_layout(layout, arrays)
            assert_equals_definition(name, FAST[name]["numba"], laid_out, settings)


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
        value, vjp = FAST[name]["numba"](*arrays, **settings)
        gradients = vjp(np.ones_like(value))
        return how(value, gradients)[0], lambda g: how(value, vjp(g))[1]

    arrays, settings = typical_case(name, dtype)
    with pytest.raises(AssertionError, match=f"{name}: (the value|gradient)"):
        assert_equals_definition(name, wrong, arrays, settings)


def test_the_walker_rejects_a_kernel_that_writes_into_an_input() -> None:
    def wrong(x: Array) -> Any:
        value, vjp = FAST["gelu"]["numba"](x)
        x += 1
        return value, vjp

    with pytest.raises(AssertionError, match="wrote into an input"):
        assert_equals_definition("gelu", wrong, (np.ones((2, 3)),), {})


# ── calls beside each other ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NAMES)
def test_a_second_call_leaves_value_and_vjp_of_the_first_alone(name: str) -> None:
    arrays, settings = typical_case(name, np.float32)
    value, vjp = FAST[name]["numba"](*arrays, **settings)
    before, truth = value.copy(), [dx.copy() for dx in vjp(value)]
    value, vjp = FAST[name]["numba"](*arrays, **settings)
    other, other_vjp = FAST[name]["numba"](*(x + 1 for x in arrays), **settings)
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
        value, vjp = FAST[name]["numba"](*job[0], **job[1])
        return [value, *vjp(value)]

    alone = [work(*pair) for pair in zip(names, jobs, strict=True)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, names, jobs))
    for one, many in zip(alone, together, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))
