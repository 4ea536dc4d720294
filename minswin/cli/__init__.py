"""The command `minswin`: reads the command line, calls the library, prints. No logic of its own."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from minswin.cli import checking, looking, measuring, training
from minswin.cli.measuring import PARTS_OF_BENCH
from minswin.cli.parsing import Parser
from minswin.cli.printing import tell
from minswin.cli.training import NOT_SETTINGS
from minswin.waiting import Waiting

__all__ = ["NOT_SETTINGS", "PARTS_OF_BENCH", "main"]


# What users can do something about; FloatingPointError: a training diverged.
EXPECTED = (ValueError, TypeError, OSError, ImportError, MemoryError, FloatingPointError)


class Terminated(BaseException):
    """SIGTERM came: what is half written is removed on the way out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives its exit status.

    0, 1 where what was checked is wrong or undecided, 2 after an error, 128 + n after signal n
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and stream.errors == "strict":
            reconfigure(errors="replace")  # a pipe may not know our arrows
    parser = _parser()
    options = parser.parse_args(arguments)
    options.line = shlex.join(["minswin", *(sys.argv[1:] if arguments is None else arguments)])
    if options.command is None:
        parser.print_help()
        return 0
    try:
        with (
            warnings.catch_warnings(),
            _termination(),
            Waiting(options.command, wanted=not options.quiet) as waiting,
        ):
            warnings.showwarning = _warn
            options.waiting = waiting
            return int(options.run(options))
    except KeyboardInterrupt:
        print("minswin: stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except Terminated:
        return 128 + signal.SIGTERM
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # as if ended by SIGPIPE
    except Exception as error:
        if os.environ.get("MINSWIN_TRACEBACK") == "1" or not isinstance(error, EXPECTED):
            raise
        tell(f"minswin: error: {_said(options.command, error)}")
        return 2


def _said(command: str, error: Exception) -> str:
    """An error in one line; what the system says of a file is told as ours are."""
    if isinstance(error, OSError) and error.filename and error.args[1:] == (error.strerror,):
        if isinstance(error, FileNotFoundError):
            return f"{command}: there is no {error.filename}; give the path of one that is there"
        return f"{command}: {error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _termination() -> Iterator[None]:
    """Inside this block SIGTERM is an exception, unless somebody else handles it."""
    usual = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    tell(f"minswin: warning: {message}")


def _parser() -> argparse.ArgumentParser:
    from minswin import __version__

    parser = Parser(prog="minswin", description="Swin Transformer from scratch in NumPy.")
    parser.add_argument("--version", action="version", version=f"minswin {__version__}")
    parser.set_defaults(quiet=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for group in (training, looking, measuring, checking):
        group.add_commands(commands)
    return parser
