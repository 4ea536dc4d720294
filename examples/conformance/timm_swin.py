"""An adapter of the Swin of timm, versions 1 and 2, and of its ViT, DeiT and TNT.

minswin conform --module examples/conformance/timm_swin.py
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from timm.layers import Mlp, PatchEmbed
from timm.models import deit, tnt, vision_transformer
from timm.models import swin_transformer as swin
from timm.models import swin_transformer_v2 as swinv2
from torch_arrays import Tensors, call, gradients_of, tensors, train_step_of, value_of

dtype = "float32"
Pair = tuple[int, int]

# ── parts ────────────────────────────────────────────────────────────────────────────────────────


def _window_partition(x: torch.Tensor, window: Pair) -> torch.Tensor:
    B, C = x.shape[0], x.shape[3]
    return swin.window_partition(x, window).reshape(B, -1, window[0] * window[1], C)


def _window_merge(windows: torch.Tensor, window: Pair, grid: Pair) -> torch.Tensor:
    return swin.window_reverse(windows.reshape(-1, *window, windows.shape[3]), window, *grid)


def relative_position_index(window: Pair) -> np.ndarray:
    return swin.get_relative_position_index(*window).numpy()


def _relative_position_bias(table: torch.Tensor, window: Pair) -> torch.Tensor:
    module = swin.WindowAttention(table.shape[1], table.shape[1], window_size=window)
    module.relative_position_bias_table = None  # so that a tensor with a history may stand there
    del module._parameters["relative_position_bias_table"]
    module.relative_position_bias_table = table
    return module._get_rel_pos_bias()[0]


def attention_mask(grid: Pair, window: Pair, shift: Pair) -> np.ndarray:
    block = swin.SwinTransformerBlock(4, grid, 1, window_size=window, shift_size=shift)
    block.window_size, block.shift_size = window, shift
    block.window_area = N = window[0] * window[1]
    mask = block.get_attn_mask()
    return np.zeros((grid[0] * grid[1] // N, N, N)) if mask is None else mask.numpy()


def _mlp(x: torch.Tensor, params: Tensors) -> torch.Tensor:
    hidden, C = params["fc1.weight"].shape
    return call(Mlp(C, hidden), params, x)


def _patch_merging(x: torch.Tensor, params: Tensors) -> torch.Tensor:
    return call(swin.PatchMerging(x.shape[3]), params, x)


def _patch_merging_v2(x: torch.Tensor, params: Tensors) -> torch.Tensor:
    return call(swinv2.PatchMerging(x.shape[3]), params, x)


def _patch_embed(image: torch.Tensor, params: Tensors) -> torch.Tensor:
    C, _, *patch = params["proj.weight"].shape
    size, more = tuple(image.shape[2:]), {"norm_layer": torch.nn.LayerNorm, "output_fmt": "NHWC"}
    return call(PatchEmbed(size, tuple(patch), 3, C, **more), params, image)


class Attention(torch.nn.Module):
    """The attention of a block: its roll, padding and windows, without norms and MLP."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.attn = block.attn
        self.run = [block._attn]  # in a list, so that its parameters are not found twice

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run[0](x)


def _block_of(kind: Any, x: Any, window: Pair, shift: Pair, heads: int, hidden: int = 4) -> Any:
    H, W, C = x.shape[1:]
    ratio = {"mlp_ratio": hidden / C}
    return kind(C, (H, W), heads, window_size=window, shift_size=shift, **ratio)


def _window_attention(
    x: torch.Tensor, params: Tensors, window: Pair, shift: Pair, heads: int
) -> torch.Tensor:
    block = _block_of(swin.SwinTransformerBlock, x, window, shift, heads)
    return call(Attention(block), {f"attn.{n}": p for n, p in params.items()}, x)


def _window_attention_v2(
    x: torch.Tensor, params: Tensors, window: Pair, shift: Pair, heads: int
) -> torch.Tensor:
    block = _block_of(swinv2.SwinTransformerV2Block, x, window, shift, heads)
    return call(Attention(block), {f"attn.{n}": p for n, p in params.items()}, x)


