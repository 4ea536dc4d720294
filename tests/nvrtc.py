"""NVIDIA's compiler for CUDA sources, called without a GPU: the library NVRTC, or else nvcc."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

QUICK = ("-G",)  # the same front end, and nothing is optimized: a tenth of the time
INSTALL = "pip install nvidia-cuda-nvrtc-cu12"


@lru_cache(maxsize=1)
def library() -> Any:
    """NVRTC as the package nvidia-cuda-nvrtc-cu12 has it, or as the system; None without it."""
    places: list[str] = []
    try:
        found = importlib.util.find_spec("nvidia.cuda_nvrtc")
    except ModuleNotFoundError:
        found = None
    for folder in (found.submodule_search_locations or []) if found else []:
        places += map(str, sorted(Path(folder, "lib").glob("libnvrtc.so*")))
    for place in (*places, "libnvrtc.so.12", "libnvrtc.so.13"):
        try:
            return ctypes.CDLL(place)
        except OSError:
            continue
    return None


def compile_for(code: str, names: list[str], target: str, options: tuple[str, ...]) -> str:
    """The PTX of the kernels `names` of a source; RuntimeError with what the compiler says."""
    if library() is not None:
        return _with_nvrtc(code, names, target, options)
    if shutil.which("nvcc"):
        return _with_nvcc(code, names, target, options)
    pytest.skip(f"needs NVIDIA's compiler: there is neither NVRTC ({INSTALL}) nor nvcc")


def _with_nvrtc(code: str, names: list[str], target: str, options: tuple[str, ...]) -> str:
    nvrtc, program = library(), ctypes.c_void_p()
    assert (
        nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"k.cu", 0, None, None) == 0
    )
    for name in names:
        assert nvrtc.nvrtcAddNameExpression(program, name.encode()) == 0
    given = [option.encode() for option in (*options, f"-arch={target}")]
    flags = (ctypes.c_char_p * len(given))(*given)
    failed = nvrtc.nvrtcCompileProgram(program, len(given), flags)
    text = _text(nvrtc, program, "ProgramLog" if failed else "PTX")
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if failed:
        raise RuntimeError(text)
    return text


def _text(nvrtc: Any, program: Any, what: str) -> str:
    size = ctypes.c_size_t()
    assert getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
    buffer = ctypes.create_string_buffer(size.value)
    assert getattr(nvrtc, f"nvrtcGet{what}")(program, buffer) == 0
    return buffer.value.decode()


def _with_nvcc(code: str, names: list[str], target: str, options: tuple[str, ...]) -> str:
    uses = "".join(f"    (void*){name},\n" for name in names)
    with tempfile.TemporaryDirectory() as folder:
        source, ptx = Path(folder, "k.cu"), Path(folder, "k.ptx")
        source.write_text(f"{code}\nvoid* used[] = {{\n{uses}}};\n", "utf-8")
        command = ["nvcc", "-ptx", f"-arch={target}", *options, str(source), "-o", str(ptx)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr + done.stdout)
        return ptx.read_text("utf-8")
