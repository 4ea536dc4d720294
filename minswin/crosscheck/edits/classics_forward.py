"""The defects that ports of Swin were really found to have, each as one change of minswin's text.

Those of the forward pass; wrong derivatives, training and the rest in classics_others.py. `met`
names public threads; without it, bugs that every second port goes through.
"""

from __future__ import annotations

from minswin.crosscheck.edits.classics import classic

# fmt: off
ROLL = "roll by (−s, −s) on rows and columns before the windows, by (+s, +s) after them"
SCORES = "scores = (q / √d) kᵀ, d the channels of one head"
INDEX = "(rₚ − r_q + Mh − 1) · (2 Mw − 1) + (cₚ − c_q + Mw − 1), p the query, q the key"
MERGE = "[x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]]: the row varies fastest"
PAD = "zeros at the bottom and right, up to the next multiple of the window"
CUT = "reshape to (B, H/Mh, Mh, W/Mw, Mw, C), exchange axes 2 and 3, then join"
MASK = "label the rolled map by the slices [0, −M), [−M, −s), [−s, end) of each axis; −100 apart"
EPS = "ε is 1e-5 in Swin, 1e-6 in ViT"
GELU = "x (1 + erf(x / √2)) / 2, the exact one"
SUMS = "x + attention(norm1(x)), then x + mlp(norm2(x)): the input of the norm is added"
PATCH = "a patch is (channel, row, column), slowest first; the channels are red, green, blue"

classic("never shifted", "layers.windows.WindowAttention.__call__",
    "if self.shift and may_shift", "if False", met="pytorch/vision#6266", first="windows",
    words="the map is not shifted", remedy=ROLL)
classic("rolled down and right", "composites.shifted_window_attention",
    "shift=(-shift[0], -shift[1])", "shift=shift", first="shifted",
    words="the map is rolled down and right", remedy=ROLL)
classic("rows alone are rolled", "composites.shifted_window_attention",
    "shift=(-shift[0], -shift[1])", "shift=(-shift[0], 0)", first="shifted",
    words="only rows are rolled", remedy=ROLL)
classic("rolled by a whole window", "composites.shifted_window_attention",
    "shift=(-shift[0], -shift[1])", "shift=(-window[0], -window[1])", first="shifted",
    words="the map is rolled by a whole window", remedy="the shift is half a window, M // 2")
classic("not rolled back", "composites.shifted_window_attention",
    "return ops.roll(x, shift=shift) if any(shift) else x", "return x", first="cropped",
    words="the map is not rolled back", remedy=ROLL)
classic("rolled up and left twice", "composites.shifted_window_attention",
    "ops.roll(x, shift=shift)", "ops.roll(x, shift=(-shift[0], -shift[1]))", first="map",
    words="the map is rolled up and left again instead of back", remedy=ROLL)
classic("rolled before it is padded", "layers.windows.WindowAttention.__call__",
    "x = pad_map(x, window)  # (B, H', W', C)\n    x = self.shifted_windows(self.qkv(x), window, "
    "shift)  # (B, H', W', C)\n    x = crop_map(x, (H, W))  # (B, H, W, C)",
    "up = (-shift[0], -shift[1])\n    x = pad_map(ops.roll(x, shift=up), window)\n    x = "
    "self.shifted_windows(self.qkv(ops.roll(x, shift=shift)), window, shift)\n    x = "
    "ops.roll(crop_map(ops.roll(x, shift=up), (H, W)), shift=shift)",
    met="huggingface/pytorch-image-models#2438", first="padded",
    words="the map is rolled before it is padded",
    remedy="pad first, then roll: else the mask does not part the ends of the image")
classic("padding at the top and left", "layers.windows.pad_map",
    "((0, 0), (0, bottom), (0, right), (0, 0))", "((0, 0), (bottom, 0), (right, 0), (0, 0))",
    first="padded", words="the padding is at the top and left", remedy=PAD)
