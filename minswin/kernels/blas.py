"""NumPy's OpenBLAS is held to one thread: who wants more splits the work himself.

Its threads wait for the next product by spinning. Between products of a few microseconds they take
the cores from everybody else: beside two busy processes an example ran five times as long. So from
the first kernel on a product of BLAS runs in one thread, and the kernels split large ones over as
many threads as BLAS had (`kernels.cpu.threads`), which sleep when they wait. After
`data_parallel`, which splits the batch, nothing else is split.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_SYMBOLS = ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads")


class _Share:
    threads: int | None = None  # over which a kernel may split a product; None: not yet decided


def take_over() -> None:
    """Hold BLAS to one thread; the kernels may use as many as it had, unless held to one too."""
    before = _hold()
    if _Share.threads is None:
        _Share.threads = before


def one_blas_thread() -> bool:
    """Hold BLAS and the kernels to one thread; False where NumPy brings another BLAS."""
    _hold()
    _Share.threads = 1
    return _openblas() is not None


def give_back() -> None:
    """Let BLAS use as many threads as at first, and the kernels one: for a comparison."""
    library = _openblas()
    if library is not None:
        library[1](_hold())
    _Share.threads = 1


def threads() -> int:
    """Over how many threads a kernel may split a product."""
    return _Share.threads or 1


def core_name() -> str | None:
    """The CPU whose kernels OpenBLAS runs (OPENBLAS_CORETYPE overrides its choice)."""
    library = _library()
    if library is None:
        return None
    for symbol in ("scipy_openblas_get_corename64_", "openblas_get_corename"):
        if hasattr(library, symbol):
            function = getattr(library, symbol)
            function.restype = ctypes.c_char_p
            return str(function().decode())
    return None


@cache
def _hold() -> int:
    """Let OpenBLAS use one thread a call; gives the number that it used."""
    library = _openblas()
    if library is None:
        return 1
    count = int(library[0]())
    library[1](1)
    return count


@cache
def _openblas() -> tuple[Any, Any] | None:
    """The functions of NumPy's own OpenBLAS that read and set its number of threads."""
    library = _library()
    for symbol in _SYMBOLS:
        if hasattr(library, symbol.format("set")):
            return getattr(library, symbol.format("get")), getattr(library, symbol.format("set"))
    return None


@cache
def _library() -> Any:
    """NumPy's own OpenBLAS, None where it has another BLAS."""
    home = Path(np.__file__).parent
    for folder in (home.with_name("numpy.libs"), home / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            return ctypes.CDLL(str(path))
    return None
