"""The defects that ports of Swin were really found to have, each as one change of minswin's text.

Forward faults here, wrong derivatives and training in backward.py. `source` names public
threads, or "porting" for bugs that every second port goes through.
"""

from __future__ import annotations

from minswin.crosscheck.faults import fault

TEXT = "layers.windows.shifted_window_attention"
BLOCK = "models.swin.SwinBlock.__call__"
SPELLED = "layers.attention.spelled_out"
NORM = "reference.normalize.layer_norm"
INDEX = "reference.windows.relative_position_index"
REGIONS = "reference.windows.shift_regions"
MASK = "reference.windows.attention_mask"
MERGE = "reference.windows.patch_merge"

# ── rolls and padding ────────────────────────────────────────────────────────────────────────────

fault(
    "never shifted", "layers.windows.WindowAttention.__call__",
    "if self.shift and may_shift", "if False",
    source="pytorch/vision#6266", first="windows", names="the map is not shifted",
)  # fmt: skip
fault(
    "rolled down and right", TEXT,
    "shift=(-shift[0], -shift[1])", "shift=shift",
    source="porting", first="shifted", names="the map is rolled down and right",
)  # fmt: skip
fault(
    "rows alone are rolled", TEXT,
    "shift=(-shift[0], -shift[1])", "shift=(-shift[0], 0)",
    source="porting", first="shifted", names="only rows are rolled",
)  # fmt: skip
fault(
    "rolled by a whole window", TEXT,
    "shift=(-shift[0], -shift[1])", "shift=(-window[0], -window[1])",
    source="porting", first="shifted", names="the map is rolled by a whole window",
)  # fmt: skip
fault(
    "not rolled back", TEXT,
    "return ops.roll(x, shift=shift) if any(shift) else x", "return x",
    source="porting", first="cropped", names="the map is not rolled back",
)  # fmt: skip
fault(
    "rolled up and left twice", TEXT,
    "ops.roll(x, shift=shift)", "ops.roll(x, shift=(-shift[0], -shift[1]))",
    source="porting", first="map", names="the map is rolled up and left again instead of back",
)  # fmt: skip
fault(
    "rolled before it is padded", "layers.windows.WindowAttention.__call__",
    "x = pad_map(x, window)",
    "x = ops.roll(pad_map(ops.roll(x, shift=(-shift[0], -shift[1])), window), shift=shift)",
    source="huggingface/pytorch-image-models#2438", first="padded",
    names="the map is rolled before it is padded",
)  # fmt: skip
fault(
    "padding at the top and left", "layers.windows.pad_map",
    "((0, 0), (0, bottom), (0, right), (0, 0))", "((0, 0), (bottom, 0), (right, 0), (0, 0))",
    source="porting", first="padded", names="the padding is at the top and left",
)  # fmt: skip
fault(
    "padding of H and W exchanged", "layers.windows.PatchMerging.__call__",
    "pad_map(x, (2, 2))",
    "ops.pad(x, width=((0, 0), (0, x.shape[2] % 2), (0, x.shape[1] % 2), (0, 0)))",
    source="huggingface/pytorch-image-models#2285", first="error",
)  # fmt: skip
fault(
    "width of the padding in the order of F.pad", "layers.windows.pad_map",
    "((0, 0), (0, bottom), (0, right), (0, 0))", "((0, 0), (0, right), (0, bottom), (0, 0))",
    source="cambridge-mlg/gridded-tnp#3", first="error",
)  # fmt: skip
fault(
    "padding mirrors the map", "reference.shape.pad",
    "pad(x, width)", 'pad(x, width, mode="reflect")',
    source="porting", first="padded", names="the padding mirrors the map",
)  # fmt: skip

# ── windows and heads ────────────────────────────────────────────────────────────────────────────

