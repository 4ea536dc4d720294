"""Published weights on a picture: prepared as they were evaluated, on ImageNet's classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minswin import data
from minswin.data.pictures import prepare
from minswin.models import create_model
from minswin.training.evaluate import predict
from minswin.weights.families import FAMILIES
from minswin.weights.load import in_our_names, read
from minswin.weights.recognise import recognise

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of red, green, blue

IMAGENET: Statistics = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF: Statistics = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def predict_published(
    image: Path | str, model: str, weights: Path | str, *, device: str = "cpu"
) -> tuple[list[str], np.ndarray]:
    """Numbers of the classes, and the probability that the image shows each of them."""
    net, (mean, std) = load_published(model, weights)
    x = prepare(image, net.img_size, who="predict")[None]  # (1, 3, H, W)
    probabilities = predict(net.to(device), data.normalize(x, mean=mean, std=std))[0]
    if not np.isfinite(probabilities).all():
        raise ValueError(
            f"predict: the model answers with nan; the weights in {weights} are spoilt"
        )
    return [f"class {k}" for k in range(len(probabilities))], probabilities


def load_published(model: str, weights: Path | str) -> tuple[Any, Statistics]:
    """A model with the weights and the classes of a file, and what its images are normalised by."""
    state, who = read(weights)
    own = in_our_names(state, who)
    known = recognise(state)
    heads = FAMILIES[known.family].heads
    head = next((own[f"{name}.weight"] for name in heads if f"{name}.weight" in own), None)
    classes: dict[str, Any] = {} if head is None else {"num_classes": len(head)}
    net: Any = create_model(model, **classes)
    try:
        net.load_state_dict(own)
    except ValueError as error:
        told = f"'minswin info {who}' says which model it fits"
        raise ValueError(f"load: {who}: {error} {told}") from None
    return net, statistics(model, known.dialect)


def statistics(model: str, dialect: str) -> Statistics:
    """Mean and standard deviation of the training: ViT and TNT map bytes to −1…1.

    torchvision trained its ViT with ImageNet's, as all others did.
    """
    half = model.startswith(("vit", "tnt")) and dialect != "torchvision"
    return HALF if half else IMAGENET
