"""Residual, drop path and layer norm on a GPU: one kernel each way, the numbers of the text."""

from __future__ import annotations

from contextlib import nullcontext

import cuda_on_host
import numpy as np
import pytest
from cuda_on_host import RawKernel
from gpu import require_gpu

from minswin import Tensor, kernels, no_grad, ops
from minswin.around import around
from minswin.arrays import to_numpy
from minswin.kernels.gpu import residual
from minswin.kernels.gpu.dropout import dropped
from minswin.kernels.gpu.residual import Postponed
from minswin.training.precision import computing

RATE, B, N, C = 0.3, 3, 5, 40
KEEP = np.array([True, False, True]).reshape(B, 1, 1)
NORM = ["layer_norm_forward<double, true>"]


@pytest.fixture(params=["emulated", pytest.param("cupy", marks=pytest.mark.gpu)])
def xp(request, monkeypatch):
    """CuPy, or what runs its kernels on the CPU."""
    if request.param == "cupy":
        return require_gpu()
    return cuda_on_host.use(monkeypatch)


@pytest.fixture
def host(monkeypatch):
    return cuda_on_host.use(monkeypatch)


def leaves_of(place, dtype=np.float64):
    """x, y, weight, bias."""
    rng = np.random.default_rng(0)
    shapes = (B, N, C), (B, N, C), (C,), (C,)
    return [Tensor(place(rng.standard_normal(s).astype(dtype)), requires_grad=True) for s in shapes]


def block(place, leaves, keep=KEEP, *, after=lambda total, normed: total * normed):
    """What a block does between its two branches; x and y are results of operations there."""
    x, y, weight, bias = leaves
    x, y = x * 1.5, y * 1.5
    if keep is not None:
        y = ops.dropout(y, place(keep), rate=RATE)
    total = x + y
    return after(total, ops.layer_norm(total, weight, bias, eps=1e-5))


