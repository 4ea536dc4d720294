"""Mistakes that others made, a third list: Keras, JAX, TensorFlow and others, from their repairs.

Written on 1 December 2026 from commits and threads, before the edits of the search were read, and
before it was run. None is in the lists of before. Each is told here in our own words, as a change
of a right implementation; `met` is where it was. A comment says what stood there. `later` marks
what the search was taught afterwards.
"""

from __future__ import annotations

from tests.parity.unseen_fifth import DEIT, RESNET, TIMM
from tests.parity.unseen_mistakes import ATTENTION, SWIN, TNT, V2, one
from tests.parity.wrong_ports import Change, Mistake

SIXTH: list[Mistake] = [
    # ── Swin ─────────────────────────────────────────────────────────────────────────────────────
    # lengths of rows were given to the axis of columns; a reshape to windows did not mind
    Mistake("V1", "regions of the mask are those of the map on its side, read on by rows",
            "shkarupa-alex/tfswin@6866fbc", (
        Change(f"{SWIN}:SwinTransformerBlock.get_attn_mask", "torch.zeros((1, H, W, 1)",
               "torch.zeros((1, W, H, 1)"),
        Change(f"{SWIN}:SwinTransformerBlock.get_attn_mask",
               "img_mask[:, h[0]:h[1], w[0]:w[1], :]", "img_mask[:, w[0]:w[1], h[0]:h[1], :]"),
        Change(f"{SWIN}:SwinTransformerBlock.get_attn_mask", "window_partition(img_mask,",
               "window_partition(img_mask.reshape(1, H, W, 1),")),
        r"region|mask.*(grid|\bH\b|\bW\b|transpose|reshape)"),
    # cast(same region) - 101: only 1 lies between the two
    one("V1", "a masked pair has 1 less than the others, not 100", "shkarupa-alex/tfswin@9ee473e",
        f"{SWIN}:SwinTransformerBlock.get_attn_mask",
        "attn_mask.masked_fill(attn_mask != 0, float(-100.0))"
        ".masked_fill(attn_mask == 0, float(0.0))",
        "attn_mask.masked_fill(attn_mask != 0, -101.0).masked_fill(attn_mask == 0, -100.0)",
        r"mask.*(value|100|\b1\b|1\.0)", known=False),
    one("V1", "the model gives probabilities, not logits", "DarshanDeshpande/jax-models@630e9df",
        f"{SWIN}:SwinTransformer.forward", "x = self.forward_head(x)",
        "x = self.forward_head(x).softmax(-1)", r"softmax|probabilit|exp",
        later="a softmax behind it"),
    # scores were multiplied by log2(e) for a softmax in powers of 2, the bias was not
    one("V1", "the softmax has powers of 2, and the position bias does not know it",
        "meta-pytorch/segment-anything-fast#71", f"{SWIN}:WindowAttention.forward",
        "attn = attn + self._get_rel_pos_bias()",
        "attn = attn + 0.6931471805599453 * self._get_rel_pos_bias()",
        r"bias.*(0\.69|log|ln 2|exp2)|(0\.69|log|ln 2|exp2).*bias"),
    # -M // 2 is not -(M // 2)
    one("V1", "rolled by half of the window, rounded up, and back by half, rounded down",
        "WangFeng18/Swin-Transformer@29e3d38", f"{SWIN}:SwinTransformerBlock._attn",
        "shifts=(-self.shift_size[0], -self.shift_size[1])",
        "shifts=(-self.window_size[0] // 2, -self.window_size[1] // 2)", r"roll|shift"),
    # ── Swin V2 ──────────────────────────────────────────────────────────────────────────────────
    Mistake("V2", "cosines are divided by √d, and the bias is scaled as they are",
            "borisdayma/dalle-mini@931f6a8", (
        Change(f"{V2}:WindowAttention.forward", "attn = attn * logit_scale",
               "attn = attn / q.shape[-1] ** 0.5"),
        Change(f"{V2}:WindowAttention.forward", "attn = self.softmax(attn)",
               "attn = self.softmax(attn * logit_scale)")),
        r"scale|\*\*", later="an operation on another argument too"),
    Mistake("V2", "probabilities are multiplied by the scale, not cosines",
            "borisdayma/dalle-mini@bafbb67", (
        Change(f"{V2}:WindowAttention.forward", "attn = attn * logit_scale", "pass"),
        Change(f"{V2}:WindowAttention.forward", "attn = self.attn_drop(attn)",
               "attn = self.attn_drop(attn * logit_scale)")),
        r"scale|softmax"),
    # from before the original's code was there to be read
    Mistake("V2", "coordinates are natural logarithms of whole offsets", f"{TIMM}@4b30bae6", tuple(
        Change(f"{V2}:WindowAttention._make_pair_wise_relative_positions", text, becomes)
        for text, becomes in (
            ("relative_coords_table[:, :, :, 0] /= max(self.window_size[0] - 1, 1)", "pass"),
            ("relative_coords_table[:, :, :, 1] /= max(self.window_size[1] - 1, 1)", "pass"),
            ("relative_coords_table *= 8", "pass"),
            ("torch.log2(", "torch.log("),
            (" / math.log2(8)", ""))),
        r"log_spaced.*(log|8|W|/)", later="an edit and one number, further out"),
    # ── ViT and DeiT ─────────────────────────────────────────────────────────────────────────────
    # value = k_proj(value)
    one("ViT", "values are what the keys are", "yflyzhang/AnnotatedTransformer#1", ATTENTION,
        "x = attn @ v", "x = attn @ k",
        r"\bk\b.*\bv\b|\bv\b.*\bk\b|keys|values|qkv\[1\], qkv\[1\]"),
    one("ViT", "nothing is projected behind the heads", "Kyubyong/transformer#117", ATTENTION,
        "x = self.proj(x)", "pass", r"proj"),
    # a norm by the root mean square that took the variance for the mean of the squares
    one("ViT", "norms divide by the deviation, of C − 1, and leave the mean", f"{TIMM}@15406a93",
        "timm.layers.norm:LayerNorm.forward",
        "x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)",
        "x = x / (x.var(-1, keepdim=True) + self.eps).sqrt() * self.weight + self.bias",
        r"layer_norm.*(mean|centred)", later="known mistakes are one of two"),
    # it was split off as the last token, and it is the second
    one("DeiT", "the distillation token is taken from the end", "ofsoundof/LocalViT#5",
        f"{DEIT}:VisionTransformerDistilled.forward_head", "x[:, 0], x[:, 1]",
        "x[:, 0], x[:, -1]", r"\[:, -?\d"),
    # ── TNT ──────────────────────────────────────────────────────────────────────────────────────
    # the layers from words to patches were gathered in a list that nobody called
    one("TNT", "blocks tell no patch of its words",
        "Rishit-dagli/Transformer-in-Transformer@24ca2f8", f"{TNT}:Block.forward",
        "patch_embed[:, 1:] + self.norm2_proj(self.proj(self.norm1_proj("
        "pixel_embed.reshape(B, N - 1, -1)))),", "patch_embed[:, 1:],",
        r"sentences|words|patches|outer\[:, 1:\]"),
    # pieces of a map whose channels are last, read as if they were first
    one("TNT", "words are read as channels first, and they are last", "keras-team/keras-io#687",
        f"{TNT}:PixelEmbed.forward", "x = x + pixel_pos",
        "x = x.permute(0, 2, 3, 1).reshape(x.shape) + pixel_pos",
        r"words.*(reshape|transpose)|(reshape|transpose).*words|channels",
        later="read as if two axes were exchanged"),
    # ── ResNet ───────────────────────────────────────────────────────────────────────────────────
    one("ResNet", "no ReLU behind the first norm", "michuanhaohao/reid-strong-baseline#4",
        f"{RESNET}:ResNet.forward_features", "x = self.act1(x)", "pass", r"relu"),
    one("ResNet", "no norm behind the convolution of a shortcut", "apache/mxnet#2354",
        f"{RESNET}:BasicBlock.forward", "self.downsample(shortcut)", "self.downsample[0](shortcut)",
        r"downsample|shortcut"),
    # ── training ─────────────────────────────────────────────────────────────────────────────────
    Mistake("V1", "moments are multiplied by their correction", "karpathy/convnetjs#107", (),
            r"beta[12] ?\*\*|1 - beta|root [/*]=", "adamw", later="one sign of two places"),
    Mistake("V1", "the cosine falls to 0, and is cut off at the final rate",
            "EleutherAI/gpt-neox#1008", (), r"max|final|\bc\b|cos", "sgd",
            settings=(("warmup", 1),)),
    Mistake("V1", "the classes share 1 − ε, not ε", "paiml/aprender#2199", (), r"smoothing|/ K",
            "adamw", settings=(("smoothing", 0.1),)),
    Mistake("V1", "the mean of the weights is pushed away from them", "ostris/ai-toolkit#1034", (),
            r"1 - decay|p - average|average [-+]=", "sgd", settings=(("ema", 0.8),)),
]  # fmt: skip
