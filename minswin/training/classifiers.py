"""Trained weights on pictures: those of a run, of the package, or published ones of ImageNet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin import data
from minswin.data.pictures import prepare, read_image
from minswin.models import create_model
from minswin.training.checkpoints import DEFAULT, load_trained_model
from minswin.training.evaluation import predict
from minswin.weights.families import FAMILIES
from minswin.weights.load import Tell, in_our_names, load_source
from minswin.weights.state import read_source

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of red, green, blue

IMAGENET: Statistics = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF: Statistics = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


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
    model, info = load_trained_model(checkpoint)
    trained_on, classes = info["data"], info["data"]["classes"]
    mean, std, (_, height, width) = (trained_on[key] for key in ("mean", "std", "image"))
    model.to(device)

    def probabilities(image: Path | str) -> np.ndarray:
        pixels = read_image(image, height=height, width=width, who="predict")
        return predict(model, data.normalize(pixels[None], mean=mean, std=std))[0]

    images = "held-out" if info["settings"]["holdout"] else "test"
    share = info["accuracy"]
    described = f"{model.name}, {height}×{width}, {len(classes)} classes of {trained_on['name']}"
    if share is not None:
        described += f", {share:.1%} of the {images} images right"
    return Classifier(described, classes, probabilities)


def predict_file(
    image: Path | str, checkpoint: Path | str = DEFAULT, *, device: str = "cpu"
) -> tuple[list[str], np.ndarray]:
    """The names of the classes, and the probability that the image shows each of them.

    checkpoint: a file, the folder of a run, or a name of `pretrained()`.
    """
    model = classifier(checkpoint, device=device)
    return model.classes, model(image)


# ── published weights ────────────────────────────────────────────────────────────────────────────


class Published(NamedTuple):
    """A model with the weights of a file, and how the images of its training were prepared."""

    model: Any
    statistics: Statistics
    classes: list[str] | None  # None: they are numbers
    as_in_runs: bool  # the whole picture is squeezed to the size, as `minswin train` does

    def prepare(self, image: Path | str, *, who: str) -> np.ndarray:
        """A picture as bytes (3, H, W); who: begins the messages of errors."""
        if self.as_in_runs:
            height, width = self.model.img_size
            return read_image(image, height=height, width=width, who=who)
        return prepare(image, self.model.img_size, who=who)


def published_classifier(
    model: str,
    weights: Path | str,
    *,
    key: str | None = None,
    device: str = "cpu",
    tell: Tell | None = None,
) -> Classifier:
    """A named model with the weights of a file, for pictures; its classes are often numbers.

    key: see weights.load   tell: is called with a line on what was assumed about the file
    """
    published = load_published(model, weights, key=key, tell=tell)
    net, (mean, std) = published.model.to(device), published.statistics
    (height, width), (count,) = net.img_size, net.summary(net.img_size)[-1].shape

    def probabilities(image: Path | str) -> np.ndarray:
        x = published.prepare(image, who="predict")[None]  # (1, 3, H, W)
        return predict(net, data.normalize(x, mean=mean, std=std))[0]

    described = f"{model}, {height}×{width}, {count:,} classes, weights of {weights}"
    classes = published.classes or [f"class {k}" for k in range(count)]
    return Classifier(described, classes, probabilities)


def load_published(
    model: str, weights: Path | str, *, key: str | None = None, tell: Tell | None = None
) -> Published:
    """A model with the weights and the classes of a file, and how images are prepared for it.

    Weights of `minswin train` that are still under our names or were converted to .safetensors
    hold what their images were normalised by; of others it follows from the model.
    """
    source = read_source(weights, key=key)
    known = in_our_names(source)
    heads = [
        known.weights.get(f"{name}.weight") for name in FAMILIES[known.family].model.head_names
    ]
    classes = next((len(head) for head in heads if head is not None), None)
    settings: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if source.trained_model is not None and source.trained_model[0] == model:
        settings = {**(source.trained_model[1] or {}), **settings}
    net = create_model(model, **settings)
    try:
        load_source(net, source, tell=tell)
    except ValueError as error:
        joint = " " if str(error).endswith(".") else "; "
        said = f"{error}{joint}'minswin info {weights}' says which model it fits"
        raise ValueError(said) from None
    learnt = source.training_data
    if learnt is not None:
        statistics_ = tuple(learnt["mean"]), tuple(learnt["std"])
        return Published(net, statistics_, list(learnt["classes"]), True)
    mean, std = statistics(model, known.dialect)
    if tell is not None:
        tell(f"images are normalised by mean {mean} and std {std}, as in published trainings")
    return Published(net, (mean, std), None, False)


def statistics(model: str, dialect: str) -> Statistics:
    """Mean and standard deviation of the training: ViT and TNT map bytes to −1…1.

    torchvision trained its ViT with ImageNet's, as all others did.
    """
    half = model.startswith(("vit", "tnt")) and dialect != "torchvision"
    return HALF if half else IMAGENET
