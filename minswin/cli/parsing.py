"""What the commands share: the parser, and values on the command line."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line, with what was meant and the right page of help.

    options_of_use: adds options that are costly to make, once this command is used
    """

    options_of_use: Callable[[Parser], None] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.options_of_use is not None:
            fill, self.options_of_use = self.options_of_use, None
            fill(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        known = re.findall(r"[\w-]+", wrong[2]) if wrong else []
        near = difflib.get_close_matches(wrong[1], known, n=1) if wrong else []
        message += f"; did you mean {near[0]!r}?" if near else ""
        self.exit(2, f"minswin: error: {message} (see {self.prog} --help)\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, extra = self.parse_known_args(args, namespace)
        if extra:
            self._parser_of(options)._refuse(extra[0])
        self._parser_of(options)._require_values(options)
        return options

    def _parser_of(self, options: argparse.Namespace) -> Parser:
        """That of the command, whose options the rest of the line was meant for."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction) and options.command:
                parser: Parser = action.choices[options.command]
                return parser
        return self

    def _require_values(self, options: argparse.Namespace) -> None:
        """An empty text would mean that nothing was asked for: --resume "$RUN", where RUN is unset,
        would begin another run.
        """
        for action in self._actions:
            value = getattr(options, action.dest, None)
            if "" in (value if isinstance(value, list) else [value]):
                name = [str(action.metavar or action.dest), *action.option_strings][-1]
                self.error(f"{name} is empty; give a value, or leave it out")

    def _refuse(self, argument: str) -> NoReturn:
        if not argument.startswith("-"):
            self.error(f"unexpected argument {argument!r}")
        option = argument.partition("=")[0]
        near = self._nearest(option)
        self.error(f"unknown option {option}" + (f"; did you mean {near}?" if near else ""))

    def _nearest(self, option: str) -> str | None:
        """What is called so elsewhere, begins so, is spelt like it, or has its words as help."""
        ours = option.strip("-").lower().replace("_", "-")
        names: dict[str, tuple[str, ...]] = {}
        for name in self._option_string_actions:
            names[name] = (name.strip("-"), *ELSEWHERE.get(name.strip("-"), ()))
        for action in self._get_positional_actions():
            shown = f"{action.metavar or action.dest}, which stands without a name"
            names[shown] = (action.dest, *ELSEWHERE.get(action.dest, ()))
        for near, known in names.items():
            if ours in known:
                return near
        for near, known in names.items():
            if len(ours) > 2 and any(word.startswith(ours) for word in known):
                return near
        near = max(names, key=lambda name: _likeness(ours, names[name][0]), default="")
        if near and _likeness(ours, names[near][0]) >= 0.65:
            return near
        helps = {name: action.help or "" for name, action in self._option_string_actions.items()}
        words = ours.replace("-", " ")
        mentioned = [name for name, text in helps.items() if words in text.lower()]
        return mentioned[0] if mentioned and len(words) > 2 else None


# What other programs call an option or an argument. Of two that are called alike, the first counts.
ELSEWHERE = {
    "batch-size": ("bs", "b", "batch"),
    "checkpoint": ("run", "ckpt", "weights", "resume"),
    "clip": ("clip-grad", "grad-clip", "max-grad-norm"),
    "data": ("dataset", "train-dir"),
    "data-dir": ("data-path", "root"),
    "device": ("gpu", "gpus", "cuda"),
    "drop-path": ("dpr", "stochastic-depth"),
    "epochs": ("num-epochs", "n-epochs", "max-epochs"),
    "holdout": ("val-split", "validation-split"),
    "images": ("image", "img", "input", "picture", "pictures"),
    "img-size": ("size", "image-size", "input-size", "resolution"),
    "lr": ("learning-rate", "rate", "eta"),
    "model": ("arch", "architecture", "network", "name"),
    "optimizer": ("opt", "optim"),
    "out": ("output", "output-dir", "save-dir", "log-dir"),
    "precision": ("dtype", "amp", "fp16", "bf16"),
    "size": ("img-size", "image-size", "input-size", "resolution"),
    "smoothing": ("label-smoothing",),
    "teacher": ("teacher-model",),
    "threads": ("workers", "num-workers", "jobs", "j"),
    "top": ("topk", "top-k", "k"),
    "warmup": ("warmup-epochs",),
    "weight-decay": ("wd", "decay", "l2"),
    "weights": ("pretrained", "init", "ckpt", "load", "checkpoint"),
}


def _likeness(option: str, name: str) -> float:
    """From 0 to 1, where one may be a part of the other: decay and weight-decay."""
    pairs = [(option, name), *((option, part) for part in name.split("-"))]
    pairs += [(part, name) for part in option.split("-")]
    return max(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)


def add(commands: Any, name: str, run: Any, does: str) -> Parser:
    parser: Parser = commands.add_parser(name, help=does, description=does)
    parser.set_defaults(run=run)
    return parser


def add_device(parser: argparse.ArgumentParser) -> None:
    does = "cpu (the default), or gpu, gpu:1, … through CuPy"
    parser.add_argument("--device", default="cpu", metavar="X", help=does)


def add_set(parser: argparse.ArgumentParser) -> None:
    does = "a setting of the model, such as depths='(2, 2)'; as often as needed; default: none"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=does)


ENTRY = "entry of a weight file that holds several, such as model or ema, or a prefix of its names"


def add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", metavar="ENTRY", help=ENTRY)


def require_weights(command: str, options: argparse.Namespace) -> None:
    """Raise for --key where there is no weight file that it could choose from."""
    if options.key is not None and options.weights is None:
        raise ValueError(
            f"{command}: --key chooses an entry of the file of --weights; give both, or neither"
        )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="nothing about the progress")


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
