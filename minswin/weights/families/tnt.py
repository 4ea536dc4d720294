"""TNT: our names are the original's but for few."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minswin.models.tnt import TNT as Model
from minswin.weights.families.family import Facts, Family, Settings, State, Told, count

UNUSED = "outer_tokens"  # of the original: nothing reads them

NAMES = """
    cls_token
    outer_pos
    inner_pos
    patch_embed.proj
    proj_norm{n}
    proj
    blocks.{i}.*
        inner_attn.qk
        inner_attn.v
        inner_attn.proj
        inner_mlp.fc{n}
        outer_attn.qk
        outer_attn.v
        outer_attn.proj
        outer_mlp.fc{n}
        proj_norm{n}
        proj
    norm
    head
"""

OWN = """
    blocks.{i}.inner_norm{n}
    blocks.{i}.outer_norm{n}
"""

ORIGINAL = f"""{OWN}
    outer_tokens                  =                                    buffer
"""

TIMM = """
    outer_tokens                  =                                    checked
    outer_pos                     patch_pos
    inner_pos                     pixel_pos                            words
    patch_embed.proj              pixel_embed.proj
    proj_norm{n}                  norm{n}_proj
    blocks.{i}.*                  blocks.{i}.*
        inner_norm1                   norm_in
        inner_norm2                   norm_mlp_in
        inner_attn.*                  attn_in.*
        inner_mlp.*                   mlp_in.*
        proj_norm{n}                  norm{n}_proj
        outer_norm1                   norm_out
        outer_norm2                   norm_mlp
        outer_attn.*                  attn_out.*
        outer_mlp.*                   mlp.*
"""


def _settings(weights: State, _: Facts) -> Settings:
    channels, inner = weights["outer_pos"].shape[2], weights["inner_pos"].shape[2]
    settings: Settings = {"embed_dim": channels, "inner_dim": inner}
    settings["depth"] = count(weights, r"blocks\.(\d+)\.")
    settings["mlp_ratio"] = weights["blocks.0.outer_mlp.fc1.weight"].shape[0] / channels
    settings["qkv_bias"] = "blocks.0.outer_attn.qk.bias" in weights
    settings["legacy"] = "blocks.0.proj_norm2.weight" not in weights
    return settings


def _make(weights: State, kept: Callable[[str], bool], told: Told, model: Any) -> State:
    return {UNUSED: np.zeros_like(weights["outer_pos"][:, 1:])} if kept(UNUSED) else {}


TNT = Family(
    paper="Transformer in Transformer",
    model=Model,
    mark="inner_pos",
    names=NAMES,
    own=OWN,
    tables={"original": ORIGINAL, "timm": TIMM},
    settings=_settings,
    buffers=(UNUSED,),
    make=_make,
    words=lambda model: None if model is None else model.patch_embed.words,
)
