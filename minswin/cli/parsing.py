"""What the commands share: the parser, and values on the command line."""

from __future__ import annotations

import argparse
import difflib
import re
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line, and what was meant by a misspelt command."""

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        known = re.findall(r"[\w-]+", wrong[2]) if wrong else []
        near = difflib.get_close_matches(wrong[1], known, n=1) if wrong else []
        message += f"; did you mean {near[0]!r}?" if near else ""
        self.exit(2, f"minswin: error: {message} (see {self.prog} --help)\n")


def add(commands: Any, name: str, run: Any, does: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=does, description=does)
    parser.set_defaults(run=run)
    return parser


def add_device(parser: argparse.ArgumentParser) -> None:
    does = "cpu (the default), or gpu, gpu:1, … through CuPy"
    parser.add_argument("--device", default="cpu", metavar="X", help=does)


ENTRY = "entry of a weight file that holds several, such as model or ema, or a prefix of its names"


def add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", metavar="ENTRY", help=ENTRY)


def require_weights(command: str, options: argparse.Namespace) -> None:
    """Raise for --key where there is no weight file that it could choose from."""
    if options.key is not None and options.weights is None:
        raise ValueError(
            f"{command}: --key chooses an entry of the file of --weights; give both, or neither"
        )


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)


def size(text: str) -> int | tuple[int, int]:
    """224 or 224x320."""
    sides = [int(n) if n.isdecimal() else 0 for n in text.lower().replace("×", "x").split("x")]
    if len(sides) > 2 or 0 in sides:
        raise argparse.ArgumentTypeError(f"expected a size as 224 or 224x320, got {text!r}")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])