classic("padding of H and W exchanged", "layers.windows.PatchMerging.__call__",
    "pad_map(x, (2, 2))",
    "ops.pad(x, width=((0, 0), (0, x.shape[2] % 2), (0, x.shape[1] % 2), (0, 0)))",
    met="huggingface/pytorch-image-models#2285", first="error")
classic("width of the padding in the order of F.pad", "layers.windows.pad_map",
    "((0, 0), (0, bottom), (0, right), (0, 0))", "((0, 0), (0, right), (0, bottom), (0, 0))",
    met="cambridge-mlg/gridded-tnp#3", first="error")
classic("padding mirrors the map", "reference.shape.pad",
    "pad(x, width)", 'pad(x, width, mode="reflect")', first="padded",
    words="the padding mirrors the map", remedy=PAD)
classic("windows cut by a reshape", "reference.windows._cut",
    "x = x.transpose(0, 1, 3, 2, 4, 5)  # (B, H/Mh, W/Mw, Mh, Mw, C)\n", "\n", first="windows",
    words="the map is cut into windows by a reshape alone", remedy=CUT)
classic("tokens numbered by columns", "reference.windows._cut",
    "transpose(0, 1, 3, 2, 4, 5)", "transpose(0, 1, 3, 4, 2, 5)", first="windows",
    words="the tokens of a window are numbered column by column", remedy=CUT)
classic("windows joined by a reshape", "reference.windows._join",
    "x = x.transpose(0, 1, 3, 2, 4, 5)  # (B, H/Mh, Mh, W/Mw, Mw, C)\n", "\n",
    met="ByChelsea/CMOS#4", first="map", words="windows are put together by a reshape alone",
    remedy="reshape to (B, H/Mh, W/Mw, Mh, Mw, C), exchange axes 2 and 3, then join")
classic("nH in the place of nW", "reference.windows._join",
    "x = x.reshape(B, H // Mh, W // Mw, Mh, Mw, C)",
    "x = x[:, (np.arange(H // Mh)[:, None] * (H // Mh) + np.arange(W // Mw)).ravel() % "
    "x.shape[1]].reshape(B, H // Mh, W // Mw, Mh, Mw, C)",
    met="microsoft/Swin-Transformer (kernels/window_process)", first="map",
    words="the number of windows in a column is used for that in a row",
    remedy="window w stands in row w // (W / Mw) of the windows: the width counts, not the height")
classic("q, k, v interleaved by heads", "composites.split_heads",
    "qkv.reshape(*lead, N, 3, heads, channels // (3 * heads))",
    "qkv.reshape(*lead, N, heads, 3, channels // (3 * heads)).transpose(*range(rank + 1), rank + "
    "2, rank + 1, rank + 3)", first="q", words="q, k and v are interleaved head by head",
    remedy="qkv's channels are (3, heads, d), slowest first: q, k, v, and in each head after head")
classic("k, q, v", "composites.split_heads",
    "return qkv[0], qkv[1], qkv[2]", "k, q = qkv[0], qkv[1]\n    return q, k, qkv[2]",
    met="Oneflow-Inc/libai#146", first="scores", words="k qᵀ is computed instead of q kᵀ",
    remedy=SCORES)
classic("heads joined by a reshape", "composites.merge_heads",
    "x = x.transpose(*range(rank), rank + 1, rank, rank + 2)  # (..., N, h, d)\n", "\n",
    met="jsbaan/transformer-from-scratch#6 ajhalthor/Transformer-Neural-Network#4", first="merged",
    words="heads are put together by a reshape alone",
    remedy="exchange heads and tokens first: (N, h, d), then join h and d")
classic("key minus query", "reference.windows.relative_position_index",
    "row[:, None] - row[None, :]  # (N, N): query minus key\n    dc = column[:, None] - "
    "column[None, :]", "row[None, :] - row[:, None]\n    dc = column[None, :] - column[:, None]",
    met="microsoft/Swin-Transformer#281", first="index",
    words="the displacement is key minus query", remedy=INDEX)
