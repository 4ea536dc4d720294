"""Twins-SVT: our names are timm's, and timm's are the original's."""

from __future__ import annotations

from minswin.models.twins import Twins as Model
from minswin.weights.families.family import Facts, Family, Settings, State, count

NAMES = """
    patch_embeds.{i}.*
        proj
        norm
    pos_block.{i}.proj.0
    blocks.{i}.{j}.*
        norm{n}
        attn.qkv
        attn.q
        attn.kv
        attn.sr
        attn.norm
        attn.proj
        mlp.fc{n}
    norm
    head
"""


def _settings(weights: State, _: Facts) -> Settings:
    stages = count(weights, r"blocks\.(\d+)\.")
    C, _, *patch = weights["patch_embeds.0.proj.weight"].shape
    ratios = (weights.get(f"blocks.{i}.1.attn.sr.weight") for i in range(stages))
    return {
        "embed_dim": C,
        "patch_size": patch[0] if patch[0] == patch[1] else tuple(patch),
        "depths": tuple(count(weights, rf"blocks\.{i}\.(\d+)\.") for i in range(stages)),
        "sr_ratios": tuple(1 if weight is None else weight.shape[2] for weight in ratios),
        "mlp_ratio": weights["blocks.0.0.mlp.fc1.weight"].shape[0] / C,
    }


TWINS = Family(
    paper="Twins-SVT",
    model=Model,
    mark=r"pos_block\.0\.proj\.0\.weight",
    names=NAMES,
    tables={"timm": ""},
    settings=_settings,
)
