"""Mistakes that others made: repaired, or reported, in public implementations.

Written on 1 December 2026 from commits and threads, before the edits of the search were read. None
is in the lists of before (unseen_mistakes.py, unseen_later.py, unseen_third.py). Each is told here
in our own words, as a change of a right implementation; `met` is where it was. `later` marks what
the search was taught afterwards.
"""

from __future__ import annotations

from tests.parity.unseen_mistakes import ATTENTION, SWIN, TNT, V2, VIT, one
from tests.parity.unseen_third import LAYER_NORM, NORM
from tests.parity.wrong_ports import Change, Mistake

PHIL, TIMM = "lucidrains/vit-pytorch", "huggingface/pytorch-image-models"
WORDS = "lucidrains/transformer-in-transformer"
FIRST, SECOND = (
    "x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x), attn_mask=attn_mask, "
    "is_causal=is_causal)))",
    "x = x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))",
)

REAL: list[Mistake] = [
    # ── Swin ─────────────────────────────────────────────────────────────────────────────────────
    # the mask held 1 for a pair that may and 0 for one that may not, and scores were multiplied
    one("V1", "the mask multiplies the scores by 0", "berniwal/swin-transformer-pytorch@ae5ae7b",
        f"{SWIN}:WindowAttention.forward", "+ mask.unsqueeze(1).unsqueeze(0)",
        "* (mask == 0).unsqueeze(1).unsqueeze(0)", r"mask",
        later="0 where it is masked"),
    # x.at[…].add(…) of JAX gives a new array, and nobody took it
    one("V1", "the index is the sum of two offsets, and counts from the end where it is negative",
        "DarshanDeshpande/jax-models@fb30de8", f"{SWIN}:get_relative_position_index",
        "relative_coords[:, :, 0] += win_h - 1  # shift to start from 0\n"
        "    relative_coords[:, :, 1] += win_w - 1\n"
        "    relative_coords[:, :, 0] *= 2 * win_w - 1", "pass", r"index",
        later="its numbers left out"),
    # a buffer that was made empty and never filled
    one("V1", "the index is 0 for every pair", f"{TIMM}@2d746d94",
        f"{SWIN}:get_relative_position_index", "return relative_coords.sum(-1)",
        "return 0 * relative_coords.sum(-1)", r"index|bias"),
    # `<` for `<=`
    one("V1 covered", "a map that one window covers is shifted too",
        "huggingface/transformers#20792", f"{SWIN}:SwinTransformerBlock._calc_window_shift",
        "[0 if r <= w else s", "[0 if r < w else s", r"shift|window",
        later="further on, where the first is in another order"),
    one("V1", "norms add ε to the deviation, not to the variance", f"{PHIL}@64a07f5",
        LAYER_NORM, NORM,
        "v = input.var(-1, unbiased=False, keepdim=True)\n    return ("
        "input - input.mean(-1, keepdim=True)) / (v.sqrt() + self.eps) * self.weight + self.bias",
        r"eps|ε|sqrt"),
    # ── Swin V2 ──────────────────────────────────────────────────────────────────────────────────
    # a missing transpose: what stands at (i, j) is divided by |kᵢ|
    one("V2", "scores are divided by the length of the query's own key",
        "ChristophReich1996/Swin-Transformer-V2@41b9898", f"{V2}:WindowAttention.forward",
        "(F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1))",
        "(q @ k.transpose(-2, -1)) / (q.norm(dim=-1, keepdim=True) * k.norm(dim=-1, keepdim=True))",
        r"unit|norm|sqrt",
        later="words of a known mistake"),
    # nothing is changed here: it is open
    Mistake("V2 padded", "rolled before it is padded", f"{TIMM}#2438", (), r"pad|roll",
        later="a known mistake, put right, and further on, where the first is in windows"),
    # ── ViT ──────────────────────────────────────────────────────────────────────────────────────
    one("ViT", "a patch is made of pixels that stand far apart", f"{PHIL}@825a948",
        "timm.layers.patch_embed:PatchEmbed.forward", "x = self.proj(x)",
        "h, w = self.patch_size\n    x = self.proj(x.reshape(B, C, h, H // h, w, W // w)"
        ".permute(0, 1, 3, 2, 5, 4).reshape(B, C, H, W))", r"patch|reshape|transpose",
        later="blocks that stand far apart"),
    # the function that drops paths had added the residual already
    Mistake("ViT", "the residual is added twice", f"{TIMM}@5bfb679f", (
        Change(f"{VIT}:Block.forward", FIRST, FIRST.replace("x = x +", "x = x + x +")),
        Change(f"{VIT}:Block.forward", SECOND, SECOND.replace("x = x +", "x = x + x +"))),
        r"Block.*(x \+|\+ x|2)",
        later="at all places of its kind"),
    Mistake("ViT", "the residual is what was normed for attention, in both halves",
            "d2l-ai/d2l-en#2283", (
        Change(f"{VIT}:Block.forward", FIRST,
               "x = self.norm1(x)\n    y = x + self.attn(x)"),
        Change(f"{VIT}:Block.forward", SECOND, "x = x + self.mlp(self.norm2(y))")),
        r"norm1|norm2"),
    one("ViT", "norms are over all tokens and channels together", "patrick-kidger/equinox#521",
        "timm.layers.norm:LayerNorm.forward",
        "x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)",
        "v = x.var((-2, -1), unbiased=False, keepdim=True)\n        x = ("
        "x - x.mean((-2, -1), keepdim=True)) / (v + self.eps).sqrt() * self.weight + self.bias",
        r"layer_norm|mean|axis"),
    # for attention, ff, …, ff in layers: one name for two
    one("ViT", "the MLP of the last block stands in the first one too", f"{PHIL}@7807f24",
        f"{VIT}:VisionTransformer.forward_features", "x = self.patch_embed(x)",
        "self.blocks[0].mlp = self.blocks[1].mlp\n    x = self.patch_embed(x)", r"blocks|mlp",
        later="one layer in the place of all"),
    Mistake("ViT", "probabilities, not scores, are divided, by the root of all channels",
            "FrancescoSaverioZuppichini/ViT#2", (
        Change(ATTENTION, "q = q * self.scale", "pass"),
        Change(ATTENTION, "attn = attn.softmax(dim=-1)", "attn = attn.softmax(dim=-1) / C**0.5")),
        r"softmax|scale|\*\*",
        later="an edit and one number"),
    one("ViT", "all tokens have one position", "pytorch/examples#1178",
        f"{VIT}:VisionTransformer._pos_embed", "x = x + pos_embed", "x = x + pos_embed[:, :1]",
        r"pos"),
    # ── TNT ──────────────────────────────────────────────────────────────────────────────────────
    Mistake("TNT", "no norm between the words and their projection", f"{WORDS}#1", (
        Change(f"{TNT}:Block.forward",
               "self.proj(self.norm1_proj(pixel_embed.reshape(B, N - 1, -1)))",
               "self.proj(pixel_embed.reshape(B, N - 1, -1))"),
        Change(f"{TNT}:TNT.forward_features",
               "self.norm1_proj(pixel_embed.reshape(B, self.num_patches, -1))",
               "pixel_embed.reshape(B, self.num_patches, -1)")), r"norm"),
    one("TNT", "words are taken from pixels that stand far apart", f"{WORDS}@7621ce6",
        f"{TNT}:PixelEmbed.forward", "x = self.unfold(x)",
        "h, w = self.patch_size\n        x = self.unfold(x.reshape(B, C, h, H // h, w, W // w)"
        ".permute(0, 1, 3, 2, 5, 4).reshape(B, C, H, W))", r"words|patch|reshape|transpose",
        later="blocks that stand far apart"),
    # ── training ─────────────────────────────────────────────────────────────────────────────────
    # the list of those that do not decay was asked of the wrapper of many machines, which has none
    Mistake("V1", "the tables of positions decay", "facebookresearch/deit@1f961b0", (), r"decay",
            "adamw"),
    Mistake("V1", "each gradient is stepped along twice", "pytorch/vision#4874", (),
            r"step|update|momentum|twice", "sgd",
        later="a statement twice"),
    Mistake("V1", "gradients are clipped while they are scaled", "pytorch/vision#4874", (),
            r"clip|norm", "sgd", settings=(("clip", 0.5),)),
    Mistake("V1", "the cosine begins at the first step, not after the warm-up", f"{TIMM}#1242", (),
            r"cos|warmup|done", "sgd", settings=(("warmup", 1),),
        later="at all places of its kind"),
]  # fmt: skip
