"""The command `minswin`: reads the command line, calls the library, prints. No logic of its own."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

EXPECTED = (ValueError, TypeError, OSError, ImportError, MemoryError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status: 0, 2 after an error, 128 + n after signal n."""
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


# ── train ────────────────────────────────────────────────────────────────────────────────────────


def _train(options: argparse.Namespace) -> int:
    from minswin.training import loop, recipe

    given = {k: v for k, v in vars(options).items() if k not in NOT_SETTINGS and v is not None}
    if options.resume:
        moved = {name: given.pop(name) for name in ("data_dir", "download") if name in given}
        if given or options.overwrite:
            extra = "overwrite" if options.overwrite else next(iter(given))
            raise ValueError(
                f"train: --resume continues with the settings that the run began with; "
                f"leave out --{extra.replace('_', '-')}, or start another run without --resume"
            )
        result = loop.resume(options.resume, quiet=options.quiet, **moved)
    else:
        settings = recipe(**given)
        result = loop.train(settings, overwrite=options.overwrite, quiet=options.quiet)
    _print_result(result)
    return 128 + result.interrupted if result.interrupted else 0


def _print_result(result: Any) -> None:
    if result.interrupted:
        name = signal.Signals(result.interrupted).name
        print(f"{name}: saved after step {result.steps} in {result.folder}; continue with")
        print(f"    minswin train --resume {result.folder}")
        return
    print(f"test accuracy {result.test_accuracy:.1%}", end="   ")
    print(f"(epochs {result.epochs}, steps {result.steps}, {result.seconds:.0f} s)")
    print(f"checkpoints, log and curves are in {result.folder}; look further with")
    print(f"    minswin evaluate {result.folder}")


# ── evaluate and predict ─────────────────────────────────────────────────────────────────────────


def _evaluate(options: argparse.Namespace) -> int:
    from minswin.look.tables import bars
    from minswin.training.classify import evaluate_checkpoint

    test = evaluate_checkpoint(
        options.checkpoint,
        name=options.data,
        split=options.split,
        data_dir=options.data_dir,
        download=bool(options.download),
        threads=options.threads,
    )
    print(bars(test.classes, test.result.per_class.tolist()))
    print(
        f"accuracy {test.result.accuracy:.2%}   loss {test.result.loss:.4f}   "
        f"({test.images:,} {options.split} images of {test.name})"
    )
    return 0


def _predict(options: argparse.Namespace) -> int:
    from minswin.look.tables import bars
    from minswin.training.classify import predict_file

    given = () if options.checkpoint is None else (options.checkpoint,)
    classes, probabilities = predict_file(options.image, *given)
    print(bars(classes, probabilities.tolist(), top=options.top))
    return 0


def _export(options: argparse.Namespace) -> int:
    from minswin.training.pretrained import export

    export(options.checkpoint, options.out)
    print(f"{options.out}: {os.path.getsize(options.out):,} bytes; look further with")
    print(f"    minswin evaluate {options.out}")
    return 0


# ── looking ──────────────────────────────────────────────────────────────────────────────────────


def _models(options: argparse.Namespace) -> int:
    from minswin.look.tables import models_table

    print(models_table())
    return 0


def _info(options: argparse.Namespace) -> int:
    from minswin.look.tables import shapes_table

    print(shapes_table(options.model, options.img_size))
    return 0


def _kernels(options: argparse.Namespace) -> int:
    from minswin import kernels

    print(kernels.report())
    return 0


# ── measuring ────────────────────────────────────────────────────────────────────────────────────


def _bench(options: argparse.Namespace) -> int:
    from minswin.bench.run import ALL_PARTS, PARTS, Bench

    extra = {"reference": options.reference, "compiled": options.compile}
    Bench(
        options.configurations,
        parts=[part for part in ALL_PARTS if getattr(options, part)] or PARTS,
        contenders=("minswin", "eager", "fused", *(name for name in extra if extra[name])),
        threads=options.threads,
        rounds=options.rounds,
        sides=options.sides,
        out=options.out,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
        show=lambda table: print(f"{table}\n", flush=True),
    ).run()
    return 0


# ── the command line ─────────────────────────────────────────────────────────────────────────────

NOT_SETTINGS = ("command", "run", "resume", "overwrite", "quiet")

# Options of `minswin train` that are settings of the same name: type and explanation.
TRAINING: dict[str, tuple[type, str]] = {
    "data_dir": (str, "folder of the CIFAR files"),
    "count": (int, "use only so many training images"),
    "holdout": (int, "training images set aside to choose the best epoch"),
    "model": (str, "a name from 'minswin models'"),
    "drop_path": (float, "stochastic depth of the last block"),
    "epochs": (int, "times to go through the data"),
    "batch_size": (int, "images per update"),
    "lr": (float, "learning rate at its highest"),
    "momentum": (float, "of SGD"),
    "weight_decay": (float, "pull of the weights to zero"),
    "warmup": (float, "epochs in which the learning rate rises"),
    "clip": (float, "longest gradient; 0: no limit"),
    "smoothing": (float, "label smoothing"),
    "mixup": (float, "parameter alpha of mixup; 0: off"),
    "cutmix": (float, "parameter alpha of cutmix; 0: off"),
    "ema": (float, "decay of the averaged weights; 0: off"),
    "seed": (int, "of weights, order and augmentation"),
    "threads": (int, "parts that a batch is split into; default: one per core"),
    "checkpoint_every": (int, "steps between checkpoints, besides those after epochs"),
    "log_every": (int, "steps between lines of the log, besides those after epochs"),
}

