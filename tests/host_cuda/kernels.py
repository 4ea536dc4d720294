"""The kernels that CuPy compiles, compiled once more by g++ from the same source, to run them.

NVRTC has compiled each for the GPU before it gets here; what it made is not used.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
FLAGS = (
    "-std=c++17", "-O1", "-w", "-fpermissive", "-U_FORTIFY_SOURCE", "-fno-extern-tls-init",
    "-fno-gnu-unique", "-fPIC", "-fsanitize=alignment",
)  # fmt: skip


class Kernel:
    """A kernel of one source. `expression`: what C++ calls it, as f<float>; `name`: the linker."""

    def __init__(self, builder: Builder, source: str, name: str, expression: str) -> None:
        self.builder, self.source, self.name = builder, source, expression
        self.entry = name.encode()
        self.backwards = 0

    @property
    def library(self) -> ctypes.CDLL:
        return self.builder.library(self.source, self.entry.decode(), self.name)

    @property
    def threads_matter(self) -> bool:
        """Whether threads meet; CuPy's elementwise kernels are loops that one thread can walk."""
        return "CUPY_FOR" not in self.source or "__syncthreads" in self.source

    def copied(self, arguments: int) -> list[Any]:
        """The arguments of a launch, which hold for its duration, for later."""
        sizes = self.library.sizes_of(self.entry)
        count = len(self.library.letters_of(self.entry))
        pointers = (ctypes.c_void_p * count).from_address(arguments)
        return [
            ctypes.create_string_buffer(ctypes.string_at(pointers[i], sizes[i]), sizes[i])
            for i in range(count)
        ]

    def addresses(self, values: list[Any]) -> list[int]:
        """Of the arrays among the arguments; a CArray of CuPy begins with its address."""
        letters = self.library.letters_of(self.entry).decode()
        pairs = zip(letters, values, strict=True)
        return [
            int(np.frombuffer(v, np.int64, 1)[0])
            for kind, v in pairs
            if kind in "Px" and len(v) >= 8
        ]

    def run(
        self, grid: tuple[int, ...], block: tuple[int, ...], shared: int, values: list[Any]
    ) -> None:
        if not self.threads_matter:
            grid = block = (1, 1, 1)
        three, table = ctypes.c_uint * 3, (ctypes.c_void_p * len(values))()
        for i, value in enumerate(values):
            table[i] = ctypes.addressof(value)
        trouble = self.library.launch(
            self.entry, three(*grid), three(*block), shared, table, self.backwards
        )
        if trouble is not None:
            raise AssertionError(f"{self.name}: {trouble.decode()}")


class Kernels:
    """Which source each module of the device has."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.compiling: list[_Source] = []
        self.modules: dict[int, tuple[_Source | None, bytes]] = {}

    def watch(self, compiler: Any) -> None:
        """Note the source of every module that CuPy compiles or finds in its cache."""
        compile_plainly = compiler._compile_with_cache_cuda

        def compile_and_note(source: str, *rest: Any, **settings: Any) -> Any:
            noted = _Source(source)
            self.compiling.append(noted)
            try:
                module = compile_plainly(source, *rest, **settings)
            finally:
                self.compiling.pop()
            noted.names = {low: high for high, low in (module.mapping or {}).items()}
            return module

        compiler._compile_with_cache_cuda = compile_and_note

    def loaded(self, module: int, compiled: bytes) -> None:
        self.modules[module] = (self.compiling[-1] if self.compiling else None, compiled)

    def named(self, module: int, name: str) -> Kernel | None:
        source, compiled = self.modules[module]
        if source is None or name.encode() + b"\0" not in compiled:
            return None
        return Kernel(self.builder, source.text, name, source.names.get(name, name))


class _Source:
    def __init__(self, text: str) -> None:
        self.text = text
        self.names: dict[str, str] = {}  # of the linker -> of C++


class Builder:
    """Shared libraries of g++, kept in a folder."""

    def __init__(self, folder: Path, includes: list[Path]) -> None:
        self.folder = folder
        self.includes = [f"-I{path}" for path in (HERE, HERE.parent, *includes)]
        headers = (HERE / "device.h", HERE.parent / "cuda_on_host.h")
        self.key = "".join(h.read_text("utf-8") for h in headers) + repr((FLAGS, self.includes))
        self.library = cache(self._library)

    def built(self, language: str, text: str, *flags: str, name: str = "kernel.so") -> Path:
        """The library of a text, "-xc" or "-xc++"."""
        digest = hashlib.sha256((text + repr(flags)).encode()).hexdigest()[:24]
        library = self.folder / digest / name
        if not library.exists():
            self._compile(text, library, language, "-shared", "-fPIC", *flags)
        return library

    @cache  # noqa: B019  there is one builder
    def _header(self) -> Path:
        """device.h, compiled once: it is most of what a kernel would take to compile."""
        digest = hashlib.sha256(self.key.encode()).hexdigest()[:24]
        header = self.folder / f"{digest}.h"
        if not Path(f"{header}.gch").exists():
            self._compile(
                '#include "device.h"\n',
                Path(f"{header}.gch"),
                "-xc++-header",
                *FLAGS,
                *self.includes,
            )
        return header

    def _library(self, source: str, name: str, expression: str) -> ctypes.CDLL:
        text = (
            f"{source}\n#undef REDUCE\nhost::Entry entries[] = {{\n"
            f'    host::entry("{name}", {expression}), {{0, 0, 0, 0, 0}}\n}};\n'
        )
        flags = (*FLAGS, *self.includes, "-include", str(self._header()))
        library = ctypes.CDLL(str(self.built("-xc++", text, *flags)))
        library.launch.restype = library.letters_of.restype = ctypes.c_char_p
        library.sizes_of.restype = ctypes.POINTER(ctypes.c_int)
        return library

    def _compile(self, text: str, target: Path, language: str, *flags: str) -> None:
        """Written under another name first: other processes may want the same."""
        target.parent.mkdir(parents=True, exist_ok=True)
        draft, source = (target.with_suffix(f".{os.getpid()}.{end}") for end in ("new", "text"))
        source.write_text(text, "utf-8")
        try:
            command = ["g++", language, str(source), "-o", str(draft), *flags]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        finally:
            source.unlink()
        if done.returncode:
            raise RuntimeError(f"g++ cannot compile this source:\n{done.stderr[:3000]}")
        draft.replace(target)