fault(
    "windows cut by a reshape", "reference.windows._cut",
    "x = x.transpose(0, 1, 3, 2, 4, 5)  # (B, H/Mh, W/Mw, Mh, Mw, C)\n", "\n",
    source="porting", first="windows", names="the map is cut into windows by a reshape alone",
)  # fmt: skip
fault(
    "tokens numbered by columns", "reference.windows._cut",
    "transpose(0, 1, 3, 2, 4, 5)", "transpose(0, 1, 3, 4, 2, 5)",
    source="porting", first="windows",
    names="the tokens of a window are numbered column by column",
)  # fmt: skip
fault(
    "windows joined by a reshape", "reference.windows._join",
    "x = x.transpose(0, 1, 3, 2, 4, 5)  # (B, H/Mh, Mh, W/Mw, Mw, C)\n", "\n",
    source="ByChelsea/CMOS#4", first="map", names="windows are put together by a reshape alone",
)  # fmt: skip
fault(
    "nH in the place of nW", "reference.windows._join",
    "x = x.reshape(B, H // Mh, W // Mw, Mh, Mw, C)",
    "x = x[:, (np.arange(H // Mh)[:, None] * (H // Mh) + np.arange(W // Mw)).ravel() % x.shape[1]]"
    ".reshape(B, H // Mh, W // Mw, Mh, Mw, C)",
    source="microsoft/Swin-Transformer (kernels/window_process)", first="map",
    names="the number of windows in a column is used for that in a row",
)  # fmt: skip
fault(
    "q, k, v interleaved by heads", "layers.attention.split_heads",
    "qkv.reshape(*lead, N, 3, heads, channels // (3 * heads))",
    "qkv.reshape(*lead, N, heads, 3, channels // (3 * heads))"
    ".transpose(*range(rank + 1), rank + 2, rank + 1, rank + 3)",
    source="porting", first="q", names="q, k and v are interleaved head by head",
)  # fmt: skip
fault(
    "k, q, v", "layers.attention.split_heads",
    "return qkv[0], qkv[1], qkv[2]", "k, q = qkv[0], qkv[1]\n    return q, k, qkv[2]",
    source="Oneflow-Inc/libai#146", first="scores", names="k qᵀ is computed instead of q kᵀ",
)  # fmt: skip
fault(
    "heads joined by a reshape", "layers.attention.merge_heads",
    "x = x.transpose(*range(rank), rank + 1, rank, rank + 2)  # (..., N, h, d)\n", "\n",
    source="jsbaan/transformer-from-scratch#6 ajhalthor/Transformer-Neural-Network#4",
    first="merged", names="heads are put together by a reshape alone",
)  # fmt: skip

# ── bias and mask ────────────────────────────────────────────────────────────────────────────────

fault(
    "key minus query", INDEX,
    "row[:, None] - row[None, :]  # (N, N): query minus key\n"
    "    dc = column[:, None] - column[None, :]",
    "row[None, :] - row[:, None]\n    dc = column[None, :] - column[:, None]",
    source="microsoft/Swin-Transformer#281", first="index",
    names="the displacement is key minus query",
)  # fmt: skip
fault(
    "meshgrid 'xy'", INDEX,
    "row, column = np.divmod", "column, row = np.divmod",
    source="leondgarse/keras_cv_attention_models#26", first="index",
    names="rows and columns are exchanged in the index (meshgrid 'xy')",
)  # fmt: skip
fault(
    "the height multiplies the index", INDEX,
    "* (2 * Mw - 1)", "* (2 * Mh - 1)",
    source="282857341/nnFormer#8", first="index", case="wide",
    names="the height multiplies in the index where the width should",
)  # fmt: skip
fault(
    "one bias for all heads", "layers.windows.relative_position_bias",
    "ops.take(table, index)",
    "ops.take(ops.broadcast_to(table[:, :1], shape=table.shape), index)",
    source="porting", first="bias", names="all heads share the bias of the first",
)  # fmt: skip
fault(
    "the bias reshaped to heads", "layers.windows.relative_position_bias",
    ".transpose(2, 0, 1)", ".reshape(table.shape[1], *index.shape)",
    source="porting", first="logits",
    names="the bias is reshaped to the heads instead of transposed",
)  # fmt: skip
fault(
    "no bias", TEXT,
    "bias = relative_position_bias(table, window, table_window)",
    "bias = relative_position_bias(table * 0.0, window, table_window)",
    source="porting", first="bias", names="there is no relative position bias",
)  # fmt: skip
fault(
    "no mask", TEXT,
    "bias + mask.astype(bias.dtype)[:, None]", "bias + 0 * mask.astype(bias.dtype)[:, None]",
    source="huggingface/candle#1655 zzd1992/FlashWindowAttention#1", first="mask",
    names=("there is no mask", "the mask is not added"),
)  # fmt: skip
fault(
    "the mask inverted", MASK,
    "apart = labels[:, :, None] != labels[:, None, :]",
    "apart = labels[:, :, None] == labels[:, None, :]",
    source="pytorch/pytorch#170400", first="mask", names="the mask is the wrong way round",
)  # fmt: skip
fault(
    "the mask on the wrong axes", REGIONS,
    "rows[:, None] * 3 + columns[None, :]",
    "(np.repeat([0, 1, 2], [W - Mw, Mw - sw, sw])[:, None] * 3"
    " + np.repeat([0, 1, 2], [H - Mh, Mh - sh, sh])[None, :]).reshape(H, W)",
    source="zsyOAOA/ResShift#81", first="mask",
    names="the mask is built with rows and columns exchanged",
)  # fmt: skip
fault(
    "the mask of rows alone", REGIONS,
    "rows[:, None] * 3 + columns[None, :]", "rows[:, None] * 3 + 0 * columns[None, :]",
    source="microsoft/Swin-Transformer#38", first="mask", names="the mask parts rows only",
)  # fmt: skip
fault(
    "the mask given out window by window", TEXT,
    "x = attend(q, k, v, bias, drop)  # (B, nW, h, N, d)",
    "import numpy as np\n    bias = bias if not any(shift) else "
    "bias[np.arange(q.shape[0] * q.shape[1]).reshape(q.shape[:2]) // q.shape[0]]"
    "\n    x = attend(q, k, v, bias, drop)",
    source="porting", first="logits",
    names="the masks of the windows are given out image by image: "
    "(window, image) for (image, window)",
)  # fmt: skip

