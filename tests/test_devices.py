"""Definitions and operations compute where their arrays are, which a stand-in for CuPy shows."""

from __future__ import annotations

import sys

import numpy as np
import other_device
import pytest
from gpu import require_gpu
from other_device import assert_same, there
from tiny_models import batch, tiny_model

from minswin import Tensor, devices, ops
from minswin.arrays import to_numpy
from minswin.check import samples
from minswin.reference import updates

cupy = other_device.cupy  # the fixture


# ── the stand-in is as foreign as CuPy ───────────────────────────────────────────────────────────


def test_no_function_of_numpy_takes_an_array_of_the_stand_in(cupy):
    x, here = cupy.asarray(np.ones(3)), np.ones(3)
    attempts = [
        lambda: np.asarray(x),
        lambda: np.add(x, x),
        lambda: np.exp(x),
        lambda: np.concatenate([x, x]),
        lambda: np.where(x > 0, x, x),
        lambda: here + x,
        lambda: x * here,
        lambda: x[np.array([0, 1])],
        lambda: here[x.astype(int)],
        lambda: cupy.exp(here),
    ]
    for attempt in attempts:
        with pytest.raises((TypeError, IndexError)):
            attempt()


def test_the_stand_in_counts_as_cupy(cupy):
    assert devices.device_of(cupy.asarray(np.ones(2))) == "gpu:0"
    assert devices.device_of(np.ones(2)) == "cpu"


# ── definitions ──────────────────────────────────────────────────────────────────────────────────

