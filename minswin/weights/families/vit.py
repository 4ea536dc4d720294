"""ViT and DeiT: our names are timm's, and those of the original DeiT."""

from __future__ import annotations

from dataclasses import replace

from minswin.models.deit import DistilledVisionTransformer
from minswin.models.vit import VisionTransformer
from minswin.weights.families.family import (
    Facts,
    Family,
    Settings,
    State,
    count,
    image_of_tokens,
    of_embedding,
)

VIT_NAMES = """
    cls_token
    pos_embed
    patch_embed.proj
    blocks.{i}.*
        norm1
        attn.proj
        norm2
        mlp.fc1
        mlp.fc2
    norm
    pre_logits.fc
    head
"""

# the convolutions are ours
_TIMM = """
    patch_embed.convs.{i}
    patch_embed.norms.{i}
    blocks.{i}.attn.qkv
    blocks.{i}.rel_pos.*          blocks.{i}.attn.rel_pos.*
        relative_position_bias_table
"""

_OWN = """
    patch_embed.convs.{i}
    patch_embed.norms.{i}
    pos_embed.row
    pos_embed.column
    blocks.{i}.*
        attn.qkv
        rel_pos.relative_position_bias_table
"""

_TRANSFORMERS = """
    cls_token                     vit.embeddings.cls_token
    pos_embed                     vit.embeddings.position_embeddings
    patch_embed.proj              vit.embeddings.patch_embeddings.projection
    norm                          vit.layernorm
    pre_logits.fc                 vit.pooler.dense
    head                          classifier
"""

_BLOCKS_4 = """
    blocks.{i}.*                  vit.encoder.layer.{i}.*
        norm1                         layernorm_before
        attn.qkv                      attention.attention.[query,key,value]
        attn.proj                     attention.output.dense
        norm2                         layernorm_after
        mlp.fc1                       intermediate.dense
        mlp.fc2                       output.dense
"""

_BLOCKS_5 = """
    blocks.{i}.*                  vit.layers.{i}.*
        norm1                         layernorm_before
        attn.qkv                      attention.[q_proj,k_proj,v_proj]
        attn.proj                     attention.o_proj
        norm2                         layernorm_after
"""

_TORCHVISION = """
    cls_token                     class_token
    pos_embed                     encoder.pos_embedding
    patch_embed.proj              conv_proj
    blocks.{i}.*                  encoder.layers.encoder_layer_{i}.*
        norm1                         ln_1
        attn.qkv.*                    self_attention.in_proj_*
            weight
            bias
        attn.proj                     self_attention.out_proj
        norm2                         ln_2
        mlp.fc1                       mlp.0
        mlp.fc2                       mlp.3
        mlp.fc1                       mlp.linear_1                     read
        mlp.fc2                       mlp.linear_2                     read
    norm                          encoder.ln
    pre_logits.fc                 heads.pre_logits
    head                          heads.head
"""

_TWO_HEADS = """
    dist_token                    deit.embeddings.distillation_token
    head_dist                     distillation_classifier
    head                          classifier                           read
"""


# parts of other ViTs that ours does not have
_PARTS = {
    r"fc_norm\.": "fc_norm normalises after pooling (timm's global_pool='avg'), minswin's ViT "
    "before it: in its place these numbers would give other logits",
    r"reg_token$": "reg_token are register tokens, and minswin's ViT has none",
    r"blocks\.\d+\.ls[12]\.gamma$": "ls1 and ls2 are layer scale, and minswin's ViT has none",
    r"blocks\.\d+\.attn\.[qk]_norm\.": "q_norm and k_norm normalise queries and keys, and "
    "minswin's ViT does not",
    r"norm_pre\.": "norm_pre is a norm before the blocks (CLIP), and minswin's ViT has none",
}


def _distilled(table: str) -> str:
    """transformers' names for a DeiT with two heads, from those for a ViT."""
    return table.replace(" vit.", " deit.").replace(" classifier", " cls_classifier") + _TWO_HEADS


def _settings(weights: State, _: Facts) -> Settings:
    settings, patch = of_embedding(weights)
    extra = ("cls_token" in weights) + ("dist_token" in weights)
    settings["depth"] = count(weights, r"blocks\.(\d+)\.")
    hidden, channels = weights["blocks.0.mlp.fc1.weight"].shape
    settings["mlp_ratio"] = hidden / channels
    settings["qkv_bias"] = "blocks.0.attn.qkv.bias" in weights
    settings["global_pool"] = "token" if "cls_token" in weights else "avg"
    if "pos_embed" in weights:
        settings |= image_of_tokens(weights["pos_embed"].shape[1] - extra, patch)
        settings["positions"] = "learned"
    if "pre_logits.fc.weight" in weights:
        settings["representation_size"] = len(weights["pre_logits.fc.weight"])
    return settings


VIT = Family(
    paper="Vision Transformer",
    model=VisionTransformer,
    mark=r"blocks\.\d+\.attn\.qkv\.weight",
    names=VIT_NAMES,
    own=_OWN,
    tables={
        "timm": _TIMM,
        "transformers": _TRANSFORMERS + _BLOCKS_4,
        "transformers5": _TRANSFORMERS + _BLOCKS_5,
        "torchvision": _TORCHVISION,
    },
    settings=_settings,
    base="vit",
    parts=_PARTS,
)
DEIT = replace(
    VIT,
    paper="DeiT with a distillation token",
    model=DistilledVisionTransformer,
    mark="dist_token",
    names=VIT_NAMES + "    dist_token\n    head_dist\n",
    tables={
        "timm": _TIMM,
        "transformers": _distilled(_TRANSFORMERS + _BLOCKS_4),
        "transformers5": _distilled(_TRANSFORMERS + _BLOCKS_5),
    },
    base="deit",
)
