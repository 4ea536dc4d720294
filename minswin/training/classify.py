"""What a checkpoint is good for: to be tested on a set of images, and to name a single one."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin import data
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


def predict_file(
    image: Path | str, checkpoint: Path | str = DEFAULT, *, device: str = "cpu"
) -> tuple[list[str], np.ndarray]:
    """The names of the classes, and the probability that the image shows each of them.

    checkpoint: a file, the folder of a run, or a name of `pretrained()`.
    """
    model, info = load_trained_model(find_trained(checkpoint))
    size = info["data"]["image"][1:]
    pixels = read_image(image, height=size[0], width=size[1])[None]  # (1, 3, H, W)
    x = data.normalize(pixels, mean=info["data"]["mean"], std=info["data"]["std"])
    probabilities = predict(model.to(device), x)[0]  # (K,)
    if not np.isfinite(probabilities).all():
        raise ValueError(
            f"predict: the model of {checkpoint} answers with nan; its weights are spoilt: use "
            "another checkpoint"
        )
    return info["data"]["classes"], probabilities


def read_image(path: Path | str, *, height: int, width: int) -> np.ndarray:
    """A picture file as bytes (3, height, width): upright, on white, squeezed to that size."""
    Image, _ = _pillow()
    pixels = open_image(path).resize((width, height), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(pixels, np.uint8).transpose(2, 0, 1))  # (3, H, W)


def open_image(path: Path | str) -> Any:
    """A picture file as a picture of Pillow: upright, on white, in red, green, blue of 8 bits."""
    Image, ImageOps = _pillow()
    if not Path(path).is_file():
        raise FileNotFoundError(f"predict: there is no image {path}; give the path of a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                return _opaque(ImageOps.exif_transpose(picture), Image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(
            f"predict: {path} has more than {Image.MAX_IMAGE_PIXELS:,} pixels; "
            "make it smaller first"
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(
            f"predict: {path} cannot be read as a picture ({error}); use PNG, JPEG or the like"
        ) from error


def _opaque(picture: Any, Image: Any) -> Any:
    """A picture of any kind in red, green, blue of 8 bits, over white where it is transparent."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        picture = Image.fromarray(_eight_bits(np.asarray(picture)))
    if {"A", "a"}.intersection(picture.getbands()) or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """Greys (H, W) as bytes: whole numbers are of 16 bits, fractions are of 1, 255 or 65,535."""
    scales = (65_535,) if grey.dtype.kind in "iu" else (1, 255, 65_535)
    low, high = grey.min(), grey.max()
    full = next((scale for scale in scales if 0 <= low and high <= scale), None)
    if full is None:
        raise ValueError(f"its greys lie in {low} to {high}, expected 0 to 65535")
    return np.rint(grey * (255 / full)).astype(np.uint8)


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError('predict: pillow is missing; pip install "minswin[plot]"') from error
    return Image, ImageOps
