"""The compiled steps of SGD and AdamW equal their definitions, in place."""

from __future__ import annotations

from inspect import signature
from itertools import product
from typing import Any

import numpy as np
import pytest
from kernel_cases import DTYPES, LAYOUTS, counting_loops
from table import UPDATES, definition_of

from minswin.arrays import Array
from minswin.kernels import FAST

SHAPES = ((), (0,), (1,), (7,), (8,), (3, 5, 7), (16, 16))
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "sgd_step": [
        {"lr": 0.3, "momentum": momentum, "nesterov": nesterov, "decay": decay}
        for momentum, nesterov, decay in product((0.0, 0.9), (False, True), (0.0, 0.2))
    ],
    "adamw_step": [
        {"lr": 0.3, "beta1": beta1, "beta2": 0.98, "eps": eps, "decay": decay, "t": t}
        for beta1, eps, decay, t in product((0.0, 0.9), (1e-8, 0.1), (0.0, 0.2), (1, 7))
    ],
}


def arrays_of(name: str, shape: tuple[int, ...], dtype: type, seed: int = 0) -> list[Array]:
    """p, g and what is kept: v, or m and v ≥ 0."""
    rng = np.random.default_rng(seed)
    p, g, m, v = (np.asarray(rng.standard_normal(shape)).astype(dtype) for _ in range(4))
    return [p, g, m] if name == "sgd_step" else [p, g, m, np.asarray(v * v)]


def assert_same_step(name: str, arrays: list[Array], **settings: Any) -> None:
    """Each array within four roundings of the numbers that were added up to it."""
    ours, truth = arrays, [x.copy() for x in arrays]
    before = [abs(x) for x in truth]
    with np.errstate(all="ignore"):
        assert FAST[name]["numba"](*ours, **settings) is None
        assert definition_of(name)(*truth, **settings) is None
        for x, y, old in zip(ours, truth, before, strict=True):
            size = old + abs(y) + before[1] * (1 + before[1])  # the gradient and its square
            finite = np.isfinite(y)
            assert np.array_equal(x[~finite], y[~finite], equal_nan=True)
            assert np.all(abs(x - y)[finite] <= 4 * np.finfo(y.dtype).eps * size[finite]), name
    assert np.array_equal(ours[1], truth[1], equal_nan=True), "the gradient changed"


@pytest.mark.parametrize("name", sorted(UPDATES))
def test_a_step_has_the_arguments_of_its_definition(name: str) -> None:
    assert signature(FAST[name]["numba"]) == signature(definition_of(name))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(UPDATES))
def test_a_compiled_step_equals_its_definition(name: str, dtype: type) -> None:
    for shape in SHAPES:
        for settings in SETTINGS[name]:
            assert_same_step(name, arrays_of(name, shape, dtype), **settings)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(UPDATES))
def test_a_step_runs_its_loop_whatever_the_layout_of_the_gradient(name: str, dtype: type) -> None:
    settings = SETTINGS[name][-1]
    assert_same_step(name, arrays_of(name, (5, 11), dtype), **settings)  # compiled
    for layout in LAYOUTS:
        p, g, *kept = arrays_of(name, (5, 11), dtype)
        with counting_loops() as ran:
            assert_same_step(name, [p, layout(g), *kept], **settings)
        assert len(ran) == 1, layout.__name__


@pytest.mark.parametrize("i", [0, 2, -1])
@pytest.mark.parametrize("name", sorted(UPDATES))
def test_an_array_with_gaps_is_changed_in_place_and_its_gaps_are_not(name: str, i: int) -> None:
    arrays = arrays_of(name, (4, 6), np.float32)
    room = np.full((4, 12), 5, np.float32)
    room[:, ::2] = arrays[i]
    before, arrays[i] = arrays[i].copy(), room[:, ::2]
    assert_same_step(name, arrays, **SETTINGS[name][-1])
    assert np.all(room[:, 1::2] == 5) and not np.array_equal(room[:, ::2], before)


@pytest.mark.parametrize("name", sorted(UPDATES))
def test_unequal_dtypes_are_left_to_the_definition(name: str) -> None:
    p, g, *kept = arrays_of(name, (3, 5), np.float32)
    with counting_loops() as ran:
        assert_same_step(name, [p, g.astype(np.float16), *kept], **SETTINGS[name][0])
    assert not ran and p.dtype == np.float32


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(UPDATES))
def test_odd_numbers_are_stepped_as_in_the_definition(name: str, dtype: type) -> None:
    """Each of them as parameter, gradient and kept, in a vector and behind the last vector."""
    tiny = np.finfo(dtype).smallest_subnormal
    for number in (np.nan, np.inf, -np.inf, 0.0, 3 * tiny, np.finfo(dtype).max):
        for place, settings in product((2, 9), SETTINGS[name]):
            for i in range(len(arrays_of(name, (10,), dtype))):
                arrays = arrays_of(name, (10,), dtype)
                arrays[i][place] = number
                assert_same_step(name, arrays, **settings)
