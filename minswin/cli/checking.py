"""trace, compare, conform: another implementation is held against this one."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from minswin.cli.parsing import add, add_key, add_quiet, add_set, count, require_weights
from minswin.cli.printing import show, tell


def _trace(options: argparse.Namespace) -> int:
    from minswin.crosscheck.commands import run_names, run_trace

    if options.names:
        show(run_names(options.model, overrides=options.set))
        return 0
    if options.out is None:
        raise ValueError("trace: where to? expected -o DIR, or --names for a table of names")
    require_weights("trace", options)
    run_trace(
        options.model,
        options.out,
        weights=options.weights,
        key=options.key,
        image=options.input,
        batch=options.batch,
        overrides=options.set,
        form=options.form,
        float32=options.float32,
        weights_to=options.weights_to,
        grad=options.grad,
        steps=options.steps,
        optimizer=options.optimizer,
        lr=options.lr,
        clip=options.clip,
        warmup=options.warmup,
        smoothing=options.smoothing,
        ema=options.ema,
        tell=_telling(options),
    )
    show(
        f"{options.out}: the trace of {options.model}; hold another implementation against it with"
    )
    show(f"    minswin compare {options.out} THEIRS")
    return 0


def _telling(options: argparse.Namespace) -> Callable[[str], None]:
    return (lambda line: None) if options.quiet else tell


def _compare(options: argparse.Namespace) -> int:
    from minswin.crosscheck.commands import run_compare

    text, passed = run_compare(
        options.truth,
        options.theirs,
        names=options.names,
        every=options.all,
        dtype=options.dtype,
        key=options.key,
        seconds=10.0 if options.quick else options.seconds,
        draft_map=options.draft_map,
        json=options.json,
        html=options.html,
        command=options.line,
        tell=options.waiting.now,
    )
    show(text)
    return 0 if passed else 1


def _conform(options: argparse.Namespace) -> int:
    from minswin.crosscheck.conform import run_conform

    return run_conform(
        module=options.module,
        files=options.files,
        write=options.write,
        functions=options.functions,
        names=options.list,
        only=options.only,
        dtype=options.dtype,
        form=options.form,
        markdown=options.markdown,
        show=show,
        tell=options.waiting.now,
    )


def _steps(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if (seconds := float(text)) >= 0:  # nan would be a time that never ends
            return seconds
    raise argparse.ArgumentTypeError(f"expected a number of 0 or more, got {text!r}")


def _add_trace(commands: Any) -> None:
    does = "write every tensor of a forward and backward pass, for others to compare with"
    parser = add(commands, "trace", _trace, does)
    parser.add_argument("--model", required=True, help="a name from 'minswin models'")
    add_set(parser)
    parser.add_argument("--weights", metavar="F", help="default: made from names, see the recipe")
    add_key(parser)
    parser.add_argument("--input", metavar="X", help=".npy of images (B, 3, H, W); default: recipe")
    parser.add_argument("--batch", type=count, default=2, metavar="N", help="images of the recipe")
    does = "derivatives too (the default), or forward only"
    parser.add_argument("--grad", action=argparse.BooleanOptionalAction, default=True, help=does)
    does = "optimizer steps on the same batch; their losses and the last weights are kept"
    parser.add_argument("--steps", type=_steps, default=0, metavar="N", help=does)
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="sgd")
    parser.add_argument("--lr", type=float, default=0.01, metavar="X")
    does = "in these steps gradients are cut off at this joint length"
    parser.add_argument("--clip", type=float, metavar="X", help=does)
    does = "the rate rises over so many of these steps, and falls along a cosine"
    parser.add_argument("--warmup", type=_steps, metavar="N", help=does)
    does = "labels of these steps are smoothed by this much"
    parser.add_argument("--smoothing", type=float, default=0.0, metavar="X", help=does)
    does = "keep a mean of the weights with this decay, and its loss after each step"
    parser.add_argument("--ema", type=float, metavar="X", help=does)
    parser.add_argument("--form", choices=("safetensors", "npz", "npy"), default="safetensors")
    does = "write the pass in float32 too; its errors are kept in any case"
    parser.add_argument("--float32", action="store_true", help=does)
    does = "write the weights apart, by the names of timm, microsoft, …, minswin, or of a MAP"
    parser.add_argument("--weights-to", metavar="X", help=does)
    does = "print the names of all tensors, their shapes, axes and formulas, and write nothing"
    parser.add_argument("--names", action="store_true", help=does)
    parser.add_argument("-o", "--out", metavar="DIR")
    add_quiet(parser)


def _add_compare(commands: Any) -> None:
    does = (
        "find the first tensor of another implementation that is wrong, and why; status 1 if there "
        "is one, or if too few could be paired to say that there is none"
    )
    parser = add(commands, "compare", _compare, does)
    parser.add_argument("truth", help="the folder that 'minswin trace' wrote")
    does = "a trace, a folder of .npy files, .npz, .safetensors, .pth, or a model in .onnx"
    parser.add_argument("theirs", help=does)
    add_key(parser)
    does = "lines 'our name = their name' ({i}: a number, *: anything, -: nothing, !: a choice)"
    parser.add_argument("--names", metavar="MAP", help=does)
    does = "print a map instead, from the tensors that have our values, to save and to correct"
    parser.add_argument("--draft-map", action="store_true", help=does)
    parser.add_argument(
        "--dtype", help="which arrays of THEIRS, if it is a trace; default: the last"
    )
    parser.add_argument("--all", action="store_true", help="print every tensor")
    parser.add_argument("--json", metavar="FILE", help="write all of it as JSON too")
    parser.add_argument("--html", metavar="FILE", help="write it as one page for a browser too")
    does = "of CPU time for the search for the cause; default: 60"
    parser.add_argument("--seconds", type=_seconds, default=60.0, metavar="N", help=does)
    parser.add_argument("--quick", action="store_true", help="search for 10 seconds at most")
    add_quiet(parser)


def _add_conform(commands: Any) -> None:
    does = "put small hard questions to another implementation of Swin, and judge its answers"
    parser = add(commands, "conform", _conform, does)
    what = parser.add_argument_group("what to do").add_mutually_exclusive_group(required=True)
    does = "a Python module, or file, of functions as --functions lists them"
    what.add_argument("--module", metavar="NAME", help=does)
    what.add_argument("--files", metavar="DIR", help="judge the answers in this folder")
    what.add_argument("--write", metavar="DIR", help="write the probes as files, with the answers")
    what.add_argument("--functions", action="store_true", help="print what a module may define")
    what.add_argument("--list", action="store_true", help="print the probes and their aims")
    does = "only the probes whose names contain one of these"
    parser.add_argument("--only", nargs="+", default=(), metavar="TEXT", help=does)
    does = "what the answers were computed in; default: as the module or the files say"
    parser.add_argument("--dtype", choices=("float32", "float64"), help=does)
    forms, does = ("npy", "npz", "safetensors", "raw"), "of the files to write; default: npy"
    parser.add_argument("--form", choices=forms, default="npy", help=does)
    parser.add_argument("--markdown", metavar="FILE", help="write the report as Markdown too")
    add_quiet(parser)


def add_commands(commands: Any) -> None:
    _add_trace(commands)
    _add_compare(commands)
    _add_conform(commands)
