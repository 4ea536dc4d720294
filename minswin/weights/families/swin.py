"""Swin and Swin V2: what every implementation calls their weights, and what these tell."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

import numpy as np

from minswin.models.swin import SwinTransformer
from minswin.models.swin_v2 import SwinTransformerV2
from minswin.weights.families.family import Facts, Family, Settings, State, count, image_of
from minswin.weights.families.swin_buffers import BUFFERS, check

# ── Swin ─────────────────────────────────────────────────────────────────────────────────────────

SWIN_MICROSOFT = """
    absolute_pos_embed
    patch_embed.proj
    patch_embed.norm
    layers.{i}.blocks.{j}.*       layers.{i}.blocks.{j}.*
        attn_mask                     attn_mask                        buffer
        norm1
        attn.relative_position_bias_table
        attn.relative_position_index  attn.relative_position_index     buffer
        attn.qkv
        attn.proj
        norm2
        mlp.fc1
        mlp.fc2
    layers.{i}.downsample.*       layers.{i}.downsample.*
        reduction
        norm
    norm
    head
"""

# The merge is at the start of a stage, not at the end of the one before. Older files of timm have
# microsoft's names.
SWIN_TIMM = """
    patch_embed.proj
    patch_embed.norm
    layers.{i}.blocks.{j}.*       layers.{i}.blocks.{j}.*
        attn_mask                     attn_mask                        checked
        norm1
        attn.relative_position_bias_table
        attn.relative_position_index  attn.relative_position_index     checked
        attn.qkv
        attn.proj
        norm2
        mlp.fc1
        mlp.fc2
    layers.{i}.downsample.*       layers.{i+1}.downsample.*
        reduction
        norm
    norm
    head                          head.fc
"""

# before transformers 5, and every published file
SWIN_TRANSFORMERS = """
    absolute_pos_embed            swin.embeddings.position_embeddings
    patch_embed.proj              swin.embeddings.patch_embeddings.projection
    patch_embed.norm              swin.embeddings.norm
    layers.{i}.blocks.{j}.*       swin.encoder.layers.{i}.blocks.{j}.*
        norm1                         layernorm_before
        attn.relative_position_bias_table  attention.self.relative_position_bias_table
        attn.relative_position_index  attention.self.relative_position_index    buffer
        attn.qkv                      attention.self.[query,key,value]
        attn.proj                     attention.output.dense
        norm2                         layernorm_after
        mlp.fc1                       intermediate.dense
        mlp.fc2                       output.dense
    layers.{i}.downsample.*       swin.encoder.layers.{i}.downsample.*
        reduction
        norm
    norm                          swin.layernorm
    head                          classifier
"""

SWIN_TRANSFORMERS5 = """
    absolute_pos_embed            swin.embeddings.position_embeddings
    patch_embed.proj              swin.embeddings.patch_embeddings.projection
    patch_embed.norm              swin.embeddings.norm
    layers.{i}.blocks.{j}.*       swin.encoder.layers.{i}.blocks.{j}.*
        norm1                         layernorm_before
        attn.relative_position_*      attention.relative_position_bias.relative_position_*
            bias_table
            index                         index                        checked
        attn.qkv                      attention.[q_proj,k_proj,v_proj]
        attn.proj                     attention.o_proj
        norm2                         layernorm_after
        mlp.fc1
        mlp.fc2
    layers.{i}.downsample.*       swin.encoder.layers.{i}.downsample.*
        reduction
        norm
    norm                          swin.layernorm
    head                          classifier
"""

SWIN_TORCHVISION = """
    patch_embed.proj              features.0.0
    patch_embed.norm              features.0.2
    layers.{i}.blocks.{j}.*       features.{2i+1}.{j}.*
        norm1
        attn.relative_position_bias_table
        attn.relative_position_index  attn.relative_position_index     buffer flat
        attn.qkv
        attn.proj
        norm2
        mlp.fc1                       mlp.0
        mlp.fc2                       mlp.3
    layers.{i}.downsample.*       features.{2i+2}.*
        reduction
        norm
    norm
    head
"""

# ── Swin V2: q and v have a bias, k has none ─────────────────────────────────────────────────────

SWINV2_MICROSOFT = """
    absolute_pos_embed
    patch_embed.proj
    patch_embed.norm
    layers.{i}.blocks.{j}.*       layers.{i}.blocks.{j}.*
        attn_mask                     attn_mask                        buffer
        norm1
        attn.logit_scale
        attn.q_bias
        attn.v_bias
        attn.relative_coords_table    attn.relative_coords_table       buffer
        attn.relative_position_index  attn.relative_position_index     buffer
        attn.cpb_mlp.{k}
        attn.qkv
        attn.proj
        norm2
        mlp.fc1
        mlp.fc2
    layers.{i}.downsample.*       layers.{i}.downsample.*
        reduction
        norm
    norm
    head
