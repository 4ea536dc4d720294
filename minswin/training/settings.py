"""What a run of training is made of: its settings, and the recipes that are their defaults."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from minswin.arguments import NO_SETTINGS, plain, switch
from minswin.data import LEVELS, NAMES, list_pictures
from minswin.training.precision import PRECISIONS, check_precision

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
# Of a folder of pictures; `recipe` finds out how many are held out.
RECIPES["folder"] = {
    "model": "swin_cifar_small",
    "epochs": 20,
    "batch_size": 16,
    "warmup": 2.0,
    "clip": 1.0,
    "lr": 5e-4,
    "augment": "basic",
}


# ── what a setting may be ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may have, and the words for them."""

    words: str
    low: float = 0
    high: float = math.inf
    below: float = math.inf
    kind: type = float

    def holds(self, value: Any) -> bool:
        kinds = (int,) if self.kind is int else (int, float)
        good = isinstance(value, kinds) and not isinstance(value, bool)
        return good and self.low <= value <= self.high and value < self.below


@dataclass(frozen=True)
class Sets:
    """The names of sets of images, or a folder of pictures."""

    names: tuple[str, ...]
    kind: type = str

    @property
    def words(self) -> str:
        return f"one of {', '.join(self.names)}, or a folder that has one of pictures per class"

    def holds(self, value: Any) -> bool:
        return isinstance(value, str) and (value in self.names or os.path.isdir(value))


BATCH = Range("a whole number, a batch or more", low=-math.inf, kind=int)
COUNT = Range("a whole number of 1 or more", low=1, kind=int)
WHOLE = Range("a whole number of 0 or more", kind=int)
REAL = Range("a number of 0 or more")
POSITIVE = Range("a number above 0", low=math.ulp(0.0))
SHARE = Range("0 or more and below 1", below=1)
PART = Range("0 to 1, a share of lr", high=1)
MOMENTUM = {"sgd": 0.9, "muon": 0.95}  # Jordan et al. 2024
FROM_THE_DATA = {"img_size", "num_classes"}
OF_TEACHER = Range("0 to 1, the share of the teacher in the loss", high=1)
EPOCHS = Range("0 to the epochs, need not be whole")


def setting(default: Any, does: str, allowed: Any = None, *, unset: str = "") -> Any:
    """A field of Settings: its default, what it does, and a Range, or the words to choose from.

    unset: what None means, where None is allowed
    """
    return field(default=default, metadata={"does": does, "allowed": allowed, "unset": unset})


