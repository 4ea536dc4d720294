"""Model: a layer with a name, a summary and a cost; and how all models read their settings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from minswin.arguments import Pair, Seed, fraction, pair, plain, read_switches, stages, switches_of
from minswin.arrays import Array
from minswin.autograd import Tensor
from minswin.layers import Init, Layer, Parameter
from minswin.layers.embeddings import PatchEmbed
from minswin.layers.parameters import Dtype


class Row(NamedTuple):
    """One line of a model's summary: what it gives, what it learns, what it costs."""

    name: str
    shape: tuple[int, ...]  # of one image, without the batch axis
    parameters: int
    macs: int
    is_stage: bool = False  # its result is one of `feature_maps`


def rows_of_patches(stem: Layer, grid: Pair) -> list[Row]:
    """The pixels of each patch, in a line of a summary; a stem of convolutions has no patches."""
    if not isinstance(stem, PatchEmbed):
        return []
    weight = stem.proj.weight  # (C, 3, ph, pw)
    return [Row("patches", (*grid, weight.size // len(weight.data)), 0, 0)]


class Learnt:
    """Counts learnt numbers: those of each parameter once, in however many rows it is used."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def __call__(self, *parts: Layer | Parameter | None) -> int:
        """The learnt numbers of `parts` that were not counted before."""
        total = 0
        for part in parts:
            for p in _parameters(part):
                if id(p) not in self._seen:
                    self._seen.add(id(p))
                    total += p.size
        return total


def _parameters(part: Layer | Parameter | None) -> Iterable[Parameter]:
    if isinstance(part, Layer):
        return part.parameters()
    return () if part is None else (part,)


class Model(Layer):
    """Images (B, 3, H, W) in, logits (B, num_classes) out; `create_model` makes them by name.

    `name` and `settings` build the same model again; `rng` draws the dropout masks. What the rest
    of the package needs to know about a family of models are attributes of its class.
    """

    family: str = ""  # its name in weights.families, where its weights have names elsewhere
    head_names: tuple[str, ...] = ("head",)  # of the layers that give logits
    position_names: tuple[str, ...] = ()  # of parameters with a row for each token of an image

    name: str = "model"
    settings: dict[str, object]
    img_size: Pair
    patch_size: Pair  # of models that cut images into patches
    rng: np.random.Generator

    def _begin(
        self, rng: Seed, dtype: Dtype, img_size: int | Pair, patch_size: int | Pair | None = None
    ) -> Init:
        """Read what all models are given, the first thing that a constructor does."""
        who = type(self).__name__
        init = Init(rng, dtype, who)
        self.rng, self.img_size = init.rng, pair(who, "img_size", img_size)
        if patch_size is not None:
            self.patch_size = pair(who, "patch_size", patch_size)
        return init

    def __call__(self, x: Tensor | Array) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not define __call__")

    def feature_maps(self, x: Tensor | Array) -> list[Tensor]:
        """Images (B, 3, H, W) to the map (B, H', W', C) after every stage, fine to coarse.

        Of a model without stages, after every block. The last is as the head takes it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define feature_maps")

    @property
    def first_stride(self) -> Pair:
        """How many pixels a token of the finest map is high and wide."""
        return self.patch_size

    def summary(self, img_size: int | Pair | None = None) -> list[Row]:
        """One row per step: name, shape, parameters, multiply-adds of one image."""
        raise NotImplementedError(f"{type(self).__name__} does not define summary")

    def flops(self, img_size: int | Pair | None = None) -> int:
        """Multiply-adds (MACs) of one image; papers call this "FLOPs"."""
        return sum(row.macs for row in self.summary(img_size))


# ── settings: `who` is the class that is being built ─────────────────────────────────────────────


def defaults_of(family: type[Model]) -> dict[str, Any]:
    """The keywords of a class of models with their defaults; those of a derived class count."""
    defaults: dict[str, Any] = {}
    for base in family.__mro__:
        keywords = getattr(vars(base).get("__init__"), "__kwdefaults__", None) or {}
        defaults |= {name: x for name, x in keywords.items() if name not in defaults}
    return defaults


def plain_settings(family: type[Model], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as JSON can hold them, with a bool for each switch."""
    settings = {name: plain(x) for name, x in settings.items()}
    read_switches(family.__name__, switches_of(family), settings)
    return settings


def mlp_width(who: str, mlp_ratio: Any, embed_dim: int) -> int:
    """Hidden channels of the MLP."""
    if isinstance(mlp_ratio, str) or not 1 <= mlp_ratio * embed_dim < math.inf:
        raise ValueError(
            f"{who}: mlp_ratio must be positive, and mlp_ratio · embed_dim at least 1, "
            f"got {mlp_ratio} for embed_dim {embed_dim}"
        )
    return int(embed_dim * mlp_ratio)


def check_rates(who: str, **rates: Any) -> None:
    """Raise, in the name of the model, what a layer inside would raise in its own."""
    for name, rate in rates.items():
        fraction(who, name, rate)


def per_stage(who: str, **settings: tuple[int, ...]) -> list[tuple[int, ...]]:
    """For each stage its entry of every setting."""
    read = {name: stages(who, name, values) for name, values in settings.items()}
    if len({len(values) for values in read.values()}) > 1:
        each = ", ".join(f"{name} {values}" for name, values in read.items())
        raise ValueError(f"{who}: every setting of stages needs one entry per stage, got {each}")
    return list(zip(*read.values(), strict=True))


def drop_path_rates(rate: float, blocks: int) -> list[float]:
    """The rate of every block: from 0 for the first, in equal steps, to `rate` for the last."""
    fraction("drop_path_rates", "rate", rate)
    return [rate * i / max(blocks - 1, 1) for i in range(blocks)]


# ── images ───────────────────────────────────────────────────────────────────────────────────────


def patch_grid(img_size: Pair, patch: Pair, *, who: str = "patch_grid") -> Pair:
    """How many patches an image has along each axis."""
    (H, W), (ph, pw) = img_size, patch
    if H % ph or W % pw:
        raise ValueError(
            f"{who}: a {H}×{W} image does not divide into {ph}×{pw} patches; "
            f"pad it to {H + -H % ph}×{W + -W % pw} or choose patch_size=1"
        )
    return H // ph, W // pw


def check_grid(
    who: str, subject: str, learnt: Pair, grid: Pair, patch: Pair, or_else: str = ""
) -> None:
    """Raise unless an image has as many patches as its positions were made for."""
    if grid != learnt:
        raise ValueError(
            f"{who}: {subject} made for {learnt[0]}×{learnt[1]} patches, got {grid[0]}×{grid[1]}; "
            f"build the model with img_size=({grid[0] * patch[0]}, {grid[1] * patch[1]}){or_else}"
        )


def as_images(who: str, x: Tensor | Array, channels: int, dtype: Any) -> Tensor:
    """x as a Tensor, if it is a batch of images (B, channels, H, W) of this dtype."""
    try:
        x = x if isinstance(x, Tensor) else Tensor(x)
    except TypeError as error:
        raise TypeError(f"{who}: images: {error}") from None
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(
            f"{who}: images must be (B, {channels}, H, W), got {x.shape}"
            + ("; move the channels to axis 1" if x.shape[-1:] == (channels,) else "")
        )
    if x.dtype != dtype:
        buildable = x.dtype in (np.float32, np.float64)
        other = f", or build the model with dtype=np.{x.dtype}" if buildable else ""
        bytes_ = "; bytes are to be normalised first, see data.normalize"
        raise TypeError(
            f"{who}: images must be {dtype} like the weights, got {x.dtype}; "
            f"use .astype(np.{dtype}){other}{bytes_ if x.dtype.kind in 'iu' else ''}"
        )
    return x
