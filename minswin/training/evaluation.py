"""How good a model is on a set of images: loss and accuracy, class by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin import data
from minswin.arguments import checks_switches
from minswin.arrays import Array, array_module, to_numpy
from minswin.autograd import Tensor, no_grad
from minswin.devices import like, working_on
from minswin.distributed import Group
from minswin.layers import Layer
from minswin.parallel import data_parallel
from minswin.training.checkpoints import load_trained_model
from minswin.training.gpu import feed
from minswin.training.inputs import Images, evaluation_batches, load_training, where
from minswin.training.learnt import (
    cuts_of,
    is_learnt,
    place_of,
    require_same_images,
    split_of,
    tell_if_changed,
)
from minswin.training.settings import Settings

# ── any model ────────────────────────────────────────────────────────────────────────────────────

Forward = Callable[[Array], Tensor]  # images (B, 3, H, W) to logits (B, K)


class Evaluation(NamedTuple):
    """Mean loss, share of right answers, and that share for each class (NaN: no image of it)."""

    loss: float
    accuracy: float
    per_class: np.ndarray  # (K,)


def evaluate(
    model: Layer,
    batches: Iterable[tuple[Array, Array]],
    *,
    forward: Forward | None = None,
    group: Group | None = None,
) -> Evaluation:
    """Classify every image once, without dropout, and compare with its label.

    batches: pairs of images (B, 3, H, W) and labels (B,); the last may be smaller.
    forward: what runs the model, such as data_parallel(model); left out, one for all cores.
    group: ranks that have batches of their own, none of them perhaps; the result is that of all
    """
    seen_here = []
    forward = data_parallel(model) if forward is None else forward
    with model.evaluating(), no_grad(), quiet():
        for x, truth in batches:
            logits = to_numpy(forward(x).data).astype(np.float64)  # (B, K)
            truth, classes = to_numpy(truth), logits.shape[1]
            _require_labels(truth, len(x), classes)
            losses = _surprise(logits)[np.arange(len(x)), truth]  # (B,)
            seen_here.append((losses, logits.argmax(1) == truth, truth, classes))
    parts = [batch for of_rank in (group or Group()).gather(seen_here) for batch in of_rank]
    if not any(len(losses) for losses, *_ in parts):
        raise ValueError("evaluate: batches hold no image; give at least one")
    losses, hit, label = (np.concatenate([part[i] for part in parts]) for i in range(3))
    classes = parts[0][3]
    seen = np.bincount(label, minlength=classes)  # (K,)
    right = np.bincount(label[hit], minlength=classes)  # (K,)
    per_class = np.divide(right, seen, out=np.full(classes, np.nan), where=seen > 0)
    return Evaluation(float(losses.mean()), float(hit.mean()), per_class)


def mirrored(forward: Forward) -> Forward:
    """`forward` that answers for an image and its mirror image together: the mean of the logits."""

    def both(x: Array) -> Tensor:
        return (forward(x) + forward(array_module(x).ascontiguousarray(x[..., ::-1]))) * 0.5

    return both


def predict(model: Layer, images: Array) -> np.ndarray:
    """The probability of each class.        images (B, 3, H, W), normalised        gives (B, K)

    Images on the CPU are copied to the device of the model.
    """
    with model.evaluating(), no_grad(), quiet():
        images = like(next(model.parameters()).data, images)
        logits = to_numpy(data_parallel(model)(images).data).astype(np.float64)  # (B, K)
    return np.exp(-_surprise(logits))


def _surprise(logits: np.ndarray) -> np.ndarray:
    """−log softmax: how unexpected each class would be; NaN where a logit is not finite."""
    with np.errstate(invalid="ignore"):
        shifted = logits - logits.max(1, keepdims=True)
    return np.log(np.exp(shifted).sum(1, keepdims=True)) - shifted


def _require_labels(labels: np.ndarray, count: int, classes: int) -> None:
    if labels.shape != (count,):
        raise ValueError(
            f"evaluate: labels must be ({count},), a class for each image, got {labels.shape}"
        )
    if labels.size and not (0 <= labels.min() and labels.max() < classes):
        raise ValueError(
            f"evaluate: labels must lie in 0…{classes - 1}, got values from {labels.min()} to "
            f"{labels.max()}; use a model with as many outputs as there are classes"
        )


def quiet() -> np.errstate:
    """Inside this block overflow is no warning: the caller looks at loss and gradients itself."""
    return np.errstate(over="ignore", invalid="ignore")


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────


class Test(NamedTuple):
    """A set of images as it was classified."""

    name: str
    images: int
    classes: tuple[str, ...]
    result: Evaluation


@checks_switches
def evaluate_checkpoint(
    path: Path | str,
    *,
    name: str | None = None,
    split: str = "test",
    data_dir: str | None = None,
    download: bool = False,
    threads: int | None = None,
    flips: bool = False,
    device: str = "cpu",
    group: Group | None = None,
) -> Test:
    """Classify a set of images (by default that of the run) with the model of a checkpoint.

    split: "test", "train" or "held-out"; of the run's own data, train is what it learnt from, and
    held-out what it set aside to choose its best epoch.
    flips: each image is classified together with its mirror image
    group: of ranks that all call this, with the same files, and share the images
    """
    group = group or Group()
    model, info = load_trained_model(path)
    trained_on = info["data"]
    changes: dict[str, Any] = {
        "data": name or place_of(info, who="evaluate"),
        "data_dir": data_dir or info["settings"]["data_dir"],
        "download": download,
    }
    settings = Settings(**{**info["settings"], **changes})
    images = _images(path, settings, info, split)
    if list(images.classes) != trained_on["classes"]:
        raise ValueError(
            f"evaluate: the checkpoint {path} tells the {len(trained_on['classes'])} classes of "
            f"'{trained_on['name']}' apart, not the {len(images.classes)} of '{images.name}'; "
            f"leave out --data, or use a checkpoint trained on '{images.name}'"
        )
    mine = share_of(images, group)
    batches = evaluation_batches(mine, (trained_on["mean"], trained_on["std"]))
    with working_on(device):
        forward: Forward = data_parallel(model.eval().to(device), threads, group)
        forward = mirrored(forward) if flips else forward
        result = evaluate(model, feed(batches, device), forward=forward, group=group)
    if not math.isfinite(result.loss):
        raise ValueError(
            f"evaluate: with the model of {path} the loss of the {len(images):,} images is "
            f"{result.loss}; its weights are spoilt: use another checkpoint"
        )
    return Test(images.name, len(images), tuple(images.classes), result)


def share_of(images: Images, group: Group) -> Images:
    """The part of a set that a rank classifies; of a small one perhaps none."""
    share = group.share(len(images))
    return images.subset(share.rows if share.weight else slice(0))


def _images(path: Path | str, settings: Settings, info: dict[str, Any], split: str) -> data.Dataset:
    """The images called `split`: parts of the data that the run learnt from, or of another set."""
    name, learnt = settings.data, is_learnt(settings.data, info)
    cuts = cuts_of(info) if learnt else None
    if learnt and split != "test":
        train, held_out = load_training(settings, cuts)
        require_same_images(train, info, split_of(name, cuts), who="evaluate", run=path)
        if split == "train":
            return train
        if held_out is None:
            raise ValueError(f"evaluate: the run in {path} held out no images; use --split test")
        return held_out
    if split == "held-out":
        raise ValueError(
            f"evaluate: the run in {path} held out images of '{info['settings']['data']}', not of "
            f"'{name}'; leave out --data"
        )
    if name not in data.NAMES and not learnt and split == "test":  # all of it is new
        split = "all"
    if learnt and name not in data.NAMES:
        tell_if_changed(name, info)
    return data.load(name, split=split, **where(settings, cuts))
