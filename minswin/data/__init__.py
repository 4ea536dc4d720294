"""Images to train on: CIFAR-10 and CIFAR-100, a built-in set, augmentation and batches."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from minswin import arguments, lazy
from minswin.arguments import checks_switches
from minswin.data import cifar
from minswin.data.augment import (
    crop,
    cutmix,
    flip,
    mixup,
    one_hot,
    piece,
    rand_augment,
    random_erasing,
)
from minswin.data.batches import LEVELS, Augmentation, Batches
from minswin.data.cifar import read_cifar
from minswin.data.dataset import STATISTICS, Dataset, normalize, statistics
from minswin.data.folders import list_pictures, read_folder
from minswin.data.shapes import KINDS, draw
from minswin.data.shapes import shapes as make_shapes

__all__ = [
    "KINDS",
    "LEVELS",
    "NAMES",
    "STATISTICS",
    "Augmentation",
    "Batches",
    "Dataset",
    "crop",
    "cutmix",
    "draw",
    "flip",
    "list_pictures",
    "load",
    "make_shapes",
    "mixup",
    "normalize",
    "one_hot",
    "piece",
    "rand_augment",
    "random_erasing",
    "read_cifar",
    "read_folder",
    "statistics",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.submodules(__name__)

NAMES = ("shapes", *cifar.LAYOUTS)
COUNTS = {"train": 10_000, "test": 2_000}  # of the built-in set


@checks_switches
def load(
    name: str | os.PathLike[str],
    *,
    split: str,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    seed: int = 0,
    count: int | None = None,
    size: int = cifar.SIDE,
    cuts: Mapping[str, str] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Dataset:
    """One split, "train" or "test", of "shapes", "cifar10", "cifar100" or a folder of pictures.

    CIFAR lies in `data_dir` (~/.cache/minswin) or, with `download`, is fetched there once, and
    again if it is damaged; `count` takes only the first of them. The built-in set is made from
    `seed`, `count` samples of it (10,000 to train and 2,000 to test).
    size, cuts, tell: of a folder, that has a folder of pictures for each class; see read_folder
    """
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(f"load: name must be a text or a path, got {type(name).__name__}")
    name = os.fspath(name)
    count = None if count is None else arguments.whole("load", "count", count)
    if name not in NAMES and os.path.isdir(name):
        return read_folder(name, split=split, size=size, count=count, cuts=cuts, tell=tell)
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.4)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"load: name is {name!r}, expected one of {', '.join(NAMES)}, or a folder{meant}"
        )
    if size != cifar.SIDE or cuts is not None:
        raise ValueError(f"load: size and cuts are for a folder of pictures, not for {name}")
    if split not in COUNTS:
        raise ValueError(f"load: split is {split!r}, expected 'train' or 'test'")
    if name == "shapes":
        return make_shapes(COUNTS[split] if count is None else count, seed=seed, split=split)
    whole = _load_cifar(name, split, data_dir, download)
    if count is not None and count > len(whole):
        raise ValueError(f"load: count is {count}, expected 1 to {len(whole)}")
    return whole if count is None else whole.subset(slice(count))


def _load_cifar(
    name: str, split: str, data_dir: str | os.PathLike[str] | None, download: bool
) -> Dataset:
    folder = Path.home() / ".cache" / "minswin" if data_dir is None else Path(data_dir)
    try:
        return read_cifar(folder, name=name, split=split)
    except FileNotFoundError as error:
        if not download:
            raise FileNotFoundError(
                f"{error} (or let it be fetched: download=True in Python, --download on the "
                "command line)"
            ) from None
        archive = cifar.download(name, folder)
    except ValueError:  # damaged: what has the wrong md5 sum is fetched again
        if not download:
            raise
        archive = cifar.download(name, folder)
    return read_cifar(archive, name=name, split=split)
