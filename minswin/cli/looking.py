"""models, info, kernels, explain, convert: what is inside a model or a file."""

from __future__ import annotations

import argparse
import os
from typing import Any

from minswin.cli.parsing import add, add_key, add_quiet, require_weights, size
from minswin.cli.printing import show


def _models(options: argparse.Namespace) -> int:
    from minswin.look.tables import models_table

    show(models_table())
    return 0


def _info(options: argparse.Namespace) -> int:
    from minswin.look.tables import shapes_table
    from minswin.models import list_models

    path = os.path.exists(options.model) or os.path.splitext(options.model)[1]
    if options.model not in list_models() and path:
        from minswin.training.checkpoints import describe_run, is_run
        from minswin.weights.convert import describe

        run = is_run(options.model)
        if options.img_size is not None or (run and options.key is not None):
            option = "--key" if options.img_size is None else "--img-size"
            raise ValueError(f"info: {option} is not for {options.model}; leave it out")
        show(describe_run(options.model) if run else describe(options.model, key=options.key))
        return 0
    if options.key is not None:
        raise ValueError("info: --key chooses an entry of a weight file; leave it out, or name one")
    show(shapes_table(options.model, options.img_size))
    return 0


def _kernels(options: argparse.Namespace) -> int:
    from minswin import kernels

    show(kernels.report())
    return 0


def _explain(options: argparse.Namespace) -> int:
    from minswin.explain import explain

    require_weights("explain", options)
    page = explain(
        options.image,
        options.out,
        model=options.model,
        weights=options.weights,
        key=options.key,
        data_dir=options.data_dir,
        measure=options.measure,
        beside=options.beside,
        tell=options.waiting.now,
    )
    name = str(page).encode("utf-8", "replace").decode()  # a terminal takes text only
    show(f"{name}: {os.path.getsize(page):,} bytes; open it in a browser")
    return 0


def _convert(options: argparse.Namespace) -> int:
    from minswin.models import create_model
    from minswin.weights.convert import convert

    model = None if options.model is None else create_model(options.model)
    show(convert(options.source, options.out, to=options.to, model=model, key=options.key))
    return 0


def _add_explain(commands: Any) -> None:
    parser = add(commands, "explain", _explain, "write a page that shows how a model sees an image")
    does = "a picture file or a pipe; - is the standard input; default: a sample"
    parser.add_argument("image", nargs="?", help=does)
    does = "a name from 'minswin models'; without --weights its weights are random"
    parser.add_argument("--model", metavar="NAME", help=does)
    does = "a run or weights of the package; with --model, a file of any known implementation"
    parser.add_argument("--weights", "--checkpoint", metavar="FILE", help=does)
    add_key(parser)
    does = "folder of the CIFAR files, to take example images from; default: the built-in set"
    parser.add_argument("--data-dir", metavar="DIR", help=does)
    does = "runs of other models, or weights of the package: draw their features beside"
    parser.add_argument("--beside", metavar="RUN", nargs="+", default=(), help=does)
    does = "time attention on this machine too"
    parser.add_argument("--measure", action="store_true", help=does)
    does = "the page to write; default: report.html"
    parser.add_argument("-o", "--out", metavar="FILE.html", default="report.html", help=does)
    add_quiet(parser)


def _add_convert(commands: Any) -> None:
    does = "write a weight file in another format, or under another implementation's names"
    parser = add(commands, "convert", _convert, does)
    parser.add_argument("source", metavar="IN", help="a weight file")
    does = "the file to write; its ending says the format: .safetensors, .pth or .npz"
    parser.add_argument("out", metavar="OUT", help=does)
    does = "minswin, microsoft, timm, transformers, transformers5, torchvision or original"
    parser.add_argument("--to", metavar="WHOSE", help=f"whose names: {does}; default: as they are")
    does = (
        "the model they are of, where the weights alone do not tell: a name from 'minswin models'"
    )
    parser.add_argument("--model", metavar="NAME", help=does)
    add_key(parser)


def _add_info(commands: Any) -> None:
    does = "show the shapes, parameters and cost inside a model, or what a run or a weight file is"
    parser = add(commands, "info", _info, does)
    parser.add_argument(
        "model", help="a name from 'minswin models', the folder of a run, or a weight file"
    )
    parser.add_argument("--img-size", type=size, metavar="N", help="side, or HEIGHTxWIDTH")
    add_key(parser)


def add_commands(commands: Any) -> None:
    add(commands, "models", _models, "list the named models")
    _add_info(commands)
    add(commands, "kernels", _kernels, "show which operations have fast kernels")
    _add_explain(commands)
    _add_convert(commands)
