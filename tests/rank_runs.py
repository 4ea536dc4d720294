"""A tiny training as a command line, its start in several ranks, and the steps that it logged."""

from __future__ import annotations

import json
from pathlib import Path

import ranks
import tiny_training
from limits import HANG

SCRIPT = Path(tiny_training.__file__)


def line(folder, **changes):
    """The command line of a tiny training, which takes two seconds."""
    settings = {
        "model": "tiny", "epochs": 2, "batch_size": 7, "count": 60, "holdout": 0, "lr": 0.01,
        "ema": 0.9, "augment": "basic", "mixup": 0.4, "cutmix": 0.4, "checkpoint_every": 3,
        "log_every": 1, "threads": 1, "out": folder, **changes,
    }  # fmt: skip
    given = ((k, v) for k, v in settings.items() if v is not None)
    return [str(w) for k, v in given for w in (f"--{k.replace('_', '-')}", v)]


def train(number, folder, *more, timeout=HANG, variables=None, **changes):
    words = ("train", *(line(folder, **changes) if folder else ()), *more)
    return ranks.start(number, SCRIPT, *words, timeout=timeout, **(variables or {}))


def steps_of(folder):
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [r for r in records if r["kind"] == "step"]
