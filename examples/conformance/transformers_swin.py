"""An adapter of the Swin and Swin V2 of Hugging Face transformers, version 5.

minswin conform --module examples/conformance/transformers_swin.py
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from torch_arrays import Tensors, call, gradients_of, tensors, train_step_of, value_of
from transformers import (
    SwinConfig,
    SwinForImageClassification,
    Swinv2Config,
    Swinv2ForImageClassification,
)
from transformers.models.swin import modeling_swin as swin
from transformers.models.swinv2 import modeling_swinv2 as swinv2

dtype = "float32"
Pair = tuple[int, int]

BLOCK = (
    (r"(^|\.)norm1\.", r"\1layernorm_before."),
    (r"(^|\.)norm2\.", r"\1layernorm_after."),
    (r"(^|\.)attn\.proj\.", r"\1attention.o_proj."),
    (r"(^|\.)attn\.qkv\.", r"\1attention.QKV."),
    (r"(^|\.)attn\.relative_", r"\1attention.relative_position_bias.relative_"),
)
BLOCK_V2 = (
    *BLOCK[:2],
    (r"(^|\.)attn\.proj\.", r"\1attention.output.dense."),
    (r"(^|\.)attn\.q_bias", r"\1attention.self.query.bias"),
    (r"(^|\.)attn\.v_bias", r"\1attention.self.value.bias"),
    (r"(^|\.)attn\.cpb_mlp", r"\1attention.self.continuous_position_bias_mlp"),
    (r"(^|\.)attn\.", r"\1attention.self."),
    (r"\.qkv\.", ".QKV."),
    (r"(^|\.)mlp\.fc1\.", r"\1intermediate.dense."),
    (r"(^|\.)mlp\.fc2\.", r"\1output.dense."),
)
SPLIT = {1: ("q_proj", "k_proj", "v_proj"), 2: ("query", "key", "value")}


def renamed(state: Tensors, version: int = 1) -> Tensors:
    """Our weights under their names: qkv is three layers there."""
    family = "swin" if version == 1 else "swinv2"
    rules = (
        (r"^absolute_pos_embed$", f"{family}.embeddings.position_embeddings"),
        (r"^patch_embed\.proj\.", f"{family}.embeddings.patch_embeddings.projection."),
        (r"^patch_embed\.norm\.", f"{family}.embeddings.norm."),
        (r"^layers\.", f"{family}.encoder.layers."),
        (r"^norm\.", f"{family}.layernorm."),
        (r"^head\.", "classifier."),
        *(BLOCK if version == 1 else BLOCK_V2),
    )
    found: Tensors = {}
    for name, x in state.items():
        for pattern, by in rules:
            name = re.sub(pattern, by, name)
        if "QKV" in name:
            parts = zip(SPLIT[version], x.chunk(3), strict=True)
            found |= {name.replace("QKV", part): piece for part, piece in parts}
        else:
            found[name] = x
    return found


def side(window: int | Pair) -> int:
    sides = {window} if isinstance(window, int) else set(window)
    if len(sides) != 1:
        raise NotImplementedError("windows are square here")
    return int(sides.pop())


# ── parts ────────────────────────────────────────────────────────────────────────────────────────


def _window_partition(x: torch.Tensor, window: Pair) -> torch.Tensor:
    B, C = x.shape[0], x.shape[3]
    return swin.window_partition(x, side(window)).reshape(B, -1, window[0] * window[1], C)


def _window_merge(windows: torch.Tensor, window: Pair, grid: Pair) -> torch.Tensor:
    pieces = windows.reshape(-1, *window, windows.shape[3])
    return swin.window_reverse(pieces, side(window), *grid)


def _relative_position_bias(table: torch.Tensor, window: Pair) -> torch.Tensor:
    module = swin.SwinRelativePositionBias(table.shape[1], window)
    return call(module, {"relative_position_bias_table": table})[0]


def relative_position_index(window: Pair) -> np.ndarray:
    return swin.SwinRelativePositionBias(1, window)._create_relative_position_index().numpy()


def attention_mask(grid: Pair, window: Pair, shift: Pair) -> np.ndarray:
    layer = _layer(4, 1, window, grid, shifted=True)
    layer.shift_size = side(shift)
    mask = layer.get_attn_mask(*grid, dtype=torch.float32, device=torch.device("cpu"))
    N = window[0] * window[1]
    return np.zeros((grid[0] * grid[1] // N, N, N)) if mask is None else mask.numpy()


def _mlp(x: torch.Tensor, params: Tensors) -> torch.Tensor:
    hidden, C = params["fc1.weight"].shape
    return call(swin.SwinMLP(SwinConfig(mlp_ratio=hidden / C), C), params, x)


def _patch_merging(x: torch.Tensor, params: Tensors) -> torch.Tensor:
    B, H, W, C = x.shape
    y = call(swin.SwinPatchMerging(C), params, x.reshape(B, H * W, C), (H, W))
    return y.reshape(B, (H + 1) // 2, (W + 1) // 2, 2 * C)


def _patch_merging_v2(x: torch.Tensor, params: Tensors) -> torch.Tensor:
    B, H, W, C = x.shape
    module = swinv2.Swinv2PatchMerging((H, W), C)
    return call(module, params, x.reshape(B, H * W, C), (H, W)).reshape(
        B, (H + 1) // 2, (W + 1) // 2, 2 * C
    )


def _patch_embed(image: torch.Tensor, params: Tensors) -> torch.Tensor:
    C, _, *patch = params["proj.weight"].shape
    config = SwinConfig(image_size=tuple(image.shape[2:]), patch_size=patch, embed_dim=C)
    weights = {n.replace("proj.", "patch_embeddings.projection."): x for n, x in params.items()}
    tokens, grid = call(swin.SwinEmbeddings(config), weights, image)
    return tokens.reshape(len(image), *grid, C)


def _layer(C: int, heads: int, window: Pair, grid: Pair, *, shifted: bool, hidden: int = 4) -> Any:
    config = SwinConfig(window_size=side(window), mlp_ratio=hidden / C, attn_implementation="sdpa")
    shift = side(window) // 2 if shifted else 0
    return swin.SwinLayer(config, C, grid, heads, shift_size=shift)


def _layer_v2(C: int, heads: int, window: Pair, grid: Pair, *, shifted: bool, hidden: int) -> Any:
    config = Swinv2Config(window_size=side(window), mlp_ratio=hidden / C)
    shift = side(window) // 2 if shifted else 0
    return swinv2.Swinv2Layer(config, C, grid, heads, shift_size=shift)


def _attention_of(layer: Any, x: torch.Tensor, weights: Tensors) -> torch.Tensor:
    """What a layer adds to its input first: without its norms and its MLP, just the attention."""
    for name in ("layernorm_before", "layernorm_after", "mlp", "intermediate", "output"):
        if hasattr(layer, name):
            setattr(layer, name, torch.nn.Identity())
    seen: list[torch.Tensor] = []
    layer.drop_path.register_forward_hook(lambda module, given, y: seen.append(given[0]))
    B, H, W, C = x.shape
    call(layer, weights, x.reshape(B, H * W, C), (H, W))
    return seen[0].reshape(B, H, W, C)


def _window_attention(
    x: torch.Tensor, params: Tensors, window: Pair, shift: Pair, heads: int
) -> torch.Tensor:
    layer = _layer(x.shape[3], heads, window, tuple(x.shape[1:3]), shifted=any(shift))
    weights = renamed({f"attn.{name}": p for name, p in params.items()})
    return _attention_of(layer, x, weights)


def _window_attention_v2(
    x: torch.Tensor, params: Tensors, window: Pair, shift: Pair, heads: int
) -> torch.Tensor:
    grid = tuple(x.shape[1:3])
    layer = _layer_v2(x.shape[3], heads, window, grid, shifted=any(shift), hidden=4)
    weights = renamed({f"attn.{name}": p for name, p in params.items()}, 2)
    return _attention_of(layer, x, weights)


def _block(
    x: torch.Tensor, params: Tensors, window: Pair, shifted: bool, heads: int
) -> torch.Tensor:
    B, H, W, C = x.shape
    hidden = len(params["mlp.fc1.bias"])
    layer = _layer(C, heads, window, (H, W), shifted=shifted, hidden=hidden)
    y, _ = call(layer, renamed(params), x.reshape(B, H * W, C), (H, W))
    return y.reshape(B, H, W, C)


def _block_v2(
    x: torch.Tensor, params: Tensors, window: Pair, shifted: bool, heads: int
) -> torch.Tensor:
    B, H, W, C = x.shape
    hidden = len(params["mlp.fc1.bias"])
    layer = _layer_v2(C, heads, window, (H, W), shifted=shifted, hidden=hidden)
    (y, *_) = call(layer, renamed(params, 2), x.reshape(B, H * W, C), (H, W))
    return y.reshape(B, H, W, C)


# ── models ───────────────────────────────────────────────────────────────────────────────────────

SETTINGS = {
    "img_size": "image_size",
    "num_classes": "num_labels",
    "ape": "use_absolute_embeddings",
    "drop_rate": "hidden_dropout_prob",
    "attn_drop_rate": "attention_probs_dropout_prob",
}


def _configured(config: dict[str, Any]) -> dict[str, Any]:
    own = {SETTINGS.get(name, name): value for name, value in config.items()}
    return {"drop_path_rate": 0.0, **own, "window_size": side(config["window_size"])}


def _model(config: dict[str, Any], state: Tensors, image: torch.Tensor) -> torch.Tensor:
    module = SwinForImageClassification(SwinConfig(**_configured(config)))
    return call(module, renamed(state), image).logits


def _model_v2(config: dict[str, Any], state: Tensors, image: torch.Tensor) -> torch.Tensor:
    module = Swinv2ForImageClassification(Swinv2Config(**_configured(config)))
    return call(module, renamed(state, 2), image).logits


def build_model(config: dict[str, Any], state: dict[str, np.ndarray]) -> Any:
    module = SwinForImageClassification(SwinConfig(**_configured(config))).eval()
    module.load_state_dict(renamed(tensors(state)), strict=True)
    return value_of(lambda image: module(image).logits)


window_partition, window_partition_grad = (
    value_of(_window_partition),
    gradients_of(_window_partition),
)
window_merge, window_merge_grad = value_of(_window_merge), gradients_of(_window_merge)
relative_position_bias = value_of(_relative_position_bias)
relative_position_bias_grad = gradients_of(_relative_position_bias)
mlp, mlp_grad = value_of(_mlp), gradients_of(_mlp)
patch_merging, patch_merging_grad = value_of(_patch_merging), gradients_of(_patch_merging)
patch_merging_v2 = value_of(_patch_merging_v2)
patch_embed, patch_embed_grad = value_of(_patch_embed), gradients_of(_patch_embed)
window_attention, window_attention_grad = (
    value_of(_window_attention),
    gradients_of(_window_attention),
)
window_attention_v2 = value_of(_window_attention_v2)
window_attention_v2_grad = gradients_of(_window_attention_v2)
block, block_grad = value_of(_block), gradients_of(_block)
block_v2, block_v2_grad = value_of(_block_v2), gradients_of(_block_v2)
model, model_grad, train_step = value_of(_model), gradients_of(_model), train_step_of(_model)
model_v2 = value_of(_model_v2)
