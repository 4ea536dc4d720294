"""From a picture file to a page that shows what a model does with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin import data
from minswin.bench.attention_cost import attention_cost
from minswin.look.canvas import enlarge
from minswin.look.report import write_report
from minswin.look.subject import Cost, Examples, Subject
from minswin.models import SwinTransformer, create_model
from minswin.training.checkpoints import load_trained_model
from minswin.training.classify import read_image
from minswin.training.evaluate import predict
from minswin.training.pretrained import DEFAULT, find_trained
from minswin.training.published import HALF, Statistics, prepare, statistics

LARGEST_MAP = 64  # tokens along a side, where attention is counted
WORK = 40e9  # multiply-adds to spend on example images
FEWEST, MOST = 60, 300  # of them


class _Loaded(NamedTuple):
    model: Any
    origin: str
    trained: bool
    classes: list[str] | None  # None: numbers
    statistics: Statistics
    set: str  # what it was trained on, as far as we know


def explain(
    image: Path | str,
    out: Path | str,
    *,
    model: str | None = None,
    weights: Path | str | None = None,
    data_dir: str | None = None,
    measure: bool = False,
) -> Path:
    """Write a page (.html) about how a model sees an image.

    weights alone: the folder of a run, a file of one, or weights of the package   model and
    weights: a name and a weight file of any known implementation   model alone: random weights
    data_dir: take example images from the CIFAR files there   measure: time attention too
    """
    out = Path(out)
    if not out.parent.is_dir():
        raise FileNotFoundError(f"explain: there is no folder {out.parent} to write {out.name} to")
    try:
        loaded, pixels = _load(image, model, weights)
    except (ValueError, OSError, ImportError) as error:
        raise _renamed(error) from error
    mean, std = loaded.statistics
    x = data.normalize(pixels, mean=mean, std=std)  # (3, H, W)
    probabilities = predict(loaded.model, x[None])[0]  # (K,)
    if not np.isfinite(probabilities).all():
        raise ValueError("explain: the model answers with nan; its weights are spoilt: use others")
    numbers = [f"class {k}" for k in range(len(probabilities))]
    subject = Subject(
        Path(image).name,
        pixels,
        x,
        loaded.model,
        loaded.origin,
        loaded.trained,
        loaded.classes or numbers,
        probabilities,
        _examples(loaded, data_dir),
        _cost(loaded.model, measure),
    )
    return write_report(subject, out)


def _renamed(error: Exception) -> Exception:
    """An error of reading the image, in the name of this command."""
    text = str(error)
    return type(error)("explain: " + text.removeprefix("predict: "))


def _load(
    image: Path | str, model: str | None, weights: Path | str | None
) -> tuple[_Loaded, np.ndarray]:
    """The model, and the image in bytes (3, H, W) of the model's size."""
    if model is None:
        net, info = load_trained_model(find_trained(weights or DEFAULT))
        known = info["data"]
        origin = f"Weights of {weights or DEFAULT}, trained on {known['name']}"
        own = tuple(known["mean"]), tuple(known["std"])
        loaded = _Loaded(net, origin, True, known["classes"], own, known["name"])
        return loaded, _squeezed(image, net.img_size)
    if weights is None:
        net = create_model(model, rng=np.random.default_rng(0))
        loaded = _Loaded(net, "Random weights", False, None, HALF, "")
        return loaded, _squeezed(image, net.img_size)
    return _published(image, model, weights)


def _squeezed(image: Path | str, size: tuple[int, int]) -> np.ndarray:
    return read_image(image, height=size[0], width=size[1])


def _published(image: Path | str, model: str, weights: Path | str) -> tuple[_Loaded, np.ndarray]:
    from minswin.weights.dialect import HEADS, recognise
    from minswin.weights.load import in_our_names, load, read

    state, who = read(weights)
    own = in_our_names(state, who)
    head = next((own[f"{name}.weight"] for name in HEADS if f"{name}.weight" in own), None)
    classes: dict[str, Any] = {} if head is None else {"num_classes": len(head)}
    net = load(model, state, **classes)
    found = statistics(model, recognise(state).dialect)
    loaded = _Loaded(net, f"Weights of {Path(weights).name}", True, None, found, "")
    return loaded, prepare(image, net.img_size)


def _examples(loaded: _Loaded, data_dir: str | None) -> Examples:
    """Test images, fewer for a costly model, at the size of the model."""
    count = int(min(MOST, max(FEWEST, WORK / loaded.model.flops())))
    name = "shapes"
    if data_dir is not None:
        name = loaded.set if loaded.set in ("cifar10", "cifar100") else "cifar10"
    images = data.load(name, split="test", data_dir=data_dir, count=count)
    H, W = loaded.model.img_size
    pixels = np.stack([[enlarge(channel, (H, W)) for channel in image] for image in images.images])
    mean, std = loaded.statistics
    x = data.normalize(pixels, mean=mean, std=std)  # (count, 3, H, W)
    return Examples(images.name, x, images.labels, tuple(images.classes))


def _cost(model: Any, measure: bool) -> Cost:
    """Attention as in the first block of a Swin; of other models, as in Swin-T."""
    C, heads, M = 96, 3, 7
    if isinstance(model, SwinTransformer) and model.layers[0].blocks:
        first = model.layers[0].blocks[0].attn
        C, heads, M = first.qkv.weight.shape[1], first.heads, min(first.window)
    sides = [M * 2**i for i in range(4) if M * 2**i <= LARGEST_MAP]
    rounds = 3 if measure else 0
    points = attention_cost(sides, channels=C, heads=heads, window=M, rounds=rounds)
    return Cost(*points, C, heads, M)
