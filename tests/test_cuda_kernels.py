"""Each CUDA kernel, compiled by a C++ compiler, with its wrapper, equals its definition."""

from __future__ import annotations

from typing import Any

import cuda_cases
import numpy as np
import pytest
from cuda_cases import ALL, NAMES, PRODUCTS, through_host
from cuda_on_host import RawKernel
from kernel_cases import (
    DTYPES,
    assert_equals_definition,
    assert_takes_what_its_definition_takes,
    cases,
    laid_out_backwards,
    laid_out_transposed,
    typical_case,
)
from table import UPDATES

from minswin.kernels import FAST
from minswin.kernels.gpu import launch
from minswin.kernels.gpu.batch_norm import follow_moments as follow_there
from minswin.reference.normalize import follow_moments

host = cuda_cases.host  # the fixture


def test_the_gpu_has_kernels_for_these() -> None:
    assert set(ALL) == UPDATES | {
        "attention", "batch_norm", "conv2d", "cross_entropy", "dropout", "gelu", "gelu_tanh",
        "layer_norm", "linear", "log_softmax", "matmul", "mlp", "resize",
        "shifted_window_attention", "softmax",
    }  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_a_kernel_has_the_arguments_of_its_definition(name: str) -> None:
    assert_takes_what_its_definition_takes(name, "cupy")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_equals_its_definition(name: str, dtype: type, host: Any) -> None:
    kernel = FAST[name]["cupy"]
    takes = getattr(kernel, "takes", lambda *arrays, **settings: True)
    for arrays, settings in cases(name, dtype, np.random.default_rng(0)):
        if takes(*(None if x is None else host.asarray(x) for x in arrays), **settings):
            assert_equals_definition(name, through_host(kernel), arrays, settings)
    assert name in PRODUCTS or any(f"<{launch.c_name(dtype)}" in ran for ran in RawKernel.ran)


@pytest.mark.parametrize("layout", [laid_out_backwards, laid_out_transposed])
@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_takes_arrays_with_strides(name: str, layout: Any, host: Any) -> None:
    arrays, settings = typical_case(name, np.float32)
    laid_out = tuple(layout(x) for x in arrays)
    assert_equals_definition(name, through_host(FAST[name]["cupy"]), laid_out, settings)
    assert name in PRODUCTS or RawKernel.ran


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_threads_changes_no_bit(name: str, host: Any, monkeypatch: Any) -> None:
    """A barrier too few would show: all threads then see the others' work, or none of it."""
    arrays, settings = typical_case(name, np.float32)
    results = []
    for backwards in (False, True):
        monkeypatch.setattr(RawKernel, "backwards", backwards)
        value, vjp = through_host(FAST[name]["cupy"])(*arrays, **settings)
        g = np.asarray(np.random.default_rng(2).standard_normal(value.shape), np.float32)
        results.append([value, *vjp(g)])
    for forwards, turned in zip(*results, strict=True):
        assert np.array_equal(forwards, turned)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("C", [1, 5, 300])
def test_running_statistics_follow_in_one_launch(C: int, dtype: type, host: Any) -> None:
    rng = np.random.default_rng(C)
    kept = [rng.standard_normal(C).astype(dtype) for _ in range(2)] + [np.array(7)]
    seen, numbers = [rng.random(C).astype(dtype) for _ in range(2)], {"momentum": 0.3, "count": 4}
    ours = [host.asarray(x.copy()) for x in kept]
    follow_there(*ours, *map(host.asarray, seen), **numbers)
    follow_moments(*kept, *seen, **numbers)
    for x, y in zip(ours, kept, strict=True):
        np.testing.assert_allclose(x.get(), y, rtol=0, atol=4 * np.finfo(dtype).eps)
    assert kept[2] == 8 and len(RawKernel.ran) == 1


@pytest.mark.parametrize("shape", [(6, 48), (2, 19, 33)])
def test_a_vjp_that_adds_adds_to_what_is_there_and_leaves_it(shape: Any, host: Any) -> None:
    rng = np.random.default_rng(0)
    x, g, onto = (host.asarray(rng.standard_normal(shape)) for _ in range(3))
    weight, before = host.asarray(rng.standard_normal(shape[-1])), onto.get().copy()
    for kernel in ("layer_norm",):
        _, vjp = FAST[kernel]["cupy"](x, weight, weight)
        alone, added = vjp(g), vjp(g, onto)
        np.testing.assert_allclose(added[0].get(), before + alone[0].get(), rtol=1e-14)
        assert np.array_equal(onto.get(), before) and hasattr(vjp, "adds")
        for one, other in zip(alone[1:], added[1:], strict=True):
            assert np.array_equal(one.get(), other.get())


def test_a_label_that_is_no_class_makes_the_loss_nan(host: Any) -> None:
    logits = host.asarray(np.random.default_rng(0).standard_normal((3, 5)))
    for label in (-1, 5):
        loss, _ = FAST["cross_entropy"]["cupy"](logits, host.asarray(np.array([0, label, 2])))
        assert np.isnan(loss)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_rows_with_infinity_and_nan_are_as_in_the_definition(
    name: str, dtype: type, host: Any
) -> None:
    x = np.random.default_rng(0).standard_normal((5, 40)).astype(dtype)
    x[0, 3], x[1, 35], x[2, 4], x[3] = -np.inf, np.nan, np.inf, -np.inf
    assert_equals_definition(name, through_host(FAST[name]["cupy"]), (x,), {})
