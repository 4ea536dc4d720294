"""The CUDA kernels on a GPU: on CuPy arrays each equals its definition on NumPy arrays."""

from __future__ import annotations

import ctypes
from typing import Any

import host_cuda
import numpy as np
import pytest
from cuda_cases import GEOMETRIES, NAMES, case_of
from gpu import require_gpu
from kernel_cases import DTYPES, assert_equals_definition, cases, typical_case, windows_of
from table import UPDATES, definition_of
from test_kernel_updates import SETTINGS, SHAPES, arrays_of

from minswin import Tensor, kernels, ops
from minswin.arrays import to_numpy
from minswin.kernels import FAST
from minswin.kernels.gpu import products_with_bias, updates
from minswin.kernels.gpu.window_attention import shifted_window_attention
from minswin.training.precision import computing

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def cupy() -> Any:
    return require_gpu()


def on_gpu(function: Any, cupy: Any, *, transposed: bool = False) -> Any:
    """A function on CuPy arrays as one on NumPy arrays; `transposed`: stored column by column."""

    def there(x: Any) -> Any:
        if x is None:
            return None
        turned = transposed and x.ndim > 1
        return cupy.asarray(np.ascontiguousarray(x.T)).T if turned else cupy.asarray(x)

    def run(*arrays: Any, **settings: Any) -> Any:
        value, vjp = function(*map(there, arrays), **settings)

        def gradients(g: Any) -> tuple[Any, ...]:
            return tuple(None if x is None else to_numpy(x) for x in vjp(there(g)))

        return to_numpy(value), gradients

    return run


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_equals_its_definition(
    name: str, dtype: type, transposed: bool, cupy: Any
) -> None:
    function = on_gpu(FAST[name]["cupy"], cupy, transposed=transposed)
    for arrays, settings in cases(name, dtype, np.random.default_rng(0)):
        if all(x is None or x.size for x in arrays):  # the empty ones run the definition
            assert_equals_definition(name, function, arrays, settings)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_shifted_windows_of_every_size_equal_their_definition(
    geometry: Any, dtype: type, cupy: Any
) -> None:
    arrays, settings = case_of(geometry, dtype)
    function = on_gpu(shifted_window_attention, cupy)
    assert_equals_definition("shifted_window_attention", function, arrays, settings)


@pytest.mark.parametrize("d", [16, 20, 18])
@pytest.mark.parametrize("dtype", DTYPES)
def test_windows_of_a_map_that_begins_anywhere_equal_their_definition(
    dtype: type, d: int, cupy: Any
) -> None:
    """What is read four numbers at a time must lie at a multiple of 16 bytes."""
    rng = np.random.default_rng(d)
    qkv, g = (rng.standard_normal((1, 4, 6, n * 2 * d)).astype(dtype) for n in (3, 1))
    table = rng.standard_normal((15, 2)).astype(dtype)

    def behind(x: np.ndarray) -> Any:
        room = cupy.empty(x.size + 1, dtype)[1:].reshape(x.shape)
        room[...] = cupy.asarray(x)
        assert room.data.ptr % 16 == x.itemsize
        return room

    settings, found = windows_of(2, (2, 3), (1, 1)), []
    for place in (cupy.asarray, behind):
        y, vjp = shifted_window_attention(*map(place, (qkv, table)), **settings)
        found.append([to_numpy(x) for x in (y, *vjp(place(g)))])
    for aligned, anywhere in zip(*found, strict=True):
        assert np.array_equal(aligned, anywhere)


