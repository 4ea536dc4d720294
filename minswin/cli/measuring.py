"""bench: speed, memory, and where the time goes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from minswin.cli.parsing import add, add_device, add_quiet, count
from minswin.cli.printing import show, tell

PARTS_OF_BENCH = {
    "race": "steps of training and inference, and peak memory, beside timm and transformers",
    "startup": "a fresh process, with compiled kernels on disk and without",
    "breakdown": "a training step operation by operation, beside what the machine can do",
    "sweep": "inference against the side of the image",
    "busy": "a plain model(x) alone, and beside two busy processes",
}


def _bench(options: argparse.Namespace) -> int:
    if options.precision != "float32" and (options.device != "cpu" or options.scaling):
        raise ValueError("bench: --precision is of the race on a CPU; give --race")
    if options.device != "cpu":
        return _bench_gpu(options)
    if options.scaling:
        return _bench_scaling(options)
    from minswin.bench.run import ALL_PARTS, CONTENDERS, PARTS, Bench

    extra = {"reference": options.reference, "timm-compiled": options.compile}
    Bench(
        options.configurations,
        parts=[part for part in ALL_PARTS if getattr(options, part)] or PARTS,
        contenders=(*CONTENDERS, *(name for name in extra if extra[name])),
        threads=options.threads,
        rounds=options.rounds,
        precision=options.precision,
        sides=options.sides,
        out=options.out,
        tell=_telling(options),
        show=lambda table: show(f"{table}\n"),
    ).run()
    return 0


def _bench_scaling(options: argparse.Namespace) -> int:
    from minswin.bench import scaling

    scaling.run(
        options.out,
        rounds=options.rounds,
        tell=_telling(options),
        show=lambda table: show(f"{table}\n"),
    )
    return 0


def _bench_gpu(options: argparse.Namespace) -> int:
    from minswin.bench import gpu

    gpu.run(
        options.out,
        tell=_telling(options),
        show=lambda table: show(f"{table}\n"),
    )
    return 0


def _telling(options: argparse.Namespace) -> Callable[[str], None]:
    """Lines about the progress; the last one stands in the line of waiting too."""

    def line(text: str) -> None:
        options.waiting.now(text.strip())
        tell(text)

    return (lambda text: None) if options.quiet else line


def _add_bench(commands: Any) -> None:
    does = "measure speed and memory beside timm and transformers, and where the time goes"
    parser = add(commands, "bench", _bench, does)
    parser.add_argument(
        "configurations", nargs="*", metavar="NAME", help="some of cifar, tiny, vit; default: all"
    )
    parts = parser.add_argument_group("parts", "without any: --race --startup --breakdown")
    for part, does in PARTS_OF_BENCH.items():
        parts.add_argument(f"--{part}", action="store_true", help=does)
    does = "instead: steps in 1, 2 and 4 processes beside threads, and what to expect of more"
    parts.add_argument("--scaling", action="store_true", help=does)
    does = "race torch.compile of timm too; its first step takes a minute"
    parser.add_argument("--compile", action="store_true", help=does)
    does = "race our definitions, without kernels, too"
    parser.add_argument("--reference", action="store_true", help=does)
    does = "of the race's products, by torch.autocast beside ours; default: float32"
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help=does
    )
    does = "of the sweep; default: 112 224 448 672 1024"
    parser.add_argument("--sides", type=count, nargs="+", metavar="N", help=does)
    parser.add_argument("--threads", type=count, metavar="N", help="default: one per core")
    parser.add_argument("--rounds", type=count, default=10, metavar="N", help="turns; default: 10")
    does = "write all figures here, and a picture beside it"
    parser.add_argument("-o", "--out", metavar="FILE.json", help=does)
    add_device(parser)
    add_quiet(parser)


def add_commands(commands: Any) -> None:
    _add_bench(commands)
