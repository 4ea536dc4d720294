"""From a picture file to a page that shows what a model does with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin import data
from minswin.arguments import checks_switches
from minswin.bench.attention_cost import attention_cost
from minswin.data.pictures import read_image
from minswin.look.canvas import enlarge
from minswin.look.page.samples import DRAWINGS, draw
from minswin.look.page.subject import Cost, Examples, Sample, Sight, Subject
from minswin.look.page.write import write_page
from minswin.models import SwinTransformer, create_model
from minswin.replacing import require_replaceable
from minswin.training.checkpoints import DEFAULT, load_trained_model
from minswin.training.classifiers import HALF, Statistics, load_published
from minswin.training.evaluation import predict

__all__ = ["explain"]

LARGEST_MAP = 64  # tokens along a side, where attention is counted
WORK = 40e9  # multiply-adds to spend on example images
FEWEST, MOST = 60, 300  # of them
SAMPLES = 8  # pictures to begin with


class _Loaded(NamedTuple):
    model: Any
    origin: str
    trained: bool
    classes: list[str] | None  # None: numbers
    statistics: Statistics
    set: str  # what it was trained on, as far as we know


@checks_switches
def explain(
    image: Path | str | None,
    out: Path | str,
    *,
    model: str | None = None,
    weights: Path | str | None = None,
    key: str | None = None,
    data_dir: str | None = None,
    measure: bool = False,
    beside: Sequence[Path | str] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write a page (.html) about how a model sees an image.

    image: a picture file, or None for a sample   weights alone: the folder of a run, a file of
    one, or weights of the package   model and weights: a name and a weight file of any known
    implementation   model alone: random weights
    key: the entry of the weight file; see weights.load
    data_dir: take example images from the CIFAR files there   measure: time attention too
    beside: runs of other models, or weights of the package, whose features are drawn beside
    tell: is given what is being done
    """
    beside = (beside,) if isinstance(beside, (str, Path)) else beside
    require_replaceable(out, who="explain", besides=(image, weights, *beside))
    tell("reading the model and the images")
    try:
        loaded, read = _load(model, weights, key)
        picture = None if image is None else Sample(Path(image).name, read(image))
        several = [loaded, *(_of_run(run) for run in beside)]
        images = _images(several, data_dir)
    except (ValueError, OSError, ImportError) as error:
        raise _renamed(error) from error
    samples = _samples(loaded, picture)
    x = _normalised(loaded, samples[0].pixels)  # (3, H, W)
    probabilities = predict(loaded.model, x[None])[0]  # (K,)
    if not np.isfinite(probabilities).all():
        raise ValueError("explain: the model answers with nan; its weights are spoilt: use others")
    tell(f"{len(images)} example images through the model")
    sights = [
        Sight(
            name,
            each.model,
            _seen_by(each, samples[0].pixels[None])[0],
            _seen_by(each, images.images),
            each.classes or (),
        )
        for name, each in zip(_names(several), several, strict=True)
    ]
    tell("looking inside, and drawing")
    subject = Subject(
        samples=samples,
        x=x,
        model=loaded.model,
        origin=loaded.origin,
        trained=loaded.trained,
        classes=loaded.classes or [f"class {k}" for k in range(len(probabilities))],
        statistics=loaded.statistics,
        probabilities=probabilities,
        examples=Examples(images.name, sights[0].examples, images.labels, tuple(images.classes)),
        cost=_cost(loaded.model, measure),
        sights=sights,
    )
    return write_page(subject, Path(out))


def _samples(loaded: _Loaded, picture: Sample | None) -> list[Sample]:
    """The picture, if there is one, and pictures to go on with: of the built-in set or drawn."""
    size = loaded.model.img_size
    shapes = data.load("shapes", split="test", count=SAMPLES)
    if loaded.classes == list(shapes.classes):
        each = zip(shapes.labels, shapes.images, strict=True)
        others = [Sample(shapes.classes[k], _enlarged(pixels, size)) for k, pixels in each]
    else:
        others = [Sample(name, draw(name, size)) for name in DRAWINGS]
    return others if picture is None else [picture, *others[: SAMPLES - 1]]