def numbers(place, keep, dtype, **how):
    leaves = leaves_of(place, dtype)
    result = block(place, leaves, keep, **how)
    g = np.random.default_rng(1).standard_normal(result.shape).astype(dtype)
    result.backward(place(g))
    return [to_numpy(a) for a in (result.data, *(leaf.grad for leaf in leaves))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("keep", [KEEP, ~KEEP, None], ids=["some", "others", "all"])
@pytest.mark.parametrize("last", ["the sum too", "the norm alone"])
def test_value_and_gradients_are_those_of_the_definition(xp, keep, dtype, last):
    how = {} if last == "the sum too" else {"after": lambda total, normed: normed}
    ours, truth = numbers(xp.asarray, keep, dtype, **how), None
    with kernels.using("reference"):
        truth = numbers(np.asarray, keep, dtype, **how)
    for mine, right in zip(ours, truth, strict=True):
        limit = C * np.finfo(dtype).eps * (1 + abs(right).max())  # of sums of C numbers
        np.testing.assert_allclose(mine, right, rtol=0, atol=limit)


def test_the_sum_and_the_norm_have_the_bits_of_the_separate_kernels(xp):
    leaves, found = leaves_of(xp.asarray, np.float32), []

    def separately(go, definition, inputs, settings):
        return go(definition, inputs, settings)

    for block_of in (nullcontext, lambda: around(separately)):
        with block_of():
            totals = block(xp.asarray, leaves, after=lambda total, normed: [total, normed])
        found.append([to_numpy(x.data) for x in totals])
    for fused, apart in zip(*found, strict=True):
        assert np.array_equal(fused, apart)


def test_one_kernel_gives_the_sum_and_its_norm_and_one_all_gradients(host):
    leaves = leaves_of(host.asarray)
    result = block(host.asarray, leaves)
    assert RawKernel.ran == NORM
    result.backward(host.asarray(np.ones((B, N, C))))
    rest = [name for name in RawKernel.ran[1:] if not name.startswith("sum_columns")]
    assert rest == ["layer_norm_backward<double, true>"]  # no dropout backward


def test_who_asks_for_the_sum_first_gets_it_in_one_launch_and_the_same_numbers(host):
    x, y, weight, bias = leaves = leaves_of(host.asarray)
    total = x * 1.5 + ops.dropout(y * 1.5, host.asarray(KEEP), rate=RATE)
    assert total.shape == (B, N, C) and total.dtype == np.float64 and total.ndim == 3
    assert total.size == B * N * C and RawKernel.ran == []
    first = total.numpy().copy()
    assert RawKernel.ran == ["dropout<double, true>"]
    (total * ops.layer_norm(total, weight, bias)).backward(host.asarray(np.ones((B, N, C))))
    assert np.array_equal(total.numpy(), first)
    assert RawKernel.ran.count("dropout<double, false>") == 1  # backward, by its own kernel
    other = leaves_of(host.asarray)
    block(host.asarray, other).backward(host.asarray(np.ones((B, N, C))))
    for one, two in zip(leaves, other, strict=True):
        np.testing.assert_allclose(one.grad, two.grad, rtol=1e-12, atol=1e-12)


def test_a_gradient_that_comes_after_the_norms_is_not_forgotten(host):
    """Whichever user of the sum is undone last: what the norm gave may not be all."""
    found = []
    for place, backend in ((host.asarray, "cupy"), (np.asarray, "reference")):
        with kernels.using(backend):
            x, y, weight, bias = leaves = leaves_of(place)
            total = x * 1.5 + ops.dropout(y * 1.5, place(KEEP), rate=RATE)
            normed = [ops.layer_norm(total, weight, bias) for _ in range(2)]
            result = total * 2.0 + normed[0] * normed[1] + total * 3.0
            result.backward(place(np.ones((B, N, C))))
            found.append([to_numpy(leaf.grad) for leaf in leaves])
    for ours, truth in zip(*found, strict=True):
        np.testing.assert_allclose(ours, truth, rtol=1e-11, atol=1e-11)


def test_a_sum_that_nobody_reads_is_not_computed_and_holds_nothing_once_it_is(host):
    leaves = leaves_of(host.asarray)
    x, y = leaves[0] * 1.5, leaves[1] * 1.5
    total = x + y
    assert isinstance(total, Postponed) and total.residual is x.data and total.array is None
    ops.layer_norm(total, leaves[2], leaves[3])
    assert total.residual is None and total.drop is None and total.branch is total.array
    assert np.array_equal(total.numpy(), (x.data + y.data).get())


def test_without_recording_it_is_one_kernel_too(host):
    with no_grad():
        block(host.asarray, leaves_of(host.asarray))
    assert RawKernel.ran == NORM


def test_what_an_operation_did_not_make_is_added_at_once(host):
    """Its owner may write into it before the sum is read, recorded or not."""
    for block_of in (nullcontext, no_grad):
        with block_of():
            buffer = host.asarray(np.ones((B, N)))
            total = Tensor(buffer) + Tensor(host.asarray(np.ones((B, N))))
            buffer[...] = 100
            assert (total.numpy() == 2).all()


def test_products_of_16_bits_leave_it_one_kernel_unless_somebody_watches(host):
    with computing("float16", "gpu"):
        block(host.asarray, leaves_of(host.asarray))
        assert RawKernel.ran == NORM
        with around(lambda go, *what: go(*what)):
            block(host.asarray, leaves_of(host.asarray))
    with around(lambda go, *what: go(*what)), computing("float16", "gpu"):
        block(host.asarray, leaves_of(host.asarray))
    apart = ["dropout<double, false>", "layer_norm_forward<double, false>"]
    assert RawKernel.ran == [*NORM, *apart, *apart]


def test_what_an_optimizer_writes_into_is_added_at_once(host):
    """A parameter, or an array that no operation made: it may be another one when it is read."""
    x, y, *_ = leaves_of(host.asarray)
    total = x + y
    before = (x.data + y.data).get()
    x.data[...] = 0
    assert np.array_equal(total.numpy(), before)
    assert not isinstance(x.detach() + y.detach(), Postponed)


def test_who_watches_operations_sees_each_with_its_value(host):
    seen = []

    def watching(go, definition, inputs, settings):
        result = go(definition, inputs, settings)
        seen.append((definition.__name__, type(result)))
        return result

    with around(watching):
        block(host.asarray, leaves_of(host.asarray))
    names = ["multiply", "multiply", "dropout", "add", "layer_norm", "multiply"]
    assert seen == [(name, Tensor) for name in names]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.ones(C - 1)}, "layer_norm"),
        ({"weight": np.ones(C, np.float32)}, "one floating dtype"),
        ({"keep": np.ones((B, 1, 1))}, "keep"),
        ({"rate": 1.5}, "rate"),
    ],
    ids=["size", "dtype", "numbers", "rate"],
)
def test_what_does_not_fit_is_the_error_of_the_text(host, change, message):
    x, y, weight, bias = leaves_of(host.asarray)
    keep, rate = host.asarray(change.get("keep", KEEP)), change.get("rate", RATE)
    if "weight" in change:
        weight = Tensor(host.asarray(change["weight"]))
    with pytest.raises((ValueError, TypeError), match=message):
        total = x * 1.5 + ops.dropout(y * 1.5, keep, rate=rate)
        ops.layer_norm(total, weight, bias, eps=1e-5)