def _block(
    x: torch.Tensor, params: Tensors, window: Pair, shifted: bool, heads: int
) -> torch.Tensor:
    shift = (window[0] // 2, window[1] // 2) if shifted else (0, 0)
    hidden = len(params["mlp.fc1.bias"])
    return call(_block_of(swin.SwinTransformerBlock, x, window, shift, heads, hidden), params, x)


def _block_v2(
    x: torch.Tensor, params: Tensors, window: Pair, shifted: bool, heads: int
) -> torch.Tensor:
    shift = (window[0] // 2, window[1] // 2) if shifted else (0, 0)
    hidden = len(params["mlp.fc1.bias"])
    kind = swinv2.SwinTransformerV2Block
    return call(_block_of(kind, x, window, shift, heads, hidden), params, x)


# ── models ───────────────────────────────────────────────────────────────────────────────────────


def _configured(config: dict[str, Any]) -> dict[str, Any]:
    """What is drop_rate for us is proj_drop_rate here; drop_rate is of the head."""
    own = {"drop_path_rate": 0.0, **config}
    own["proj_drop_rate"] = own.pop("drop_rate", 0.0)
    if own.pop("ape", False):
        raise NotImplementedError("there are no absolute positions here")
    return own


def renamed(state: Tensors) -> Tensors:
    """Our weights under their names: a merge is the first layer of a stage, not the last."""
    found = {}
    for name, x in state.items():
        stage = re.match(r"layers\.(\d+)\.downsample\.(.*)", name)
        name = f"layers.{int(stage[1]) + 1}.downsample.{stage[2]}" if stage else name
        found[re.sub(r"^head\.", "head.fc.", name)] = x
    return found


def _model(config: dict[str, Any], state: Tensors, image: torch.Tensor) -> torch.Tensor:
    return call(swin.SwinTransformer(**_configured(config)), renamed(state), image)


def _model_v2(config: dict[str, Any], state: Tensors, image: torch.Tensor) -> torch.Tensor:
    return call(swinv2.SwinTransformerV2(**_configured(config)), renamed(state), image)


def _model_vit(config: dict[str, Any], state: Tensors, image: torch.Tensor) -> torch.Tensor:
    own = {"class_token": False, "fc_norm": False} if config.get("global_pool") == "avg" else {}
    return call(vision_transformer.VisionTransformer(**config, **own), state, image)


def _model_deit(config: dict[str, Any], state: Tensors, image: torch.Tensor) -> torch.Tensor:
    return call(deit.VisionTransformerDistilled(**config), state, image)


OF_TNT = {
    "inner_norm1": "norm_in", "inner_attn": "attn_in", "inner_norm2": "norm_mlp_in",
    "inner_mlp": "mlp_in", "outer_norm1": "norm_out", "outer_attn": "attn_out",
    "outer_norm2": "norm_mlp", "outer_mlp": "mlp", "proj_norm1": "norm1_proj",
    "proj_norm2": "norm2_proj", "outer_pos": "patch_pos", "inner_pos": "pixel_pos",
    "patch_embed": "pixel_embed", "num_heads": "num_heads_outer",
    "inner_num_heads": "num_heads_inner", "inner_stride": "first_stride",
}  # fmt: skip


def _model_tnt(config: dict[str, Any], state: Tensors, image: torch.Tensor) -> torch.Tensor:
    """Words have their positions channels first here."""
    module = tnt.TNT(**{OF_TNT.get(name, name): value for name, value in config.items()})
    own = {".".join(OF_TNT.get(p, p) for p in n.split(".")): x for n, x in state.items()}
    own["pixel_pos"] = own["pixel_pos"].transpose(1, 2).reshape(module.pixel_pos.shape)
    return call(module, own, image)


def build_model(config: dict[str, Any], state: dict[str, np.ndarray]) -> Any:
    """Other sizes than that of the config are allowed, and get masks of their own."""
    module = swin.SwinTransformer(**_configured(config), strict_img_size=False).eval()
    module.load_state_dict(renamed(tensors(state)), strict=True)
    return value_of(module)


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
model_vit, model_vit_grad = value_of(_model_vit), gradients_of(_model_vit)
model_deit = value_of(_model_deit)
model_tnt, model_tnt_grad = value_of(_model_tnt), gradients_of(_model_tnt)
