"""What runs CUDA kernels on a CPU is tested itself: it finds what a GPU would suffer from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cuda_cases
import cuda_on_host
import numpy as np
import pytest
from cuda_on_host import RawKernel

from minswin.kernels.gpu import launch

host = cuda_cases.host  # the fixture


FAULTS = {
    "a __syncthreads that not all threads reach": "if (threadIdx.x < 7) __syncthreads();",
    "a shuffle that not all 32 threads": "if (threadIdx.x < 7) x[0] = warp_sum(x[0]);",
    "a write behind the shared memory": "shared()[threadIdx.x] = 1;",
    "a write beside an array": "x[threadIdx.x + 9] = 1;",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_kernel_is_found_out(fault: str, host: Any) -> None:
    code = (
        '#include "rows.h"\n__device__ float* shared() { extern __shared__ char dynamic_memory[];'
    )
    code += (
        " return (float*)dynamic_memory; }\ntemplate <typename T>\n__global__ void wrong(T* x) {"
    )
    code = code.replace('#include "rows.h"', launch.source("rows.h")) + FAULTS[fault] + "}\n"
    module = host.RawModule(code=code, options=launch.OPTIONS, name_expressions=("wrong<float>",))
    with pytest.raises(AssertionError, match=fault):
        module.get_function("wrong<float>")(
            (1,), (32,), (host.zeros(32, np.float32),), shared_mem=64
        )


def test_a_source_is_compiled_once_for_all_processes(tmp_path: Path, monkeypatch: Any) -> None:
    cuda_on_host.compiler()
    compiled: list[str] = []
    build = cuda_on_host._compile
    monkeypatch.setattr(
        cuda_on_host, "_compile", lambda text, built: (compiled.append(text), build(text, built))
    )
    monkeypatch.setattr(cuda_on_host, "KEPT", tmp_path)
    code = "template <typename T> __global__ void nothing(T* x) {}"
    for _ in range(2):  # as in two processes
        cuda_on_host.library.__wrapped__(code)
    assert len(compiled) == 1
    cuda_on_host.library.__wrapped__(code + "//")
    assert len(compiled) == 2


def test_a_forgotten_barrier_shows_in_the_other_order(host: Any, monkeypatch: Any) -> None:
    code = launch.source("sums.cu").replace(
        "    __syncthreads();\n    double sum", "    double sum"
    )
    name, x, results = "sum_columns<double, double, false>", host.asarray(np.ones((8, 32))), []
    for backwards in (False, True):
        monkeypatch.setattr(RawKernel, "backwards", backwards)
        fresh = f"{code}// {backwards}\n"  # compiled anew: no sums are left in its shared memory
        module = host.RawModule(code=fresh, options=launch.OPTIONS, name_expressions=(name,))
        y = host.empty(32)
        module.get_function(name)((1, 1), (32, 8), (x, y, y, 8, 32, 8, 32))
        results.append(y.get())
    assert not np.array_equal(*results)
