"""Swin and Swin V2: what every implementation calls their weights, and what these tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import isqrt, prod

import numpy as np

from minswin.models.swin import SwinTransformer
from minswin.models.swin_v2 import SwinTransformerV2
from minswin.weights.families.family import (
    Facts,
    Family,
    Settings,
    State,
    count,
    image_of,
    image_of_tokens,
    of_embedding,
)
from minswin.weights.families.swin_buffers import BUFFERS, buffers_of, check
from minswin.weights.families.swin_windows import (
    larger_later,
    other_windows,
    sizes_told,
    windows_fit,
)

# ── names: ours that all implementations have, then how each differs ─────────────────────────────

_NAMES = """
    patch_embed.proj
    patch_embed.norm
    layers.{i}.blocks.{j}.*
        norm1
        attn.proj
        norm2
        mlp.fc1
        mlp.fc2
    layers.{i}.downsample.*
        reduction
        norm
    norm
    head
"""

# the convolutions are ours
_OWN = """
    absolute_pos_embed
    patch_embed.convs.{i}
    patch_embed.norms.{i}
"""

_MICROSOFT = f"""{_OWN}
    layers.{{i}}.blocks.{{j}}.*
        attn_mask                     =                                buffer
        attn.relative_position_index  =                                buffer
"""

# The merge is at the start of a stage, not at the end of the one before. Older files have
# microsoft's names.
_TIMM = """
    layers.{i}.blocks.{j}.*
        attn_mask                     =                                checked
        attn.relative_position_index  =                                checked
    layers.{i}.downsample.*       layers.{i+1}.downsample.*
    head                          head.fc
"""

_TRANSFORMERS = """
    absolute_pos_embed            swin.embeddings.position_embeddings
    patch_embed.proj              swin.embeddings.patch_embeddings.projection
    patch_embed.norm              swin.embeddings.norm
    layers.{i}.*                  swin.encoder.layers.{i}.*
        blocks.{j}.norm1              blocks.{j}.layernorm_before
        blocks.{j}.norm2              blocks.{j}.layernorm_after
    norm                          swin.layernorm
    head                          classifier
"""

# transformers before version 5, and every published file
_LINEARS_4 = """
    layers.{i}.blocks.{j}.*       swin.encoder.layers.{i}.blocks.{j}.*
        attn.proj                     attention.output.dense
        mlp.fc1                       intermediate.dense
        mlp.fc2                       output.dense
"""

_ATTENTION_4 = """
    layers.{i}.blocks.{j}.attn.*  swin.encoder.layers.{i}.blocks.{j}.attention.self.*
        relative_position_index       =                                buffer
        qkv                           [query,key,value]
"""

_ATTENTION_5 = """
    layers.{i}.blocks.{j}.attn.*  swin.encoder.layers.{i}.blocks.{j}.attention.*
        relative_position_*           relative_position_bias.relative_position_*
            index                         =                            checked
        qkv                           [q_proj,k_proj,v_proj]
        proj                          o_proj
"""

_TORCHVISION = """
    patch_embed.proj              features.0.0
    patch_embed.norm              features.0.2
    layers.{i}.blocks.{j}.*       features.{2i+1}.{j}.*
        attn.relative_position_index  =                                buffer flat
        mlp.fc1                       mlp.0
        mlp.fc2                       mlp.3
    layers.{i}.downsample.*       features.{2i+2}.*
"""

_BIAS_TABLE = """
    layers.{i}.blocks.{j}.attn.*
        relative_position_bias_table
        qkv
"""

# ── Swin V2: the bias comes from a small network; q and v have a bias, k has none ────────────────

_BIAS_NETWORK = """
    layers.{i}.blocks.{j}.attn.*
        logit_scale
        cpb_mlp.{k}
"""

_TWO_BIASES = """
    layers.{i}.blocks.{j}.attn.*
        q_bias
        v_bias
        qkv
        relative_coords_table         =                                MARK
"""

_V2_ATTENTION_4 = """
    layers.{i}.blocks.{j}.attn.*  swin.encoder.layers.{i}.blocks.{j}.attention.self.*
        q_bias                        query.bias
        v_bias                        value.bias
        qkv.weight                    [query,key,value].weight
        cpb_mlp.{k}                   continuous_position_bias_mlp.{k}
        relative_coords_table         =                                checked
        relative_position_index       =                                checked
"""

# one bias for q, k and v, whose middle is zero
_V2_TORCHVISION = """
    layers.{i}.blocks.{j}.attn.*  features.{2i+1}.{j}.attn.*
        [q_bias,0,v_bias]             qkv.bias
        qkv.weight
        relative_coords_table         =                                buffer
