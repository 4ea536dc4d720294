"""What a checkpoint is good for: to be tested on a set of images, and to name a single one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin import data
from minswin.training.checkpoints import load_trained_model
from minswin.training.evaluate import Evaluation, evaluate, predict
from minswin.training.inputs import evaluation_batches
from minswin.training.parallel import Workers


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
    threads: int = 1,
) -> Test:
    """Classify a set of images (by default that of the run) with the model of a checkpoint."""
    model, info = load_trained_model(path)
    known = info["data"]
    where: dict[str, Any] = {
        "data_dir": data_dir or info["settings"]["data_dir"],
        "download": download,
    }
    images = data.load(name or known["name"], split=split, **where)
    if list(images.classes) != known["classes"]:
        raise ValueError(
            f"evaluate: the checkpoint {path} tells the {len(known['classes'])} classes of "
            f"'{known['name']}' apart, not the {len(images.classes)} of '{images.name}'; "
            f"leave out --data, or use a checkpoint trained on '{images.name}'"
        )
    batches = evaluation_batches(images, (known["mean"], known["std"]))
    workers = Workers(model, threads)
    try:
        result = evaluate(model, batches, workers=workers)
    finally:
        workers.close()
    return Test(images.name, len(images), tuple(images.classes), result)


def predict_file(image: Path | str, checkpoint: Path | str) -> tuple[list[str], np.ndarray]:
    """The names of the classes, and the probability that the image shows each of them."""
    model, info = load_trained_model(checkpoint)
    size = info["data"]["image"][1:]
    pixels = read_image(image, height=size[0], width=size[1])[None]  # (1, 3, H, W)
    x = data.normalize(pixels, mean=info["data"]["mean"], std=info["data"]["std"])
    return info["data"]["classes"], predict(model, x)[0]  # (K,)


def read_image(path: Path | str, *, height: int, width: int) -> np.ndarray:
    """A picture file as bytes (3, height, width), squeezed to that size."""
    Image = _pillow()
    if not Path(path).is_file():
        raise FileNotFoundError(f"predict: there is no image {path}; give the path of a picture")
    try:
        with Image.open(path) as picture:
            pixels = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"predict: {path} cannot be read as a picture ({error}); use PNG, JPEG or the like"
        ) from error
    return np.ascontiguousarray(np.asarray(pixels, np.uint8).transpose(2, 0, 1))  # (3, H, W)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('predict: pillow is missing; pip install "minswin[plot]"') from error
    return Image
