"""While this process compiles what forward asks for, a second one compiles for backward.

The first call of a kernel finds no machine code of its loops on the disk. If a gradient will be
wanted, the name of the kernel and the shapes of its inputs go to a fresh Python process. That one
runs value and vjp on zeros, except that a loop which value calls does nothing, and one that vjp
calls is compiled and kept on the disk, from where this process takes it. What the second process
has not begun is compiled here, and never twice: see `compiled.compile_once`.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from numba.core import config
from numba.core.dispatcher import Dispatcher

from minswin.autograd import is_recording
from minswin.kernels import FAST
from minswin.kernels.cpu import compiled

PROGRAM = "import sys; sys.path[:] = {}; from minswin.kernels.cpu import ahead; ahead.serve()"
ALONE = {"NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MINSWIN_KEEP_MEMORY": "0"}
IDLE = 30.0  # seconds after which it ends if nothing more is asked for

# ── this process ─────────────────────────────────────────────────────────────────────────────────


class _Now(threading.local):
    call: tuple[Any, ...] | None = None  # name, arrays and settings of the kernel that runs


_now = _Now()


class Like(NamedTuple):
    """In place of an array."""

    shape: tuple[int, ...]
    dtype: Any


def watch() -> None:
    """From now on it is known which kernel asks for a loop."""
    for name, row in FAST.items():
        if "numba" in row:
            row["numba"] = _watched(name, row["numba"])
    compiled.when_compiling.append(prepare)


def _watched(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(kernel)
    def run(*arrays: Any, **settings: Any) -> Any:
        _now.call = name, arrays, settings
        try:
            return kernel(*arrays, **settings)
        finally:
            _now.call = None

    return run


def prepare() -> None:
    """A loop is about to be compiled: let those of the same kernel's vjp be compiled too."""
    call, _now.call = _now.call, None
    if call is None or not is_recording() or config.NUMBA_NUM_THREADS < 2:
        return
    name, arrays, settings = call
    like = [Like(a.shape, a.dtype) if isinstance(a, np.ndarray) else a for a in arrays]
    second = _second(os.getpid())
    if second is not None:
        with suppress(OSError, TypeError, pickle.PicklingError):  # then it is compiled here
            second.stdin.write(pickle.dumps((name, like, settings)))


@cache
def _second(process: int) -> Any:
    """The second process of this one; None where there can be none."""
    if not _is_python(sys.executable) or sys.platform == "win32":
        return None  # Windows has no locks that say who compiles what
    streams: Any = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
    streams.update(stdin=subprocess.PIPE, bufsize=0)
    command = [sys.executable, "-c", PROGRAM.format(sys.path)]
    try:
        second = subprocess.Popen(command, env={**os.environ, **ALONE}, **streams)
    except OSError:
        return None
    atexit.register(_end, second)
    return second


def _is_python(executable: str | None) -> bool:
    """By its name; a program that Python is part of may name itself there."""
    name = Path(executable or "").name.lower()
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


def _end(second: Any) -> None:
    second.stdin.close()  # which ends it
    try:
        second.wait(timeout=0.5)
    except subprocess.TimeoutExpired:  # it has not begun to read
        second.kill()
        second.wait()


# ── the second process ───────────────────────────────────────────────────────────────────────────


def serve() -> None:
    """Compile what comes in, until nothing more does or whoever asked has ended."""
    calls: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_read, args=(calls,), daemon=True).start()
    with suppress(Empty, KeyboardInterrupt):
        while True:
            call = calls.get(timeout=IDLE)
            with suppress(Exception):  # the first process meets it too, and says so
                compile_vjp(*call)


def _read(calls: SimpleQueue[Any]) -> None:
    with suppress(Exception):  # the end, if nothing worse
        while True:
            calls.put(pickle.load(sys.stdin.buffer))
    os._exit(0)  # at once: machine code is written whole or not at all


def compile_vjp(name: str, like: list[Any], settings: dict[str, Any]) -> None:
    """Compile the loops that the vjp of a kernel asks for. From here on no loop runs any more."""
    arrays = [np.zeros(*a) if isinstance(a, Like) else a for a in like]
    ask: Any = Dispatcher
    ask.__call__ = _nothing
    with np.errstate(all="ignore"):  # nobody has written the numbers
        value, vjp = FAST[name]["numba"](*arrays, **settings)
        ask.__call__ = _compile
        vjp(np.zeros_like(value))


def _nothing(loop: Any, *arguments: Any) -> float:
    return 0.0


def _compile(loop: Any, *arguments: Any) -> float:
    kinds = tuple(loop.typeof_pyval(a) for a in arguments)
    compiled.compile_once(loop, kinds, patience=0)
    return 0.0
