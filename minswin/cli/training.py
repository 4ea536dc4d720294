"""train, evaluate, predict, export: what has to do with runs and their weights."""

from __future__ import annotations

import argparse
import os
import signal
from dataclasses import fields
from typing import Any

from minswin.cli.parsing import (
    add,
    add_device,
    add_key,
    add_quiet,
    add_set,
    count,
    require_weights,
)
from minswin.cli.printing import show, tell


def _train(options: argparse.Namespace) -> int:
    from minswin.arguments import settings_in
    from minswin.distributed import as_one, world

    changes = {k: v for k, v in vars(options).items() if k not in NOT_SETTINGS and v is not None}
    if options.set:
        changes["model_settings"] = settings_in("train", options.set)
    group = world(options.distributed, options.device or "cpu")
    with as_one(group):
        result = _train_in(group, options, changes)
    if group.leads:
        _print_result(result)
    return 128 + result.interrupted if result.interrupted else 0


def _train_in(group: Any, options: argparse.Namespace, changes: dict[str, Any]) -> Any:
    from minswin.training import loop, recipe

    if options.resume:
        may_move = ("data", "data_dir", "download", "teacher", "device", "workers")
        moved = {name: changes.pop(name) for name in may_move if name in changes}
        if changes or options.overwrite:
            extra = "overwrite" if options.overwrite else next(iter(changes))
            extra = {"model_settings": "set"}.get(extra, extra)
            raise ValueError(
                f"train: --resume continues with the settings that the run began with; "
                f"leave out --{extra.replace('_', '-')}, or start another run without --resume"
            )
        return loop.resume(options.resume, quiet=options.quiet, group=group, **moved)
    settings = recipe(**changes)
    return loop.train(settings, overwrite=options.overwrite, quiet=options.quiet, group=group)


def _print_result(result: Any) -> None:
    if result.interrupted:
        name = signal.Signals(result.interrupted).name
        show(f"{name}: saved after step {result.steps} in {result.folder}; continue with")
        show(f"    minswin train --resume {result.folder}")
        return
    work = f"epochs {result.epochs}, steps {result.steps}, {result.seconds:.0f} s"
    show(f"test accuracy {result.test_accuracy:.1%}   ({work})")
    show(f"checkpoints, log and curves are in {result.folder}; look further with")
    show(f"    minswin evaluate {result.folder}")


def _evaluate(options: argparse.Namespace) -> int:
    from minswin.distributed import as_one, world
    from minswin.look.tables import bars
    from minswin.training.evaluation import evaluate_checkpoint

    group = world(options.distributed, options.device)
    with as_one(group):
        test = evaluate_checkpoint(
            options.checkpoint,
            name=options.data,
            split=options.split,
            data_dir=options.data_dir,
            download=bool(options.download),
            threads=options.threads,
            flips=options.flips,
            device=options.device,
            group=group,
        )
    if not group.leads:
        return 0
    show(bars(test.classes, test.result.per_class.tolist()))
    show(
        f"accuracy {test.result.accuracy:.2%}   loss {test.result.loss:.4f}   "
        f"({test.images:,} {options.split} images of {test.name}"
        f"{', each with its mirror image' if options.flips else ''})"
    )
    return 0


ONLY_THESE = "it always names one of its classes: it cannot say 'none of these'"


def _predict(options: argparse.Namespace) -> int:
    from minswin.training.classifiers import classifier, published_classifier

    if (options.model is None) != (options.weights is None):
        raise ValueError("predict: --model and --weights belong together; give both")
    if options.model is not None and options.checkpoint is not None:
        raise ValueError("predict: give --checkpoint, or --model and --weights, not both")
    if options.model is not None:
        model = published_classifier(
            options.model, options.weights, key=options.key, device=options.device, tell=tell
        )
    else:
        require_weights("predict", options)
        chosen = () if options.checkpoint is None else (options.checkpoint,)
        model = classifier(*chosen, device=options.device)
    if len(options.images) == 1:
        probabilities = model(options.images[0])
        show(f"{model.described}\n{ONLY_THESE}")
        _show_answer(model, probabilities, options.top)
        return 0
    show(f"{model.described}\n{ONLY_THESE}")
    return max([_predict_one(model, image, options) for image in options.images])


def _predict_one(model: Any, image: str, options: argparse.Namespace) -> int:
    """The status of one of several pictures: one that cannot be read does not stop the others."""
    try:
        probabilities = model(image)
    except (ValueError, OSError) as error:
        tell(f"minswin: error: {error}")
        return 2
    show(f"\n{image}")
    _show_answer(model, probabilities, options.top)
    return 0


def _show_answer(model: Any, probabilities: Any, top: int) -> None:
    from minswin.look.tables import bars

    show(bars(model.classes, probabilities.tolist(), top=top))


def _export(options: argparse.Namespace) -> int:
    from minswin.training.checkpoints import export
    from minswin.weights.convert import normalisation_lost

    info = export(options.checkpoint, options.out)
    whole = options.out.endswith(".safetensors")  # the others hold arrays and nothing else
    if not whole:
        tell(f"warning: {normalisation_lost(info['data'])}")
    show(f"{options.out}: {os.path.getsize(options.out):,} bytes; look further with")
    show(f"    minswin {'evaluate' if whole else 'info'} {options.out}")
    return 0