classic("meshgrid 'xy'", "reference.windows.relative_position_index",
    "row, column = np.divmod", "column, row = np.divmod",
    met="leondgarse/keras_cv_attention_models#26", first="index",
    words="rows and columns are exchanged in the index (meshgrid 'xy')", remedy=INDEX)
classic("the height multiplies the index", "reference.windows.relative_position_index",
    "* (2 * Mw - 1)", "* (2 * Mh - 1)", met="282857341/nnFormer#8", first="index",
    words="the height multiplies in the index where the width should", remedy=INDEX, case="wide")
classic("one bias for all heads", "composites.relative_position_bias",
    "ops.take(table, index)", "ops.take(ops.broadcast_to(table[:, :1], shape=table.shape), index)",
    first="bias", words="all heads share the bias of the first",
    remedy="the table has a column for each head")
classic("the bias reshaped to heads", "composites.relative_position_bias",
    ".transpose(2, 0, 1)", ".reshape(table.shape[1], *index.shape)", first="logits",
    words="the bias is reshaped to the heads instead of transposed",
    remedy="table[index] is (N, N, heads): move the heads to the front")
classic("no bias", "composites.shifted_window_attention",
    "bias = relative_position_bias(table, window, table_window)",
    "bias = relative_position_bias(table * 0.0, window, table_window)", first="bias",
    words="there is no relative position bias", remedy="add table[index] to the logits")
classic("no mask", "composites.shifted_window_attention",
    "bias + mask.astype(bias.dtype)[:, None]", "bias + 0 * mask.astype(bias.dtype)[:, None]",
    met="huggingface/candle#1655 zzd1992/FlashWindowAttention#1", first="mask",
    words="there is no mask", remedy=MASK)
classic("the mask inverted", "reference.windows.attention_mask",
    "apart = labels[:, :, None] != labels[:, None, :]",
    "apart = labels[:, :, None] == labels[:, None, :]", met="pytorch/pytorch#170400", first="mask",
    words="the mask is the wrong way round", remedy="0 for a pair of one region, −100 apart")
classic("the mask on the wrong axes", "reference.windows.shift_regions",
    "rows[:, None] * 3 + columns[None, :]",
    "(np.repeat([0, 1, 2], [W - Mw, Mw - sw, sw])[:, None] * 3 + np.repeat([0, 1, 2], [H - Mh, Mh "
    "- sh, sh])[None, :]).reshape(H, W)", met="zsyOAOA/ResShift#81", first="mask",
    words="the mask is built with rows and columns exchanged",
    remedy="H is the axis of rows in the label image as well")
classic("the mask of rows alone", "reference.windows.shift_regions",
    "rows[:, None] * 3 + columns[None, :]", "rows[:, None] * 3 + 0 * columns[None, :]",
    met="microsoft/Swin-Transformer#38", first="mask", words="the mask parts rows only",
    remedy=MASK)
classic("the mask given out window by window", "composites.shifted_window_attention",
    "x = attend(q, k, v, bias)  # (B, nW, h, N, d)",
    "import numpy as np\n    bias = bias if not any(shift) else bias[np.arange(q.shape[0] * "
    "q.shape[1]).reshape(q.shape[:2]) // q.shape[0]]\n    x = attend(q, k, v, bias)",
    first="logits",
    words="the masks of the windows are given out image by image: (window, image) for (image, "
    "window)", remedy="the axis of windows varies fastest: b · nW + w belongs to mask w")
classic("no scale", "composites.spelled_out",
    "q * q.shape[-1] ** -0.5", "q * 1.0", first="scores", words="q kᵀ is not scaled", remedy=SCORES,
    fused=("scale = q.shape[-1] ** -0.5", "scale = 1.0"))