WRONG = {
    "unknown setting": lambda t, w, b: ops.layer_norm(t, w, b, epsilon=1.0),
    "eps must be": lambda t, w, b: ops.layer_norm(t, w, b, eps=-100.0),
    "missing bias": lambda t, w, b: ops.layer_norm(t, w),
    "given by keyword": lambda t, w, b: ops.layer_norm(x=t, weight=w, bias=b),
    "setting 'foo'": lambda t, w, b: ops.dropout(t, t.data > 0, rate=0.5, foo=2),
    "missing keep": lambda t, w, b: ops.dropout(t, rate=0.5),
    "missing y": lambda t, w, b: ops.add(t),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_call_that_is_wrong_is_the_error_of_the_text(host, message):
    x, y, weight, bias = leaves_of(host.asarray)
    with pytest.raises((ValueError, TypeError), match=message):
        WRONG[message](x * 1.5 + y * 1.5, weight, bias)


@pytest.fixture
def streams(monkeypatch):
    """CuPy, two streams, and what was done: (launch, record or wait, its stream)."""
    cupy, done = require_gpu(), []

    class Stream(cupy.cuda.Stream):
        def record(self, event=None):
            done.append(("record", self))
            return super().record(event)

        def wait_event(self, event):
            done.append(("wait", self))
            super().wait_event(event)

    def dropping(*arrays):
        done.append(("launch", cupy.cuda.get_current_stream()))
        return dropped(*arrays)

    monkeypatch.setattr("minswin.kernels.gpu.residual.dropped", dropping)
    return cupy, done, *(Stream(non_blocking=True) for _ in range(2))


def late_sum(cupy, drop_on, add_on):
    """A drop path and a sum, postponed, and the sum's numbers."""
    (x, y, *_), keep = leaves_of(cupy.asarray), cupy.asarray(KEEP)
    cupy.cuda.Device().synchronize()
    with drop_on:
        dropped_y = ops.dropout(y * 1.5, keep, rate=RATE)
    with add_on:
        total = x * 1.5 + dropped_y
    return total, x.numpy() * 1.5 + y.numpy() * 1.5 * KEEP / (1 - RATE)


@pytest.mark.gpu
def test_a_late_sum_is_computed_on_the_stream_of_the_asking_and_who_reads_waits(streams):
    cupy, done, asking, reading = streams
    total, truth = late_sum(cupy, asking, asking)
    assert not done
    with reading:
        got, again = total.data, total.data
        np.testing.assert_allclose(cupy.asnumpy(got), truth, rtol=1e-12)
    assert done == [("launch", asking), ("record", asking), ("wait", reading)] and got is again
    total, _ = late_sum(cupy, asking, asking)
    with asking:
        assert total.data is not None
    assert done[3:] == [("launch", asking)]  # nobody has to wait


def test_an_event_is_made_on_the_device_of_its_stream(monkeypatch):
    """CUDA refuses to record an event of another device, such as the one that is current."""

    class Device:
        current = 0

        def __enter__(self):
            Device.current = 1

        def __exit__(self, *_):
            Device.current = 0

    class Stream(nullcontext):
        def record(self):
            return Device.current

        def wait_event(self, event):
            waited.append(event)

    asking, reading, waited = Stream(), Stream(), []
    branch = type("OnTheSecond", (), {"device": Device(), "__radd__": lambda self, x: x + 1})()
    streams = iter((asking, reading))
    monkeypatch.setattr(residual, "_current_stream", lambda x: next(streams))
    assert Postponed(1, branch, None).data == 2
    assert waited == [1] and Device.current == 0


@pytest.mark.gpu
def test_on_another_stream_a_drop_path_and_a_norm_are_no_part_of_the_sum(streams):
    cupy, done, asking, reading = streams
    total, truth = late_sum(cupy, asking, reading)
    computed = [("launch", asking), ("record", asking), ("wait", reading)]
    assert done == computed
    with reading:
        np.testing.assert_allclose(total.numpy(), truth, rtol=1e-12)
    *_, weight, bias = leaves_of(cupy.asarray)
    done.clear()
    total, truth = late_sum(cupy, asking, asking)
    with reading:
        normed = ops.layer_norm(total, weight, bias)
        assert done == computed
        centred = truth - truth.mean(axis=-1, keepdims=True)
        expected = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        expected = expected * weight.numpy() + bias.numpy()
        np.testing.assert_allclose(normed.numpy(), expected, rtol=1e-9, atol=1e-9)