"""

SWINV2_TIMM = (
    SWINV2_MICROSOFT.replace(" buffer", " checked")
    .replace("    absolute_pos_embed\n", "")
    .replace(
        "layers.{i}.downsample.*       layers.{i}.", "layers.{i}.downsample.*    layers.{i+1}."
    )
    .replace("    head\n", "    head    head.fc\n")
)

SWINV2_TRANSFORMERS = """
    absolute_pos_embed            swinv2.embeddings.position_embeddings
    patch_embed.proj              swinv2.embeddings.patch_embeddings.projection
    patch_embed.norm              swinv2.embeddings.norm
    layers.{i}.blocks.{j}.*       swinv2.encoder.layers.{i}.blocks.{j}.*
        norm1                         layernorm_before
        attn.logit_scale              attention.self.logit_scale
        attn.q_bias                   attention.self.query.bias
        attn.v_bias                   attention.self.value.bias
        attn.relative_coords_table    attention.self.relative_coords_table     checked
        attn.relative_position_index  attention.self.relative_position_index   checked
        attn.cpb_mlp.{k}              attention.self.continuous_position_bias_mlp.{k}
        attn.qkv.weight               attention.self.[query,key,value].weight
        attn.proj                     attention.output.dense
        norm2                         layernorm_after
        mlp.fc1                       intermediate.dense
        mlp.fc2                       output.dense
    layers.{i}.downsample.*       swinv2.encoder.layers.{i}.downsample.*
        reduction
        norm
    norm                          swinv2.layernorm
    head                          classifier
"""

# one bias for q, k and v, whose middle is zero
SWINV2_TORCHVISION = """
    patch_embed.proj              features.0.0
    patch_embed.norm              features.0.2
    layers.{i}.blocks.{j}.*       features.{2i+1}.{j}.*
        norm1
        attn.logit_scale
        attn.[q_bias,0,v_bias]        attn.qkv.bias
        attn.relative_coords_table    attn.relative_coords_table       buffer
        attn.relative_position_index  attn.relative_position_index     buffer flat
        attn.cpb_mlp.{k}
        attn.qkv.weight
        attn.proj
        norm2
        mlp.fc1                       mlp.0
        mlp.fc2                       mlp.3
    layers.{i}.downsample.*       features.{2i+2}.*
        reduction
        norm
    norm
    head
"""

# ── settings ─────────────────────────────────────────────────────────────────────────────────────


def _settings(weights: State, facts: Facts) -> Settings:
    channels, _, *patch = weights["patch_embed.proj.weight"].shape
    stages = count(weights, r"layers\.(\d+)\.")
    depths = [count(weights, rf"layers\.{i}\.blocks\.(\d+)\.") for i in range(stages)]
    settings: Settings = {"embed_dim": channels, "patch_size": tuple(patch)}
    settings["depths"] = tuple(depths)
    first = "layers.{}.blocks.0.attn.{}"
    v2 = any(name.endswith("logit_scale") for name in weights)
    each = "logit_scale" if v2 else "relative_position_bias_table"  # (h, 1, 1) or (rows, h)
    shapes = [np.shape(weights[first.format(i, each)]) for i in range(stages)]
    settings["num_heads"] = tuple(shape[0 if v2 else 1] for shape in shapes)
    if not v2:
        rows, side = shapes[0][0], isqrt(shapes[0][0])
        settings["window_size"] = (
            (side + 1) // 2 if side * side == rows else None
        )  # it is not square
    if facts.windows.get(0):
        settings["window_size"] = facts.windows[0]
    if facts.pretrained:
        settings["pretrained_window_sizes"] = tuple(
            facts.pretrained.get(i, 0) for i in range(stages)
        )
    if 0 in facts.grids:
        settings["img_size"] = tuple(n * p for n, p in zip(facts.grids[0], patch, strict=True))
    settings["qkv_bias"] = first.format(0, "q_bias" if v2 else "qkv.bias") in weights
    settings["mlp_ratio"] = weights["layers.0.blocks.0.mlp.fc1.weight"].shape[0] / channels
    settings["patch_norm"] = "patch_embed.norm.weight" in weights
    settings["ape"] = "absolute_pos_embed" in weights
    if settings["ape"]:
        settings["img_size"] = image_of(weights["absolute_pos_embed"].shape[1], patch)
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
    mark=r"layers\.\d+\.blocks\.\d+\.attn\.relative_position_bias_table",
    tables={
        "microsoft": SWIN_MICROSOFT,
        "timm": SWIN_TIMM,
        "transformers": SWIN_TRANSFORMERS,
        "transformers5": SWIN_TRANSFORMERS5,
        "torchvision": SWIN_TORCHVISION,
    },
    settings=_settings,
    base="swin",
    buffers=BUFFERS,
    check=check,
    fits=_merges_at_the_end,
)
SWIN_V2 = Family(
    paper="Swin Transformer V2",
    model=SwinTransformerV2,
    mark=r"layers\.\d+\.blocks\.\d+\.attn\.logit_scale",
    tables={
        "microsoft": SWINV2_MICROSOFT,
        "timm": SWINV2_TIMM,
        "transformers": SWINV2_TRANSFORMERS,
        "torchvision": SWINV2_TORCHVISION,
    },
    settings=_settings,
    base="swinv2",
    buffers=BUFFERS,
    check=check,
    fits=_merges_at_the_end,
)
