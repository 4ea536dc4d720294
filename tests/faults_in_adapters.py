"""Wrong adapters: each has one mistake that was made somewhere, and the probe that is aimed at it.

`attention` is the layer in plain NumPy, a window at a time: a second opinion on minswin's own, and
the text that some of the mistakes are made in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minswin import ops
from minswin.autograd import Tensor
from minswin.crosscheck import own
from minswin.models import SwinTransformer


class Fault(NamedTuple):
    function: str
    wrong: Callable[..., Any]
    probe: str  # the one that is aimed at it
    dtype: str = "float64"


# ── attention, one window after the other ────────────────────────────────────────────────────────


def attention(
    x,
    params,
    window,
    shift,
    heads,
    *,
    early_roll=False,
    masked=True,
    interleaved=False,
    scaled=True,
):
    """W-MSA and SW-MSA by loops; the keywords make mistakes."""
    H, W, C = x.shape[1:]
    pad = (0, 0), (0, -H % window[0]), (0, -W % window[1]), (0, 0)
    back = (-shift[0], -shift[1])
    x = (
        np.pad(np.roll(x, back, (1, 2)), pad)
        if early_roll
        else np.roll(np.pad(x, pad), back, (1, 2))
    )
    y = np.empty_like(x)
    P, Q = x.shape[1:3]
    for b in range(len(x)):
        for top in range(0, P, window[0]):
            for left in range(0, Q, window[1]):
                place = slice(top, top + window[0]), slice(left, left + window[1])
                tokens = x[b][place].reshape(-1, C)
                out = _attend(
                    tokens,
                    params,
                    window,
                    shift,
                    heads,
                    (P, Q),
                    (top, left),
                    masked,
                    interleaved,
                    scaled,
                )
                y[b][place] = out.reshape(*window, C)
    y = np.roll(y[:, :H, :W], shift, (1, 2)) if early_roll else np.roll(y, shift, (1, 2))[:, :H, :W]
    return y @ params["proj.weight"].T + params["proj.bias"]


def _attend(tokens, params, window, shift, heads, grid, corner, masked, interleaved, scaled):
    N, C = tokens.shape
    d = C // heads
    qkv = tokens @ params["qkv.weight"].T + params["qkv.bias"]
    order = (heads, 3, d) if interleaved else (3, heads, d)
    q, k, v = np.moveaxis(qkv.reshape(N, *order), 2 if interleaved else 1, 0)  # (N, h, d) each
    out = np.empty((N, heads, d), tokens.dtype)
    for i in range(N):
        for h in range(heads):
            logits = np.empty(N, tokens.dtype)
            for j in range(N):
                ri, ci, rj, cj = *divmod(i, window[1]), *divmod(j, window[1])
                row = (ri - rj + window[0] - 1) * (2 * window[1] - 1) + ci - cj + window[1] - 1
                logits[j] = q[i, h] @ k[j, h] * (d**-0.5 if scaled else 1)
                logits[j] += params["relative_position_bias_table"][row, h]
                places = [(corner[0] + r, corner[1] + c) for r, c in ((ri, ci), (rj, cj))]
                if masked and _piece(places[0], grid, window, shift) != _piece(
                    places[1], grid, window, shift
                ):
                    logits[j] -= 100
            p = np.exp(logits - logits.max())
            out[i, h] = p / p.sum() @ v[:, h]
    return out.reshape(N, C)


def _piece(at, grid, window, shift):
    return [
        s and (n - M <= a) + (n - s <= a)
        for a, n, M, s in zip(at, grid, window, shift, strict=True)
    ]


# ── mistakes ─────────────────────────────────────────────────────────────────────────────────────


def merge_by_rows(windows, window, grid):
    """The number of windows in a column where that in a row belongs."""
    (H, W), (Mh, Mw), B = grid, window, windows.shape[0]
    x = windows.reshape(B, W // Mw, H // Mh, Mh, Mw, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(B, H, W, -1)


def untransposed(x, window):
    B, H, W, C = x.shape
    return x.reshape(B, H * W // (window[0] * window[1]), -1, C)


def index_of_xy(window):
    c, r = (m.ravel() for m in np.meshgrid(np.arange(window[0]), np.arange(window[1])))
    dr, dc = r[:, None] - r, c[:, None] - c
    return (dr + window[0] - 1) * (2 * window[1] - 1) + dc + window[1] - 1


def row_major(x):
    return np.concatenate([x[:, r::2, c::2] for r in (0, 1) for c in (0, 1)], axis=-1)


def norm_of_squares(x, weight, bias, eps):
    mean = x.mean(-1, keepdims=True)
    var = (x * x).mean(-1, keepdims=True) - mean * mean
    return (x - mean) / np.sqrt(var + eps) * weight + bias


def unbiased(x, weight, bias, eps):
    var = x.var(-1, keepdims=True, ddof=1)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(var + eps) * weight + bias


def gelu_by_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def naive_softmax(x):
    with np.errstate(all="ignore"):
        return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def merging_with_swapped_padding(x, params):
    H, W = x.shape[1:3]
    x = np.pad(x, ((0, 0), (0, W % 2), (0, H % 2), (0, 0)))
    return own.patch_merging(x, params)


def last_pair_only(table, window, cotangent):
    """Rows are written, not added to."""
    found = np.zeros_like(table)
    found[own.relative_position_index(window)] = cotangent.transpose(1, 2, 0)
    return {"table": found}


def cotangent_of_ones(x, cotangent):
    return own.softmax_grad(x, np.ones_like(cotangent))


def pooled_first(config, state, image):
    model = SwinTransformer(**config, dtype=image.dtype, rng=np.random.default_rng(0))
    model.load_state_dict(state)
    maps = model.eval().embed(image)
    for stage in model.layers:
        maps = stage.merge(stage(maps))
    return model.head(model.norm(maps.mean(axis=(1, 2)))).numpy()


def forgetful(config, state):
    """After an image whose map the window covers, nothing is shifted any more."""
    model = SwinTransformer(**config, dtype=np.float64, rng=np.random.default_rng(0))
    model.load_state_dict(state)

    def forward(image):
        if min(image.shape[2:]) // config["patch_size"] <= config["window_size"]:
            for block in model.layers[0].blocks:
                block.attn.shift = False
        return model.eval()(image).numpy()

    return forward


def dropping(config, state):
    model = SwinTransformer(**config, dtype=np.float64, rng=np.random.default_rng(0))
    model.load_state_dict(state)
    return lambda image: model.train()(image).numpy()


def summed_loss(config, state, image, labels, lr):
    return own.train_step(config, state, image, labels, lr * len(image))


def l2_decay(p, g, m, v, lr, beta1, beta2, eps, decay, t):
    return own.adamw(p, g + decay * p, m, v, lr, beta1, beta2, eps, 0.0, t)


def unclamped(x, params, window, shift, heads):
    """The effect of a larger logit_scale, by a clamp that is moved."""
    from minswin.layers import windows_v2

    before, windows_v2.LARGEST = windows_v2.LARGEST, 10.0
    try:
        return own.window_attention_v2(x, params, window, shift, heads)
    finally:
        windows_v2.LARGEST = before


def unpretrained(params, window, pretrained):
    return own.continuous_position_bias(params, window, None)


def pre_norm(x, params, window, shifted, heads):
    """x + f(norm(x)) of version 1 in version 2."""
    state = {name.removeprefix("attn."): w for name, w in params.items() if "attn." in name}
    shift = (window[0] // 2, window[1] // 2) if shifted else (0, 0)
    norm = [own.layer_norm(x, params["norm1.weight"], params["norm1.bias"], 1e-5)]
    x = x + own.window_attention_v2(norm[0], state, window, shift, heads)
    y = own.layer_norm(x, params["norm2.weight"], params["norm2.bias"], 1e-5)
    mlp = {name.removeprefix("mlp."): w for name, w in params.items() if name.startswith("mlp.")}
    return x + own.mlp(y, mlp)


def doubled_mask(x, params, window, shift, heads):
    from minswin import composites
    from minswin.reference.windows import attention_mask

    def twice(grid, window, shift, value):
        return attention_mask(grid, window, shift, 2 * value)

    before, composites.attention_mask = composites.attention_mask, twice
    try:
        return own.window_attention_v2(x, params, window, shift, heads)
    finally:
        composites.attention_mask = before


def with_(**mistake: bool) -> Callable[..., Any]:
    return lambda *arguments: attention(*arguments, **mistake)


def shifted_along_columns(x, params, window, shifted, heads):
    """A window as large as the shorter side is shifted along the other."""
    params = dict(params)
    state = {name.removeprefix("attn."): w for name, w in params.items() if "attn." in name}
    y = own.layer_norm(x, params["norm1.weight"], params["norm1.bias"], 1e-5)
    x = x + attention(y, state, window, (0, window[1] // 2), heads)
    y = own.layer_norm(x, params["norm2.weight"], params["norm2.bias"], 1e-5)
    mlp = {name.removeprefix("mlp."): w for name, w in params.items() if name.startswith("mlp.")}
    return x + own.mlp(y, mlp)


def loss_of_logits(logits, labels):
    return ops.cross_entropy(Tensor(logits), labels).numpy() * len(labels)


FAULTS = {
    "windows of a column for those of a row": Fault(
        "window_merge", merge_by_rows, "window_merge/wide"
    ),
    "partition without a transposition": Fault(
        "window_partition", untransposed, "window_partition/wide"
    ),
    "rolled the other way": Fault(
        "roll", lambda x, shift: np.roll(x, (-shift[0], -shift[1]), (1, 2)), "roll/up_left"
    ),
    "rolled along the wrong axes": Fault(
        "roll", lambda x, shift: np.roll(x, shift, (2, 1)), "roll/up_left"
    ),
    "meshgrid counts columns first": Fault(
        "relative_position_index", index_of_xy, "relative_position_index/window_2x3"
    ),
    "key minus query": Fault(
        "relative_position_index",
        lambda window: own.relative_position_index(window).T,
        "relative_position_index/window_2x2",
    ),
    "mask on the wrong axes": Fault(
        "attention_mask",
        lambda grid, window, shift: own.attention_mask(grid[::-1], window[::-1], shift[::-1]),
        "attention_mask/wide",
    ),
    "mask always zero": Fault(
        "attention_mask",
        lambda *geometry: 0 * own.attention_mask(*geometry),
        "attention_mask/wide",
    ),
    "neighbours row by row": Fault("patch_merge", row_major, "patch_merge/wide"),
    "padding by the other side's parity": Fault(
        "patch_merging", merging_with_swapped_padding, "patch_merging/odd_width"
    ),
    "eps 1e-6 from habit": Fault(
        "layer_norm",
        lambda x, weight, bias, eps: own.layer_norm(x, weight, bias, 1e-6),
        "layer_norm/low_variance",
    ),
    "mean of squares minus square of mean": Fault(
        "layer_norm", norm_of_squares, "layer_norm/near_constant", "float32"
    ),
    "variance of C − 1": Fault("layer_norm", unbiased, "layer_norm/rows"),
    "GELU by tanh": Fault("gelu", gelu_by_tanh, "gelu/near_-2.7"),
    "softmax overflows": Fault("softmax", naive_softmax, "softmax/large"),
    "softmax of queries": Fault(
        "softmax", lambda x: own.softmax(x.swapaxes(-1, -2)).swapaxes(-1, -2), "softmax/rows"
    ),
    "a cotangent of ones": Fault("softmax_grad", cotangent_of_ones, "softmax_grad/rows"),
    "gradient of the table written, not added": Fault(
        "relative_position_bias_grad", last_pair_only, "relative_position_bias_grad/window_2x3"
    ),
    "rolled before it is padded": Fault(
        "window_attention", with_(early_roll=True), "window_attention/padded"
    ),
    "mask forgotten": Fault("window_attention", with_(masked=False), "window_attention/impulse"),
    "heads before q, k, v": Fault(
        "window_attention", with_(interleaved=True), "window_attention/plain"
    ),
    "no scale": Fault("window_attention", with_(scaled=False), "window_attention/plain"),
    "shifted along the longer side": Fault(
        "block", shifted_along_columns, "block/covered_one_side"
    ),
    "sum for mean": Fault("cross_entropy", loss_of_logits, "cross_entropy/batch_3"),
    "pooled before the norm": Fault("model", pooled_first, "model/divisible"),
    "shift lost after a small image": Fault("build_model", forgetful, "build_model/big_small_big"),
    "dropout in evaluation": Fault("build_model", dropping, "build_model/twice_with_dropout"),
    "loss summed over the batch": Fault("train_step", summed_loss, "train_step/one"),
    "decay in the gradient": Fault("adamw", l2_decay, "adamw/first"),
    "V2: scale not cut at 100": Fault(
        "window_attention_v2", unclamped, "window_attention_v2/clamped"
    ),
    "V2: mask added twice": Fault(
        "window_attention_v2", doubled_mask, "window_attention_v2/leaking_mask"
    ),
    "V2: window of the pre-training ignored": Fault(
        "continuous_position_bias", unpretrained, "continuous_position_bias/pretrained_8"
    ),
    "V2: norm before attention": Fault("block_v2", pre_norm, "block_v2/shifted"),
}
