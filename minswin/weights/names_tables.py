"""What every implementation calls the weights of each family, as tables.

A line holds our name and theirs; one word alone is the name of both. A name stands for a layer,
with its weight and bias, or for one parameter. Indented lines go on where the one above, which ends
in `*`, stops. `{i}` is a number, `{2i+1}` one that is computed from it. `[q,k,v]` are three names
whose arrays, put together along the first axis, make the one of the other side; 0 there is zeros.

A third word says more:   buffer: computed again, then checked when read, and written
    checked: a buffer that newer files leave out; it is not written
    read: a name of older files; it is not written
    flat, words: as `buffer` or a plain line, with another shape (see names_rows)
"""

from __future__ import annotations

from minswin.weights.names_swin import (
    SWIN_MICROSOFT,
    SWIN_TIMM,
    SWIN_TORCHVISION,
    SWIN_TRANSFORMERS,
    SWIN_TRANSFORMERS5,
    SWINV2_MICROSOFT,
    SWINV2_TIMM,
    SWINV2_TORCHVISION,
    SWINV2_TRANSFORMERS,
)

# ── ViT and DeiT: our names are timm's, and those of the original DeiT ───────────────────────────

VIT_TIMM = """
    cls_token
    pos_embed
    patch_embed.proj
    blocks.{i}.*                  blocks.{i}.*
        norm1
        attn.qkv
        rel_pos.relative_position_bias_table  attn.rel_pos.relative_position_bias_table
        attn.proj
        norm2
        mlp.fc1
        mlp.fc2
    norm
    pre_logits.fc
    head
"""

VIT_TRANSFORMERS = """
    cls_token                     vit.embeddings.cls_token
    pos_embed                     vit.embeddings.position_embeddings
    patch_embed.proj              vit.embeddings.patch_embeddings.projection
    blocks.{i}.*                  vit.encoder.layer.{i}.*
        norm1                         layernorm_before
        attn.qkv                      attention.attention.[query,key,value]
        attn.proj                     attention.output.dense
        norm2                         layernorm_after
        mlp.fc1                       intermediate.dense
        mlp.fc2                       output.dense
    norm                          vit.layernorm
    pre_logits.fc                 vit.pooler.dense
    head                          classifier
"""

VIT_TRANSFORMERS5 = """
    cls_token                     vit.embeddings.cls_token
    pos_embed                     vit.embeddings.position_embeddings
    patch_embed.proj              vit.embeddings.patch_embeddings.projection
    blocks.{i}.*                  vit.layers.{i}.*
        norm1                         layernorm_before
        attn.qkv                      attention.[q_proj,k_proj,v_proj]
        attn.proj                     attention.o_proj
        norm2                         layernorm_after
        mlp.fc1
        mlp.fc2
    norm                          vit.layernorm
    pre_logits.fc                 vit.pooler.dense
    head                          classifier
"""

VIT_TORCHVISION = """
    cls_token                     class_token
    pos_embed                     encoder.pos_embedding
    patch_embed.proj              conv_proj
    blocks.{i}.*                  encoder.layers.encoder_layer_{i}.*
        norm1                         ln_1
        attn.qkv.weight               self_attention.in_proj_weight
        attn.qkv.bias                 self_attention.in_proj_bias
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
"""


def _distilled(table: str) -> str:
    """transformers' names for a DeiT with two heads, from those for a ViT."""
    return table.replace(" vit.", " deit.").replace(" classifier", " cls_classifier") + _TWO_HEADS


# ── TNT and ResNet ───────────────────────────────────────────────────────────────────────────────

TNT_ORIGINAL = """
    cls_token
    outer_tokens                  outer_tokens                         buffer
    outer_pos
    inner_pos
    patch_embed.proj
    proj_norm{n}
    proj
    blocks.{i}.*                  blocks.{i}.*
        inner_norm{n}
        inner_attn.qk
        inner_attn.v
        inner_attn.proj
        inner_mlp.fc{n}
        outer_norm{n}
        outer_attn.qk
        outer_attn.v
        outer_attn.proj
        outer_mlp.fc{n}
        proj_norm{n}
        proj
    norm
    head
"""

TNT_TIMM = """
    cls_token
    outer_tokens                  outer_tokens                         checked
    outer_pos                     patch_pos
    inner_pos                     pixel_pos                            words
    patch_embed.proj              pixel_embed.proj
    proj_norm{n}                  norm{n}_proj
    proj
    blocks.{i}.*                  blocks.{i}.*
        inner_norm1                   norm_in
        inner_norm2                   norm_mlp_in
        inner_attn.*                  attn_in.*
            qk
            v
            proj
        inner_mlp.fc{n}               mlp_in.fc{n}
        proj_norm{n}                  norm{n}_proj
        proj
        outer_norm1                   norm_out
        outer_norm2                   norm_mlp
        outer_attn.*                  attn_out.*
            qk
            v
            proj
        outer_mlp.fc{n}               mlp.fc{n}
    norm
    head
"""

RESNET_TORCHVISION = """
    conv1
    bn1
    layer{i}.{j}.conv{k}
    layer{i}.{j}.bn{k}
    layer{i}.{j}.downsample.{k}
    fc
"""

RESNET_TRANSFORMERS = """
    conv1                         resnet.embedder.embedder.convolution
    bn1                           resnet.embedder.embedder.normalization
    layer{i+1}.{j}.*              resnet.encoder.stages.{i}.layers.{j}.*
        conv{k+1}                     layer.{k}.convolution
        bn{k+1}                       layer.{k}.normalization
        downsample.0                  shortcut.convolution
        downsample.1                  shortcut.normalization
    fc                            classifier.1
"""

# (family, dialect): where two have the same names for a state, the first is said
TABLES: dict[tuple[str, str], str] = {
    ("swin", "microsoft"): SWIN_MICROSOFT,
    ("swin", "timm"): SWIN_TIMM,
    ("swin", "transformers"): SWIN_TRANSFORMERS,
    ("swin", "transformers5"): SWIN_TRANSFORMERS5,
    ("swin", "torchvision"): SWIN_TORCHVISION,
    ("swinv2", "microsoft"): SWINV2_MICROSOFT,
    ("swinv2", "timm"): SWINV2_TIMM,
    ("swinv2", "transformers"): SWINV2_TRANSFORMERS,
    ("swinv2", "torchvision"): SWINV2_TORCHVISION,
    ("vit", "timm"): VIT_TIMM,
    ("vit", "transformers"): VIT_TRANSFORMERS,
    ("vit", "transformers5"): VIT_TRANSFORMERS5,
    ("vit", "torchvision"): VIT_TORCHVISION,
    ("deit", "timm"): VIT_TIMM + "    dist_token\n    head_dist\n",
    ("deit", "transformers"): _distilled(VIT_TRANSFORMERS),
    ("deit", "transformers5"): _distilled(VIT_TRANSFORMERS5),
    ("tnt", "original"): TNT_ORIGINAL,
    ("tnt", "timm"): TNT_TIMM,
    ("resnet", "torchvision"): RESNET_TORCHVISION,
    ("resnet", "timm"): RESNET_TORCHVISION,
    ("resnet", "transformers"): RESNET_TRANSFORMERS,
}
DIALECTS = tuple(dict.fromkeys(dialect for _, dialect in TABLES))
