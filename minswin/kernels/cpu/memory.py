"""Memory from step to step: what a step has freed is kept, and the next step uses it again.

A large array is fresh memory from the system, which clears each page of it on first touch, and
takes it back at once when the array is freed. Training makes the same arrays in every step, so a
sixth of its time went there (swin_cifar, 64 images, one core of an AMD EPYC: 501 ms a step, 421
with this file).
The C library can do better, if it is asked to: it is NumPy's allocator, so views, `no_grad` and
threads are safe as ever.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = (
    -1,
    -4,
    -8,
)  # the numbers of these options in glibc's malloc.h
_MOST = 2**31 - 1  # bytes of free memory that may be kept


def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed arrays; whether the C library (glibc) can do so.

    The environment variable MINSWIN_KEEP_MEMORY=0 prevents it: then memory goes back at once.
    """
    if os.environ.get("MINSWIN_KEEP_MEMORY") == "0":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library: its own ways stay
        return False
    options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _MOST), (_ARENA_MAX, 1))  # one for all threads
    return all([mallopt(option, value) for option, value in options])