# ── the options ──────────────────────────────────────────────────────────────────────────────────

NOT_SETTINGS = (
    "command",
    "line",
    "run",
    "resume",
    "overwrite",
    "set",
    "distributed",
    "quiet",
    "waiting",
)


def _add_train(commands: Any) -> None:
    does = "train a model; without options, a small Swin on the built-in images"
    add(commands, "train", _train, does).options_of_use = _train_options


def _train_options(parser: argparse.ArgumentParser) -> None:
    """Every setting is an option of its name."""
    from minswin.training.settings import Settings, usual

    for entry in fields(Settings):
        if entry.name == "model_settings":
            add_set(parser)
            continue
        about = entry.metadata
        flags = [f"--{entry.name.replace('_', '-')}"]
        if entry.name == "out":
            flags.insert(0, "-o")
        parser.add_argument(
            *flags, dest=entry.name, default=None, **_form(entry.default, about["allowed"]),
            help=_help(about, usual(entry.name)),
        )  # fmt: skip
    parser.add_argument(
        "--resume", metavar="DIR", help="continue the run in this folder, on the same images"
    )
    parser.add_argument("--overwrite", action="store_true", help="start anew in a used folder")
    _add_distributed(parser)
    add_quiet(parser)


def _form(default: Any, allowed: Any) -> dict[str, Any]:
    """How argparse reads a setting."""
    if isinstance(default, bool):
        return {"action": argparse.BooleanOptionalAction if default else "store_true"}
    kind = str if allowed is None or isinstance(allowed, tuple) else allowed.kind
    return {"type": kind, "metavar": {int: "N", float: "X", str: "NAME"}[kind]}


def _help(about: Any, usual: dict[str, Any]) -> str:
    """What a setting does, which values it may have, and its default for each set of data."""
    allowed = about["allowed"]
    words = ", ".join(allowed) if isinstance(allowed, tuple) else getattr(allowed, "words", "")
    named = {data: about["unset"] if v in (None, "") else v for data, v in usual.items()}
    first = next(iter(named.values()))
    others: dict[str, list[str]] = {}
    for data, value in named.items():
        if value != first:
            others.setdefault(str(value), []).append(data)
    different = [f"{value} for {' and '.join(data)}" for value, data in others.items()]
    default = f"default: {', '.join([str(first), *different])}"
    if isinstance(first, bool):
        default = f"default: {'on' if first else 'off'}"
    text = "; ".join(filter(None, [about["does"], words, default]))
    return text.replace("%", "%%")


def _add_evaluate(commands: Any) -> None:
    parser = add(commands, "evaluate", _evaluate, "test a checkpoint, class by class")
    parser.add_argument("checkpoint", help="folder of a run, a .safetensors file of one, or a name")
    parser.add_argument(
        "--data",
        help="a set or a folder of pictures, of which none tests that the run learnt from; "
        "default: the data of the run",
    )
    splits, does = ("test", "train", "held-out"), "train: the images that the run learnt from"
    parser.add_argument("--split", choices=splits, default="test", help=does)
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the CIFAR files")
    parser.add_argument("--download", action="store_true", help="fetch CIFAR first")
    does = "classify each image together with its mirror image"
    parser.add_argument("--flips", action="store_true", help=does)
    parser.add_argument("--threads", type=count, metavar="N", help="default: one per core")
    add_device(parser)
    _add_distributed(parser)
    add_quiet(parser)


def _add_distributed(parser: argparse.ArgumentParser) -> None:
    does = "how the processes of mpiexec or srun work together; default: auto, by the environment"
    parser.add_argument(
        "--distributed", choices=("auto", "mpi", "nccl", "off"), default="auto", help=does
    )


def _add_predict(commands: Any) -> None:
    parser = add(commands, "predict", _predict, "name what images show")
    does = "picture files, or pipes; - is the standard input"
    parser.add_argument("images", metavar="IMAGE", nargs="+", help=does)
    does = "folder of a run, or weights of the package (default: a Swin trained on CIFAR-10)"
    parser.add_argument("--checkpoint", metavar="DIR", help=does)
    does = "with --weights: a name from 'minswin models'"
    parser.add_argument("--model", metavar="NAME", help=does)
    does = "a weight file of any known implementation; its classes are numbers"
    parser.add_argument("--weights", metavar="FILE", help=does)
    add_key(parser)
    parser.add_argument(
        "--top", type=count, default=5, metavar="N", help="classes to print; default: 5"
    )
    add_device(parser)
    add_quiet(parser)


def _add_export(commands: Any) -> None:
    parser = add(commands, "export", _export, "write the weights of a run alone, as float16")
    parser.add_argument("checkpoint", help="folder of a run, or a .safetensors file of one")
    parser.add_argument("out", help="the file to write: .safetensors, .npz or .pth")


def add_commands(commands: Any) -> None:
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_export(commands)
