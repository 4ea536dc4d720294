"""The stand-in for CuPy refuses what CuPy refuses: both get the same calls."""

from __future__ import annotations

import inspect

import cupy_rules
import numpy as np
import pytest
import standin
from gpu import require_gpu

ONES = np.ones((2, 3), np.float32)
CUPY = [pytest.param(True, id="cupy", marks=pytest.mark.gpu), pytest.param(False, id="standin")]


@pytest.fixture(params=CUPY)
def cupy(request, monkeypatch):
    return require_gpu() if request.param else standin.use(monkeypatch)


# name: what is done to a matrix, and to a number in an array
REFUSED = {
    "the largest along the last axis of a number": (lambda cp, x, z: z.max(axis=-1), ValueError),
    "the sum along the first axis of a number": (lambda cp, x, z: cp.sum(z, axis=0), ValueError),
    "the mean along the last axis of a number": (lambda cp, x, z: z.mean(-1), ValueError),
    "where the largest is in a number": (lambda cp, x, z: z.argmax(-1), ValueError),
    "where the largest of nothing is": (lambda cp, x, z: cp.empty((2, 0)).argmax(1), ValueError),
    "whether one may write": (lambda cp, x, z: x.flags.writeable, AttributeError),
    "set in another dtype": (lambda cp, x, z: x.set(np.ones((2, 3))), TypeError),
    "set in another shape": (lambda cp, x, z: x.set(ONES.T.copy()), ValueError),
    "set from the GPU": (lambda cp, x, z: x.set(x), TypeError),
    "a sum from a start": (lambda cp, x, z: cp.sum(x, initial=0), TypeError),
    "a function where": (lambda cp, x, z: cp.exp(x, where=x > 0), TypeError),
    "clip by other names": (lambda cp, x, z: cp.clip(x, min=0), TypeError),
    "argmax with a dtype second": (lambda cp, x, z: x.argmax(1, np.int32), TypeError),
    "a sum with an array of NumPy's": (lambda cp, x, z: x + ONES, TypeError),
    "a capture of the default stream": (
        lambda cp, x, z: cp.cuda.get_current_stream().begin_capture(), RuntimeError
    ),
    "a capture that did not begin": (
        lambda cp, x, z: cp.cuda.Stream(non_blocking=True).end_capture(), RuntimeError
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_numpy_would_do_is_refused(cupy, what):
    work, error = REFUSED[what]
    x, z = cupy.asarray(ONES), cupy.asarray(np.float32(3))
    with pytest.raises(error):
        work(cupy, x, z)


NOT_CAPTURED = {
    "a product": (lambda cp, x: x @ x.T, NotImplementedError),
    "a product by name": (lambda cp, x: cp.matmul(x.T, x), NotImplementedError),
    "a product with a vector": (lambda cp, x: x @ x[0], NotImplementedError),
    "a product by subscripts": (lambda cp, x: cp.einsum("ij,kj->ik", x, x), NotImplementedError),
    "what truth values choose": (lambda cp, x: x[x > 0], RuntimeError),
    "writing where truth values say": (lambda cp, x: x.__setitem__(x > 0, 1), RuntimeError),
    "an index from the CPU": (lambda cp, x: x[[0, 1]], RuntimeError),
    "nonzero": (lambda cp, x: cp.nonzero(x), RuntimeError),
    "flatnonzero": (lambda cp, x: cp.flatnonzero(x), RuntimeError),
    "where alone": (lambda cp, x: cp.where(x > 0), RuntimeError),
    "a copy from the CPU": (lambda cp, x: cp.asarray(ONES), RuntimeError),
    "set": (lambda cp, x: x.set(ONES), RuntimeError),
    "a copy to the CPU": (lambda cp, x: x.get(), RuntimeError),
    "a number for the CPU": (lambda cp, x: float(x.sum()), RuntimeError),
}
CAPTURED = {
    "a product of vectors": lambda cp, x: x[0] @ x[0],
    "vdot": lambda cp, x: cp.vdot(x, x),
    "einsum without a sum": lambda cp, x: cp.einsum("ij->ji", x),
    "where with both": lambda cp, x: cp.where(x > 0, x, 0),
    "arange": lambda cp, x: cp.arange(4),
    "a sum": lambda cp, x: x.sum(axis=0),
    "a number of NumPy's": lambda cp, x: x + np.float32(2),
}


@pytest.mark.parametrize("what", [*NOT_CAPTURED, *CAPTURED])
def test_what_a_capture_refuses_it_refuses_and_nothing_else(cupy, what):
    work, error = NOT_CAPTURED.get(what) or (CAPTURED[what], None)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        x = cupy.asarray(ONES)
        work(cupy, x)  # allowed
        stream.synchronize()
        assert not stream.is_capturing() and stream.done
        stream.begin_capture()
        assert stream.is_capturing()
        try:
            if error is None:
                work(cupy, x)
            else:
                with pytest.raises(error):
                    work(cupy, x)
        finally:
            stream.end_capture()


def test_a_definition_may_multiply_in_a_capture_where_a_kernel_takes_its_place(monkeypatch):
    cupy = standin.use(monkeypatch)
    from minswin import ops

    with cupy.cuda.Stream(non_blocking=True) as stream:
        x = cupy.asarray(ONES)
        stream.begin_capture()
        y = ops.linear(x, x, None).data
        stream.end_capture().launch(stream)
        assert y.get().tolist() == [[3, 3], [3, 3]]


def test_a_call_that_cupy_does_not_know_is_named(monkeypatch):
    cupy = standin.use(monkeypatch)
    with pytest.raises(TypeError, match=r"cupy.zeros: got an unexpected keyword argument 'like'"):
        cupy.zeros(3, like=None)
    with pytest.raises(TypeError, match=r"cupy.ndarray.max: .* 'where'"):
        cupy.asarray(ONES).max(where=True)
    with pytest.raises(TypeError, match=r"cupy.cuda.Stream.__init__: .* 'blocking'"):
        cupy.cuda.Stream(blocking=False)


def test_every_function_of_the_stand_in_has_a_signature():
    names = [*standin.FUNCTIONS.split(), *(f"ndarray.{name}" for name in standin.METHODS.split())]
    assert set(names) <= cupy_rules.signatures().keys()
    assert all(isinstance(s, inspect.Signature) for s in cupy_rules.signatures().values())


@pytest.mark.gpu
def test_the_signatures_are_those_of_the_cupy_that_is_installed():
    if not require_gpu().__version__.startswith("14."):
        pytest.skip("cupy_signatures.txt is of CuPy 14")
    lines = cupy_rules.of_cupy(standin.FUNCTIONS, standin.METHODS)
    assert lines == cupy_rules.FILE.read_text("utf-8").splitlines()
