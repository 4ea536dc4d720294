"""What a run of training is made of: its settings, and the recipes that are their defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from minswin.data import LEVELS
from minswin.training.precision import check_precision

# What differs from the defaults of Settings, for each set of data. The only place of such numbers.
RECIPES: dict[str, dict[str, Any]] = {
    "shapes": {
        "count": 11_000,
        "holdout": 1_000,
        "model": "swin_shapes",
        "epochs": 6,
        "batch_size": 32,
        "warmup": 1.0,
        "clip": 1.0,
    },
    "cifar10": {
        "model": "swin_cifar",
        "epochs": 100,
        "batch_size": 128,
        "warmup": 10.0,
        "smoothing": 0.1,
        "augment": "strong",
        "mixup": 0.8,
        "cutmix": 1.0,
        "ema": 0.999,
        "holdout": 5_000,
    },
}
RECIPES["cifar100"] = dict(RECIPES["cifar10"])


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides the numbers of a run, and where it is kept.

    Two runs with equal settings on one machine give the same weights, bit for bit.
    """

    data: str = "shapes"
    data_dir: str | None = None
    download: bool = False
    count: int | None = None  # use only so many training images; None: all
    holdout: int = 0  # training images set aside to choose the best epoch; 0: the test set does

    model: str = "swin_shapes"
    drop_path: float | None = None  # None: what suits the model by its own list
    recompute: bool = False  # of the model: more time, less memory, the same numbers

    teacher: str | None = None  # a run or a file of one, whose model a DeiT is to learn from
    distillation: str = "hard"  # from the class that the teacher chooses; "soft": its probabilities
    temperature: float = 3.0  # of soft distillation
    alpha: float = 0.5  # share of the teacher in the loss

    epochs: int = 10
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9  # of SGD
    nesterov: bool = True  # of SGD
    weight_decay: float = 0.05
    warmup: float = 1.0  # epochs, need not be whole
    start_lr: float = 0.01  # of the warm-up, as a share of lr
    final_lr: float = 0.01  # of the cosine, as a share of lr
    clip: float = 5.0  # the longest gradient; 0: no limit
    smoothing: float = 0.0

    augment: str = "none"
    mixup: float = 0.0
    cutmix: float = 0.0
    piece: int = 0  # side of the random square of each image that the first epochs are shown,
    piece_epochs: int = 0  # and how many epochs these are; 0: whole images from the beginning
    ema: float = 0.0  # decay of the averaged weights; 0: none are kept

    device: str = "cpu"  # or "gpu", "gpu:1", …
    precision: str = "float32"  # of products: see precision.py

    seed: int = 0
    threads: int | None = None  # parts that a batch is split into on a CPU; None: data_parallel's
    out: str = ""  # folder of the run; empty: runs/<data>-<model>-<seed>
    checkpoint_every: int = 200  # steps; each epoch ends with one anyway. 0: only then
    log_every: int = 10  # steps; each epoch is logged anyway. 0: only then

    def __post_init__(self) -> None:
        check_precision(self.precision, self.device)
        _choice("data", self.data, tuple(RECIPES))
        _choice("optimizer", self.optimizer, ("sgd", "adamw"))
        _choice("augment", self.augment, tuple(LEVELS))
        _choice("distillation", self.distillation, ("hard", "soft"))
        _require("temperature", self.temperature, "a number above 0", low=math.ulp(0.0))
        _require("alpha", self.alpha, "0 to 1, the share of the teacher in the loss", high=1)
        for name in ("epochs", "batch_size"):
            _require(name, getattr(self, name), "a whole number of 1 or more", whole=True, low=1)
        for name in ("holdout", "seed", "checkpoint_every", "log_every", "piece", "piece_epochs"):
            _require(name, getattr(self, name), "a whole number of 0 or more", whole=True)
        for name in ("lr", "weight_decay", "mixup", "cutmix", "start_lr", "clip"):
            _require(name, getattr(self, name), "a number of 0 or more")
        for name in ("drop_path", "momentum", "smoothing", "ema"):
            if getattr(self, name) is not None:
                _require(name, getattr(self, name), "0 or more and below 1", below=1)
        if bool(self.piece) != bool(self.piece_epochs):
            raise ValueError(
                "Settings: piece and piece_epochs belong together, the side of the pieces and the "
                f"epochs that are shown them; got {self.piece!r} and {self.piece_epochs!r}"
            )
        _require("final_lr", self.final_lr, "0 to 1, a share of lr", high=1)
        _require("warmup", self.warmup, f"0 to {self.epochs} epochs", high=self.epochs)
        if self.threads is not None:
            _require("threads", self.threads, "a whole number of 1 or more", whole=True, low=1)
        if self.count is not None:
            _require("count", self.count, f"{self.batch_size} or more", low=self.batch_size)

    @property
    def folder(self) -> Path:
        """Where the run keeps its checkpoints, log and pictures."""
        return Path(self.out or f"runs/{self.data}-{self.model}-{self.seed}")


def recipe(data: str = "shapes", **overrides: Any) -> Settings:
    """The settings that suit a set of data, with those that are given in their place.

    With other `epochs` the warm-up keeps its share of them; with a small `count` at most a tenth
    of the images is held out.
    """
    _choice("data", data, tuple(RECIPES))
    known = {f.name for f in fields(Settings)}
    unknown = sorted(overrides.keys() - known)
    if unknown:
        raise ValueError(
            f"recipe: unknown setting {unknown[0]!r}; known are {', '.join(sorted(known))}"
        )
    if not overrides.get("teacher"):
        for name in ("distillation", "temperature", "alpha"):
            if name in overrides:
                raise ValueError(
                    f"recipe: {name} says how to learn from a teacher, and there is none; "
                    "give a trained run with --teacher"
                )
    usual = dict(RECIPES[data])
    usual["warmup"] *= overrides.get("epochs", usual["epochs"]) / usual["epochs"]
    if overrides.get("count"):
        usual["holdout"] = min(usual["holdout"], max(0, overrides["count"] // 10))
    return Settings(**{"data": data, **usual, **overrides})


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"Settings: {name} must be one of {', '.join(choices)}; got {value!r}")


def _require(
    name: str,
    value: float,
    expected: str,
    *,
    low: float = 0,
    high: float = math.inf,
    below: float = math.inf,
    whole: bool = False,
) -> None:
    good = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not good or not (low <= value <= high and value < below):
        raise ValueError(f"Settings: {name} must be {expected}, got {value!r}")
