"""Have numba compile every kernel for float32 and float64, and keep the code on disk.

    python tests/compile_kernels.py [PART/PARTS]

It runs the cases of the tests of kernels and prints the name of each kernel that it has done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from kernel_cases import DTYPES, NAMES, cases
from table import UPDATES
from test_kernel_updates import SETTINGS, arrays_of

import minswin.kernels.cpu.bfloat16  # noqa: F401 (it enters its kernels)
from minswin.kernels import COMPILED, FAST

Job = tuple[str, type]


def compile_kernel(name: str, dtype: type) -> None:
    if name in UPDATES:
        for settings in SETTINGS[name]:
            FAST[name]["numba"](*arrays_of(name, (16,), dtype), **settings)
        return
    for backend in FAST[name].keys() & COMPILED:
        for arrays, settings in cases(name, dtype, np.random.default_rng(0)):
            value, vjp = FAST[name][backend](*arrays, **settings)
            vjp(value)


def jobs(part: int, parts: int) -> Iterator[Job]:
    """A kernel stays in one process: its index on disk is written whole."""
    for name in sorted({*NAMES, *UPDATES})[part::parts]:
        for dtype in DTYPES:
            yield name, dtype


def main(arguments: list[str]) -> None:
    part, parts = map(int, arguments[0].split("/")) if arguments else (0, 1)
    with np.errstate(all="ignore"):
        for name, dtype in jobs(part, parts):
            compile_kernel(name, dtype)
            print(f"{name} {np.dtype(dtype).name}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
