"""Mistakes that were written down after the search was finished, and before they were tried.

Written on 30 November 2026; none is in the first list (unseen_mistakes.py) nor among the known
ones. Those of the forward pass, of momentum and of decay: before its operators were read, but for
those on whole statements. Those of clipping, schedule, smoothing and means: after that.
`later` marks what the search was taught afterwards.
"""

from __future__ import annotations

from tests.parity.unseen_mistakes import ATTENTION, MLP, SWIN, TNT, V2, VIT, one
from tests.parity.wrong_ports import Change, Mistake

LATER: list[Mistake] = [
    one("V1", "norms behind attention, as in V2", "porting", f"{SWIN}:SwinTransformerBlock.forward",
        "self._attn(self.norm1(x))", "self.norm1(self._attn(x))", r"norm1"),
    one("V1", "the last norm has the ε of Keras", "porting",
        f"{SWIN}:SwinTransformer.forward_features", "x = self.norm(x)",
        "x = torch.nn.functional.layer_norm("
        "x, x.shape[-1:], self.norm.weight, self.norm.bias, 1e-3)", r"eps|ε|1e-0?[35]"),
    one("V1", "GELU again behind the second layer of the MLP", "porting", MLP,
        "x = self.fc2(x)", "x = self.act(self.fc2(x))", r"gelu|fc2",
        later="an activation once more"),
    one("V1", "the position bias is added after the softmax", "porting",
        f"{SWIN}:WindowAttention.forward",
        "attn = attn + self._get_rel_pos_bias()\n"
        "        if mask is not None:\n"
        "            num_win = mask.shape[0]\n"
        "            attn = attn.view(-1, num_win, self.num_heads, N, N)"
        " + mask.unsqueeze(1).unsqueeze(0)\n"
        "            attn = attn.view(-1, self.num_heads, N, N)\n"
        "        attn = self.softmax(attn)",
        "if mask is not None:\n"
        "            num_win = mask.shape[0]\n"
        "            attn = attn.view(-1, num_win, self.num_heads, N, N)"
        " + mask.unsqueeze(1).unsqueeze(0)\n"
        "            attn = attn.view(-1, self.num_heads, N, N)\n"
        "        attn = self.softmax(attn) + self._get_rel_pos_bias()", r"softmax|bias"),
    one("V1", "the last region of the mask begins one row early", "porting",
        f"{SWIN}:SwinTransformerBlock.get_attn_mask",
        "(-self.window_size[0], -self.shift_size[0]),\n"
        "                (-self.shift_size[0], None)",
        "(-self.window_size[0], -self.shift_size[0] - 1),\n"
        "                (-self.shift_size[0] - 1, None)", r"region|mask|shift"),
    one("V2", "natural logarithms of coordinates over log2(8)", "porting",
        f"{V2}:WindowAttention._make_pair_wise_relative_positions",
        "* torch.log2(", "* torch.log(", r"log"),
    one("V2", "cosines are divided by the scale", "porting", f"{V2}:WindowAttention.forward",
        "attn = attn * logit_scale", "attn = attn / logit_scale", r"scale|exp"),
    one("V2", "the norm stands in front of the MLP, as in V1", "porting",
        f"{V2}:SwinTransformerV2Block.forward",
        "self.norm2(self.mlp(x))", "self.mlp(self.norm2(x))", r"norm2"),
    one("V2", "16 times the bias without its sigmoid", "porting", f"{V2}:WindowAttention.forward",
        "16 * torch.sigmoid(relative_position_bias)", "16 * relative_position_bias", r"sigmoid|16"),
    one("ViT", "the mean of the patches for the class token", "porting",
        f"{VIT}:VisionTransformer.pool",
        "x = global_pool_nlc(", "return x[:, 1:].mean(1)\n    x = global_pool_nlc(",
        r"mean|\[:, ", later="a reduction in the place of an element"),
    one("ViT", "the norm stands behind the sum, as in the first Transformer", "porting",
        f"{VIT}:Block.forward",
        "x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x), attn_mask=attn_mask, "
        "is_causal=is_causal)))",
        "x = self.norm1(x + self.attn(x))", r"norm1", later="an operation comes later"),
    one("ViT", "keys transposed by a reshape", "porting", ATTENTION,
        "k.transpose(-2, -1)", "k.reshape(B, self.num_heads, self.head_dim, N)",
        r"k\b.*(reshape|transpose)|swap"),
    one("TNT", "no second norm between words and tokens", "porting", f"{TNT}:Block.forward",
        "self.norm2_proj(self.proj(self.norm1_proj(pixel_embed.reshape(B, N - 1, -1))))",
        "self.proj(self.norm1_proj(pixel_embed.reshape(B, N - 1, -1)))", r"norm"),
    one("TNT", "words are read from the map by a reshape", "porting", f"{TNT}:PixelEmbed.forward",
        "x = x.reshape(B * self.num_patches, self.in_dim, -1).transpose(1, 2)",
        "x = x.reshape(B * self.num_patches, -1, self.in_dim)", r"reshape|transpose"),
    Mistake("V2", "dot products for cosines", "porting",
            (Change(f"{V2}:WindowAttention.forward", "F.normalize(q, dim=-1)", "q"),
             Change(f"{V2}:WindowAttention.forward", "F.normalize(k, dim=-1)", "k")),
            r"unit"),
    Mistake("V1", "momentum is a mean of gradients", "porting", (), r"momentum|rate", "sgd",
            later="its pattern: a momentum of a tenth is a rate of a tenth"),
    Mistake("V1", "decay without the learning rate", "porting", (), r"decay|lr", "adamw"),
    Mistake("V1", "each gradient by itself is cut off", "porting", (), r"clip|norm", "sgd",
            later="each by itself", settings=(("clip", 0.5),)),
    Mistake("V1", "gradients are cut off element by element", "porting", (), r"clip\(", "sgd",
            later="another function", settings=(("clip", 0.5),)),
    Mistake("V1", "the schedule is counted from 1", "porting", (), r"step", "sgd",
            settings=(("warmup", 1),)),
    Mistake("V1", "a straight line for the cosine of the rate", "porting", (), r"cos|\bc\b", "sgd",
            later="another function", settings=(("warmup", 0),)),
    Mistake("V1", "smoothing is shared by the wrong classes alone", "porting", (),
            r"smoothing|K", "adamw", later="one free number", settings=(("smoothing", 0.1),)),
    Mistake("V1", "the mean of the weights has its last decay from the first step on",
            "porting", (), r"decay|min", "sgd", settings=(("ema", 0.8),)),
    Mistake("V1", "the mean of the weights is taken before the step", "porting", (),
            r"if mean is not None|ema", "sgd", later="statements within a block",
            settings=(("ema", 0.8),)),
]  # fmt: skip