classic("scaled by all channels", "composites.spelled_out",
    "q.shape[-1] ** -0.5", "(q.shape[-1] * q.shape[-3]) ** -0.5", first="scores",
    words="q kᵀ is scaled by all channels instead of those of one head", remedy=SCORES,
    fused=("q.shape[-1] ** -0.5", "(q.shape[-1] * q.shape[-3]) ** -0.5"))
classic("divided by d", "composites.spelled_out",
    "q.shape[-1] ** -0.5", "q.shape[-1] ** -1.0", first="scores",
    words="q kᵀ is divided by d instead of √d",
    remedy="scores = (q / √d) kᵀ, d the channels of one head; do not scale both q and k",
    fused=("q.shape[-1] ** -0.5", "q.shape[-1] ** -1.0"))
classic("softmax over the queries", "composites.spelled_out",
    "ops.softmax(logits)", "ops.softmax(logits, axis=-2)", first="probabilities",
    words="the softmax runs over the queries",
    remedy="softmax over the keys, the last axis: each query's row sums to 1",
    fused=("p /= p.sum(axis=-1, keepdims=True)", "p /= p.sum(axis=-2, keepdims=True)"))
classic("dropout in evaluation", "layers.windows.WindowAttention.__call__",
    "return self.proj_drop(self.proj(x))",
    "x = self.proj(x)\n    import numpy as np\n    return ops.dropout(x, "
    "np.random.default_rng(0).random(x.shape) >= 0.2, rate=0.2)",
    met="pytorch/vision#7103 huggingface/pytorch-image-models#1978", first="residual",
    words="dropout is active",
    remedy="switch dropout and drop path off: the model is not in training")
classic("ε of Keras", "reference.normalize.layer_norm",
    "keepdims=True) + eps)", "keepdims=True) + 1e-3)", met="keras-team/keras-hub#2298",
    first="LayerNorm", words="ε of the layer norm is 0.001, the default of Keras", remedy=EPS)
classic("ε of ViT", "reference.normalize.layer_norm",
    "keepdims=True) + eps)", "keepdims=True) + 1e-6)", met="kornia/kornia#2786", first="LayerNorm",
    words="ε of the layer norm is 1e-06, the default of ViT and Flax", remedy=EPS)
classic("variance divided by C − 1", "reference.normalize.layer_norm",
    "(centred * centred).mean(axis=-1, keepdims=True)",
    "((centred * centred).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1))",
    met="harvardnlp/annotated-transformer#119", first="LayerNorm",
    words="the variance is divided by C − 1",
    remedy="divide by C: numpy's var with ddof=0, torch's with unbiased=False")
classic("norm without its shift", "reference.normalize.layer_norm",
    "return xhat * weight + bias, vjp", "return xhat * weight, vjp", first="LayerNorm",
    words="β of the layer norm is not added",
    remedy="γ (x − mean) / √(mean of squares + ε) + β over the channels of each token")
classic("GELU by tanh", "reference.elementwise.gelu",
    "return x * cdf, vjp",
    "return 0.5 * x * (1 + xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), vjp",
    met="tinygrad/tinygrad#16162 huggingface/pytorch-image-models#2105", first="gelu",
    words="GELU is the tanh approximation", remedy=GELU)
classic("GELU by a sigmoid", "reference.elementwise.gelu",
    "return x * cdf, vjp", "return x / (1 + xp.exp(-1.702 * x)), vjp", first="gelu",
    words="GELU is x · sigmoid(1.702 x)", remedy=GELU)
classic("no residual around the MLP", "models.swin.SwinBlock.__call__",
    "return x + self.drop_path(self.mlp(self.norm2(x)))", "return self.mlp(self.norm2(x))",
    first="LayerNorm", words="the residual is not added", remedy=SUMS)
