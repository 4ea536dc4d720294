"""Mistakes that others made, a fourth list: half of the Swins are changes of transformers' text.

Written on 1 December 2026 from commits and threads, before the edits of the search were read, and
before it was run. None is in the lists of before. Each is told here in our own words, as a change
of a right implementation; `met` is where it was. A comment says what stood there. A family "of
transformers" has that library's submodules, names and layouts. `later` marks what the search was
taught afterwards.
"""

from __future__ import annotations

from tests.parity.unseen_mistakes import ATTENTION, MLP, SWIN, TNT, V2, VIT, one
from tests.parity.unseen_third import LAYER_NORM, NORM
from tests.parity.wrong_ports import Change, Mistake

THEIRS, THEIRS_V2 = (f"transformers.models.{name}.modeling_{name}" for name in ("swin", "swinv2"))
ATTEND = f"{THEIRS}:eager_attention_forward"
HEADS = "reshape(B, N, 3, self.num_heads, self.head_dim)"
TABLE = f"{THEIRS_V2}:Swinv2SelfAttention.create_coords_table_and_index"

SEVENTH: list[Mistake] = [
    # ── Swin ─────────────────────────────────────────────────────────────────────────────────────
    # heads stood in front of images, and the mask was repeated element by element
    one("V1 of transformers", "the mask of each window is repeated before the next",
        "lsdefine/attention-is-all-you-need-keras#36", f"{THEIRS}:SwinAttention.forward",
        ".reshape(-1, 1, seq_len, seq_len)", ".transpose(0, 1).reshape(-1, 1, seq_len, seq_len)",
        r"mask"),
    # output.view(heads, batch, -1, d), of an output (batch · heads, T, d)
    one("V1 of transformers", "heads are put together as if they stood in front of the windows",
        "gazelle93/Transformer-Various-Positional-Encoding#1", ATTEND,
        "attn_output = attn_output.transpose(1, 2).contiguous()",
        "B, h, N, d = attn_output.shape\n"
        "    attn_output = attn_output.reshape(h, B, N, d).transpose(1, 2).reshape(B, N, h, d)",
        r"merge_heads|heads", known=False),
    one("V1 of transformers", "the softmax is over the queries",
        "labmlai/annotated_deep_learning_paper_implementations#146", ATTEND,
        "softmax(attn_weights, dim=-1", "softmax(attn_weights, dim=-2", r"softmax|axis|-2"),
    # tokens that may be seen got -inf, and padding 0
    one("V1 of transformers", "pairs of one region are masked, others are not", "OFA-Sys/OFA#214",
        f"{THEIRS}:SwinLayer.get_attn_mask",
        "masked_fill(attn_mask != 0, -100.0).masked_fill(attn_mask == 0, 0.0)",
        "eq(0).to(dtype) * -100.0", r"mask|apart"),
    one("V1", "GELU by a tanh", "chelsea0x3b/dfdx#804", MLP, "x = self.act(x)",
        'x = nn.functional.gelu(x, approximate="tanh")', r"gelu|tanh|erf"),
    # tf.meshgrid counts columns first, and the code did not
    Mistake("V1", "the index takes heights for widths and widths for heights",
            "leondgarse/keras_cv_attention_models@a0ff131", tuple(
        Change(f"{SWIN}:get_relative_position_index", text, becomes) for text, becomes in (
            ("[:, :, 0] += win_h - 1", "[:, :, 0] += win_w - 1"),
            ("[:, :, 1] += win_w - 1", "[:, :, 1] += win_h - 1"),
            ("[:, :, 0] *= 2 * win_w - 1", "[:, :, 0] *= 2 * win_h - 1"))),
        r"relative_position_index"),
    one("V1", "patches without a bias", "PaddlePaddle/PASSL#47",
        "timm.layers.patch_embed:PatchEmbed.forward", "x = self.proj(x)",
        "x = F.conv2d(x, self.proj.weight, stride=self.proj.stride)", r"(conv|proj|patch).*bias"),
    # ── Swin V2 ──────────────────────────────────────────────────────────────────────────────────
    # the learnt scale was made, and never used
    one("V2 of transformers", "cosines are not scaled", "lucidrains/x-transformers#352",
        f"{THEIRS_V2}:Swinv2SelfAttention.forward",
        "attention_scores = attention_scores * logit_scale", "pass", r"scale"),
    # bias of q_idx - kv_idx, with the other sign in the paper
    one("V2 of transformers", "offsets are those of keys less queries",
        "meta-pytorch/attention-gym#86", TABLE,
        "coords_flatten[:, :, None] - coords_flatten[:, None, :]",
        "coords_flatten[:, None, :] - coords_flatten[:, :, None]",
        r"relative_position_index|relative_position_bias"),
    # np.meshgrid counts columns first, torch's rows
    one("V2 of transformers", "the coordinates of rows and columns are exchanged",
        "leondgarse/keras_cv_attention_models@3390c25", TABLE,
        'meshgrid([relative_coords_h, relative_coords_w], indexing="ij")',
        'meshgrid([relative_coords_h, relative_coords_w], indexing="xy")',
        r"log_spaced|meshgrid|ij|xy"),
    # a norm over [heads, d], where others have one over [d]
    one("V2", "queries and keys have length 1 over all heads together", "EleutherAI/gpt-neox#1367",
        f"{V2}:WindowAttention.forward",
        "attn = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1))",
        "q, k = (t / t.square().sum((1, 3), keepdim=True).sqrt() for t in (q, k))\n"
        "    attn = q @ k.transpose(-2, -1)", r"unit|axis|squares", later="a sum over all heads"),
    # logits * tanh(logits / cap), for cap * tanh(logits / cap)
    one("V2", "the position bias is multiplied by its sigmoid, not 16 by it",
        "unslothai/unsloth-zoo#593", f"{V2}:WindowAttention.forward",
        "16 * torch.sigmoid(relative_position_bias)",
        "relative_position_bias * torch.sigmoid(relative_position_bias)", r"BIAS|sigmoid|16",
        later="an array in the place of a number"),
    # ── ViT ──────────────────────────────────────────────────────────────────────────────────────
    # where nothing is interpolated, the shortcut gave the tokens back, not the positions
    one("ViT", "tokens are added to themselves, not positions", "huggingface/candle@836540fd4",
        f"{VIT}:VisionTransformer._pos_embed", "x = x + pos_embed", "x = x + x", r"pos"),
    # nn.MultiheadAttention takes the first axis for the tokens
    Mistake("ViT", "attention goes over the images, not over the tokens", "aipixel/AEMatter#3", (
        Change(ATTENTION, "q, k, v = qkv.unbind(0)",
               "q, k, v = (t.transpose(0, 2) for t in qkv.unbind(0))"),
        Change(ATTENTION, "x = attn @ v", "x = (attn @ v).transpose(0, 2)")),
        r"(attend|heads|MSA|attention).*(transpose|axes|rank|swap|images|batch)",
        later="along the images"),
    # of queries, keys and values only the first was normed
    Mistake("ViT", "queries are of normed tokens, keys and values are not",
            "facebookresearch/xformers#233", (
        Change(f"{VIT}:Block.forward", "self.attn(self.norm1(x)",
               "self.attn(setattr(self.attn, 'bare', x) or self.norm1(x)"),
        Change(ATTENTION, "q, k, v = qkv.unbind(0)",
               "bare = F.linear(self.bare, self.qkv.weight, self.qkv.bias)"
               f".{HEADS}.permute(2, 0, 3, 1, 4)\n    q, k, v = qkv[0], bare[1], bare[2]")),
        r"norm1", known=False),
    # 32 heads of dim / 32 channels, for dim / 32 heads of 32 channels
    Mistake("ViT", "the number of heads is their size, and the size their number",
            "huggingface/candle@29e25c458", (
        Change(ATTENTION, HEADS, "reshape(B, N, 3, self.head_dim, self.num_heads)"),
        Change(ATTENTION, "q = q * self.scale", "q = q * self.num_heads ** -0.5")),
        r"heads"),
    # ── TNT ──────────────────────────────────────────────────────────────────────────────────────
    # patches began as learnt tokens
    one("TNT", "patches begin with nothing but a position",
        "lucidrains/transformer-in-transformer#9", f"{TNT}:TNT.forward_features",
        "self.norm2_proj(self.proj(self.norm1_proj(pixel_embed.reshape(B, self.num_patches, -1))))",
        "pixel_embed.new_zeros(B, self.num_patches, self.patch_pos.shape[-1])",
        r"sentences|words|patches|proj|outer"),
    Mistake("TNT", "the residual of words is what was normed, in both halves",
            "tracel-ai/burn#1056", tuple(
        Change(f"{TNT}:Block.forward",
               f"pixel_embed = pixel_embed + self.drop_path(self.{part}_in(self.{norm}_in(",
               f"pixel_embed = self.{norm}_in(pixel_embed)\n"
               f"    pixel_embed = pixel_embed + self.drop_path(self.{part}_in((")
        for part, norm in (("attn", "norm"), ("mlp", "norm_mlp"))),
        r"inner.*norm", later="names of a known library"),
    # ── backward: the forward pass is right ──────────────────────────────────────────────────────
    # an accumulator was not emptied
    one("ViT", "the gradient of a norm loses its mean twice", "tenstorrent/tt-metal#53204",
        "timm.layers.norm:LayerNorm.forward",
        "x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)",
        "y = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)\n"
        "        root = (x.var(-1, unbiased=False, keepdim=True) + self.eps).sqrt()\n"
        "        lost = x.mean(-1, keepdim=True) * (self.weight / root).detach()\n"
        "        x = y - lost + lost.detach()",
        r"layer_norm.*mean", backward=True, later="cotangents that are not theirs are not held"),
    # the scale of a head whose size had been padded to a multiple of 16
    one("V1", "gradients of scores are scaled by the padded size of a head",
        "tile-ai/tilelang-ascend#1670", f"{SWIN}:WindowAttention.forward",
        "attn = q @ k.transpose(-2, -1)",
        "right = q @ k.transpose(-2, -1)\n"
        "        padded = -(-q.shape[-1] // 16) * 16\n"
        "        attn = right * (padded ** -0.5 / self.scale)\n"
        "        attn = attn + (right - attn).detach()",
        r"(attention|spelled_out).*(scale|\*\*|0\.5|dq|dk|ds)", backward=True,
        later="a gradient times one number"),
    # ── training ─────────────────────────────────────────────────────────────────────────────────
    # the counter stood inside the loop over parameters
    Mistake("V1", "steps are counted for every parameter anew", "flashlight/flashlight#143", (),
            r"beta[12] ?\*\*|\bt\b|step|count", "adamw", known=False),
    Mistake("V1", "every class gets 1/K, not ε/K", "TimDettmers/ConvE#55", (), r"smoothing|soft",
            "adamw", settings=(("smoothing", 0.1),)),
    # ── two at once ──────────────────────────────────────────────────────────────────────────────
    Mistake("V1 of transformers", "norms have the ε of Keras, and rolled back is what was rolled",
            "VcampSoldiers/Swin-Transformer-Tensorflow@0637031", (
        Change(LAYER_NORM, NORM,
               "return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, 1e-3)"),
        Change(f"{THEIRS}:SwinLayer.forward", "window_reverse(attention_windows,",
               "hidden_states if self.shift_size else window_reverse(attention_windows,")),
        r"eps|roll|shift|merge"),
    Mistake("ViT", "positions are added twice, and GELU is x σ(1.702 x)",
            "gaasher/I-JEPA#4, mindspore-lab/mindone#225", (
        Change(f"{VIT}:VisionTransformer._pos_embed", "x = x + pos_embed", "x = x + 2 * pos_embed"),
        Change(MLP, "x = self.act(x)", "x = x * (1.702 * x).sigmoid()")),
        r"pos|gelu|1\.702"),
]  # fmt: skip
