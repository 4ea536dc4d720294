"""The CPU as a CUDA device for the real CuPy: it computes as CuPy says, and faults are found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import host_cuda
import numpy as np
import pytest
from gpu import require_gpu
from host_cuda.calls import Refused
from host_cuda.entry import c_function
from host_cuda.memory import Memory, WroteBeside
from host_cuda.products import _tf32

SQUARE = """
extern "C" __global__ void square(float* x, long long n) {
    long long i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < LIMIT) x[i] *= x[i];
}
"""


@pytest.fixture
def cupy():
    """CuPy on the CPU; on a real GPU these tests have no meaning."""
    library = require_gpu()
    if host_cuda.entered() is None:
        pytest.skip("there is a GPU")
    return library


def started(cupy, source, name, arrays, *, grid=(1,), block=(32,), shared=0):
    cupy.RawKernel(source, name)(grid, block, arrays, shared_mem=shared)


# ── without CuPy ─────────────────────────────────────────────────────────────────────────────────


def test_a_write_beside_a_piece_of_memory_is_found_on_both_sides():
    for place, side in ((-1, "before"), (5, "behind")):
        memory = Memory()
        address = memory.allocate(5)
        piece = memory.pieces[address]
        piece.room[address - piece.room.ctypes.data + place] = 0
        with pytest.raises(WroteBeside, match=f"it wrote {side} an array of 5 bytes"):
            memory.check(address + 2, "it")
        memory.release(address)  # it is said once
        assert memory.used == 0 and memory.peak == 5


def test_tf32_keeps_ten_bits_and_rounds_halves_to_even():
    step = np.float32(2.0**-10)
    x = np.array([1 + step, 1 + step / 2, 1 + 3 * step / 2, 1 + 0.51 * step, np.inf], np.float32)
    assert _tf32(x).tolist() == [1 + step, 1, 1 + 2 * step, 1 + step, np.inf]


def test_c_functions_are_made_from_the_types_that_cupy_says():
    made = c_function("malloc", "intptr_t (size_t, int __pyx_skip_dispatch)")
    assert made.startswith("intptr_t call_malloc(size_t a0, int skip) {") and "(n)" in made
    assert c_function("errorInvalidValue", "int") is None
    assert c_function("make_Pos", "cudaPos (size_t, size_t, size_t)") is None


# ── it computes ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.gpu
def test_what_cupy_computes_is_what_numpy_computes(cupy):
    x = np.random.default_rng(0).standard_normal((65, 33), np.float32)
    y = cupy.asarray(x)
    assert np.allclose((2 * y + 1).get(), 2 * x + 1)
    assert np.allclose(y.sum(axis=0).get(), x.sum(axis=0), atol=1e-4)
    assert np.allclose((y.T @ y).get(), x.T @ x, atol=1e-3)
    assert np.array_equal(y.argmax(axis=1).get(), x.argmax(axis=1))


@pytest.mark.gpu
def test_a_graph_does_again_what_was_captured_and_nothing_before(cupy):
    with cupy.cuda.Stream(non_blocking=True) as stream:
        x, total = cupy.ones(4, np.float32), cupy.zeros(4, np.float32)
        stream.begin_capture()
        total += x
        graph = stream.end_capture()
        assert total.get().tolist() == [0] * 4
        with host_cuda.counted() as counts:
            for _ in range(3):
                graph.launch(stream)
        assert total.get().tolist() == [3] * 4
        assert counts == {"graph": 3, "kernel": 3}


@pytest.mark.gpu
def test_what_is_asked_for_is_counted_and_need_not_be_computed(cupy):
    x = cupy.ones((8, 8), np.float32)
    with host_cuda.counted(computing=False) as counts:
        y = cupy.empty((1 << 16, 1 << 14), np.float32)  # 4 GiB that nobody touches
        y += 1
        x @ x
        cupy.asarray(np.ones(3))
    assert counts["kernel"] == counts["product"] == counts["copy from the host"] == 1


@pytest.mark.gpu
def test_new_memory_is_not_a_number(cupy):
    assert np.isnan(cupy.empty(7, np.float16).get()).all()
    assert np.isnan(cupy.empty(7, np.float64).get()).all()


# ── faults ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.gpu
@pytest.mark.parametrize(
    "grid, block", [((1, 1, 65536), (1,)), ((1,), (1025,)), ((1,), (1, 1, 65))]
)
def test_a_launch_that_cuda_refuses_is_an_error(cupy, grid, block):
    code = SQUARE.replace("LIMIT", "n")
    with pytest.raises(Refused, match="INVALID_VALUE"):
        started(cupy, code, "square", (cupy.ones(4, np.float32), 4), grid=grid, block=block)


@pytest.mark.gpu
def test_more_shared_memory_than_was_asked_for_is_an_error(cupy):
    arguments = cupy.ones(4, np.float32), 4
    kernel = cupy.RawKernel(SQUARE.replace("LIMIT", "n"), "square")
    with pytest.raises(Refused, match="INVALID_VALUE"):
        kernel((1,), (4,), arguments, shared_mem=50_000)
    kernel.max_dynamic_shared_size_bytes = 50_000
    kernel((1,), (4,), arguments, shared_mem=50_000)


@pytest.mark.gpu
def test_a_write_behind_an_array_is_found(cupy):
    x = cupy.ones(31, np.float32)
    started(cupy, SQUARE.replace("LIMIT", "n"), "square", (x, 31))
    with pytest.raises(WroteBeside, match="square wrote behind an array of 124 bytes"):
        started(cupy, SQUARE.replace("LIMIT", "n + 1"), "square", (x, 31))


@pytest.mark.gpu
def test_a_write_through_a_table_of_addresses_is_found_when_somebody_waits(cupy):
    code = """extern "C" __global__ void at(long long* table) { ((float*)table[0])[4] = 1; }"""
    x = cupy.ones(4, np.float32)
    started(cupy, code, "at", (cupy.asarray(np.array([x.data.ptr])),), block=(1,))
    with pytest.raises(WroteBeside, match="behind an array of 16 bytes"):
        cupy.cuda.get_current_stream().synchronize()


@pytest.mark.gpu
def test_a_misaligned_access_is_found(cupy):
    code = """
    struct __align__(16) Four { float at[4]; };
    extern "C" __global__ void first(const float* x, float* y) {
        y[0] = ((const Four*)(x + OFFSET))->at[0];
    }"""
    x, y = cupy.ones(12, np.float32), cupy.empty(1, np.float32)
    started(cupy, code.replace("OFFSET", "4"), "first", (x, y), block=(1,))
    with pytest.raises(AssertionError, match="first: a misaligned access"):
        started(cupy, code.replace("OFFSET", "2"), "first", (x, y), block=(1,))
    whole = code.replace("float* y", "Four* y").replace("y[0] = ((", "y[0] = *((")
    whole = whole.replace(")->at[0]", ")")  # for which the CPU has instructions that end processes
    y = cupy.empty(4, np.float32)
    with pytest.raises(AssertionError, match="first: a misaligned access"):
        started(cupy, whole.replace("OFFSET", "1"), "first", (x, y), block=(1,))
    started(cupy, whole.replace("OFFSET", "4"), "first", (x, y), block=(1,))  # all goes on
    assert y.get().tolist() == [1] * 4


@pytest.mark.gpu
def test_a_barrier_that_not_all_threads_reach_is_found(cupy):
    code = """extern "C" __global__ void split(float* x) {
        if (threadIdx.x < 16) __syncthreads();
        x[threadIdx.x] = 0;
    }"""
    with pytest.raises(AssertionError, match="split: a __syncthreads that not all threads reach"):
        started(cupy, code, "split", (cupy.ones(32, np.float32),))


FORBIDDEN = {
    "a wait": (lambda cupy, x: cupy.cuda.get_current_stream().synchronize(), "CAPTURE|capturing"),
    "a wait for all": (lambda cupy, x: cupy.cuda.Device().synchronize(), "StreamCapture"),
    "a number is read": (lambda cupy, x: float(x.sum()), "capturing|disallowed"),
    "a copy from the host": (lambda cupy, x: cupy.asarray(np.ones(3)), "disallowed"),
    "an index by truth values": (lambda cupy, x: x[x > 0], "disallowed|capturing"),
    "a product of CuPy": (lambda cupy, x: x @ x, "unsupported"),
}


@pytest.mark.gpu
@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_no_capture_allows_is_an_error(cupy, what):
    work, message = FORBIDDEN[what]
    with cupy.cuda.Stream(non_blocking=True) as stream:
        x = cupy.ones((4, 4), np.float32)
        work(cupy, x)  # allowed
        stream.begin_capture()
        try:
            with pytest.raises((RuntimeError, NotImplementedError), match=message):
                work(cupy, x)
        finally:
            stream.end_capture()


@pytest.mark.gpu
def test_cupy_that_was_imported_before_is_said(cupy):
    code = "import cupy, host_cuda\ntry: host_cuda.enter()\nexcept host_cuda.Missing as e: print(e)"
    tests = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=tests, capture_output=True, text=True)
    assert "CuPy was imported before" in done.stdout, done.stderr
