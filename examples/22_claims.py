"""What is said of Swin, ViT, DeiT and TNT, measured on real photographs, CIFAR-10, line by line.

Every line is a small model, of 0.2 to 0.6 million parameters, trained from scratch in the same
3,515 steps of 64 images (five times through 45,000), by the same recipe: Muon, learning rate 3e-3
that falls along a cosine, mirrored and moved images. (By AdamW models of this kind have hardly
begun to learn after so few steps. Of the ResNet, which has no matrices but convolutions, AdamW
moves all, as it does what Muon leaves to it in the others, at the same rate.) 5,000 images that
were held out judge, after the last step; a seed chooses them, the weights and the order. So lines
of one seed have seen the same, and are compared by it. The test images decide nothing.

Each run lies in a folder and goes on where it was stopped; what is finished is read; a run with
other settings in its place is an error. On one free core the line Swin takes about 10 minutes, TNT
more than twice that; the second seed comes after all lines.
Run: python examples/22_claims.py --data-dir DIR [--seeds 0 1] [--lines Swin] [--table] [--quick]
Then read: minswin/layers/embeddings.py, minswin/training/settings.py
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin import create_model, data
from minswin.training import recipe
from minswin.training.checkpoints import LAST, read_checkpoint
from minswin.training.loop import resume, train

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--data-dir", help="folder of the CIFAR files; default: ~/.cache/minswin")
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
parser.add_argument("--lines", nargs="+", help="names of lines, and what these need")
parser.add_argument("--out", type=Path, default=Path("runs/claims"), help="folder of all runs")
parser.add_argument("--threads", type=int, help="default: one per core")
parser.add_argument("--table", action="store_true", help="of what is finished; nothing is trained")
parser.add_argument("--quick", action="store_true", help="two steps: shows that it runs")
args = parser.parse_args()


class Line(NamedTuple):
    """A model of the table."""

    name: str
    model: str
    settings: dict[str, Any]
    base: str | None  # the line that it is compared with
    claim: str = ""  # what is said of the difference
    teacher: str | None = None  # the line whose run of the same seed teaches it


VIT = {"depth": 5, "num_heads": 3, "drop_path_rate": 0.0}
DEIT = TNT = {"embed_dim": 96, **VIT}
LINES = [
    Line("Swin", "swin_cifar_small", {}, None),
    Line("overlapping", "swin_cifar_small", {"stem": "overlapping"}, "Swin",
         "patches that overlap keep what lies on their borders, and help"),
    Line("convolutions", "swin_cifar_small", {"stem": "convolutions"}, "Swin",
         "convolutions before the tokens keep local detail, and help"),
    Line("no-shift", "swin_cifar_small", {"shift": False}, "Swin",
         "windows that are never shifted never meet, and lose"),
    Line("no-bias", "swin_cifar_small", {"relative_bias": False}, "Swin",
         "the relative position bias helps: without it something is lost"),
    Line("absolute", "swin_cifar_small", {"relative_bias": False, "ape": True}, "Swin",
         "absolute positions instead of the bias are worse"),
    Line("ViT", "vit_cifar_small", VIT, None),
    Line("2-D", "vit_cifar_small", {**VIT, "positions": "learned_2d"}, "ViT",
         "the kind of position hardly matters"),
    Line("sinusoidal", "vit_cifar_small", {**VIT, "positions": "sinusoidal"}, "ViT",
         "the kind of position hardly matters"),
    Line("relative", "vit_cifar_small", {**VIT, "positions": "relative"}, "ViT",
         "the kind of position hardly matters"),
    Line("no-positions", "vit_cifar_small", {**VIT, "positions": "none"}, "ViT",
         "without positions three points are lost"),
    Line("DeiT", "deit_cifar_distilled", DEIT, "ViT",
         "a second token without a teacher changes nothing"),
    Line("TNT", "tnt_cifar", TNT, "ViT", "words inside of patches help"),
    Line("ResNet", "resnet20", {"depths": (1, 1, 1) if args.quick else (2, 2, 2)}, None),
    Line("DeiT-taught", "deit_cifar_distilled", DEIT, "DeiT",
         "a teacher that is a ConvNet helps", "ResNet"),
]  # fmt: skip
OF_A_MACHINE = ("data_dir", "threads", "out", "teacher")
BY_NAME = {line.name: line for line in LINES}
EPOCHS = 1 if args.quick else 5
if args.quick:
    args.seeds, args.lines = [0], args.lines or ["DeiT-taught"]
    data.COUNTS["test"] = 50  # images, instead of 2,000, which each run would draw and judge


def chosen():
    """The lines that were asked for, in order, with those they are compared with or learn from."""
    wanted = list(args.lines or BY_NAME)
    for name in wanted:
        if name not in BY_NAME:
            parser.error(f"--lines: there is no {name!r}; there are {', '.join(BY_NAME)}")
        wanted += [n for n in (BY_NAME[name].base, BY_NAME[name].teacher) if n and n not in wanted]
    return [line for line in LINES if line.name in wanted]


def folder(name, seed):
    return args.out / f"{name}-{seed}"


def settings(line, seed):
    """The same for all lines, but for the model and its teacher."""
    few = {"count": 64, "batch_size": 32} if args.quick else {"batch_size": 64, "holdout": 5000}
    taught = {"teacher": str(folder(line.teacher, seed))} if line.teacher else {}
    return recipe(
        "shapes" if args.quick else "cifar10", data_dir=args.data_dir, model=line.model,
        model_settings=line.settings, epochs=EPOCHS, warmup=EPOCHS / 10,
        optimizer="adamw" if line.name == "ResNet" else "muon", lr=3e-3, clip=1.0,
        augment="basic", mixup=0.0, cutmix=0.0, smoothing=0.1, ema=0.0, seed=seed,
        threads=args.threads, out=str(folder(line.name, seed)), log_every=0, **few, **taught,
    )  # fmt: skip


def record(line, seed):
    """What the last checkpoint of a run says, or None; an error where it is of other settings."""
    file = folder(line.name, seed) / LAST
    if not file.exists():
        return None
    info = read_checkpoint(file).info
    wanted = json.loads(json.dumps(asdict(settings(line, seed))))
    other = [k for k in wanted if k not in OF_A_MACHINE and wanted[k] != info["settings"].get(k)]
    if other:
        sys.exit(f"{file.parent} is a run with another {', '.join(other)}; choose another --out")
    return info


def run(line, seed):
    """Train, or go on, unless it is finished."""
    told = record(line, seed)
    if told is not None and told["epoch"] >= EPOCHS:
        return
    where = folder(line.name, seed)
    print(f"\n{line.name}, seed {seed}", flush=True)
    result = train(settings(line, seed)) if told is None else resume(where, data_dir=args.data_dir)
    if result.interrupted:
        print(f"stopped after step {result.steps}; the same command goes on")
        sys.exit(128 + result.interrupted)


def accuracies(line):
    """Of the held-out images after the last step, by seed; only of runs that are finished."""
    told = {seed: record(line, seed) for seed in args.seeds}
    done = {seed: info for seed, info in told.items() if info and info["epoch"] >= EPOCHS}
    return {seed: info["accuracy"] for seed, info in done.items()}


def differences(found, line):
    """To the line that it is compared with, of each seed that both have, in points."""
    mine, other = found[line.name], found.get(line.base, {})
    return [100 * (mine[seed] - other[seed]) for seed in mine if seed in other]


def show(lines):
    """The table, and which differences this budget cannot tell from 0."""
    found = {line.name: accuracies(line) for line in lines}
    gaps = {line.name: differences(found, line) for line in lines}
    several = [np.ptp(gap) ** 2 / 2 for gap in gaps.values() if len(gap) == 2]
    deviation = np.sqrt(np.mean(several)) if several else np.nan  # of one difference, all together
    print(f"\n{'':13} parameters  products   mean   of each seed     spread   difference   to")
    for line in lines:
        shares, gap = list(found[line.name].values()), gaps[line.name]
        if not shares:
            continue
        model = create_model(line.model, **{"img_size": 32, "num_classes": 10, **line.settings})
        row = f"{line.name:13} {model.parameter_count():10,}  {model.flops() / 1e6:5.1f} M  "
        row += f"{np.mean(shares):6.1%}   {' '.join(f'{share:6.1%}' for share in shares):15}"
        row += f"{100 * np.ptp(shares):7.1f}" if len(shares) > 1 else f"{'':7}"
        if gap:
            row += f"{np.mean(gap):+12.1f}   {line.base}"
        print(row)
    if several:
        error = deviation / np.sqrt(2)
        print(f"\nA difference (mean of two seeds, in points) has a standard error of {error:.1f}.")
    for line in lines:
        if gaps[line.name]:
            print(f"{line.name:13} {verdict(gaps[line.name], deviation)}. Said: {line.claim}")


def verdict(gap, deviation):
    """Whether a difference is larger than twice its standard error."""
    if len(gap) < 2:
        return "one seed, which shows nothing by itself"
    if abs(np.mean(gap)) < 2 * deviation / np.sqrt(len(gap)):
        return "not to be told from 0 here"
    return "better" if np.mean(gap) > 0 else "worse"


with tempfile.TemporaryDirectory() as temporary:
    args.out = Path(temporary) if args.quick else args.out
    for seed in () if args.table else args.seeds:
        for line in chosen():
            run(line, seed)
    show(chosen())
if args.quick:
    print("\nNothing is learnt in so few steps: these numbers only show that the program runs.")