@pytest.mark.parametrize(
    "how", ["one pass", "not aligned", "no library", "no algorithm", "refused", "float64"]
)
def test_a_bias_is_added_by_the_product_or_else_in_a_pass_of_its_own(
    how: str, cupy: Any, monkeypatch: Any
) -> None:
    if host_cuda.entered() is None:
        pytest.skip("what is asked of a real GPU is not counted")
    rng, dtype = np.random.default_rng(5), np.float64 if how == "float64" else np.float32
    x, weight, bias = (rng.standard_normal(s).astype(dtype) for s in ((7, 24), (9, 24), (9,)))
    behind = 1 if how == "not aligned" else 0
    monkeypatch.setattr(products_with_bias, "_plans", products_with_bias._Plans())
    if how == "no library":
        monkeypatch.setattr(products_with_bias, "_library", lambda xp: None)
    if how == "no algorithm":
        monkeypatch.setattr(products_with_bias, "MOST_WORKSPACE", 99)
    if how == "refused":
        planned = products_with_bias._planned
        broken = lambda *a: planned(*a)._replace(algorithm=(ctypes.c_uint64 * 8)())  # noqa: E731
        monkeypatch.setattr(products_with_bias, "_planned", broken)
    for factor in (1, -3):  # another one of the same size
        b = factor * bias
        there = cupy.asarray(np.append(b[:behind], b))[behind:]
        with host_cuda.counted() as counts:
            y = FAST["linear"]["cupy"](cupy.asarray(x), cupy.asarray(weight), there)[0]
        assert counts["product"] == 1 and counts["kernel"] == (how != "one pass")
        np.testing.assert_allclose(to_numpy(y), x @ weight.T + b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_an_mlp_of_short_products_is_its_steps_and_rounds_each_array_once(
    name: str, cupy: Any
) -> None:
    if host_cuda.entered() is None:
        pytest.skip("what is asked of a real GPU is not counted")
    rng = np.random.default_rng(3)
    shapes = (2, 35, 16), (40, 16), (40,), (8, 40), (8,), (2, 35, 8)
    *arrays, g = (cupy.asarray(rng.standard_normal(s).astype(np.float32)) for s in shapes)
    exact, _ = FAST["mlp"]["cupy"](*arrays)
    with computing(name, "gpu"):
        with host_cuda.counted() as counts:
            y, vjp = FAST["mlp"]["cupy"](*arrays)
            gradients = vjp(g)
        tensors = [Tensor(x, requires_grad=True) for x in arrays]
        hidden = ops.linear(*tensors[:2], None) + tensors[2]
        steps = ops.linear(ops.gelu(hidden), *tensors[3:])
        steps.backward(g)
    assert counts["product"] == 6 and counts["kernel"] == 4 + 4  # x, w1, w2, g are rounded
    assert np.array_equal(to_numpy(y), steps.numpy()) and not cupy.array_equal(y, exact)
    for ours, tensor in zip(gradients, tensors, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(to_numpy(ours), to_numpy(tensor.grad), rtol=2e-6, atol=2e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(UPDATES))
def test_all_parameters_are_stepped_as_by_the_definition(name: str, dtype: type, cupy: Any) -> None:
    shapes = [(4097,), *SHAPES, (2, 4096), (9001,)]  # around the 4096 numbers of a block
    for whole in SETTINGS[name]:
        settings = {key: value for key, value in whole.items() if key != "decay"}
        decays = [whole["decay"] * i for i in range(len(shapes))]
        truth = [arrays_of(name, shape, dtype, seed=i) for i, shape in enumerate(shapes)]
        before = [[abs(x) for x in arrays] for arrays in truth]
        ours = [tuple(map(cupy.asarray, arrays)) for arrays in truth]
        getattr(updates, f"{name}s")(ours, decays=decays, **settings)
        for arrays, mine, old, decay in zip(truth, ours, before, decays, strict=True):
            definition_of(name)(*arrays, decay=decay, **settings)
            for x, y, size in zip(mine, arrays, old, strict=True):
                limit = 4 * np.finfo(dtype).eps * (size + abs(y) + old[1] * (1 + old[1]))
                assert np.all(abs(to_numpy(x) - y) <= limit), (name, y.shape)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_run_gives_the_same_bits(name: str, cupy: Any) -> None:
    arrays, settings = typical_case(name, np.float32)
    results = []
    for _ in range(2):
        value, vjp = on_gpu(FAST[name]["cupy"], cupy)(*arrays, **settings)
        g = np.asarray(np.random.default_rng(2).standard_normal(value.shape), np.float32)
        results.append([value, *vjp(g)])
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)


def test_an_operation_on_cupy_arrays_runs_the_kernels_of_cupy(cupy: Any) -> None:
    x = cupy.asarray(np.random.default_rng(0).standard_normal((3, 5)))
    assert kernels.chosen(x) == "cupy"
    y = ops.softmax(Tensor(x, requires_grad=True))
    assert isinstance(y.data, cupy.ndarray)
    np.testing.assert_allclose(y.numpy().sum(axis=-1), 1, rtol=1e-14)
