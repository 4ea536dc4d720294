"""Mistakes that were written down on 30 November 2026, before the code of the search was read.

None is of a kind that the first two lists or the known mistakes have. `later` marks what the
search was taught afterwards.
"""

from __future__ import annotations

from tests.parity.unseen_mistakes import ATTENTION, MLP, SWIN, TNT, V2, VIT, one
from tests.parity.wrong_ports import Change, Mistake

LAYER_NORM = "torch.nn.modules.normalization:LayerNorm.forward"
NORM = (
    "return F.layer_norm(\n"
    "        input, self.normalized_shape, self.weight, self.bias, self.eps\n    )"
)
SCORES = (
    f"{SWIN}:WindowAttention.forward",
    "attn = q @ k.transpose(-2, -1)",
    "attn = (q @ k.transpose(-2, -1)).clamp(-1, 1)",
)

THIRD: list[Mistake] = [
    # ── Swin ─────────────────────────────────────────────────────────────────────────────────────
    one("V1", "scores are cut off at 1", "IDEA-Research/GroundingDINO#352", *SCORES,
        r"clip|minimum|maximum", later="cut off"),
    one("V1", "norms multiply by the deviation", "szymanowiczs/viewset-diffusion#1", LAYER_NORM,
        NORM, "v = input.var(-1, unbiased=False, keepdim=True)\n    return ("
        "input - input.mean(-1, keepdim=True)) * (v + self.eps).sqrt() * self.weight + self.bias",
        r"layer_norm.*(sqrt|var|/|\*)"),
    one("V1", "a norm's gain is one more than its weight", "huggingface/transformers#29402",
        LAYER_NORM, NORM,
        "return F.layer_norm(input, self.normalized_shape, self.weight + 1, self.bias, self.eps)",
        r"(gamma|weight|gain).*(1|one more)|1.*(gamma|weight|gain)",
        later="its pattern: one more, in words"),
    one("V1", "gain and bias of norms are exchanged", "porting", LAYER_NORM, NORM,
        "return F.layer_norm(input, self.normalized_shape, self.bias, self.weight, self.eps)",
        r"(weight|gamma).*(bias|beta)|(bias|beta).*(weight|gamma)"),
    Mistake("V1", "the MLP has a residual of its own", "porting", (
        Change(MLP, "x = self.fc1(x)", "before = x\n    x = self.fc1(x)"),
        Change(MLP, "x = self.drop2(x)", "x = self.drop2(x) + before")),
        r"mlp|fc2|\+ x", later="a residual once more"),
    one("V1", "powers of 2 in the softmax", "porting", f"{SWIN}:WindowAttention.forward",
        "attn = self.softmax(attn)",
        "attn = (attn * 0.6931471805599453).softmax(-1)", r"exp2|exp|ln 2|log|0\.693"),
    one("V1", "height and width of the patches' kernel are exchanged", "porting",
        "timm.layers.patch_embed:PatchEmbed.forward", "x = self.proj(x)",
        "x = F.conv2d(x, self.proj.weight.transpose(2, 3), self.proj.bias, self.proj.stride)",
        r"proj|patch|conv"),
    Mistake("V1", "rolled over width and channels", "porting", (
        Change(f"{SWIN}:SwinTransformerBlock._attn",
               "torch.roll(x, shifts=(-self.shift_size[0], -self.shift_size[1]), dims=(1, 2))",
               "torch.roll(x, shifts=(-self.shift_size[0], -self.shift_size[1]), dims=(2, 3))"),
        Change(f"{SWIN}:SwinTransformerBlock._attn",
               "torch.roll(shifted_x, shifts=self.shift_size, dims=(1, 2))",
               "torch.roll(shifted_x, shifts=self.shift_size, dims=(2, 3))")),
        r"roll|axis|axes|\(1, 2\)|\(2, 3\)", known=False),
    # ── Swin V2 ──────────────────────────────────────────────────────────────────────────────────
    Mistake("V2", "queries and keys have length 1 over the tokens, not over the channels",
            "microsoft/Swin-Transformer#373", tuple(
        Change(f"{V2}:WindowAttention.forward", f"F.normalize({x}, dim=-1)",
               f"F.normalize({x}, dim=-2)") for x in "qk"),
        r"unit|axis"),
    one("V2", "the scale has a lowest, not a highest value", "porting",
        f"{V2}:WindowAttention.forward", "torch.clamp(self.logit_scale, max=",
        "torch.clamp(self.logit_scale, min=", r"minimum|maximum|clip|LARGEST",
        later="its pattern: we write the clamp as a difference"),
    one("V2", "coordinates begin at 0", "porting",
        f"{V2}:WindowAttention._make_pair_wise_relative_positions",
        "relative_coords_table *= 8",
        "relative_coords_table += 1\n    relative_coords_table *= 8",
        r"arange|coordinates|axes|- 1|\+ 1|offsets", known=False),
    one("V2", "coordinates are not spaced by logarithms", "microsoft/Swin-Transformer#329",
        f"{V2}:WindowAttention._make_pair_wise_relative_positions",
        "relative_coords_table = torch.sign(relative_coords_table) * torch.log2(\n"
        "        torch.abs(relative_coords_table) + 1.0) / math.log2(8)", "pass", r"log"),
    one("V2", "divided by the squared length", "porting", f"{V2}:WindowAttention.forward",
        "F.normalize(q, dim=-1)", "(q / (q * q).sum(-1, keepdim=True))", r"unit|sqrt",
        known=False),
    # ── ViT ──────────────────────────────────────────────────────────────────────────────────────
    one("ViT", "a token sees none behind it", "porting", ATTENTION,
        "attn = attn.softmax(dim=-1)",
        "attn = attn.masked_fill(torch.ones(N, N).tril() == 0, float('-inf')).softmax(dim=-1)",
        r"tri|causal|mask|key ≤ query", later="another function"),
    one("ViT", "tokens are normed in front of the blocks, as in CLIP", "porting",
        f"{VIT}:VisionTransformer.forward_features", "x = self.norm_pre(x)", "x = self.norm(x)",
        r"self\.norm", later="normed once more"),
    Mistake("ViT", "GELU stands in front of the first layer", "porting", (
        Change(MLP, "x = self.fc1(x)", "x = self.fc1(self.act(x))"),
        Change(MLP, "x = self.act(x)\n    x = self.drop1(x)", "x = self.drop1(x)")),
        r"gelu|fc1"),
    Mistake("ViT", "attention and MLP stand beside each other", "porting", (
        Change(f"{VIT}:Block.forward", "x = x + self.drop_path1(",
               "before = x\n    x = x + self.drop_path1("),
        Change(f"{VIT}:Block.forward", "self.norm2(x)", "self.norm2(before)")),
        r"norm2|mlp"),
    # ── TNT ──────────────────────────────────────────────────────────────────────────────────────
    one("TNT", "the words' positions are counted by columns",
        "huggingface/pytorch-image-models#701", f"{TNT}:PixelEmbed.forward",
        "x = x + pixel_pos", "x = x + pixel_pos.transpose(2, 3)", r"inner_pos|pos",
        later="positions counted by columns"),
    Mistake("TNT", "tokens are told the words of before the block", "porting", (
        Change(f"{TNT}:Block.forward", "# inner\n", "before = pixel_embed\n"),
        Change(f"{TNT}:Block.forward",
               "self.norm1_proj(pixel_embed.reshape(B, N - 1, -1))",
               "self.norm1_proj(before.reshape(B, N - 1, -1))")),
        r"words|inner|proj"),
    one("TNT", "tokens are replaced by their words", "porting",
        f"{TNT}:Block.forward",
        "patch_embed[:, 1:] + self.norm2_proj(", "self.norm2_proj(", r"proj|tokens|\+"),
    # ── pairs ────────────────────────────────────────────────────────────────────────────────────
    Mistake("V1", "no scale, and a softmax that 1 is added to", "porting", (
        Change(f"{SWIN}:WindowAttention.forward", "q = q * self.scale", "pass"),
        Change(f"{SWIN}:WindowAttention.forward", "attn = self.softmax(attn)",
               "attn = attn.exp() / (1 + attn.exp().sum(-1, keepdim=True))")),
        r"scale|\*\*|sum|exp", later="another function"),
    Mistake("V2", "both norms stand behind their sums", "innat/medic-ai#50", (
        Change(f"{V2}:SwinTransformerV2Block.forward",
               "x = x + self.drop_path1(self.norm1(self._attn(x)))",
               "x = self.norm1(x + self._attn(x))"),
        Change(f"{V2}:SwinTransformerV2Block.forward",
               "x = x + self.drop_path2(self.norm2(self.mlp(x)))",
               "x = self.norm2(x + self.mlp(x))")),
        r"norm1|norm2"),
    # ── training ─────────────────────────────────────────────────────────────────────────────────
    Mistake("V1", "short gradients are stretched to the length of clipping", "porting", (),
            r"clip|norm|min|if", "sgd", settings=(("clip", 100.0),)),
    Mistake("V1", "decay is corrected like the start of Adam", "Oneflow-Inc/oneflow#5960", (),
            r"decay|rate|lr", "adamw", known=False),
    Mistake("V1", "the momentum of Nesterov", "porting", (), r"momentum|velocity|\+", "sgd"),
    # ── known from a trial of before: located, told as a shape, not named ────────────────────────
    one("V1 padded", "scores are cut off at 1, on a padded map", "IDEA-Research/GroundingDINO#352",
        *SCORES, r"clip|minimum|maximum", later="cut off"),
]  # fmt: skip
