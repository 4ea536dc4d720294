"""What every implementation calls the weights of Swin and Swin V2, as tables; see names_tables."""

from __future__ import annotations

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
