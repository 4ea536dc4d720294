"""Mistakes that others made, a fifth list: three of the Swins are changes of transformers' text.

Written on 1 December 2026 from commits and threads, before the edits of the search were read, and
before it was run. None is in the lists of before. Each is told here in our own words, as a change
of a right implementation; `met` is where it was. A comment says what stood there. `later` marks
what the search was taught afterwards.
"""

from __future__ import annotations

from tests.parity.unseen_fifth import TIMM
from tests.parity.unseen_mistakes import MLP, SWIN, TNT, V2, VIT, one
from tests.parity.unseen_real import FIRST, SECOND
from tests.parity.unseen_seventh import THEIRS, THEIRS_V2
from tests.parity.unseen_third import LAYER_NORM, NORM
from tests.parity.wrong_ports import Change, Mistake

COSINES = (
    f"{V2}:WindowAttention.forward",
    "(F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1))",
)

EIGHTH: list[Mistake] = [
    # ── Swin ─────────────────────────────────────────────────────────────────────────────────────
    # regions of (1, 1, H, W) were labelled as if of (1, H, W, 1): slices of rows fell on the 1
    one("V1 of transformers", "regions of the mask are told apart by rows alone",
        "zsyOAOA/ResShift#81", f"{THEIRS}:SwinLayer.get_attn_mask",
        "w_region[None, None, :, None]", "0 * w_region[None, None, :, None]",
        r"region|column|\bsw\b"),
    # x was made of windows with their channels last, and then the windows were read, not x
    one("V1 of transformers", "windows with channels first are put together as if they were last",
        "ByChelsea/CMOS@0f65c95", f"{THEIRS}:window_reverse", "windows = windows.view(-1, height",
        "windows = windows.permute(0, 3, 1, 2).contiguous().view(-1, height",
        r"window_merge|_join|merge_heads|exchanged|channels", known=False),
    # shifts=(-shift_pl, -shift_lat, -shift_lat)
    one("V1", "columns are rolled by the shift of rows, and back by their own",
        "lizhuoq/WeatherLearn@dc896e6", f"{SWIN}:SwinTransformerBlock._attn",
        "shifts=(-self.shift_size[0], -self.shift_size[1])",
        "shifts=(-self.shift_size[0], -self.shift_size[0])", r"roll|shift"),
    # (B, C, H, W) was reshaped to (B, heads, H · W, d)
    one("V1", "queries with channels first are read as if they were last", "NVlabs/GCVit#11",
        f"{SWIN}:WindowAttention.forward", "q = q * self.scale",
        "q = q.transpose(-2, -1).reshape(q.shape) * self.scale",
        r"(split_heads|\bq\b|quer).*(transpose|reshape|swap|exchanged|channels)"),
    # ── Swin V2 ──────────────────────────────────────────────────────────────────────────────────
    # norms of queries and keys, given to keys and values
    one("V2", "keys and values have length 1, queries have not", "kyegomez/MegaVIT#17", *COSINES,
        "(q @ F.normalize(k, dim=-1).transpose(-2, -1))\n"
        "    v = F.normalize(v, dim=-1)", r"unit", later="an operation of another argument"),
    # a norm without an axis
    one("V2", "queries and keys are divided by the length of all of them",
        "MichalBortkiewicz/JaxGCRL#64", *COSINES,
        "((q / q.norm()) @ (k / k.norm()).transpose(-2, -1))", r"unit|squares|axis",
        later="over all images"),
    # output * self.drop_path(self.mlp(self.norm_2(output)))
    one("V2 of transformers", "the second half is multiplied, not added",
        "ChristophReich1996/MaxViT#8", f"{THEIRS_V2}:Swinv2Layer.forward",
        "layer_output = hidden_states + self", "layer_output = hidden_states * self",
        r"(mlp|norm2).*(\*|times|multipl)|(\*|times|multipl).*(mlp|norm2)",
        later="a product for a sum"),
    # ── ViT and DeiT ─────────────────────────────────────────────────────────────────────────────
    # self.attn_block(mlp_norm_output)
    one("ViT", "attention stands in the place of the MLP too", "explainingai-code/DiT-PyTorch#1",
        f"{VIT}:Block.forward", "self.mlp(self.norm2(x))", "self.attn(self.norm2(x))",
        r"self\.attn|attention", later="another layer"),
    one("ViT", "GELU by a tanh whose two constants are exchanged", "huggingface/transformers#11514",
        MLP, "x = self.act(x)",
        "x = 0.5 * x * (1 + (0.044715 * x * (1 + 0.7978845608 * x * x)).tanh())",
        r"gelu|tanh|erf", known=False),
    # self.activation(self.fully_connected2(x_fc1))
    Mistake("ViT", "GELU stands behind the second layer of the MLP, not the first",
            "goruck/nilm#1", (
        Change(MLP, "x = self.act(x)", "pass"),
        Change(MLP, "x = self.fc2(x)", "x = self.act(self.fc2(x))")), r"gelu"),
    # x = attn_out, and then x + dropout(x); so with the MLP
    Mistake("DeiT", "what attention and MLP give is added to itself, not to the tokens",
            "facebookresearch/multimodal#305", tuple(
        Change(f"{VIT}:Block.forward", text, text.replace("x = x +", "x = 2 *"))
        for text in (FIRST, SECOND)), r"Block.*(attn|mlp|x \+|\+ x)",
        later="2 f(x) for x + f(x)"),
    # ── TNT ──────────────────────────────────────────────────────────────────────────────────────
    # the image went through the filters before it was cut into patches
    one("TNT", "filters of the words see across the borders of patches", f"{TIMM}#2480",
        f"{TNT}:PixelEmbed.forward", "if self.legacy:",
        "self.unfold.kernel_size = self.unfold.stride = self.new_patch_size\n    if True:",
        r"legacy|cut_patches|patch_embed"),
    # (variance + epsilon) ** 2
    one("TNT", "norms divide by the square of the variance",
        "131250208/TPlinker-joint-extraction#37", LAYER_NORM, NORM,
        "v = input.var(-1, unbiased=False, keepdim=True)\n    return ("
        "input - input.mean(-1, keepdim=True)) / (v + self.eps) ** 2 * self.weight + self.bias",
        r"layer_norm.*(sqrt|var|root|\*\*|square|/|\*)"),
    # ── training ─────────────────────────────────────────────────────────────────────────────────
    # p.data.add_(weight_decay, alpha=-lr)
    Mistake("V1", "decay takes the same from every weight", "jettify/pytorch-optimizer#433", (),
            r"decay", "adamw", known=False),
    # beta, where the weight of the new model was asked for
    Mistake("V1", "the mean of the weights keeps 1 − d of itself",
            "marin-community/levanter@b6dc7d4", (), r"decay|p - average", "sgd",
            settings=(("ema", 0.8),)),
    # ── two at once ──────────────────────────────────────────────────────────────────────────────
    # positions [1, 2, 3, 4, 0]; dropout(z), where z_ = act(Dense(z)) was meant
    Mistake("ViT", "positions begin at the second, and what the MLP is given is added",
            "graykode/nlp-tutorial#73, theislab/CellFlow#296", (
        Change(f"{VIT}:VisionTransformer._pos_embed", "x = x + pos_embed",
               "x = x + pos_embed.roll(-1, 1)"),
        Change(f"{VIT}:Block.forward", SECOND, "x = x + self.norm2(x)")),
        r"pos|roll|mlp|norm2"),
]  # fmt: skip