# ── attention ────────────────────────────────────────────────────────────────────────────────────

fault(
    "no scale", SPELLED, "q * q.shape[-1] ** -0.5", "q * 1.0",
    source="porting", first="scores", names="q kᵀ is not scaled",
    fused=("scale = q.shape[-1] ** -0.5", "scale = 1.0"),
)  # fmt: skip
fault(
    "scaled by all channels", SPELLED,
    "q.shape[-1] ** -0.5", "(q.shape[-1] * q.shape[-3]) ** -0.5",
    source="porting", first="scores",
    names="q kᵀ is scaled by all channels instead of those of one head",
    fused=("q.shape[-1] ** -0.5", "(q.shape[-1] * q.shape[-3]) ** -0.5"),
)  # fmt: skip
fault(
    "divided by d", SPELLED, "q.shape[-1] ** -0.5", "q.shape[-1] ** -1.0",
    source="porting", first="scores",
    names="q kᵀ is divided by d instead of √d",
    fused=("q.shape[-1] ** -0.5", "q.shape[-1] ** -1.0"),
)  # fmt: skip
fault(
    "softmax over the queries", SPELLED,
    "ops.softmax(logits)", "ops.softmax(logits, axis=-2)",
    source="porting", first="probabilities", names="the softmax runs over the queries",
    fused=("p /= p.sum(axis=-1, keepdims=True)", "p /= p.sum(axis=-2, keepdims=True)"),
)  # fmt: skip
fault(
    "dropout in evaluation", "layers.windows.WindowAttention.__call__",
    "return self.proj_drop(self.proj(x))",
    "x = self.proj(x)\n    import numpy as np\n"
    "    return ops.dropout(x, np.random.default_rng(0).random(x.shape) >= 0.2, rate=0.2)",
    source="pytorch/vision#7103 huggingface/pytorch-image-models#1978", first="residual",
    names="dropout is active",
)  # fmt: skip

# ── norms, MLP, residuals, ends ──────────────────────────────────────────────────────────────────