SAMPLES = list(samples(np.random.default_rng(6)))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample[0].__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_definition_computes_on_the_device_of_its_arrays(cupy, sample, dtype):
    definition, arrays, settings = sample
    arrays = [x.astype(dtype) if x is not None and x.dtype.kind == "f" else x for x in arrays]
    truth, true_vjp = definition(*arrays, **settings)
    g = np.random.default_rng(7).standard_normal(np.shape(truth)).astype(dtype)
    value, vjp = definition(*there(arrays), **there(settings))
    assert_same(value, truth)
    for ours, theirs in zip(vjp(there(g)), true_vjp(g), strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize("name", ["sgd_step", "adamw_step"])
def test_every_update_writes_into_arrays_of_its_device(cupy, name):
    rng, step = np.random.default_rng(8), getattr(updates, name)
    arrays = [rng.random((3, 4), np.float32) for _ in range(3 if name == "sgd_step" else 4)]
    settings = {"lr": 0.1, "decay": 0.2}
    if name == "sgd_step":
        settings.update(momentum=0.9, nesterov=True)
    else:
        settings.update(beta1=0.8, beta2=0.9, eps=1e-8, t=3)
    ours = there(arrays)
    step(*ours, **settings)
    step(*arrays, **settings)
    for a, b in zip(ours, arrays, strict=True):
        assert_same(a, b)


@pytest.mark.gpu
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample[0].__name__)
def test_every_definition_computes_on_a_gpu_what_it_computes_on_the_cpu(sample):
    require_gpu()
    definition, arrays, settings = sample
    truth, true_vjp = definition(*arrays, **settings)
    g = np.random.default_rng(7).standard_normal(np.shape(truth))
    value, vjp = definition(*there(arrays), **there(settings))
    assert np.allclose(to_numpy(value), truth, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(vjp(there(g)), true_vjp(g), strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or np.allclose(to_numpy(ours), theirs, rtol=1e-12, atol=1e-12)


def test_a_table_is_moved_once_to_each_device(cupy):
    made = []

    def squares(count):
        made.append(count)
        return np.arange(count) ** 2

    x, y = there(np.ones(1)), devices.to_device(np.ones(1), "gpu:1")
    first = devices.constant(x, squares, 3)
    assert devices.constant(x, squares, 3) is first
    assert_same(first, np.array([0, 1, 4]))
    assert devices.device_of(devices.constant(y, squares, 3)) == "gpu:1"
    assert made == [3, 3]
    assert isinstance(devices.constant(np.ones(1), squares, 2), np.ndarray)


# ── operations ───────────────────────────────────────────────────────────────────────────────────


def test_an_operation_on_two_devices_names_both_and_says_what_to_do(cupy):
    x, y = Tensor(np.ones((2, 3))), Tensor(np.ones((2, 3))).to("gpu:1")
    with pytest.raises(ValueError, match=r"add: .*two devices, cpu and gpu:1; .*\.to\('cpu'\)"):
        x + y
    with pytest.raises(ValueError, match="gpu:0 and gpu:1"):
        ops.concatenate(x.to("gpu"), y)
    with pytest.raises(ValueError, match=r"take: .*gpu:0 and cpu"):
        ops.take(x.to("gpu"), np.array([0]))


def test_numbers_and_lists_go_to_the_device_of_the_arrays_beside_them(cupy):
    x = Tensor(np.arange(3, dtype=np.float32)).to("gpu")
    for ours, truth in (
        (2 * x, [0, 2, 4]),
        (x - 0.5, [-0.5, 0.5, 1.5]),
        (ops.add(x, [1, 2, 3]), [1, 3, 5]),
    ):
        assert_same(ours.data, np.array(truth, np.float32))
    assert_same((x * np.float64(2)).data, np.array([0, 2, 4], np.float32))


@pytest.mark.parametrize("number", [2, 0.5, True, np.float32(0.5), np.int64(3)])
@pytest.mark.parametrize("kind", [np.int64, np.float32, np.float64])
def test_a_number_beside_an_array_is_the_same_number_on_every_device(cupy, kind, number):
    x = np.arange(3).astype(kind)
    for operation in (ops.add, ops.multiply, ops.divide):
        assert_same(operation(there(x), number).data, operation(x, number).data)


def test_a_number_beside_an_array_on_a_gpu_can_be_captured(cupy):
    x, stream = Tensor(np.ones(3, np.float32)).to("gpu"), cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        2 * x + 1
        stream.end_capture()


def test_a_tensor_that_moves_sends_its_gradient_home(cupy):
    x = Tensor(np.array([1.0, 2.0, 5.0]), requires_grad=True)
    y = x.to("gpu")
    (y * y).backward(there(np.array([3.0, -1.0, 0.5])))
    assert isinstance(x.grad, np.ndarray)
    assert x.grad.tolist() == [6, -4, 5]
    assert x.to("cpu") is x and y.to("gpu") is y and y.to("gpu:0") is y
    assert y.numpy().tolist() == [1, 2, 5]


def test_a_list_of_cotangents_goes_to_the_device_of_the_result(cupy):
    x = Tensor(there(np.array([1.0, 2.0])), requires_grad=True)
    (x * x).backward([1.0, 0.5])
    assert_same(x.grad, np.array([2.0, 2.0]))


# ── without a GPU ────────────────────────────────────────────────────────────────────────────────


def test_without_cupy_the_message_has_the_install_line_and_the_cpu_works_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    model = tiny_model()
    for attempt in (lambda: model.to("gpu"), lambda: Tensor(np.ones(2)).to("gpu:1")):
        with pytest.raises(
            ImportError, match=r"device 'gpu.*pip install cupy-cuda13x .*, or .*'cpu'"
        ):
            attempt()
    assert model.to("cpu")(batch(2)[0]).shape == (2, 5)


def test_without_a_gpu_the_message_says_so(cupy, monkeypatch):
    def no_driver():
        raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    for count, reason in ((no_driver, "cudaErrorNoDevice"), (lambda: 0, "counts 0")):
        monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", count)
        with pytest.raises(OSError, match=f"'gpu': there is no GPU .*{reason}.*nvidia-smi"):
            tiny_model().to("gpu")


def test_a_gpu_that_is_not_there_is_named(cupy):
    with pytest.raises(OSError, match="'gpu:2': there are 2 GPUs, counted from 0"):
        devices.to_device(np.ones(2), "gpu:2")


@pytest.mark.parametrize("name", ["cuda", "gpu:", "gpu:-1", "gpu:x", "", "CPU", 0])
def test_a_device_of_another_name_is_refused(name):
    with pytest.raises(ValueError, match="device must be 'cpu', 'gpu' or 'gpu:1'"):
        devices.to_device(np.ones(2), name)


def test_where_a_gpu_is_required_its_absence_is_a_failure_and_else_a_skip(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    for value, outcome in (("", pytest.skip.Exception), ("1", pytest.fail.Exception)):
        monkeypatch.setenv("MINSWIN_REQUIRE_GPU", value)
        with pytest.raises(BaseException, match=r"needs a GPU: .*CuPy cannot be loaded") as caught:
            require_gpu()
        assert caught.type is outcome  # a skip that is let through would skip this test
