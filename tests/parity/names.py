"""What other implementations call the parameters of a Swin and of a ViT, as data.

minswin's names are the original's, and for ViT and DeiT timm's. A layout rewrites one of them to
one name, or to three where q, k and v are kept apart: they are then rows 0:c, c:2c and 2c:3c of our
`qkv`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

State = dict[str, np.ndarray]
Rule = tuple[str, str | Callable[[re.Match[str]], str]]


class Layout(NamedTuple):
    """Rules are applied in order; each of `qkv` takes the place of "QKV" in the result."""

    rules: tuple[Rule, ...]
    qkv: tuple[str, ...] = ()


_TRANSFORMERS: tuple[Rule, ...] = (
    (r"^absolute_pos_embed$", "swin.embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "swin.embeddings.patch_embeddings.projection."),
    (r"^patch_embed\.norm\.", "swin.embeddings.norm."),
    (r"^layers\.", "swin.encoder.layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"^norm\.", "swin.layernorm."),
    (r"^head\.", "classifier."),
)

# transformers 5, in memory
TRANSFORMERS = Layout(
    (
        *_TRANSFORMERS,
        (r"\.attn\.qkv\.", ".attention.QKV."),
        (r"\.attn\.proj\.", ".attention.o_proj."),
        (r"\.attn\.relative_position_", ".attention.relative_position_bias.relative_position_"),
    ),
    qkv=("q_proj", "k_proj", "v_proj"),
)

# transformers before 5, and every published file
TRANSFORMERS_FILES = Layout(
    (
        *_TRANSFORMERS,
        (r"\.attn\.qkv\.", ".attention.self.QKV."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"\.attn\.relative_position_", ".attention.self.relative_position_"),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
    ),
    qkv=("query", "key", "value"),
)

# timm merges at the start of the next stage, not at the end of a stage
TIMM = Layout(
    (
        (r"^layers\.(\d+)\.downsample\.", lambda m: f"layers.{int(m[1]) + 1}.downsample."),
        (r"^head\.", "head.fc."),
    )
)

# Swin V2: timm's names are the original's, but for TIMM's two
V2_TRANSFORMERS = Layout(
    (
        *TRANSFORMERS_FILES.rules,
        (r"^swin\.", "swinv2."),
        (r"\.attn\.([qv])_bias$", lambda m: f".attn.{NAMES_OF[m[1]]}.bias"),
        (r"\.attn\.cpb_mlp\.", ".attn.continuous_position_bias_mlp."),
        (r"\.attn\.", ".attention.self."),
    ),
    qkv=TRANSFORMERS_FILES.qkv,
)
NAMES_OF = {"q": "query", "v": "value"}

TNT_TIMM = Layout(
    (
        (r"^patch_embed\.", "pixel_embed."),
        (r"^outer_pos$", "patch_pos"),
        (r"^inner_pos$", "pixel_pos"),
        (r"\bproj_norm([12])\.", r"norm\1_proj."),
        (r"\.inner_norm1\.", ".norm_in."),
        (r"\.inner_norm2\.", ".norm_mlp_in."),
        (r"\.outer_norm1\.", ".norm_out."),
        (r"\.outer_norm2\.", ".norm_mlp."),
        (r"\.inner_(attn|mlp)\.", r".\1_in."),
        (r"\.outer_attn\.", ".attn_out."),
        (r"\.outer_mlp\.", ".mlp."),
    )
)

_VIT: tuple[Rule, ...] = (
    (r"^cls_token$", "vit.embeddings.cls_token"),
    (r"^pos_embed$", "vit.embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "vit.embeddings.patch_embeddings.projection."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"^norm\.", "vit.layernorm."),
    (r"^pre_logits\.fc\.", "vit.pooler.dense."),
    (r"^head\.", "classifier."),
)

# transformers 5, in memory
VIT_TRANSFORMERS = Layout(
    (
        *_VIT,
        (r"^blocks\.", "vit.layers."),
        (r"\.attn\.qkv\.", ".attention.QKV."),
        (r"\.attn\.proj\.", ".attention.o_proj."),
    ),
    qkv=("q_proj", "k_proj", "v_proj"),
)

# transformers before 5, and every published file
VIT_TRANSFORMERS_FILES = Layout(
    (
        *_VIT,
        (r"^blocks\.", "vit.encoder.layer."),
        (r"\.attn\.qkv\.", ".attention.attention.QKV."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
    ),
    qkv=("query", "key", "value"),
)

_DISTILLED: tuple[Rule, ...] = (
    (r"^vit\.", "deit."),
    (r"^dist_token$", "deit.embeddings.distillation_token"),
    (r"^classifier\.", "cls_classifier."),
    (r"^head_dist\.", "distillation_classifier."),
)


def distilled(layout: Layout) -> Layout:
    """transformers' names for a DeiT, from those for a ViT."""
    return Layout((*layout.rules, *_DISTILLED), layout.qkv)


VIT_TIMM = Layout(((r"\.rel_pos\.", ".attn.rel_pos."),))


def translate(name: str, layout: Layout) -> tuple[str, ...]:
    """The other implementation's name, or its three names, for one of ours.

    >>> translate("layers.2.blocks.5.attn.qkv.bias", TRANSFORMERS)[1]
    'swin.encoder.layers.2.blocks.5.attention.k_proj.bias'
    >>> translate("layers.0.downsample.norm.weight", TIMM)
    ('layers.1.downsample.norm.weight',)
    """
    for pattern, new in layout.rules:
        name = re.sub(pattern, new, name)
    return tuple(name.replace("QKV", part) for part in layout.qkv) if "QKV" in name else (name,)


def rename(state: Mapping[str, np.ndarray], layout: Layout) -> State:
    """Our arrays under the other implementation's names."""
    renamed: State = {}
    for name, array in state.items():
        theirs = translate(name, layout)
        for new, part in zip(theirs, np.split(array, len(theirs)), strict=True):
            assert new not in renamed, f"two of our parameters are called {new}"
            renamed[new] = part
    return renamed


def restore(state: Mapping[str, np.ndarray], layout: Layout, names: list[str]) -> State:
    """The other implementation's arrays under our names: undoes `rename`."""
    left = dict(state)
    ours = {n: np.concatenate([left.pop(t) for t in translate(n, layout)]) for n in names}
    assert not left, f"these have no name of ours: {sorted(left)}"
    return ours
