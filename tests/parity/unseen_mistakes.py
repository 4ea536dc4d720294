"""Mistakes of ports that were written down before the kit could search for them: its judge.

Each is a change of a few words in timm's own text, so the wrong port shares no line with ours.
`about` is a pattern of a right answer: what the named function and its changed line must hold.
`later` marks what was made known to the search afterwards.
"""

from __future__ import annotations

from typing import Any

from tests.parity.wrong_ports import Change, Mistake

SWIN, V2, VIT, TNT = (
    f"timm.models.{name}"
    for name in ("swin_transformer", "swin_transformer_v2", "vision_transformer", "tnt")
)
ATTENTION, MLP = "timm.layers.attention:Attention.forward", "timm.layers.mlp:Mlp.forward"


def one(
    family: str, name: str, met: str, where: str, text: str, becomes: str, about: str, **more: Any
) -> Mistake:
    return Mistake(family, name, met, (Change(where, text, becomes),), about, **more)


MISTAKES: list[Mistake] = [
    # ── Swin ─────────────────────────────────────────────────────────────────────────────────────
    one("V1", "multiplied by √d", "porting", f"{SWIN}:WindowAttention.forward",
        "q = q * self.scale", "q = q / self.scale", r"shape\[-1\] \*\* |scale|0\.5"),
    one("V1", "the offset of columns is that of rows", "microsoft/Swin-Transformer#189",
        f"{SWIN}:get_relative_position_index", "[:, :, 1] += win_w - 1", "[:, :, 1] += win_h - 1",
        r"relative_position_index.*(Mh|Mw)"),
    one("V1", "the mask is boolean and added as 1", "huggingface/transformers#17481",
        f"{SWIN}:SwinTransformerBlock.get_attn_mask", "float(-100.0)", "float(1.0)",
        r"mask"),
    one("V1", "no norm before the head", "porting", f"{SWIN}:SwinTransformer.forward_features",
        "x = self.norm(x)", "pass", r"self\.norm"),
    one("V1", "the first block is shifted, not the second", "porting",
        f"{SWIN}:SwinTransformerBlock._calc_window_shift",
        "target_shift_size = to_2tuple(target_shift_size)",
        "target_shift_size = (0, 0) if any(to_2tuple(target_shift_size)) "
        "else (target_window_size[0] // 2, target_window_size[1] // 2)",
        r"shift.*(j|%)|not \(self\.shift"),
    one("V1", "SiLU for GELU", "ml-explore/mlx#1056", MLP, "self.act(x)",
        "x * x.sigmoid()", r"gelu|erf|Φ|silu|sigmoid"),
    one("V1", "the residual of the MLP is the block's input", "porting",
        f"{SWIN}:SwinTransformerBlock.forward",
        "x = x + self.drop_path1(self._attn(self.norm1(x)))\n"
        "    x = x.reshape(B, -1, C)\n"
        "    x = x + self.drop_path2",
        "before = x.reshape(B, -1, C)\n"
        "    x = x + self.drop_path1(self._attn(self.norm1(x)))\n"
        "    x = x.reshape(B, -1, C)\n"
        "    x = before + self.drop_path2",
        r"SwinBlock"),
    one("V1", "no norm in the merge", "porting", f"{SWIN}:PatchMerging.forward",
        "x = self.norm(x)", "pass", r"PatchMerging.*norm|norm.*PatchMerging"),
    one("V1", "bias and mask are scaled with the scores", "porting",
        f"{SWIN}:WindowAttention.forward",
        "q = q * self.scale\n        attn = q @ k.transpose(-2, -1)\n"
        "        attn = attn + self._get_rel_pos_bias()",
        "attn = q @ k.transpose(-2, -1)\n"
        "        attn = (attn + self._get_rel_pos_bias()) * self.scale",
        r"\*\*|0\.5|scale"),
    one("V1", "the highest token in the place of the mean", "porting",
        "timm.layers.classifier:ClassifierHead.forward", "x = self.global_pool(x)",
        "x = x.amax((1, 2))", r"mean|max"),
    one("V1", "shifted by half the window's height on both axes", "open-mmlab/mmdetection#6747",
        f"{SWIN}:SwinTransformerBlock._calc_window_shift",
        "return tuple(window_size), tuple(shift_size)",
        "return tuple(window_size), (shift_size[0], shift_size[0])", r"shift|// 2"),
    one("V1", "q, k and v without a bias", "NVIDIA/FasterTransformer#426",
        f"{SWIN}:WindowAttention.forward", "self.qkv(x)", "(x @ self.qkv.weight.T)",
        r"bias"),
    # ── Swin V2 ──────────────────────────────────────────────────────────────────────────────────
    one("V2", "logit_scale is not raised to e", "borisdayma/dalle-mini#297",
        f"{V2}:WindowAttention.forward", "max=math.log(1. / 0.01)).exp()",
        "max=math.log(1. / 0.01))", r"exp"),
    one("V2", "coordinates without their sign", "microsoft/Swin-Transformer#239",
        f"{V2}:WindowAttention._make_pair_wise_relative_positions",
        "torch.sign(relative_coords_table) * torch.log2(", "torch.log2(", r"sign"),
    one("V2", "a position bias of at most 1", "microsoft/Swin-Transformer#224",
        f"{V2}:WindowAttention.forward", "16 * torch.sigmoid(", "torch.sigmoid(", r"BIAS|16"),
    one("V2", "the keys get the bias of the queries", "porting", f"{V2}:WindowAttention.forward",
        "torch.cat((self.q_bias, self.k_bias, self.v_bias))",
        "torch.cat((self.q_bias, self.q_bias, self.v_bias))", r"q_bias"),
    one("V2", "the keys keep their length", "porting", f"{V2}:WindowAttention.forward",
        "F.normalize(k, dim=-1)", "k", r"unit"),
    one("V2", "coordinates are divided by the window, not by one less",
        "microsoft/Swin-Transformer#329",
        f"{V2}:WindowAttention._make_pair_wise_relative_positions",
        "[:, :, :, 1] /= max(self.window_size[1] - 1, 1)", "[:, :, :, 1] /= self.window_size[1]",
        r"axes|W - 1|M - 1|8|pretrained"),
    # ── ViT ──────────────────────────────────────────────────────────────────────────────────────
    one("ViT", "the class token has no position",
        "labmlai/annotated_deep_learning_paper_implementations#221",
        f"{VIT}:VisionTransformer._pos_embed",
        "            x = torch.cat(to_cat + [x], dim=1)\n        x = x + pos_embed",
        "            x = torch.cat(to_cat + [x + pos_embed[:, 1:]], dim=1)", r"pos"),
    one("ViT", "the mean of all tokens for the class token", "lucidrains/vit-pytorch#138",
        f"{VIT}:VisionTransformer.pool",
        "x = global_pool_nlc(", "return x.mean(1)\n    x = global_pool_nlc(", r"mean|\[:, 0\]"),
    one("ViT", "patches are counted by columns", "porting",
        "timm.layers.patch_embed:PatchEmbed.forward",
        "x = x.flatten(2).transpose(1, 2)", "x = x.transpose(2, 3).flatten(2).transpose(1, 2)",
        r"reshape|transpose", later="arrays in front of a reshape"),
    one("ViT", "softmax over the heads", "jeonsworld/ViT-pytorch#34", ATTENTION,
        "attn = attn.softmax(dim=-1)", "attn = attn.softmax(dim=1)", r"softmax|axis"),
    one("ViT", "the MLP is normed by the first norm", "porting", f"{VIT}:Block.forward",
        "self.norm2(x)", "self.norm1(x)", r"norm1|norm2"),
    one("ViT", "positions are added again in front of the head", "porting",
        f"{VIT}:VisionTransformer.forward_features",
        "x = self.norm(x)", "x = self.norm(x + self.pos_embed)", r"pos",
        later="a parameter added once more"),
    # ── TNT ──────────────────────────────────────────────────────────────────────────────────────
    one("TNT", "words have no positions", "huggingface/pytorch-image-models#701",
        f"{TNT}:PixelEmbed.forward", "x = x + pixel_pos", "pass", r"inner_pos"),
    one("TNT", "words tell the token before", "porting", f"{TNT}:Block.forward",
        "patch_embed[:, 0:1],\n            patch_embed[:, 1:] + self.norm2_proj(self.proj("
        "self.norm1_proj(pixel_embed.reshape(B, N - 1, -1)))),\n        ], dim=1)",
        "patch_embed[:, :-1] + self.norm2_proj(self.proj("
        "self.norm1_proj(pixel_embed.reshape(B, N - 1, -1)))),\n"
        "            patch_embed[:, -1:],\n        ], dim=1)", r"concat|pad|:",
        later="everything from the other end"),
    one("TNT", "no residual around the words' MLP", "porting", f"{TNT}:Block.forward",
        "pixel_embed = pixel_embed + self.drop_path(self.mlp_in",
        "pixel_embed = self.drop_path(self.mlp_in", r"inner|mlp"),
    one("TNT", "values take the heads apart the other way", "porting", f"{TNT}:Attention.forward",
        "v = self.v(x).reshape(B, N, self.num_heads, -1).permute(0, 2, 1, 3)",
        "v = self.v(x).reshape(B, N, -1, self.num_heads).permute(0, 3, 1, 2)",
        r"v|heads|reshape|transpose", later="channels interleaved"),
    # ── pairs ────────────────────────────────────────────────────────────────────────────────────
    Mistake("V1", "scaled twice, and no mask", "porting",
            (Change(f"{SWIN}:WindowAttention.forward", "q = q * self.scale",
                    "q = q * self.scale * self.scale"),
             Change(f"{SWIN}:WindowAttention.forward", "if mask is not None:", "if False:")),
            r"mask|shift|\*\*|0\.5"),
    Mistake("ViT", "the class token stands last, and is taken there", "vit-pytorch",
            (Change(f"{VIT}:VisionTransformer._pos_embed",
                    "            x = torch.cat(to_cat + [x], dim=1)\n        x = x + pos_embed",
                    "            x = torch.cat([x] + to_cat, dim=1)\n        x = x + pos_embed"),
             Change(f"{VIT}:VisionTransformer.pool", "x = global_pool_nlc(",
                    "return x[:, -1]\n    x = global_pool_nlc(")),
            r"concatenate|cls|\[:, |roll\(.*pos",
            later="its pattern: attention knows no order, so only positions are rolled"),
    Mistake("V2", "a bias of at most 1, of coordinates without their sign", "porting",
            (Change(f"{V2}:WindowAttention.forward", "16 * torch.sigmoid(", "torch.sigmoid("),
             Change(f"{V2}:WindowAttention._make_pair_wise_relative_positions",
                    "torch.sign(relative_coords_table) * torch.log2(", "torch.log2(")),
            r"sign|BIAS|16"),
    # ── training: three steps of an optimizer on the right model ─────────────────────────────────
    Mistake("V1", "decay is part of the gradient, as in Adam", "facebookresearch/deit#82", (),
            r"decay", "adamw", later="a known mistake"),
    Mistake("V1", "ε under the root", "porting", (), r"eps|root", "adamw", later="a known mistake"),
    Mistake("V1", "β₂ is 0.99", "google-research/vision_transformer#155", (), r"beta2|betas|0\.99",
            "adamw", later="rank"),
    Mistake("V1", "gradients of earlier steps are not thrown away",
            "kentaroy47/vision-transformers-cifar10#24", (), r"grad|zero", "sgd", later="rank"),
]  # fmt: skip