"""

_TRANSFORMERS_V2 = (_TRANSFORMERS + _LINEARS_4 + _V2_ATTENTION_4).replace(" swin.", " swinv2.")

# ── settings ─────────────────────────────────────────────────────────────────────────────────────

_ATTENTION = r"layers\.\d+\.blocks\.\d+\.attn\."  # of every block, with a bias or without
_V2_BIAS = r"\.(attn|self)\.(logit_scale|q_bias|cpb_mlp|continuous_position_bias_mlp)\b"


def _settings(weights: State, facts: Facts) -> Settings:
    settings, patch = of_embedding(weights)
    stages = count(weights, r"layers\.(\d+)\.")
    settings["depths"] = tuple(
        count(weights, rf"layers\.{i}\.blocks\.(\d+)\.") for i in range(stages)
    )
    first = "layers.{}.blocks.0.attn.{}"
    v2 = any(re.search(_V2_BIAS, name) for name in weights)
    of_heads = "logit_scale" if v2 else "relative_position_bias_table"  # (h, 1, 1) or (rows, h)
    shapes = [np.shape(weights[first.format(i, of_heads)]) for i in range(stages)]
    settings["num_heads"] = tuple(shape[0 if v2 else 1] for shape in shapes)
    if not v2:
        rows, side = shapes[0][0], isqrt(shapes[0][0])
        settings["window_size"] = (side + 1) // 2 if side * side == rows else None  # not square
    if facts.windows.get(0):
        settings["window_size"] = facts.windows[0]
    if facts.pretrained:
        sides = (facts.pretrained.get(i, 0) for i in range(stages))
        settings["pretrained_window_sizes"] = tuple(sides)
    if 0 in facts.grids:
        settings |= image_of(facts.grids[0], patch)
    settings["qkv_bias"] = first.format(0, "q_bias" if v2 else "qkv.bias") in weights
    hidden, channels = weights["layers.0.blocks.0.mlp.fc1.weight"].shape
    settings["mlp_ratio"] = hidden / channels
    if settings.get("stem") != "convolutions":  # which have norms of their own
        settings["patch_norm"] = "patch_embed.norm.weight" in weights
    settings["ape"] = "absolute_pos_embed" in weights
    if settings["ape"]:
        tokens = weights["absolute_pos_embed"].shape[1]
        if prod(facts.grids.get(0, ())) != tokens:  # a mask is that of the padded map
            settings |= image_of_tokens(tokens, patch)
    return settings


def _merges_at_the_end(weights: Mapping[str, np.ndarray]) -> bool:
    """Whether each merge halves the map at the END of a stage, as our names have it."""
    for name, array in weights.items():
        stage = name.partition(".downsample.reduction.")[0]
        norm = weights.get(stage + ".blocks.0.norm1.weight")
        if norm is not None and stage != name and array.shape != (2 * norm.size, 4 * norm.size):
            return False
    return True


SWIN = Family(
    paper="Swin Transformer",
    model=SwinTransformer,
    mark=_ATTENTION + r"(relative_position_bias_table|qkv\.weight)",
    names=_NAMES + _BIAS_TABLE,
    own=_OWN,
    tables={
        "microsoft": _MICROSOFT,
        "timm": _TIMM,
        "transformers": _TRANSFORMERS + _LINEARS_4 + _ATTENTION_4,
        "transformers5": _TRANSFORMERS + _ATTENTION_5,
        "torchvision": _TORCHVISION,
    },
    settings=_settings,
    base="swin",
    buffers=BUFFERS,
    check=check,
    otherwise=other_windows,
    sizes=sizes_told,
    make=partial(buffers_of, v2=False),
    fits=_merges_at_the_end,
    fits_settings=windows_fit,
    no_model=larger_later,
    never=_V2_BIAS,
)
SWIN_V2 = replace(
    SWIN,
    paper="Swin Transformer V2",
    model=SwinTransformerV2,
    mark=_ATTENTION + r"(logit_scale|q_bias|cpb_mlp\.\d+\.\w+)",
    names=_NAMES + _BIAS_NETWORK,
    own=_OWN + _TWO_BIASES.replace("MARK", "buffer"),
    tables={
        "microsoft": _MICROSOFT + _TWO_BIASES.replace("MARK", "buffer"),
        "timm": _TIMM + _TWO_BIASES.replace("MARK", "checked"),
        "transformers": _TRANSFORMERS_V2,
        "torchvision": _TORCHVISION + _V2_TORCHVISION,
    },
    base="swinv2",
    make=partial(buffers_of, v2=True),
    never="",
)