PARTS_OF_BENCH = {
    "race": "steps of training and inference, and peak memory, beside PyTorch",
    "startup": "a fresh process, with compiled kernels on disk and without",
    "breakdown": "a training step operation by operation, beside what the machine can do",
    "sweep": "inference against the side of the image",
}


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"minswin: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    from minswin import __version__

    parser = _Parser(prog="minswin", description="Swin Transformer from scratch in NumPy.")
    parser.add_argument("--version", action="version", version=f"minswin {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    export = _add(commands, "export", _export, "write the weights of a run alone, as float16")
    export.add_argument("checkpoint", help="folder of a run, or a .safetensors file of one")
    export.add_argument("out", help="the .safetensors file to write")
    _add(commands, "models", _models, "list the named models")
    info = _add(commands, "info", _info, "show the shapes, parameters and cost inside a model")
    info.add_argument("model", help="a name from 'minswin models'")
    info.add_argument("--img-size", type=_size, metavar="N", help="side, or HEIGHTxWIDTH")
    _add(commands, "kernels", _kernels, "show which operations have fast kernels")
    _add_bench(commands)
    return parser


def _add(commands: Any, name: str, run: Any, does: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=does, description=does)
    parser.set_defaults(run=run)
    return parser


def _add_train(commands: Any) -> None:
    does = "train a model; without options, a small Swin on the built-in images"
    parser = _add(commands, "train", _train, does)
    parser.add_argument("--data", help="shapes (built in; the default), cifar10 or cifar100")
    parser.add_argument("--download", action="store_true", default=None, help="fetch CIFAR first")
    parser.add_argument("--optimizer", help="sgd or adamw")
    does = "blocks are computed again in backward: less memory, more time, the same numbers"
    parser.add_argument("--recompute", action="store_true", default=None, help=does)
    parser.add_argument("--augment", help="none, basic or strong")
    for name, (kind, does) in TRAINING.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=does, metavar="X")
    parser.add_argument("-o", "--out", metavar="DIR", help="default: runs/DATA-MODEL-SEED")
    parser.add_argument("--resume", metavar="DIR", help="continue the run in this folder")
    parser.add_argument("--overwrite", action="store_true", help="start anew in a used folder")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_evaluate(commands: Any) -> None:
    parser = _add(commands, "evaluate", _evaluate, "test a checkpoint, class by class")
    parser.add_argument("checkpoint", help="folder of a run, a .safetensors file of one, or a name")
    parser.add_argument("--data", help="default: the data of the run")
    splits, does = ("test", "train", "held-out"), "train: the images that the run learnt from"
    parser.add_argument("--split", choices=splits, default="test", help=does)
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the CIFAR files")
    parser.add_argument("--download", action="store_true", help="fetch CIFAR first")
    parser.add_argument("--threads", type=_count, metavar="N", help="default: one per core")


def _add_predict(commands: Any) -> None:
    parser = _add(commands, "predict", _predict, "name what an image shows")
    parser.add_argument("image", help="a picture file")
    does = "folder of a run, or weights of the package (default: a Swin trained on CIFAR-10)"
    parser.add_argument("--checkpoint", metavar="DIR", help=does)
    parser.add_argument("--top", type=_count, default=5, metavar="N", help="classes to print")


def _add_bench(commands: Any) -> None:
    does = "measure speed and memory beside PyTorch, and where the time goes"
    parser = _add(commands, "bench", _bench, does)
    parser.add_argument(
        "configurations", nargs="*", metavar="NAME", help="some of cifar, tiny, vit; default: all"
    )
    parts = parser.add_argument_group("parts", "without any: --race --startup --breakdown")
    for part, does in PARTS_OF_BENCH.items():
        parts.add_argument(f"--{part}", action="store_true", help=does)
    does = "race torch.compile too; the first step takes a minute"
    parser.add_argument("--compile", action="store_true", help=does)
    does = "race our definitions, without kernels, too"
    parser.add_argument("--reference", action="store_true", help=does)
    does = "of the sweep; default: 112 224 448 672 1024"
    parser.add_argument("--sides", type=_count, nargs="+", metavar="N", help=does)
    parser.add_argument("--threads", type=_count, metavar="N", help="default: one per core")
    parser.add_argument("--rounds", type=_count, default=10, metavar="N", help="turns; default: 10")
    does = "write all figures here, and a picture beside it"
    parser.add_argument("-o", "--out", metavar="FILE.json", help=does)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)


def _size(text: str) -> int | tuple[int, int]:
    """224 or 224x320."""
    sides = [int(n) if n.isdecimal() else 0 for n in text.lower().replace("×", "x").split("x")]
    if len(sides) > 2 or 0 in sides:
        raise argparse.ArgumentTypeError(f"expected a size as 224 or 224x320, got {text!r}")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])
