"""What trained weights are good for: to be tested on images, and to name what one shows."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin import data
from minswin.data.pictures import read_image
from minswin.devices import working_on
from minswin.parallel import data_parallel
from minswin.training.checkpoints import load_trained_model
from minswin.training.evaluate import Evaluation, evaluate, predict
from minswin.training.feed import feed
from minswin.training.inputs import evaluation_batches, load_training
from minswin.training.pretrained import DEFAULT, find_trained
from minswin.training.settings import Settings


class Test(NamedTuple):
    """A set of images as it was classified."""

    name: str
    images: int
    classes: tuple[str, ...]
    result: Evaluation


def evaluate_checkpoint(
    path: Path | str,
    *,
    name: str | None = None,
    split: str = "test",
    data_dir: str | None = None,
    download: bool = False,
    threads: int | None = None,
    device: str = "cpu",
) -> Test:
    """Classify a set of images (by default that of the run) with the model of a checkpoint.

    split: "test", "train" or "held-out"; of the run's own data, train is what it learnt from, and
    held-out what it set aside to choose its best epoch.
    """
    model, info = load_trained_model(find_trained(path))
    known = info["data"]
    where: dict[str, Any] = {
        "data_dir": data_dir or info["settings"]["data_dir"],
        "download": download,
    }
    settings = Settings(**{**info["settings"], **where})
    images = _images(path, settings, name or settings.data, split)
    if list(images.classes) != known["classes"]:
        raise ValueError(
            f"evaluate: the checkpoint {path} tells the {len(known['classes'])} classes of "
            f"'{known['name']}' apart, not the {len(images.classes)} of '{images.name}'; "
            f"leave out --data, or use a checkpoint trained on '{images.name}'"
        )
    batches = evaluation_batches(images, (known["mean"], known["std"]))
    with working_on(device):
        forward = data_parallel(model.to(device), threads)
        result = evaluate(model, feed(batches, device), forward=forward)
    if not math.isfinite(result.loss):
        raise ValueError(
            f"evaluate: with the model of {path} the loss of the {len(images):,} images is "
            f"{result.loss}; its weights are spoilt: use another checkpoint"
        )
    return Test(images.name, len(images), tuple(images.classes), result)


def _images(path: Path | str, settings: Settings, name: str, split: str) -> data.Dataset:
    """The images called `split`: parts of the run's own training data, or of another set."""
    if name == settings.data and split != "test":
        train, held_out = load_training(settings)
        if split == "train":
            return train
        if held_out is None:
            raise ValueError(f"evaluate: the run in {path} held out no images; use --split test")
        return held_out
    if split == "held-out":
        raise ValueError(
            f"evaluate: the run in {path} held out images of '{settings.data}', not of '{name}'; "
            "leave out --data"
        )
    return data.load(name, split=split, data_dir=settings.data_dir, download=settings.download)


class Classifier(NamedTuple):
    """A trained model for picture files: __call__ gives the probabilities of its classes, (K,)."""

    described: str  # which model, the size of its images, how many classes, how good it is
    classes: list[str]
    probabilities: Callable[[Path | str], np.ndarray]

    def __call__(self, image: Path | str) -> np.ndarray:
        answer = self.probabilities(image)
        if not np.isfinite(answer).all():
            raise ValueError(
                f"predict: {self.described.split(',')[0]} answers with nan; its weights are "
                "spoilt: use another checkpoint"
            )
        return answer


def classifier(checkpoint: Path | str = DEFAULT, *, device: str = "cpu") -> Classifier:
    """The model of a checkpoint: a file, the folder of a run, or a name of `pretrained()`."""
    model, info = load_trained_model(find_trained(checkpoint))
    known = info["data"]
    _, height, width = known["image"]
    model.to(device)

    def probabilities(image: Path | str) -> np.ndarray:
        pixels = read_image(image, height=height, width=width, who="predict")
        x = data.normalize(pixels[None], mean=known["mean"], std=known["std"])  # (1, 3, H, W)
        return predict(model, x)[0]

    images = "held-out" if info["settings"]["holdout"] else "test"
    share = info["accuracy"]
    described = (
        f"{model.name}, {height}×{width}, {len(known['classes'])} classes of {known['name']}"
    )
    if share is not None:
        described += f", {share:.1%} of the {images} images right"
    return Classifier(described, known["classes"], probabilities)


def predict_file(
    image: Path | str, checkpoint: Path | str = DEFAULT, *, device: str = "cpu"
) -> tuple[list[str], np.ndarray]:
    """The names of the classes, and the probability that the image shows each of them.

    checkpoint: a file, the folder of a run, or a name of `pretrained()`.
    """
    model = classifier(checkpoint, device=device)
    return model.classes, model(image)
