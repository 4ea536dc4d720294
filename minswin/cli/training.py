"""train, evaluate, predict, export: what has to do with runs and their weights."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import Any

from minswin.cli.parsing import add, add_device, add_key, count, require_weights


def _train(options: argparse.Namespace) -> int:
    from minswin.training import loop, recipe

    given = {k: v for k, v in vars(options).items() if k not in NOT_SETTINGS and v is not None}
    if options.resume:
        may_move = ("data_dir", "download", "teacher", "device")
        moved = {name: given.pop(name) for name in may_move if name in given}
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
        device=options.device,
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
    from minswin.training.published import predict_published

    if (options.model is None) != (options.weights is None):
        raise ValueError("predict: --model and --weights belong together; give both")
    if options.model is not None and options.checkpoint is not None:
        raise ValueError("predict: give --checkpoint, or --model and --weights, not both")
    if options.model is not None:
        classes, probabilities = predict_published(
            options.image,
            options.model,
            options.weights,
            key=options.key,
            device=options.device,
            tell=lambda line: print(line, file=sys.stderr),
        )
    else:
        require_weights("predict", options)
        given = () if options.checkpoint is None else (options.checkpoint,)
        classes, probabilities = predict_file(options.image, *given, device=options.device)
    print(bars(classes, probabilities.tolist(), top=options.top))
    return 0


def _export(options: argparse.Namespace) -> int:
    from minswin.training.pretrained import export

    export(options.checkpoint, options.out)
    print(f"{options.out}: {os.path.getsize(options.out):,} bytes; look further with")
    whole = options.out.endswith(".safetensors")  # the others hold arrays and nothing else
    print(f"    minswin {'evaluate' if whole else 'info'} {options.out}")
    return 0


NOT_SETTINGS = ("command", "run", "resume", "overwrite", "quiet")


# Options of `minswin train` that are settings of the same name: type and explanation.
TRAINING: dict[str, tuple[type, str]] = {
    "data_dir": (str, "folder of the CIFAR files"),
    "count": (int, "use only so many training images"),
    "holdout": (int, "training images set aside to choose the best epoch"),
    "model": (str, "a name from 'minswin models'"),
    "drop_path": (float, "stochastic depth of the last block"),
    "teacher": (str, "folder of a run, or a file of one, that a DeiT learns from"),
    "distillation": (str, "what it learns: hard, the teacher's choice, or soft, its probabilities"),
    "temperature": (float, "of soft distillation"),
    "alpha": (float, "share of the teacher in the loss"),
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
    "piece": (int, "side of the random squares that the first epochs are shown: faster"),
    "piece_epochs": (int, "how many epochs these are"),
    "ema": (float, "decay of the averaged weights; 0: off"),
    "device": (str, "cpu (the default), or gpu, gpu:1, … through CuPy"),
    "precision": (str, "float32 (the default); float16; on a GPU also tf32, bfloat16"),
    "seed": (int, "of weights, order and augmentation"),
    "threads": (int, "parts that a batch is split into; default: one per core"),
    "checkpoint_every": (int, "steps between checkpoints, besides those after epochs"),
    "log_every": (int, "steps between lines of the log, besides those after epochs"),
}


def _add_train(commands: Any) -> None:
    does = "train a model; without options, a small Swin on the built-in images"
    parser = add(commands, "train", _train, does)
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
    parser = add(commands, "evaluate", _evaluate, "test a checkpoint, class by class")
    parser.add_argument("checkpoint", help="folder of a run, a .safetensors file of one, or a name")
    parser.add_argument("--data", help="default: the data of the run")
    splits, does = ("test", "train", "held-out"), "train: the images that the run learnt from"
    parser.add_argument("--split", choices=splits, default="test", help=does)
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the CIFAR files")
    parser.add_argument("--download", action="store_true", help="fetch CIFAR first")
    parser.add_argument("--threads", type=count, metavar="N", help="default: one per core")
    add_device(parser)


def _add_predict(commands: Any) -> None:
    parser = add(commands, "predict", _predict, "name what an image shows")
    parser.add_argument("image", help="a picture file")
    does = "folder of a run, or weights of the package (default: a Swin trained on CIFAR-10)"
    parser.add_argument("--checkpoint", metavar="DIR", help=does)
    does = "with --weights: a name from 'minswin models'"
    parser.add_argument("--model", metavar="NAME", help=does)
    does = "a weight file of any known implementation; its classes are numbers"
    parser.add_argument("--weights", metavar="FILE", help=does)
    add_key(parser)
    parser.add_argument("--top", type=count, default=5, metavar="N", help="classes to print")
    add_device(parser)


def _add_export(commands: Any) -> None:
    parser = add(commands, "export", _export, "write the weights of a run alone, as float16")
    parser.add_argument("checkpoint", help="folder of a run, or a .safetensors file of one")
    parser.add_argument("out", help="the file to write: .safetensors, .npz or .pth")


def add_commands(commands: Any) -> None:
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_export(commands)
