"""What the caller chose holds in the threads of a split batch; their errors reach it; they end."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from tiny_models import assert_close, batch, differentiate, tiny_model

from minswin import Tensor, data_parallel, kernels, no_grad
from minswin.kernels import blas
from minswin.layers import Layer, Parameter
from minswin.parallel import cores

# ── what the caller chose ────────────────────────────────────────────────────────────────────────


def test_no_grad_keeps_nothing():
    model, (x, _) = tiny_model(), batch(6)
    split, kept = data_parallel(model, 2), []
    forward = type(model).__call__

    class Watched(type(model)):
        def __call__(self, x):
            y = forward(self, x)
            kept.append(weakref.ref(y))
            assert not y.requires_grad
            return y

    for twin in split._twins:
        twin.model.__class__ = Watched
    with no_grad():
        y = split(Tensor(x, requires_grad=True))
    gc.collect()
    assert not y.requires_grad and len(kept) == 2 and all(ref() is None for ref in kept)
    assert np.abs(y.data - model(x).data).max() < 1e-12


def test_the_threads_use_the_kernels_chosen_by_the_caller(monkeypatch):
    seen, choose = [], kernels.fast

    def watching(name, array):
        seen.append((threading.current_thread().name, kernels.chosen(array)))
        return choose(name, array)

    monkeypatch.setattr(kernels, "fast", watching)
    split = data_parallel(tiny_model(), 2)
    for backend in ("reference", "numba"):
        seen.clear()
        with kernels.using(backend):
            split(batch(4)[0])
        assert {chosen for _, chosen in seen} == {backend}
        assert all(name.startswith("minswin") for name, _ in seen)  # not the caller's thread


def test_errstate_of_the_caller_holds_in_the_threads():
    class Huge(Layer):
        def __call__(self, x):
            return Tensor(x.data * 1e300)

    split, x = data_parallel(Huge(), 2), np.full((4, 2), 1e300)
    with np.errstate(over="ignore"):
        assert np.isinf(split(x).data).all()  # a warning would be an error here
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        split(x)


def test_a_frozen_layer_is_frozen_in_every_thread():
    model, (x, _) = tiny_model(rate=0.5), batch(8)
    split = data_parallel(model, 2)
    model.layers[0].eval()  # no drop path here, though the model trains
    assert np.abs(split(x).data - model.eval()(x).data).max() < 1e-12


def test_frozen_parameters_get_no_gradient():
    model, (x, targets) = tiny_model(), batch(5)
    split = data_parallel(model, 2)
    _, _, want = differentiate(model, model, x, targets)
    model.head.bias.requires_grad = model.norm.weight.requires_grad = False
    _, _, got = differentiate(model, split, x, targets)
    assert {name for name, g in got.items() if g is None} == {"head.bias", "norm.weight"}
    assert all(np.abs(g - want[n]).max() < 1e-12 for n, g in got.items() if g is not None)
    for p in model.parameters():
        p.requires_grad = False
    assert not split(x).requires_grad
    images = Tensor(x, requires_grad=True)
    split(images).sum().backward()
    assert np.abs(images.grad).max() > 0 and all(p.grad is None for p in model.parameters())


# ── errors ───────────────────────────────────────────────────────────────────────────────────────


def test_an_error_in_a_thread_reaches_the_caller_and_the_next_call_works():
    model, (x, targets) = tiny_model(rate=0.5), batch(6)
    split = data_parallel(model, 2)
    state = model.rng.bit_generator.state
    with pytest.raises(ValueError, match="images must be"):
        split(x[:, :2])
    assert model.rng.bit_generator.state == state
    got = differentiate(model, split, x, targets)
    model.rng.bit_generator.state = state
    assert_close(got, differentiate(model, model, x, targets))


def test_after_an_error_no_thread_is_still_at_work():
    done = threading.Event()

    class Uneven(Layer):
        def __call__(self, x):
            if x.data[0, 0] == 0:
                raise RuntimeError("the first part")
            done.wait(0.2)
            done.set()
            return x

    x = np.arange(8.0).reshape(4, 2)
    with pytest.raises(RuntimeError, match="the first part"):
        data_parallel(Uneven(), 2)(x)
    assert done.is_set()


# ── how many there are, and their end ────────────────────────────────────────────────────────────


class Centred(Layer):
    """Looks at all samples together."""

    whole_batch = True

    def __init__(self):
        self.weight = Parameter(np.array([2.0, 3.0]))
        self.seen = 0

    def __call__(self, x):
        self.seen += len(x)
        return (Tensor(x) - Tensor(x).mean(axis=0)) * self.weight


def test_a_layer_that_needs_the_whole_batch_is_not_split():
    model, x = Centred(), np.random.default_rng(5).standard_normal((6, 2))
    y = data_parallel(model)(x)
    assert np.abs(y.data - (x - x.mean(0)) * [2, 3]).max() < 1e-14
    assert model.seen == 6  # what it keeps of the batch is kept in the model itself
    with pytest.raises(ValueError, match=r"Centred needs the whole batch, which 2 .*threads=1"):
        data_parallel(model, 2)


@pytest.mark.parametrize("threads", [0, -1, 2.0])
def test_a_number_of_threads_below_one_is_refused(threads):
    message = rf"data_parallel: threads must be 1 or more, or None, got {threads}"
    with pytest.raises(ValueError, match=message):
        data_parallel(tiny_model(), threads)


def test_without_a_number_there_is_a_thread_for_each_core(monkeypatch):
    assert cores() >= 1
    monkeypatch.setattr("minswin.parallel.cores", lambda: 3)
    assert len(data_parallel(tiny_model())._twins) == 3


def test_the_threads_end_with_their_object():
    """Threads of earlier objects may end meanwhile: only those that come with this one count."""

    def threads():
        return {t for t in threading.enumerate() if t.name.startswith("minswin")}

    before, split = threads(), data_parallel(tiny_model(), 3)
    split(batch(6)[0])
    new = threads() - before
    assert new
    split.close()
    assert not new & threads()


def test_blas_can_be_held_to_one_thread(monkeypatch):
    library = blas._openblas()
    monkeypatch.setattr(blas, "_hold", blas._hold.__wrapped__)  # as if it were the first time
    if library is None:
        assert not blas.one_blas_thread()
        return
    threads, hold = library
    before = threads()
    hold(2)
    try:
        assert blas.one_blas_thread() and threads() == 1 and blas.threads() == 1
    finally:
        hold(before)


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    """0 is this process; the number 1 would be the first of the machine, which may use all."""
    may = {0: {3, 5, 7}, 1: set(range(64))}
    monkeypatch.setattr("os.sched_getaffinity", may.__getitem__, raising=False)
    assert cores() == 3
