"""Our functions in other words: what is one small edit of these may be several of ours.

Each gives what ours gives, and is a text to begin with, as ours is. It runs in the module of our
function, whose names it may use, and no others.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minswin import ops
from minswin.arguments import Pair, pair
from minswin.arrays import Array, array_module
from minswin.autograd import Tensor
from minswin.crosscheck.edits.helpers import helper
from minswin.crosscheck.edits.texts import Text
from minswin.layers.attention import attend
from minswin.layers.basic import Dropout
from minswin.reference.normalize import log_softmax
from minswin.reference.windows import _frozen

SPELLINGS: dict[str, list[Any]] = defaultdict(list)


def spelling(of: str) -> Callable[[Any], Any]:
    """Decorator: another text of minswin.…"""

    def enter(f: Any) -> Any:
        SPELLINGS[of].append(f)
        return f

    return enter


def spellings_of(text: Text) -> Iterator[Text]:
    return (Text(text.function, written) for written in SPELLINGS.get(text.name, []))


@helper("")
def e_forward(g: Array) -> tuple[Array, ...]:
    """The vjp of what is only run forward."""
    raise NotImplementedError


# ── windows ──────────────────────────────────────────────────────────────────────────────────────


@spelling("reference.windows.shift_regions")
def regions_by_slices(grid: int | Pair, window: int | Pair, shift: int | Pair) -> np.ndarray:
    who = "shift_regions"
    (H, W), (Mh, Mw) = pair(who, "grid", grid), pair(who, "window", window)
    sh, sw = pair(who, "shift", shift, 0)
    regions = np.zeros((H, W), dtype=np.intp)
    label = 0
    for rows in (slice(0, -Mh), slice(-Mh, -sh), slice(-sh, None)):
        for columns in (slice(0, -Mw), slice(-Mw, -sw), slice(-sw, None)):
            regions[rows, columns] = label
            label += 1
    return _frozen(regions)


@spelling("reference.windows.attention_mask")
def mask_by_windows(
    grid: int | Pair, window: int | Pair, shift: int | Pair, value: float = -100.0
) -> np.ndarray:
    who = "attention_mask"
    (H, W), (Mh, Mw) = pair(who, "grid", grid), pair(who, "window", window)
    sh, sw = pair(who, "shift", shift, 0)
    mask = np.zeros((H // Mh, W // Mw, Mh, Mw, Mh, Mw), dtype=np.float32)
    mask[-1, :, : Mh - sh, :, Mh - sh :] = value
    mask[-1, :, Mh - sh :, :, : Mh - sh] = value
    mask[:, -1, :, : Mw - sw, :, Mw - sw :] = value
    mask[:, -1, :, Mw - sw :, :, : Mw - sw] = value
    return _frozen(mask.reshape(-1, Mh * Mw, Mh * Mw))


@spelling("reference.windows.relative_position_index")
def index_of_coordinates(window: int | Pair, table_window: int | Pair | None = None) -> np.ndarray:
    window = pair("relative_position_index", "window", window)
    Mh, Mw = pair("relative_position_index", "table_window", table_window or window)
    axes = np.meshgrid(np.arange(window[0]), np.arange(window[1]), indexing="ij")
    coordinates = np.stack(axes).reshape(2, -1)  # (2, N)
    offsets = coordinates[:, :, None] - coordinates[:, None, :]  # (2, N, N): query minus key
    offsets[0] += Mh - 1
    offsets[1] += Mw - 1
    offsets[0] *= 2 * Mw - 1
    return _frozen(offsets.sum(axis=0))


@spelling("reference.windows.patch_merge")
def merged_by_slices(x: Array) -> tuple[Array, Any]:
    B, H, W, C = x.shape
    first, below = x[:, 0::2, 0::2], x[:, 1::2, 0::2]
    beside, last = x[:, 0::2, 1::2], x[:, 1::2, 1::2]
    y = np.concatenate([first, below, beside, last], axis=-1)
    return y.reshape(B, H // 2, W // 2, 4 * C), e_forward


@spelling("layers.windows_v2.log_spaced")
def log_spaced_in_place(window: Pair, pretrained: Pair) -> np.ndarray:
    rows, columns = np.arange(1 - window[0], window[0]), np.arange(1 - window[1], window[1])
    t = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).astype("float64")
    t[..., 0] /= max(pretrained[0] - 1, 1)
    t[..., 1] /= max(pretrained[1] - 1, 1)
    t *= 8
    t = np.sign(t) * np.log2(abs(t) + 1.0) / np.log2(8)
    t = t.reshape(-1, 2)
    t.setflags(write=False)
    return t


# ── heads, attention, norms ──────────────────────────────────────────────────────────────────────


@spelling("composites.split_heads")
def heads_of_thirds(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    *lead, N, channels = qkv.shape
    C = channels // 3
    q, k, v = qkv[..., :C], qkv[..., C : 2 * C], qkv[..., 2 * C :]
    axes = (*range(len(lead)), len(lead) + 1, len(lead), len(lead) + 2)
    q = q.reshape(*lead, N, heads, C // heads).transpose(*axes)
    k = k.reshape(*lead, N, heads, C // heads).transpose(*axes)
    v = v.reshape(*lead, N, heads, C // heads).transpose(*axes)
    return q, k, v


@spelling("layers.windows_v2.cosine_attention")
def cosines_step_by_step(
    q: Tensor, k: Tensor, v: Tensor, scale: Tensor, bias: Tensor, drop: Dropout | None = None
) -> Tensor:
    q_length = ops.sqrt((q * q).sum(axis=-1, keepdims=True) + 1e-24)
    k_length = ops.sqrt((k * k).sum(axis=-1, keepdims=True) + 1e-24)
    q = q / q_length
    k = k / k_length
    scale = scale * q.shape[-1] ** 0.5
    return attend(q * scale, k, v, bias, drop)


@spelling("layers.windows_v2.unit")
def over_the_length(x: Tensor) -> Tensor:
    length = ops.sqrt((x * x).sum(axis=-1, keepdims=True))
    return x / (length + 1e-12)


@spelling("reference.normalize.layer_norm")
def normed_by_the_deviation(
    x: Array, weight: Array, bias: Array, *, eps: float = 1e-5
) -> tuple[Array, Any]:
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) * (x - mean)).mean(axis=-1, keepdims=True)
    return (x - mean) / array_module(x).sqrt(variance + eps) * weight + bias, e_forward


@spelling("layers.words.cut_patches")
def patches_behind_channels(x: Tensor, patch: Pair) -> Tensor:
    B, C = x.shape[:2]
    x = ops.unfold(x, kernel=patch, stride=patch)  # (B, H/ph, W/pw, C·ph·pw)
    columns = x.reshape(B, -1, x.shape[-1]).transpose(0, 2, 1)  # patches last
    return columns.transpose(0, 2, 1).reshape(-1, C, *patch)


# ── training ─────────────────────────────────────────────────────────────────────────────────────


@spelling("reference.updates.adamw_step")
def adamw_as_in_the_paper(
    p: Array, g: Array, m: Array, v: Array, *,
    lr: float, beta1: float, beta2: float, eps: float, decay: float, t: int,
) -> None:  # fmt: skip
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * g * g
    first = m / (1 - beta1**t)
    second = v / (1 - beta2**t)
    p -= lr * (first / (array_module(p).sqrt(second) + eps) + decay * p)


@spelling("training.optimizers.warmup_cosine")
def rate_of_progress(
    step: int, *, steps: int, warmup: int, base: float, start: float, final: float
) -> float:
    if step < warmup:
        return start + step * (base - start) / warmup
    progress = min(1.0, (step - warmup) / (steps - warmup))
    return final + 0.5 * (base - final) * (1 + math.cos(math.pi * progress))


@spelling("reference.losses.cross_entropy")
def loss_of_the_class(
    logits: Array, targets: Array, *, smoothing: float = 0.0
) -> tuple[Array, Any]:
    """Its derivative is that of ours."""
    xp = array_module(logits)
    B, K = logits.shape
    y, undo_log_softmax = log_softmax(logits)
    own = -y[xp.arange(B), targets]
    all_of_them = -y.mean(axis=-1)

    def vjp(g: Array) -> tuple[Array, Array | None]:
        share = xp.full((B, K), -g * smoothing / K / B)
        share[xp.arange(B), targets] -= g * (1 - smoothing) / B
        return *undo_log_softmax(share), None

    return ((1 - smoothing) * own + smoothing * all_of_them).mean(), vjp
