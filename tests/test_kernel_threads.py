"""BLAS has one thread from the first kernel on, and large products are split by the kernels."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from minswin.autograd import no_grad
from minswin.kernels import FAST, blas, using
from minswin.kernels.cpu.threads import in_threads


@pytest.fixture(params=[1, 2, 3])
def threads(request, monkeypatch):
    monkeypatch.setattr(blas._Share, "threads", request.param)
    return request.param


def test_results_come_in_order_and_the_caller_takes_part(threads):
    names = []

    def work(block):
        names.append(threading.current_thread().name)
        return block * block

    assert list(in_threads(work, range(10))) == [n * n for n in range(10)]
    assert len({name for name in names if name.startswith("product")}) <= threads - 1
    assert threading.current_thread().name in names
    assert (threads == 1) == all(not name.startswith("product") for name in names)


def test_an_error_in_a_block_is_the_callers(threads):
    def work(block):
        return 1 / (block - 2)

    with pytest.raises(ZeroDivisionError):
        list(in_threads(work, range(5)))
    assert list(in_threads(work, range(2))) == [-0.5, -1]


def test_what_the_caller_chose_holds_in_the_threads(threads):
    with np.errstate(divide="ignore"):
        results = list(in_threads(lambda block: np.ones(2) / np.zeros(2), range(4)))
    assert all(np.isinf(r).all() for r in results)


@pytest.mark.parametrize("rows", [1, 200, 1000, 3000])
@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_the_number_of_threads_changes_no_bit_of_the_gradients(name, rows, monkeypatch):
    """Nor, but for rounding, of the value: BLAS may add up otherwise in blocks of other sizes."""
    rng = np.random.default_rng(rows)
    shapes = {"linear": [(384, 256), (384,)], "mlp": [(512, 256), (512,), (64, 512), (64,)]}[name]
    inputs = [rng.standard_normal(s).astype(np.float32) for s in [(rows, 256), *shapes]]
    results = []
    for count in (1, 2, 3):
        monkeypatch.setattr(blas._Share, "threads", count)
        value, vjp = FAST[name]["numba"](*inputs)
        g = np.cos(np.arange(value.size, dtype=np.float32)).reshape(value.shape)
        results.append((value, vjp(g)))
    (value, gradients), *others = results
    for other, other_gradients in others:
        np.testing.assert_allclose(other, value, rtol=1e-5, atol=1e-5 * abs(value).max())
        if name == "linear":  # the gradients of an MLP are made of its hidden values
            assert all(
                np.array_equal(a, b) for a, b in zip(gradients, other_gradients, strict=True)
            )
        for a, b in zip(gradients, other_gradients, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * abs(a).max())


@pytest.mark.parametrize("rows", [3, 1000])
def test_an_mlp_that_nobody_records_gives_the_same_bits(rows):
    """It keeps nothing of the size of its hidden values, and computes them again if it must."""
    rng = np.random.default_rng(rows)
    shapes = [(rows, 16), (512, 16), (512,), (24, 512), (24,)]
    inputs = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    value, vjp = FAST["mlp"]["numba"](*inputs)
    with no_grad():
        again, vjp_again = FAST["mlp"]["numba"](*inputs)
    assert np.array_equal(again, value)
    g = np.cos(value)
    for a, b in zip(vjp(g), vjp_again(g), strict=True):
        assert np.array_equal(a, b)


PROGRAM = """
import numpy as np
from minswin import data_parallel, kernels, ops, create_model
from minswin.kernels import blas
functions = blas._openblas()
if functions is None:
    print("2 1 1")  # another BLAS: it is left as it is
    raise SystemExit
count = functions[0]
before = count()
ops.softmax(np.ones((1, 3), np.float32))
print(before, count(), end=" ")
assert blas.threads() == before
data_parallel(create_model("swin_shapes"), 1)
print(blas.threads())
"""


def run(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_blas_has_one_thread_from_the_first_kernel_on_and_the_kernels_as_many_as_it_had():
    assert run(PROGRAM, OPENBLAS_NUM_THREADS="2") == "2 1 1"


def test_a_first_kernel_after_data_parallel_splits_nothing():
    program = """
from minswin import create_model, data_parallel, kernels
from minswin.kernels import blas
data_parallel(create_model("swin_shapes"), 1)
with kernels.using("numba"):
    print(blas.threads())
"""
    assert run(program, OPENBLAS_NUM_THREADS="2") == "1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(blas._Share, "threads", 2)
    with using("numba"):
        assert list(in_threads(abs, range(4))) == [0, 1, 2, 3]
    child = os.fork()
    if child == 0:
        os._exit(0 if list(in_threads(abs, range(4))) == [0, 1, 2, 3] else 1)
    assert os.waitpid(child, 0)[1] == 0
