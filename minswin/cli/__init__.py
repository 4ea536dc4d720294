"""The command `minswin`: reads the command line, calls the library, prints. No logic of its own."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from minswin.cli import checking, looking, measuring, training
from minswin.cli.measuring import PARTS_OF_BENCH
from minswin.cli.parsing import Parser
from minswin.cli.training import NOT_SETTINGS

__all__ = ["NOT_SETTINGS", "PARTS_OF_BENCH", "main"]


EXPECTED = (ValueError, TypeError, OSError, ImportError, MemoryError)


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
    if options.command is None:
        parser.print_help()
        return 0
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("minswin: stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # as if ended by SIGPIPE
    except Exception as error:
        if os.environ.get("MINSWIN_TRACEBACK") == "1" or not _foreseen(error):
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"minswin: error: {message}", file=sys.stderr)
        return 2


def _foreseen(error: Exception) -> bool:
    if isinstance(error, EXPECTED):
        return True
    return type(error).__name__ == "Diverged"


def _parser() -> argparse.ArgumentParser:
    from minswin import __version__

    parser = Parser(prog="minswin", description="Swin Transformer from scratch in NumPy.")
    parser.add_argument("--version", action="version", version=f"minswin {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for group in (training, looking, measuring, checking):
        group.add_commands(commands)
    return parser
