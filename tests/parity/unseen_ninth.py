"""Mistakes that others made, a sixth list: three Swins are transformers' text, one is microsoft's.

Written on 1 December 2026 from commits and threads, before the edits of the search were read, and
before it was run. None is in the lists of before. Each is told here in our own words, as a change
of a right implementation; `met` is where it was. A comment says what stood there. `later` marks
what the search was taught afterwards.
"""

from __future__ import annotations

from tests.parity.unseen_mistakes import ATTENTION, SWIN, TNT, V2, VIT, one
from tests.parity.unseen_seventh import ATTEND, THEIRS, THEIRS_V2
from tests.parity.unseen_third import LAYER_NORM, NORM
from tests.parity.wrong_ports import Change, Mistake

MICROSOFT = "microsoft_swin.swin_transformer:WindowAttention.forward"
TIMM_NORM = "timm.layers.norm:LayerNorm.forward"
NORMED = "x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)"
SQUARES = "v = input.var(-1, unbiased=False, keepdim=True)"
CENTRED = "(input - input.mean(-1, keepdim=True))"

NINTH: list[Mistake] = [
    # ── Swin ─────────────────────────────────────────────────────────────────────────────────────
    # the last window was filled by a clamped index: its last token again and again
    one("V1 padded", "a map is filled up by its last tokens, not by zeros", "tier4/autoware-ml#93",
        f"{SWIN}:SwinTransformerBlock._attn",
        "torch.nn.functional.pad(shifted_x, (0, 0, 0, pad_w, 0, pad_h))",
        "torch.nn.functional.pad(shifted_x.permute(0, 3, 1, 2), (0, pad_w, 0, pad_h), "
        'mode="replicate").permute(0, 2, 3, 1).contiguous()',
        r"pad", later="padded by an end"),
    # no permute in front of the reshape
    one("V1 of transformers", "heads are put together by a reshape",
        "jsbaan/transformer-from-scratch#6", ATTEND,
        "attn_output = attn_output.transpose(1, 2).contiguous()",
        "attn_output = attn_output.contiguous()",
        r"merge_heads|heads|transpose|reshape"),
    # einsum("bnd,di->bni", x, W) of a weight that was made (out, in)
    Mistake("V1 of transformers", "queries, keys and values are multiplied by transposed weights",
            "rasbt/LLMs-from-scratch#857", tuple(
        Change(f"{THEIRS}:SwinAttention.forward", f"self.{part}_proj(hidden_states)",
               f"(hidden_states @ self.{part}_proj.weight + self.{part}_proj.bias)")
        for part in "qkv"),
        r"(qkv|linear|weight).*(swap|transpose|\.T|turned)|(swap|transpose|\.T).*(qkv|linear|weight)",
        later="a weight of three maps transposed"),
    # two unfolds of (N, C, H, W), and a view
    one("V1 of transformers", "patches mix the channels of several places",
        "gupta-abhay/pytorch-vit#7", f"{THEIRS}:SwinPatchEmbeddings.forward",
        "embeddings = self.projection(pixel_values)",
        "p, q = self.patch_size\n"
        "    cut = pixel_values.unfold(2, p, p).unfold(3, q, q)\n"
        "    grid = cut.shape[2:4]\n"
        "    cut = cut.reshape(len(cut), grid[0] * grid[1], -1)\n"
        "    weight = self.projection.weight.flatten(1)\n"
        "    embeddings = nn.functional.linear(cut, weight, self.projection.bias)\n"
        "    embeddings = embeddings.transpose(1, 2).unflatten(2, grid)",
        r"patch|conv"),
    # the scale had been forgotten, and the softmax stood in a comment
    Mistake("V1 of microsoft", "scores are neither scaled nor put through a softmax",
            "flexflow/flexflow-train#467", (
        Change(MICROSOFT, "q = q * self.scale", "pass"),
        Change(MICROSOFT, "attn = self.softmax(attn)", "pass")),
        r"softmax|exp|scale|\*\*|0\.5"),
    # window_size=(2, 6, 12) of axes (level, latitude, longitude), which are 12 and 6
    one("V1", "height and width of the windows are exchanged", "lizhuoq/WeatherLearn#13",
        f"{SWIN}:SwinTransformerBlock._calc_window_shift",
        "target_window_size = to_2tuple(target_window_size)",
        "target_window_size = to_2tuple(target_window_size)[::-1]",
        r"window", later="further on first, where the shape differs"),
    # rsqrtf(variance / ((float)K + epsilon)), of a sum of squares
    one("V1", "ε is added to the number of channels, not to the variance", "xlite-dev/LeetCUDA#317",
        LAYER_NORM, NORM,
        f"{SQUARES}\n    n = input.shape[-1]\n"
        f"    return {CENTRED} / (v * n / (n + self.eps)).sqrt() * self.weight + self.bias",
        r"eps"),
    # d_b1 = jnp.mean(d_h2, axis=1)
    one("V1", "the gradient of a bias is a mean over the tokens, not their sum", "kvfrans/notes#5",
        "torch.nn.modules.linear:Linear.forward", "return F.linear(input, self.weight, self.bias)",
        "b = self.bias\n"
        "    if b is not None:\n"
        "        part = b / input[..., 0].numel()\n"
        "        b = part + (b - part).detach()\n"
        "    return F.linear(input, self.weight, b)",
        r"linear.*(sum|mean|db)|db", backward=True),
    # ── Swin V2 ──────────────────────────────────────────────────────────────────────────────────
    # a block of 2**k channels, the last of them zeros, less the mean
    one("V2", "a norm's variance counts zeros up to the next power of two",
        "triton-lang/triton#9838", LAYER_NORM, NORM,
        "n = input.shape[-1]\n    lacking = 2 ** (n - 1).bit_length() - n\n"
        f"    {SQUARES} + lacking / n * input.mean(-1, keepdim=True).square()\n"
        f"    return {CENTRED} / (v + self.eps).sqrt() * self.weight + self.bias",
        r"layer_norm.*(var|mean)", known=False),
    # einsum("batch pos d_model, d_model d_model -> batch pos d_model")
    one("V2", "the projection behind attention has nothing but a diagonal",
        "alan-cooney/transformer-from-scratch#52", f"{V2}:WindowAttention.forward",
        "x = self.proj(x)", "x = x * self.proj.weight.diagonal() + self.proj.bias",
        r"proj|linear", later="nothing but its diagonal"),
    # (p1 p2 c), of weights that are (c p1 p2)
    one("V2", "pixels of a patch stand in front of its colours", "cloneofsimo/minRF#6",
        "timm.layers.patch_embed:PatchEmbed.forward", "x = self.proj(x)",
        "w = self.proj.weight\n    w = w.reshape(len(w), *w.shape[2:], w.shape[1])\n"
        "    x = F.conv2d(x, w.permute(0, 3, 1, 2), self.proj.bias, self.proj.stride)",
        r"patch|conv|colour|channel"),
    # x.reshape(B, H, W, classes), of (B, patches, area of a patch, classes)
    one("V2", "windows are put together by a reshape", "michaeltrs/DeepSatModels#22",
        f"{V2}:window_reverse", "x.permute(0, 1, 3, 2, 4, 5).contiguous()", "x",
        r"window_merge|_join|merge|windows", later="windows put together by us left aside"),
    # mask=self.calculate_mask(x_size), with and without a shift
    Mistake("V2 of transformers", "windows that are not shifted are masked too",
            "JingyunLiang/SwinIR#153", tuple(
        Change(f"{THEIRS_V2}:Swinv2Layer.get_attn_mask", text, becomes) for text, becomes in (
            ("- self.shift_size", "- shift"),
            ("if self.shift_size <= 0:\n        return None",
             "shift = self.shift_size or self.window_size // 2"))),
        r"mask|shift", known=False),
    # ── ViT and DeiT ─────────────────────────────────────────────────────────────────────────────
    # queries (d, heads), keys (heads, d): for each token a product of d × d
    Mistake("ViT", "channels of a token attend to one another, not tokens",
            "FluxML/Metalhead.jl@278bab6", (
        Change(ATTENTION, "q, k, v = qkv.unbind(0)",
               "q, k, v = (t.permute(0, 2, 3, 1) for t in qkv.unbind(0))"),
        Change(ATTENTION, "x = attn @ v", "x = (attn @ v).permute(0, 3, 1, 2)")),
        r"heads|transpose|axes|swap|channels", later="along other axes"),
    Mistake("ViT", "positions are added in front of every block", "p-doom/jasmine#118", (
        Change(f"{VIT}:VisionTransformer._pos_embed", "x = x + pos_embed",
               "x = x + pos_embed\n        for block in self.blocks:\n"
               "            block.positions = pos_embed if block is not self.blocks[0] else 0"),
        Change(f"{VIT}:Block.forward", "x = x + self.drop_path1(",
               "x = x + self.positions\n    x = x + self.drop_path1(")),
        r"pos", known=False),
    # output · (1 − output)
    one("ViT", "the gradient of a softmax is its diagonal alone", "deeplearning4j/libnd4j#440",
        ATTENTION, "attn = attn.softmax(dim=-1)",
        "p = attn.softmax(dim=-1).detach()\n"
        "        attn = p + p * (1 - p) * (attn - attn.detach())",
        r"(attention|softmax|spelled_out).*(ds|dp|\bp\b|sum)", backward=True),
    # LayerNorm = partial(nn.InstanceNorm2d, affine=True)
    one("DeiT", "norms go over the tokens, for each channel", "lucidrains/vit-pytorch@e532424",
        TIMM_NORM, NORMED,
        "m, v = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)\n"
        "        x = (x - m) / (v + self.eps).sqrt() * self.weight + self.bias",
        r"layer_norm.*(axis|mean|var)|axis"),
    # ── TNT ──────────────────────────────────────────────────────────────────────────────────────
    # a weight whose rows are (head, q or k or v, d) was read as (q or k or v, head, d)
    one("TNT", "queries and keys of one head stand side by side", "sgl-project/sglang#40127",
        f"{TNT}:Attention.forward",
        "reshape(B, N, 2, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)",
        "reshape(B, N, self.num_heads, 2, self.head_dim).permute(3, 0, 2, 1, 4)",
        r"heads|reshape|transpose|qk", later="rows in another order"),
    # s = x.std(); (x - m) / (s + eps).sqrt()
    one("TNT", "norms divide by the root of the deviation", "fastai/course-v3#363",
        LAYER_NORM, NORM,
        f"{SQUARES}.sqrt()\n"
        f"    return {CENTRED} / (v + self.eps).sqrt() * self.weight + self.bias",
        r"layer_norm.*(sqrt|var|root|\*\*|/|\*)", later="a square or a root once more"),
    # ── training ─────────────────────────────────────────────────────────────────────────────────
    # the groups of parameters were exchanged
    Mistake("V1", "gains and biases decay, and nothing else does",
            "facebookresearch/BalancingGroups#6", (), r"decay|ndim", "adamw"),
    # b = mu * b - lr * grad; theta += b
    Mistake("V1", "momentum keeps the rates of the steps before", "paiml/aprender#2190", (),
            r"lr|rate|velocity|momentum", "sgd", settings=(("warmup", 1),),
            later="a factor of a later statement"),
    # param = …, for param *= …
    Mistake("V1", "the mean of the weights stays where it began",
            "leondgarse/keras_cv_attention_models@e4c1d35", (), r"average|mean|decay|ema", "sgd",
            settings=(("ema", 0.8),)),
    # a sum of squares was squared before it was added to those of other parameters
    Mistake("V1", "the length of all gradients is made of their squared squares",
            "paiml/entrenar#311", (), r"clip|norm|length|square|sum|\*", "sgd",
            settings=(("clip", 0.5),), later="a square or a root once more"),
    # ── two at once ──────────────────────────────────────────────────────────────────────────────
    # off // stride_qm is 0 for every head; sm_scale=0.5
    Mistake("ViT", "every head is the first one, and the scale is 0.5", "BobMcDear/attorch#14", (
        Change(ATTENTION, "q, k, v = qkv.unbind(0)",
               "q, k, v = (t[:, :1].expand_as(t) for t in qkv.unbind(0))"),
        Change(ATTENTION, "q = q * self.scale", "q = q * 0.5")),
        r"heads|scale|\*\*|0\.5", later="a number beside an edit"),
]  # fmt: skip