# ── the settings ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides the numbers of a run, and where it is kept.

    Two runs with equal settings on one machine give the same weights, bit for bit.
    """

    data: str = setting(
        "shapes",
        "the images; of a folder a fifth tests; a picture that keeps its name keeps its side",
        Sets(NAMES),
    )
    data_dir: str | None = setting(None, "folder of the CIFAR files", unset="~/.cache/minswin")
    download: bool = setting(False, "fetch CIFAR first")
    count: int | None = setting(None, "training images to use", BATCH, unset="all")
    holdout: int = setting(
        0, "training images that choose the best epoch; 0: the test images do", WHOLE
    )

    size: int = setting(
        0,
        "side that the pictures of a folder are squeezed to; 0: that of the model's images",
        WHOLE,
    )

    model: str = setting("swin_shapes", "a name from 'minswin models'")
    weights: str | None = setting(
        None,
        "what to begin with: weights of the package, a run, or a weight file; the head is new",
        unset="random weights",
    )
    model_settings: Mapping[str, Any] | None = setting(
        None, "other settings of the model than those of its name", unset="none"
    )
    drop_path: float | None = setting(
        None, "stochastic depth of the last block", SHARE, unset="what suits the model"
    )
    recompute: bool = setting(False, "compute blocks again in backward: less memory, more time")

    teacher: str | None = setting(
        None, "folder of a run, or a file of one, that a DeiT learns from", unset="none"
    )
    distillation: str = setting(
        "hard", "what it learns: the teacher's choice, or its probabilities", ("hard", "soft")
    )
    temperature: float = setting(3.0, "of soft distillation", POSITIVE)
    alpha: float = setting(0.5, "how much the teacher counts", OF_TEACHER)

    epochs: int = setting(10, "times to go through the data", COUNT)
    batch_size: int = setting(64, "images of an update", COUNT)
    optimizer: str = setting("adamw", "which", ("sgd", "adamw", "muon"))
    lr: float = setting(1e-3, "learning rate at its highest", REAL)
    momentum: float | None = setting(
        None, "of SGD and Muon", SHARE, unset="0.9 of SGD, 0.95 of Muon"
    )
    nesterov: bool = setting(True, "Nesterov's momentum, in SGD and Muon")
    weight_decay: float = setting(0.05, "pull of the weights to zero", REAL)
    warmup: float = setting(1.0, "epochs in which the learning rate rises", EPOCHS)
    start_lr: float = setting(0.01, "where the warm-up begins, as a share of lr", REAL)
    final_lr: float = setting(0.01, "where the cosine ends, as a share of lr", PART)
    clip: float = setting(5.0, "longest gradient; 0: no limit", REAL)
    smoothing: float = setting(0.0, "label smoothing", SHARE)

    augment: str = setting("none", "how much images are changed", tuple(LEVELS))
    mixup: float = setting(0.0, "parameter alpha of mixup; 0: off", REAL)
    cutmix: float = setting(0.0, "parameter alpha of cutmix; 0: off", REAL)
    piece: int = setting(
        0, "side of the random squares that the first epochs are shown; 0: whole images", WHOLE
    )
    piece_epochs: int = setting(0, "how many epochs these are", WHOLE)
    ema: float = setting(0.0, "decay of the averaged weights; 0: none are kept", SHARE)

    device: str = setting("cpu", "cpu, or gpu, gpu:1, … through CuPy")
    precision: str = setting("float32", "of products; tf32 is of a GPU alone", PRECISIONS)

    seed: int = setting(0, "of weights, order and augmentation", WHOLE)
    threads: int | None = setting(
        None, "parts that a batch is split into on a CPU", COUNT, unset="one per core"
    )
    workers: int | None = setting(
        None,
        "threads that make batches ahead; they decide no number",
        COUNT,
        unset="1 on a CPU; on a GPU one per core, 8 at most",
    )
    out: str = setting("", "folder of the run", unset="runs/DATA-MODEL-SEED")
    checkpoint_every: int = setting(200, "steps between checkpoints; 0: only after epochs", WHOLE)
    log_every: int = setting(10, "steps between lines of the log; 0: only after epochs", WHOLE)

    def __post_init__(self) -> None:
        check_precision(self.precision, self.device)
        for entry in fields(self):
            if isinstance(value := getattr(self, entry.name), os.PathLike):
                object.__setattr__(self, entry.name, os.fspath(value))  # it is frozen
            _check(entry.name, getattr(self, entry.name), entry.metadata)
            if isinstance(entry.default, bool):
                value = switch("Settings", entry.name, getattr(self, entry.name))
                object.__setattr__(self, entry.name, value)
        if self.model_settings is not None:
            own = {name: plain(value) for name, value in self.model_settings.items()}
            object.__setattr__(self, "model_settings", own)
        for name in NO_SETTINGS.keys() & (self.model_settings or {}).keys():
            raise ValueError(f"Settings: {name} in model_settings: {NO_SETTINGS[name]}")
        for name in sorted(FROM_THE_DATA & (self.model_settings or {}).keys()):
            raise ValueError(
                f"Settings: {name} of the model follows from the images, got "
                f"{(self.model_settings or {})[name]!r}; leave it out"
            )
        if self.size and self.data in NAMES:
            raise ValueError(
                f"Settings: size is for a folder of pictures, got {self.size!r} for {self.data}; "
                "leave it out"
            )
        if bool(self.piece) != bool(self.piece_epochs):
            raise ValueError(
                "Settings: piece and piece_epochs belong together, the side of the pieces and the "
                f"epochs that are shown them; got {self.piece!r} and {self.piece_epochs!r}"
            )
        if self.warmup > self.epochs:
            raise ValueError(
                f"Settings: warmup must be 0 to {self.epochs} epochs, got {self.warmup!r}"
            )
        if self.count is not None and self.count < self.batch_size:
            raise ValueError(
                f"Settings: count must be {self.batch_size} or more, got {self.count!r}"
            )

    @property
    def folder(self) -> Path:
        """Where the run keeps its checkpoints, log and pictures."""
        name = self.data if self.data in NAMES else Path(self.data).resolve().name
        return Path(self.out or f"runs/{name}-{self.model}-{self.seed}")


def _check(name: str, value: Any, about: Any) -> None:
    allowed = about["allowed"]
    if value is None and about["unset"]:
        return
    if allowed is None:
        by_name = name == "model_settings"
        is_switch = isinstance(Settings.__dataclass_fields__[name].default, bool)
        if not is_switch and not isinstance(value, Mapping if by_name else str):
            kind = "values by name" if by_name else "a text"
            raise TypeError(f"Settings: {name} must be {kind}, got {type(value).__name__}")
        return
    if isinstance(allowed, (Range, Sets)):
        if not allowed.holds(value):
            raise ValueError(f"Settings: {name} must be {allowed.words}, got {value!r}")
    elif value not in allowed:
        raise ValueError(f"Settings: {name} must be one of {', '.join(allowed)}; got {value!r}")


def usual(name: str) -> dict[str, Any]:
    """The default of a setting for each set of data."""
    default = Settings.__dataclass_fields__[name].default
    return {data: recipe.get(name, default) for data, recipe in RECIPES.items()}


def recipe(data: str | os.PathLike[str] = "shapes", **overrides: Any) -> Settings:
    """The settings that suit a set of data, with `overrides` instead of some of them.

    With other `epochs` the warm-up keeps its share of them; with a small `count` at most a tenth
    of the images is held out, as of a folder of pictures. The model is that of `weights`, if any.
    """
    known = {entry.name: entry.metadata for entry in fields(Settings)}
    data = os.fspath(data) if isinstance(data, os.PathLike) else data
    _check("data", data, known["data"])
    unknown = sorted(overrides.keys() - known.keys())
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
    usual = dict(RECIPES[data if data in NAMES else "folder"])
    if data not in NAMES:
        usual["holdout"] = len(list_pictures(data).sides["train"]) // 10
    if overrides.get("weights"):
        from minswin.training.starting import model_of  # which needs Settings

        usual["model"], own = model_of(overrides["weights"], overrides.get("model"))
        both = {**(own or {}), **(overrides.pop("model_settings", None) or {})}
        usual["model_settings"] = both or None
    usual["warmup"] *= overrides.get("epochs", usual["epochs"]) / usual["epochs"]
    if overrides.get("count"):
        usual["holdout"] = min(usual.get("holdout", 0), max(0, overrides["count"] // 10))
    return Settings(**{"data": data, **usual, **overrides})