classic("the residual taken after the norm", "models.swin.SwinBlock.__call__",
    "x = x + self.drop_path(self.attn(self.norm1(x)))",
    "x = self.norm1(x)\n    x = x + self.attn(x)", first="residual",
    words="the norm's result is added, not its input", remedy=SUMS)
classic("neighbours row by row", "reference.windows.patch_merge",
    "y = y.transpose(0, 1, 3, 4, 2, 5)", "y = y.transpose(0, 1, 3, 2, 4, 5)",
    met="microsoft/Swin-Transformer#256", first="neighbours",
    words="the 2×2 neighbours are taken row by row", remedy=MERGE)
classic("neighbours as nn.Unfold has them", "reference.windows.patch_merge",
    "y = y.transpose(0, 1, 3, 4, 2, 5)", "y = y.transpose(0, 1, 3, 5, 2, 4)",
    met="open-mmlab/mmdetection#6747 berniwal/swin-transformer-pytorch#22", first="neighbours",
    words="the neighbours vary fastest in the channels, as nn.Unfold has them",
    remedy="[x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]]: the row varies fastest; "
    "or permute weights that were trained the other way")
classic("a neighbour taken twice", "reference.windows.patch_merge",
    "return y.reshape(B, H // 2, W // 2, 4 * C), vjp",
    "y = y.reshape(B, H // 2, W // 2, 4, C)[:, :, :, [0, 1, 2, 2]]\n    return y.reshape(B, H // "
    "2, W // 2, 4 * C), vjp", met="Project-MONAI/MONAI#4757", first="neighbours",
    words="a neighbour is taken twice and another never", remedy=MERGE)
classic("quarters instead of neighbours", "reference.windows.patch_merge",
    "y = x.reshape(B, H // 2, 2, W // 2, 2, C)\n    y = y.transpose(0, 1, 3, 4, 2, 5)",
    "y = x.reshape(B, 2, H // 2, 2, W // 2, C)\n    y = y.transpose(0, 2, 4, 3, 1, 5)",
    met="huggingface/candle#1655", first="neighbours",
    words="quarters of the map are joined instead of neighbours", remedy=MERGE)
classic("pixels of a patch channels last", "reference.conv.conv2d",
    "matrix = weight.reshape(weight.shape[0], -1)",
    "matrix = weight.reshape(weight.shape[0], *kernel, -1).transpose(0, 3, 1, "
    "2).reshape(weight.shape[0], -1)", first="Conv2d",
    words="the pixels of a patch are taken channels last", remedy=PATCH)
classic("blue, green, red", "reference.conv.conv2d",
    "matrix = weight.reshape(weight.shape[0], -1)",
    "matrix = weight[:, ::-1].reshape(weight.shape[0], -1)", first="Conv2d",
    words="the channels are blue, green, red", remedy=PATCH)
classic("the norm after the mean", "models.swin.SwinTransformer.__call__",
    "x = self.norm(x)  # every token is normalised, THEN the mean is taken\n    x = "
    "x.mean(axis=(1, 2))", "x = self.norm(x.mean(axis=(1, 2)))", first="norm",
    words="the mean of the tokens is taken before the norm",
    remedy="each token is normalised, then the mean is taken")
classic("normed twice at the end", "models.swin.SwinTransformer.__call__",
    "x = self.norm(x)", "x = self.norm(self.norm(x))", met="rasbt/LLMs-from-scratch#1061",
    first="pooled")
classic("tokens added up", "models.swin.SwinTransformer.__call__",
    "x.mean(axis=(1, 2))", "x.sum(axis=(1, 2))", first="pooled",
    words="tokens are added up instead of averaged",
    remedy="the mean over all tokens of the normed map")
classic("the loss added up", "reference.losses.cross_entropy",
    "return -(soft * counted).sum() / B, vjp", "return -(soft * counted).sum(), vjp",
    met="facebookresearch/deit#61", first="loss", words="losses are added up instead of averaged",
    remedy="the mean over the images of −log softmax(logits)[label]")
