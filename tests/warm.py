"""Programs in Python that start at once, forked from a process that has imported what takes long.

`run` does what subprocess.run does. NumPy, numba and matplotlib take a second until they work; here
that is done once, in a process without pytest, and each program is a fork of it: with arguments,
environment, folder, output, and an end of its own. minswin is not imported before, so what a
program forgets to import is missing.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from limits import HANG

FORKS = sys.platform == "linux"  # elsewhere a process with these libraries may not be safe to fork
Done = subprocess.CompletedProcess


def run(
    program: list[str], folder: Path | None = None, out: str = "", err: str = "", **variables: str
) -> Done[str]:
    """What became of `python PROGRAM`: a file, -c TEXT or -m MODULE, and arguments behind it.

    folder: where it works   out, err: a file or a terminal that gets what it prints, which else is
    returned   variables: of the environment; Python, NumPy and numba have read theirs
    A program that runs for HANG seconds is ended by SIGALRM; where none is forked, that is raised.
    """
    environment = {**os.environ, **variables}
    if not FORKS:
        with ExitStack() as files:
            ends = [
                files.enter_context(open(x, "wb")) if x else subprocess.PIPE for x in (out, err)
            ]
            how: dict[str, Any] = {"stdout": ends[0], "stderr": ends[1], "text": True}
            command = [sys.executable, *program]
            return subprocess.run(command, cwd=folder, env=environment, timeout=HANG, **how)
    with tempfile.TemporaryDirectory() as place:
        kept = [Path(place, name) for name in ("out", "err")]
        ends = [given or str(own) for given, own in zip((out, err), kept, strict=True)]
        status = _ask(program, str(folder or Path.cwd()), environment, ends, HANG)
        return Done(program, status, *(own.read_text() if own.exists() else "" for own in kept))


servers: list[subprocess.Popen[str]] = []  # one, once it was needed


def _ask(program: list[str], *how: Any) -> int:
    """The exit status of a program, below 0 where a signal ended it. how: see `become`"""
    if not servers:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        servers.append(subprocess.Popen([sys.executable, __file__], **pipes))
    questions, answers = servers[0].stdin, servers[0].stdout
    assert questions is not None and answers is not None
    print(json.dumps([program, *how]), file=questions, flush=True)
    return int(answers.readline())


def stop() -> None:
    """End the process that is forked."""
    while servers:
        servers.pop().communicate()


# ── the process that is forked ───────────────────────────────────────────────────────────────────


def warm() -> None:
    """Import what takes long, and let numba compile once: it then knows all types and operators."""
    with suppress(ImportError):
        import numba

        numba.njit(lambda x: x + 1)(1.0)
    with suppress(ImportError):
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401
    gc.freeze()  # no program goes through all of this again, and copies it


def serve() -> list[Any]:
    """Fork a process for each line that is read; in such a process return what is asked."""
    answers = os.dup(1)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.close(answers)
            return json.loads(line)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(answers, b"%d\n" % status)
    sys.exit()


def become(
    program: list[str], folder: str, environment: dict[str, str], ends: list[str], seconds: float
) -> None:
    """Do what `python PROGRAM` does in this folder; ends: files or terminals for what it prints."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, path in zip((1, 2), ends, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    kind, *arguments = program
    if kind == "-c":
        sys.argv, sys.path[0] = [kind, *arguments[1:]], ""
        sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(arguments[0], "<string>", "exec"), vars(sys.modules["__main__"]))
    elif kind == "-m":
        sys.argv, sys.path[0] = arguments, folder
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = program, str(Path(kind).resolve().parent)
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    warm()
    become(*serve())
