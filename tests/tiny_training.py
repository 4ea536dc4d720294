"""A run of training small enough for tests: 8×8 images in three colours, a Swin of one stage.

As a script it is `minswin` with that data and that model: python tests/tiny_training.py train …
"""

from __future__ import annotations

import os
import sys

import numpy as np

from minswin import data
from minswin.data import Dataset
from minswin.models import SwinTransformer
from minswin.models.registry import CLASSES, MODELS
from minswin.training import Settings, loop, recipe
from minswin.training.progress import Journal

MODEL = {
    "img_size": 8,
    "patch_size": 2,
    "embed_dim": 6,
    "depths": (2,),
    "num_heads": (2,),
    "window_size": 2,
    "drop_path_rate": 0.3,
}


def tiny_load(name, *, split, data_dir=None, download=False, seed=0, count=None):
    """Noise in which one of three colours is stronger: that is the class."""
    number = min({"train": 60, "test": 33}[split], count or 60)
    rng = np.random.default_rng([seed, split == "test"])
    labels = rng.integers(0, 3, number)
    images = rng.integers(0, 120, (number, 3, 8, 8))
    images[np.arange(number), labels] += 80
    return Dataset(images.astype(np.uint8), labels, ("red", "green", "blue"), name)


def tiny_settings(folder, **overrides) -> Settings:
    """Everything that has a state is on: momentum, average, drop path, mixing of images."""
    settings = {
        "model": "tiny",
        "holdout": 0,
        "epochs": 3,
        "batch_size": 8,
        "optimizer": "adamw",
        "lr": 0.01,
        "ema": 0.9,
        "augment": "basic",
        "mixup": 0.4,
        "cutmix": 0.4,
        "smoothing": 0.1,
        "threads": 1,
        "checkpoint_every": 3,
        "log_every": 1,
    }
    return recipe("shapes", out=str(folder), **{**settings, **overrides})


DRAW_CURVES = loop._draw_curves


def install(monkeypatch=None) -> None:
    """Let the name "tiny" and the built-in data mean the above.

    And no run draws its curves, which takes longer than the run; DRAW_CURVES does.
    """
    if monkeypatch is None:
        MODELS["tiny"], CLASSES["tiny"], data.load = MODEL, SwinTransformer, tiny_load
        loop._draw_curves = no_curves
    else:
        monkeypatch.setattr(loop, "_draw_curves", no_curves)
        monkeypatch.setitem(MODELS, "tiny", MODEL)
        monkeypatch.setitem(CLASSES, "tiny", SwinTransformer)
        monkeypatch.setattr(data, "load", tiny_load)


def no_curves(run, progress) -> None:
    """In the place of `_draw_curves`."""


def stop_at(step: int, calls: int, number: int) -> None:
    """Send this process the signal `number` that many calls of functions after a step is logged.

    Any moment of the program can be chosen, and it is the same one on a busy machine.
    """
    write = Journal.write

    def count(frame, event, argument):
        nonlocal calls
        calls -= event == "call"
        if calls < 0:
            sys.setprofile(None)
            os.kill(os.getpid(), number)

    def write_and_count(journal, **record):
        write(journal, **record)
        if record.get("step", 0) >= step and Journal.write is write_and_count:
            Journal.write = write
            sys.setprofile(count)

    Journal.write = write_and_count


if __name__ == "__main__":
    from minswin.cli import main

    install()
    rank = os.environ.get("PMI_RANK", "0")  # of those that mpiexec started; 0 logs
    if (moment := os.environ.get("STOP_AT")) and rank == os.environ.get("STOP_RANK", "0"):
        stop_at(*map(int, moment.split()))
    sys.exit(main())