fault(
    "ε of Keras", NORM, "keepdims=True) + eps)", "keepdims=True) + 1e-3)",
    source="keras-team/keras-hub#2298", first="LayerNorm",
    names="ε of the layer norm is 0.001, the default of Keras",
)  # fmt: skip
fault(
    "ε of ViT", NORM, "keepdims=True) + eps)", "keepdims=True) + 1e-6)",
    source="kornia/kornia#2786", first="LayerNorm",
    names="ε of the layer norm is 1e-06, the default of ViT and Flax",
)  # fmt: skip
fault(
    "variance divided by C − 1", NORM,
    "(centred * centred).mean(axis=-1, keepdims=True)",
    "((centred * centred).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1))",
    source="harvardnlp/annotated-transformer#119", first="LayerNorm",
    names="the variance is divided by C − 1",
)  # fmt: skip
fault(
    "norm without its shift", NORM, "return xhat * weight + bias, vjp", "return xhat * weight, vjp",
    source="porting", first="LayerNorm", names="β of the layer norm is not added",
)  # fmt: skip
fault(
    "GELU by tanh", "reference.elementwise.gelu",
    "return x * cdf, vjp",
    "return 0.5 * x * (1 + xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), vjp",
    source="tinygrad/tinygrad#16162 huggingface/pytorch-image-models#2105", first="gelu",
    names="GELU is the tanh approximation",
)  # fmt: skip
fault(
    "GELU by a sigmoid", "reference.elementwise.gelu",
    "return x * cdf, vjp", "return x / (1 + xp.exp(-1.702 * x)), vjp",
    source="porting", first="gelu", names="GELU is x · sigmoid(1.702 x)",
)  # fmt: skip
fault(
    "no residual around the MLP", BLOCK,
    "return x + self.drop_path(self.mlp(self.norm2(x)))", "return self.mlp(self.norm2(x))",
    source="porting", first="LayerNorm", names="the residual is not added",
)  # fmt: skip
fault(
    "the residual taken after the norm", BLOCK,
    "x = x + self.drop_path(self.attn(self.norm1(x)))",
    "x = self.norm1(x)\n    x = x + self.attn(x)",
    source="porting", first="residual", names="the norm's result is added, not its input",
)  # fmt: skip
fault(
    "neighbours row by row", MERGE,
    "y = y.transpose(0, 1, 3, 4, 2, 5)", "y = y.transpose(0, 1, 3, 2, 4, 5)",
    source="microsoft/Swin-Transformer#256", first="neighbours",
    names="the 2×2 neighbours are taken row by row",
)  # fmt: skip
fault(
    "neighbours as nn.Unfold has them", MERGE,
    "y = y.transpose(0, 1, 3, 4, 2, 5)", "y = y.transpose(0, 1, 3, 5, 2, 4)",
    source="open-mmlab/mmdetection#6747 berniwal/swin-transformer-pytorch#22", first="neighbours",
    names="the neighbours vary fastest in the channels, as nn.Unfold has them",
)  # fmt: skip
fault(
    "a neighbour taken twice", MERGE,
    "return y.reshape(B, H // 2, W // 2, 4 * C), vjp",
    "y = y.reshape(B, H // 2, W // 2, 4, C)[:, :, :, [0, 1, 2, 2]]\n"
    "    return y.reshape(B, H // 2, W // 2, 4 * C), vjp",
    source="Project-MONAI/MONAI#4757", first="neighbours",
    names="a neighbour is taken twice and another never",
)  # fmt: skip
fault(
    "quarters instead of neighbours", MERGE,
    "y = x.reshape(B, H // 2, 2, W // 2, 2, C)\n    y = y.transpose(0, 1, 3, 4, 2, 5)",
    "y = x.reshape(B, 2, H // 2, 2, W // 2, C)\n    y = y.transpose(0, 2, 4, 3, 1, 5)",
    source="huggingface/candle#1655", first="neighbours",
    names="quarters of the map are joined instead of neighbours",
)  # fmt: skip
fault(
    "pixels of a patch channels last", "reference.conv.conv2d",
    "matrix = weight.reshape(weight.shape[0], -1)",
    "matrix = weight.reshape(weight.shape[0], *kernel, -1).transpose(0, 3, 1, 2)"
    ".reshape(weight.shape[0], -1)",
    source="porting", first="Conv2d", names="the pixels of a patch are taken channels last",
)  # fmt: skip
fault(
    "blue, green, red", "reference.conv.conv2d",
    "matrix = weight.reshape(weight.shape[0], -1)",
    "matrix = weight[:, ::-1].reshape(weight.shape[0], -1)",
    source="porting", first="Conv2d", names="the channels are blue, green, red",
)  # fmt: skip
fault(
    "the norm after the mean", "models.swin.SwinTransformer.__call__",
    "x = self.norm(x)  # every token is normalised, THEN the mean is taken\n"
    "    x = x.mean(axis=(1, 2))",
    "x = self.norm(x.mean(axis=(1, 2)))",
    source="porting", first="norm",
)  # fmt: skip
fault(
    "normed twice at the end", "models.swin.SwinTransformer.__call__",
    "x = self.norm(x)", "x = self.norm(self.norm(x))",
    source="rasbt/LLMs-from-scratch#1061", first="pooled",
)  # fmt: skip
fault(
    "tokens added up", "models.swin.SwinTransformer.__call__",
    "x.mean(axis=(1, 2))", "x.sum(axis=(1, 2))",
    source="porting", first="head", names="tokens are added up instead of averaged",
)  # fmt: skip
fault(
    "the loss added up", "reference.losses.cross_entropy",
    "return -(soft * counted).sum() / B, vjp", "return -(soft * counted).sum(), vjp",
    source="facebookresearch/deit#61", first="loss",
    names="losses are added up instead of averaged",
)  # fmt: skip