def _names(several: list[_Loaded]) -> list[str]:
    """The names of the models, with a number where an earlier one has the same."""
    names = [one.model.name for one in several]
    earlier = [names[:i].count(name) for i, name in enumerate(names)]
    return [f"{n} ({k + 1})" if k else n for n, k in zip(names, earlier, strict=True)]


def _renamed(error: Exception) -> Exception:
    """An error of what was to be read, in the name of this command."""
    kinds = FileNotFoundError, OSError, ImportError, ValueError
    kind = next(kind for kind in kinds if isinstance(error, kind))
    return kind("explain: " + re.sub(r"^\w+: ", "", str(error)))


def _load(
    model: str | None, weights: Path | str | None, key: str | None
) -> tuple[_Loaded, Callable[[Path | str], np.ndarray]]:
    """The model, and how a picture file becomes bytes (3, H, W) of the model's size."""
    if model is None:
        if key is not None:
            raise ValueError("explain: key chooses an entry of a weight file; give model too")
        loaded = _of_run(weights or DEFAULT)
        return loaded, partial(_squeezed, size=loaded.model.img_size)
    if weights is None:
        net = create_model(model, rng=np.random.default_rng(0))
        loaded = _Loaded(net, "Random weights", False, None, HALF, "")
        return loaded, partial(_squeezed, size=net.img_size)
    published = load_published(model, weights, key=key)
    origin, classes = f"Weights of {Path(weights).name}", published.classes
    loaded = _Loaded(published.model, origin, True, classes, published.statistics, "")
    return loaded, partial(published.prepare, who="explain")


def _of_run(weights: Path | str) -> _Loaded:
    net, info = load_trained_model(weights)
    trained_on = info["data"]
    origin = f"Weights of {weights}, trained on {trained_on['name']}"
    statistics = tuple(trained_on["mean"]), tuple(trained_on["std"])
    return _Loaded(net, origin, True, trained_on["classes"], statistics, trained_on["name"])


def _squeezed(image: Path | str, size: tuple[int, int]) -> np.ndarray:
    return read_image(image, height=size[0], width=size[1])


def _images(several: list[_Loaded], data_dir: str | None) -> data.Dataset:
    """Test images, fewer for a costly model."""
    cost = max(one.model.flops() for one in several)
    count = int(min(MOST, max(FEWEST, WORK / cost)))
    if data_dir is None:
        return data.load("shapes", split="test", count=count)
    known = several[0].set
    name = known if known in ("cifar10", "cifar100") else "cifar10"
    return data.read_cifar(data_dir, name=name, split="test").subset(slice(count))


def _seen_by(loaded: _Loaded, images: np.ndarray) -> np.ndarray:
    """Images in bytes (B, 3, h, w) at the size of a model, normalised: (B, 3, H, W)."""
    size = loaded.model.img_size
    return _normalised(loaded, np.stack([_enlarged(image, size) for image in images]))


def _enlarged(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bytes (3, h, w) as (3, H, W): every pixel becomes a rectangle of its colour."""
    return np.stack([enlarge(channel, size) for channel in image])


def _normalised(loaded: _Loaded, pixels: np.ndarray) -> np.ndarray:
    mean, std = loaded.statistics
    return data.normalize(pixels, mean=mean, std=std)


def _cost(model: Any, measure: bool) -> Cost:
    """Attention as in the first block of a Swin; of other models, as in Swin-T."""
    C, heads, M, patch = 96, 3, 7, 4
    if isinstance(model, SwinTransformer) and model.layers[0].blocks:
        first = model.layers[0].blocks[0].attn
        C, heads, M = first.qkv.weight.shape[1], first.heads, min(first.window)
        patch = model.patch_size[0]
    sides = [M * 2**i for i in range(4) if M * 2**i <= LARGEST_MAP]
    rounds = 3 if measure else 0
    points = attention_cost(sides, channels=C, heads=heads, window=M, rounds=rounds)
    return Cost(*points, C, heads, M, patch)
