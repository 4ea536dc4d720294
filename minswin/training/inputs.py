"""From settings to the things that a run works with: data, model, optimizer."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from minswin import data
from minswin.autograd import no_grad
from minswin.distributed import Group
from minswin.models import create_model, list_models
from minswin.models.registry import size_of
from minswin.parallel import cores_of_a_rank
from minswin.training.muon import Muon
from minswin.training.optimizers import SGD, AdamW, Optimizer
from minswin.training.settings import MOMENTUM, Settings

Images: TypeAlias = data.Dataset
Cuts: TypeAlias = Mapping[str, str]  # of a folder of pictures, by class: see data.list_pictures
Model: TypeAlias = Any  # a Layer that create_model made: it also has name, settings and rng


def load_sets(settings: Settings, cuts: Cuts | None = None) -> tuple[Images, Images | None, Images]:
    """The images to train on, those held out to choose the best epoch (or None), and to test.

    cuts: between the sides of a folder of pictures, where a run has them (learnt.py)
    """
    train, held_out = load_training(settings, cuts)
    test = data.load(settings.data, split="test", **where(settings, cuts))
    if len(train) < settings.batch_size:
        raise ValueError(
            f"train: there are {len(train)} training images, fewer than one batch of "
            f"{settings.batch_size}; choose a smaller --batch-size"
        )
    return train, held_out, test


def load_training(settings: Settings, cuts: Cuts | None = None) -> tuple[Images, Images | None]:
    """The images to train on, and those held out of them, or None."""
    train = data.load(settings.data, split="train", count=settings.count, **where(settings, cuts))
    if not settings.holdout:
        return train, None
    return train.split(settings.holdout, rng=np.random.default_rng(settings.seed))


def where(settings: Settings, cuts: Cuts | None = None) -> dict[str, Any]:
    """What `data.load` is to know of the images of these settings."""
    if settings.data in data.NAMES:
        return {"data_dir": settings.data_dir, "download": settings.download}
    return {"size": settings.size or size_of(settings.model), "cuts": cuts, "tell": tell}


def tell(line: str) -> None:
    """Say something about the inputs, where it does not mix with the results."""
    print(line, file=sys.stderr)


def training_batches(images: Images, settings: Settings, statistics: Any = None) -> data.Batches:
    """statistics: mean and std to normalise with; None: those of the images"""
    mean, std = statistics or data.statistics(images)
    return data.Batches(
        images,
        settings.batch_size,
        seed=settings.seed,
        augment=settings.augment,
        mixup=settings.mixup,
        cutmix=settings.cutmix,
        piece=settings.piece,
        piece_epochs=settings.piece_epochs,
        mean=mean,
        std=std,
    )


def evaluation_batches(images: Images, statistics: Any = None) -> Iterator[data.batches.Batch]:
    """All images once, in order, with their labels; statistics: mean and std to normalise with."""
    mean, std = statistics or data.statistics(images)
    return data.Batches.evaluation(images, 128, mean=mean, std=std).epoch(0)


def require_known_model(name: str) -> None:
    """Raise for an unknown name before time is spent on the data."""
    if name not in list_models():
        create_model(name)  # says which names there are


def new_model(settings: Settings, images: Images) -> Model:
    """The model of a run, made for its images; random weights that depend on the seed only."""
    height, width = images.images.shape[2:]
    changes: dict[str, Any] = dict(settings.model_settings or {})
    changes["img_size"] = height if height == width else (height, width)
    if settings.drop_path is not None:
        changes["drop_path_rate"] = settings.drop_path
    if settings.recompute:
        changes["recompute"] = True
    rng = np.random.default_rng(settings.seed)
    model = create_model(settings.model, num_classes=len(images.classes), rng=rng, **changes)
    if settings.piece:
        _require_pieces(model, settings)
    return model


def _require_pieces(model: Model, settings: Settings) -> None:
    """Raise where a model takes whole images only, before anything is written."""
    try:
        with model.evaluating(), no_grad():
            model(np.zeros((1, 3, settings.piece, settings.piece), np.float32))
    except ValueError as error:
        raise ValueError(
            f"train: {settings.model} does not take pieces of {settings.piece}×{settings.piece}; "
            f"leave out piece and piece_epochs ({error})"
        ) from error


def new_optimizer(model: Model, settings: Settings, group: Group | None = None) -> Optimizer:
    """The optimizer of a run; group: of ranks, which divide the cores of a machine."""
    named, s = model.named_parameters(), settings
    momentum = MOMENTUM.get(s.optimizer, 0.0) if s.momentum is None else s.momentum
    if s.optimizer == "adamw":
        return AdamW(named, s.lr, weight_decay=s.weight_decay)
    if s.optimizer == "sgd":
        return SGD(named, s.lr, momentum, s.nesterov, s.weight_decay)
    return Muon(
        named, s.lr, momentum, s.nesterov, weight_decay=s.weight_decay, heads=model.head_names,
        threads=1 if s.device != "cpu" else s.threads or cores_of_a_rank(group),
    )  # fmt: skip
