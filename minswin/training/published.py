"""Published weights on a picture: prepared as they were evaluated, on ImageNet's classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minswin import data
from minswin.models import create_model
from minswin.training.classify import open_image
from minswin.training.evaluate import predict
from minswin.weights.families import FAMILIES
from minswin.weights.load import in_our_names, read
from minswin.weights.recognise import recognise

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of red, green, blue

IMAGENET: Statistics = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF: Statistics = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
SMALLER, SHOWN = 256, 224  # the shorter side is 256 where the middle 224×224 are shown
LONG = 16  # times what is shown: the most that is enlarged to be cut off, for ordinary pictures


def predict_published(
    image: Path | str, model: str, weights: Path | str, *, device: str = "cpu"
) -> tuple[list[str], np.ndarray]:
    """Numbers of the classes, and the probability that the image shows each of them."""
    net, (mean, std) = load_published(model, weights)
    x = prepare(image, net.img_size)[None]  # (1, 3, H, W)
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


def prepare(image: Path | str, size: tuple[int, int]) -> np.ndarray:
    """A picture as bytes (3, H, W): its shorter side at 256/224 of the model's, then the middle.

    Of a long thin picture only the middle is enlarged, for the whole would take gigabytes.
    For 384 and more the whole is squeezed to the size, as the original does.
    """
    picture, (height, width) = open_image(image), size
    bicubic = 3  # Pillow's number of its bicubic filter
    if min(size) >= 384:
        return _bytes(picture.resize((width, height), bicubic))
    scale = max(_enlarged(height) / picture.height, _enlarged(width) / picture.width)
    # the side that decides is exact, the other is cut off to whole pixels
    wide = max(int(picture.width * scale + 1e-9), width)
    high = max(int(picture.height * scale + 1e-9), height)
    left, top = round((wide - width) / 2), round((high - height) / 2)
    if wide * high <= LONG * width * height:
        resized = picture.resize((wide, high), bicubic)
        return _bytes(resized.crop((left, top, left + width, top + height)))
    across = left * picture.width / wide, (left + width) * picture.width / wide
    down = top * picture.height / high, (top + height) * picture.height / high
    box = across[0], down[0], across[1], down[1]  # the middle, in pixels of the picture
    return _bytes(picture.resize((width, height), bicubic, box=box))


def _enlarged(side: int) -> int:
    return side * SMALLER // SHOWN


def _bytes(picture: Any) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(picture, np.uint8).transpose(2, 0, 1))


def statistics(model: str, dialect: str) -> Statistics:
    """Mean and standard deviation of the training: ViT and TNT map bytes to −1…1.

    torchvision trained its ViT with ImageNet's, as all others did.
    """
    half = model.startswith(("vit", "tnt")) and dialect != "torchvision"
    return HALF if half else IMAGENET
