"""Whose names a state has, what model it is of, and which named models it fits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from typing import Any, NamedTuple

import numpy as np

from minswin.models.base import Model
from minswin.models.deit import DistilledVisionTransformer
from minswin.models.registry import CLASSES, MODELS
from minswin.models.resnet import ResNet
from minswin.models.swin import SwinTransformer
from minswin.models.swin_v2 import SwinTransformerV2
from minswin.models.tnt import TNT
from minswin.models.vit import VisionTransformer
from minswin.weights.names_buffers import Facts, check, split_off
from minswin.weights.names_rows import OURS, State, translate
from minswin.weights.names_tables import TABLES

Settings = dict[str, Any]

FAMILIES: dict[str, type[Model]] = {
    "swin": SwinTransformer,
    "swinv2": SwinTransformerV2,
    "vit": VisionTransformer,
    "deit": DistilledVisionTransformer,
    "tnt": TNT,
    "resnet": ResNet,
}
HEADS = ("head", "head_dist", "fc")
BASES = ("swin", "swinv2", "vit", "deit")  # what transformers' models without a head leave out


class Known(NamedTuple):
    """A state that was recognised, under our names."""

    family: str
    dialect: str
    weights: State
    buffers: State
    unknown: list[str]  # names that no table has


def dialect(state: Mapping[str, np.ndarray]) -> str:
    """Whose names these are: microsoft, timm, transformers, torchvision, …

    Where two have the same names, the family's original is said: older files of timm have
    microsoft's. A state without a head is recognised too: by the place of Swin's merges.
    """
    known = recognise(state)
    if known.unknown:
        raise ValueError(
            f"dialect: nearest to these {len(state):,} names are those of {known.dialect} for a "
            f"{known.family}, but it has no {_several(known.unknown)}"
        )
    return known.dialect


def recognise(state: Mapping[str, np.ndarray]) -> Known:
    """The table that has most of the names and whose shapes fit, and the state under our names."""
    known = nearest(state, list(TABLES))
    for base in BASES:
        if _good(known, state):
            break
        known = nearest({f"{base}.{name}": x for name, x in state.items()}, list(TABLES))
    if known is None or not _good(known, state):
        raise ValueError(
            f"dialect: none of the known families and namings fits these {len(state):,} names "
            f"({_several(list(state))}); known are "
            + ", ".join(f"{family} ({of})" for family, of in TABLES)
        )
    return known


def _good(known: Known | None, state: Mapping[str, np.ndarray]) -> bool:
    return known is not None and len(known.unknown) <= len(state) / 2


def nearest(state: Mapping[str, np.ndarray], tables: list[tuple[str, str]]) -> Known | None:
    """The one of the tables that has most of the names, if any fits the shapes."""
    found, problem = [], None
    for family, of in tables:
        try:
            weights, unknown = translate(state, family, of, towards=OURS)
        except ValueError as error:  # what one table refuses, another may mean
            problem = error
            continue
        if fits_family(weights, family):
            found.append(Known(family, of, *split_off(weights), unknown))
    if problem is not None and not found:
        raise problem
    return min(found, key=lambda known: len(known.unknown), default=None)


def _several(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f", … ({len(names):,})" if len(names) > 5 else "")


def fits_family(weights: Mapping[str, np.ndarray], family: str) -> bool:
    """Whether the weights have what only this family has, and in shapes that only it has."""
    needed = {
        "swin": r"layers\.\d+\.blocks\.\d+\.attn\.relative_position_bias_table",
        "swinv2": r"layers\.\d+\.blocks\.\d+\.attn\.logit_scale",
        "vit": r"blocks\.\d+\.attn\.qkv\.weight",
        "deit": r"dist_token",
        "tnt": r"inner_pos",
        "resnet": r"layer1\.0\.conv1\.weight",
    }
    if not any(re.fullmatch(needed[family], name) for name in weights):
        return False
    for name, array in weights.items():  # a merge halves the map at the END of a stage
        stage = name.partition(".downsample.reduction.")[0]
        norm = weights.get(stage + ".blocks.0.norm1.weight")
        if norm is not None and stage != name and array.shape != (2 * norm.size, 4 * norm.size):
            return False
    return True


# ── which model ──────────────────────────────────────────────────────────────────────────────────


def settings_of(known: Known) -> Settings:
    """The settings of the model that the weights are of, as far as they tell.

    They do not tell a ViT's number of heads, nor, without its buffers, the window of a Swin V2.
    """
    read = {"swin": _swin, "swinv2": _swin, "tnt": _tnt, "resnet": _resnet}.get(known.family, _vit)
    facts = check(known.buffers, known.weights)
    try:
        own = read(known.weights, facts)
        head = next((h for h in HEADS if f"{h}.weight" in known.weights), None)
        if head is not None:
            own["num_classes"] = len(known.weights[f"{head}.weight"])
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        what = f"no {error.args[0]}" if isinstance(error, KeyError) else "a weight of a wrong shape"
        raise ValueError(
            f"dialect: a whole {known.family} was expected, and these {len(known.weights):,} "
            f"weights have {what}; are they damaged, or in one of several files?"
        ) from None
    return own


def fitting(known: Known) -> list[str]:
    """The named models that the weights fit, but for the number of classes."""
    own = settings_of(known)
    family = FAMILIES[known.family]
    names = [n for n in MODELS if CLASSES.get(n, SwinTransformer) is family]
    return [name for name in names if not _differing(own, full_settings(name))]


def full_settings(name: str) -> Settings:
    """The settings of a named model, defaults included."""
    family: Any = CLASSES.get(name, SwinTransformer)
    defaults: Settings = {}
    for one in reversed(family.__mro__):
        defaults.update(getattr(vars(one).get("__init__"), "__kwdefaults__", None) or {})
    return {**defaults, **MODELS[name]}


def _differing(own: Settings, full: Settings) -> list[str]:
    """The settings in which weights and a model differ; `num_classes` is not asked."""
    asked = {**own, "num_classes": full["num_classes"]}
    return [key for key, value in asked.items() if _plain(full.get(key)) != _plain(value)]


def _plain(value: Any) -> Any:
    """4 for (4, 4), and a tuple for a list."""
    if isinstance(value, (tuple, list)):
        return value[0] if len(value) == 2 and value[0] == value[1] else tuple(value)
    return value


def _count(weights: State, pattern: str) -> int:
    """One more than the largest number that stands in the place of the group."""
    found = (re.match(pattern, name) for name in weights)
    return max((int(m[1]) + 1 for m in found if m), default=0)


def _swin(weights: State, facts: Facts) -> Settings:
    channels, _, *patch = weights["patch_embed.proj.weight"].shape
    stages = _count(weights, r"layers\.(\d+)\.")
    depths = [_count(weights, rf"layers\.{i}\.blocks\.(\d+)\.") for i in range(stages)]
    own: Settings = {"embed_dim": channels, "patch_size": tuple(patch), "depths": tuple(depths)}
    first = "layers.{}.blocks.0.attn.{}"
    v2 = any(name.endswith("logit_scale") for name in weights)
    each = "logit_scale" if v2 else "relative_position_bias_table"  # (h, 1, 1) or (rows, h)
    shapes = [np.shape(weights[first.format(i, each)]) for i in range(stages)]
    own["num_heads"] = tuple(shape[0 if v2 else 1] for shape in shapes)
    if not v2:
        rows, side = shapes[0][0], isqrt(shapes[0][0])
        own["window_size"] = (side + 1) // 2 if side * side == rows else None  # it is not square
    if facts.windows.get(0):
        own["window_size"] = facts.windows[0]
    if facts.pretrained:
        own["pretrained_window_sizes"] = tuple(facts.pretrained.get(i, 0) for i in range(stages))
    if 0 in facts.grids:
        own["img_size"] = tuple(n * p for n, p in zip(facts.grids[0], patch, strict=True))
    own["qkv_bias"] = first.format(0, "q_bias" if v2 else "qkv.bias") in weights
    own["mlp_ratio"] = weights["layers.0.blocks.0.mlp.fc1.weight"].shape[0] / channels
    own["patch_norm"] = "patch_embed.norm.weight" in weights
    own["ape"] = "absolute_pos_embed" in weights
    if own["ape"]:
        own["img_size"] = _side(weights["absolute_pos_embed"].shape[1], patch)
    return own


def _side(tokens: int, patch: list[int]) -> Any:
    """The image whose patches are as many as these, if it is square."""
    return isqrt(tokens) * patch[0], isqrt(tokens) * patch[1]


def _vit(weights: State, _: Facts) -> Settings:
    channels, _, *patch = weights["patch_embed.proj.weight"].shape
    extra = ("cls_token" in weights) + ("dist_token" in weights)
    own: Settings = {"embed_dim": channels, "patch_size": tuple(patch)}
    own["depth"] = _count(weights, r"blocks\.(\d+)\.")
    own["mlp_ratio"] = weights["blocks.0.mlp.fc1.weight"].shape[0] / channels
    own["qkv_bias"] = "blocks.0.attn.qkv.bias" in weights
    own["global_pool"] = "token" if "cls_token" in weights else "avg"
    if "pos_embed" in weights:
        own["img_size"] = _side(weights["pos_embed"].shape[1] - extra, patch)
        own["positions"] = "learned"
    if "pre_logits.fc.weight" in weights:
        own["representation_size"] = len(weights["pre_logits.fc.weight"])
    return own


def _tnt(weights: State, _: Facts) -> Settings:
    channels, inner = weights["outer_pos"].shape[2], weights["inner_pos"].shape[2]
    own: Settings = {"embed_dim": channels, "inner_dim": inner}
    own["depth"] = _count(weights, r"blocks\.(\d+)\.")
    own["mlp_ratio"] = weights["blocks.0.outer_mlp.fc1.weight"].shape[0] / channels
    own["qkv_bias"] = "blocks.0.outer_attn.qk.bias" in weights
    own["legacy"] = "blocks.0.proj_norm2.weight" not in weights
    return own


def _resnet(weights: State, _: Facts) -> Settings:
    width, _, side, _ = weights["conv1.weight"].shape
    stages = _count(weights, r"layer(\d+)\.") - 1
    depths = [_count(weights, rf"layer{i + 1}\.(\d+)\.") for i in range(stages)]
    own: Settings = {"width": width, "stem": "imagenet" if side == 7 else "cifar"}
    own["depths"] = tuple(depths)
    own["block"] = "bottleneck" if "layer1.0.conv3.weight" in weights else "basic"
    return own
