"""NVIDIA's compiler takes the sources of the CUDA kernels."""

from __future__ import annotations

import nvrtc
import pytest
from cuda_on_host import instantiations

from minswin.kernels.gpu import launch

SOURCES = sorted(path.name for path in launch.FOLDER.glob("*.cu"))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", pytest.param("sm_90", marks=pytest.mark.long)])
@pytest.mark.parametrize("file", SOURCES)
def test_the_compiler_of_cuda_takes_every_kernel(file: str, target: str) -> None:
    code = launch.source(file)
    options = (*launch.OPTIONS, *nvrtc.QUICK)
    ptx = nvrtc.compile_for(code, instantiations(code), target, options)
    assert ptx.count(".entry ") == len(instantiations(code)) > 0
    assert f".target {target}" in ptx


@pytest.mark.parametrize("kernel", ["forward", "backward"])
def test_rows_of_attention_are_read_and_written_in_fours(kernel: str) -> None:
    name = f"window_attention_{kernel}<float, 16>"
    code = launch.source("window_attention.cu")
    ptx = nvrtc.compile_for(code, [name], "sm_90", launch.OPTIONS)
    rows = {"forward": (1, 1), "backward": (5, 3)}[kernel]  # q; q, g, y, k, v; y; dq, dk, dv
    for step, least in zip(("ld", "st"), rows, strict=True):
        assert ptx.count(f"{step}.global.v4.f32") >= 16 // 4 * least


def test_the_compiler_of_cuda_refuses_a_wrong_kernel() -> None:
    code = "template <typename T> __global__ void wrong(T* x) { x[0] = nothing; }"
    with pytest.raises(RuntimeError, match="nothing"):
        nvrtc.compile_for(code, ["wrong<float>"], "sm_80", launch.OPTIONS)
