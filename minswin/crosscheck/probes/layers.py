"""Probes of Swin V1 and V2: what only moves data or counts, functions, layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minswin import layers
from minswin.crosscheck.probes import Arrays, Probe, counted, gradient, probe, values
from minswin.crosscheck.recipe import weights_of
from minswin.layers.parameters import Init
from minswin.layers.windows_v2 import HIDDEN
from minswin.models.blank import BLANK
from minswin.models.swin import SwinBlock
from minswin.models.swin_v2 import SwinBlockV2

Pair = tuple[int, int]
Threads = tuple[str, ...]
BLANKS = Init(BLANK)  # layers whose weights nobody needs: those of a probe are the recipe's, in
# which no gain is 1 and no bias 0, which would hide a missing term
KEEPING = {"drop_rate": 0.0, "drop_path_rate": 0.0}
PADDING = (
    "huggingface/pytorch-image-models#2438", "microsoft/Swin-Transformer#9",
    "open-mmlab/mmdetection#6747",
)  # fmt: skip
FITS = ("pytorch/vision#6222", "microsoft/Swin-Transformer#34")
NO_MASK = ("huggingface/candle#1655", "zzd1992/FlashWindowAttention#1")
CONSTANTS = ("microsoft/Swin-Transformer#224", "microsoft/Swin-Transformer#329")


def probes() -> Iterator[Probe]:
    for part in (
        _windows, _rolls_and_masks, _indices, _neighbours, _norms, _functions, _tokens, _attentions,
        _attentions_v2, _biases_v2, _blocks,
    ):  # fmt: skip
        yield from part()


# ── windows, rolls, indices, masks, 2×2 neighbourhoods ──────────────────────────────────────────


def _windows() -> Iterator[Probe]:
    mixed = "rows and columns are mixed up where the map is not square"
    rounds = ("microsoft/Swin-Transformer#301", "tinyvision/SOLIDER#9")
    cases: tuple[tuple[str, str, tuple[int, int, int, int], Pair, Threads], ...] = (
        ("wide", mixed, (2, 4, 12, 3), (4, 4), ()),
        ("tall", mixed, (2, 12, 8, 2), (4, 4), ()),
        ("window_2x5", "height and width of the window are mixed up", (2, 6, 10, 3), (2, 5), ()),
        ("window_1x4", "a window of one row", (2, 3, 8, 3), (1, 4), ()),
        ("batch_3", "the batch is found by a division that rounds", (3, 6, 4, 5), (2, 2), rounds),
    )
    for case, aim, (B, H, W, C), window, threads in cases:
        more: Any = {"threads": threads, "grad": 0 if case in ("wide", "window_2x5") else None}
        yield from probe(f"window_partition/{case}", aim, counted(B, H, W, C), window, **more)
        aim += "; or the transposition before the last reshape is forgotten"
        more["threads"] += ("ByChelsea/CMOS#4",)
        windows = counted(B, (H // window[0]) * (W // window[1]), window[0] * window[1], C)
        yield from probe(f"window_merge/{case}", aim, windows, window, (H, W), **more)


def _rolls_and_masks() -> Iterator[Probe]:
    rolls = (
        ("up_left", "the direction of the roll, and which axis comes first", (-2, -1)),
        ("down_right", "the way back", (2, 3)),
        ("one_axis", "an axis that is not shifted", (0, -2)),
    )
    for case, aim, shift in rolls:
        yield from probe(f"roll/{case}", aim, counted(2, 5, 7, 3), shift)
    threads = ("zsyOAOA/ResShift#81", "microsoft/Swin-Transformer#38", "JingyunLiang/SwinIR#61")
    masks = (
        ("wide", "built on the wrong axes; regions are kept apart", (4, 12), (4, 4), (2, 2)),
        ("tall", "built on the wrong axes; regions are kept apart", (9, 6), (3, 3), (1, 1)),
        ("window_2x4", "height and width of window and shift", (6, 8), (2, 4), (1, 2)),
        ("window_1x4", "an axis without a shift must not be cut", (3, 8), (1, 4), (0, 2)),
        ("one_axis", "an axis without a shift must not be cut", (4, 8), (4, 4), (0, 2)),
        ("no_shift", "without a shift all see each other", (4, 6), (2, 2), (0, 0)),
    )
    for case, aim, grid, window, shift in masks:
        yield from probe(f"attention_mask/{case}", aim, grid, window, shift, threads=threads)


def _indices() -> Iterator[Probe]:
    threads = (
        "microsoft/Swin-Transformer#281", "leondgarse/keras_cv_attention_models#26",
        "282857341/nnFormer#8",
    )  # fmt: skip
    cases = (
        ("window_2x2", "the sign: query minus key", (2, 2)),
        ("window_2x3", "the factor 2Mw − 1, or numpy.meshgrid, which counts columns first", (2, 3)),
        ("window_4x3", "the factor 2Mw − 1 where the window is tall", (4, 3)),
        ("window_1x5", "a window of one row", (1, 5)),
        ("window_7x7", "the window of the published models", (7, 7)),
    )
    for case, aim, window in cases:
        yield from probe(f"relative_position_index/{case}", aim, window, threads=threads)
        if case in ("window_2x3", "window_1x5"):
            name = f"relative_position_bias/{case}"
            aim = "a table 0, 1, 2, …: sign, factor, and one table for all heads"
            given: Any = (counted((2 * window[0] - 1) * (2 * window[1] - 1), 3), window)
            yield from probe(name, aim, *given, threads=threads)
            length = window[0] * window[1]
            (summed,) = probe(name, aim, *given, threads=threads, length=length)
            yield gradient(summed, "pairs of one displacement share a row: their gradients add up")


def _neighbours() -> Iterator[Probe]:
    threads = (
        "huggingface/candle#1655", "berniwal/swin-transformer-pytorch#22",
        "open-mmlab/mmdetection#6747",
    )  # fmt: skip
    aim = "the row varies fastest: (0,0), (1,0), (0,1), (1,1); not row by row, not quadrants"
    yield from probe("patch_merge/wide", aim, counted(2, 4, 10, 3), threads=threads, grad=0)
    yield from probe("patch_merge/tall", aim, values("x", 3, 8, 2, 5), threads=threads)


# ── functions ────────────────────────────────────────────────────────────────────────────────────


def _norms() -> Iterator[Probe]:
    threads = (
        "keras-team/keras-hub#2298", "kornia/kornia#2786", "harvardnlp/annotated-transformer#119",
    )  # fmt: skip
    gain, bias, x = 1 + values("gain", 8) / 4, values("bias", 8) / 4, values("x", 2, 3, 5, 8)
    rows: tuple[tuple[str, str, Any, float, dict[str, Any]], ...] = (
        ("rows", "the variance divides by C, not C − 1; eps is inside the root",
         x, 1e-5, {"threads": threads, "grad": 30}),
        ("low_variance", "a variance near eps: 1e-3 or 1e-6 in its place shows at once",
         x[0] / 256, 1e-5, {"threads": threads, "grad": 30}),
        ("other_eps", "eps is taken from the call, not from habit",
         x[1] / 256, 2.0**-10, {"threads": threads}),
        ("near_constant", "mean of squares minus square of mean loses all digits here",
         8 + x[0] / 64, 1e-5, {"condition": 1024}),
    )  # fmt: skip
    for case, aim, y, eps, more in rows:
        yield from probe(f"layer_norm/{case}", aim, y, gain, bias, eps, length=24, **more)


def _functions() -> Iterator[Probe]:
    threads = (
        "tinygrad/tinygrad#16162", "Blaizzy/mlx-embeddings#81",
        "huggingface/pytorch-image-models#2105",
    )  # fmt: skip
    near = np.arange(-3.0, -2.375, 2.0**-6).reshape(2, 4, 5)
    aim = "near −2.7 the approximation by tanh is wrong by 4.7e-4"
    more: Any = {"length": 8, "condition": 64, "threads": threads}
    yield from probe(
        "gelu/near_-2.7", aim, near, grad=0, grad_aim=aim + ", its slope by 1e-3", **more
    )
    aim = "0 and x far from 0, no overflow"
    yield from probe("gelu/far", aim, 12 * values("x", 3, 7), length=8, grad=0)
    x, aim = 4 * values("logits", 2, 3, 6), "(p ∘ (g − Σ p g)); a cotangent of ones would give 0"
    over_keys = "over the keys, the last axis"
    yield from probe("softmax/rows", over_keys, x, length=16, grad=12, grad_aim=aim)
    masked = x - 100 * (values("mask", 2, 3, 6) > 0)
    masked[0, 0] = x[0, 0] - 100  # all of it: nothing is
    yield from probe("softmax/masked", "a row in which everything is masked", masked, length=200)
    large = np.round(1000 * values("large", 3, 7))
    yield from probe("softmax/large", "the maximum is taken off first", large, length=2000)
    given = 3 * values("logits", 3, 5), np.array([4, 4, 0])
    yield from probe("cross_entropy/batch_3", "the mean over the batch", *given, length=24, grad=12)


# ── layers ───────────────────────────────────────────────────────────────────────────────────────


def _tokens() -> Iterator[Probe]:
    yield from probe(
        "mlp/tokens", "weights are (outputs, inputs); the exact GELU",
        3 * values("x", 2, 5, 6), weights_of(layers.Mlp(6, 20, init=BLANKS)),
        threads=("tinygrad/tinygrad#16162",), length=60, grad=20,
    )  # fmt: skip
    for case, patch, size in (("patch_4x4", (4, 4), (8, 12)), ("patch_2x3", (2, 3), (8, 9))):
        yield from probe(
            f"patch_embed/{case}", "tokens row by row; weights (C, 3, p, p); a norm afterwards",
            values("image", 2, 3, *size), weights_of(layers.PatchEmbed(8, patch, init=BLANKS)),
            length=100, grad=24,
        )  # fmt: skip
    odd = "zeros at the bottom by the parity of H, at the right by that of W"
    for case, size in (("odd_width", (4, 7)), ("odd_height", (5, 8)), ("odd_both", (3, 5))):
        yield from probe(
            f"patch_merging/{case}", odd, values("x", 2, *size, 4),
            weights_of(layers.PatchMerging(4, init=BLANKS)), length=80,
            threads=("huggingface/pytorch-image-models#2285",),
            grad=30 if case == "odd_width" else None,
        )  # fmt: skip
    yield from probe(
        "patch_merging_v2/odd", "the norm comes after the reduction", values("x", 2, 5, 4, 4),
        weights_of(layers.PatchMergingV2(4, init=BLANKS)), length=60, condition=4,
    )  # fmt: skip


def attention_length(C: int, tokens: int) -> int:
    """Terms of the sums on the way through qkv, scores, softmax, values and proj."""
    return 4 * C + 4 * tokens


def _attentions() -> Iterator[Probe]:
    corner = values("x", 2, 8, 12, 4) / 16
    corner[:, 0, 0] = (24, -16, 8, 12)
    rows: tuple[tuple[str, str, Any, Pair, int, bool, dict[str, Any]], ...] = (
        ("plain",
         "channels of qkv are (3, heads, d); the scale is d^−½; heads are put side by side again",
         values("x", 2, 4, 8, 6), (4, 4), 3, False, {"grad": 80,
         "threads": ("Oneflow-Inc/libai#146", "jsbaan/transformer-from-scratch#6")}),
        ("shifted", "the roll, the mask and the way back, where H ≠ W; windows are batch-major",
         values("x", 3, 6, 4, 6), (2, 2), 2, True, {"threads": NO_MASK, "grad": 90}),
        ("padded", "padded before the roll: after it, tokens from opposite ends of the image meet",
         values("x", 2, 9, 10, 4), (4, 4), 2, True, {"threads": PADDING, "grad": 200}),
        ("zeros", "zeros that were padded are keys like others, and carry the biases of k and v",
         values("x", 2, 3, 7, 4), (3, 3), 2, False, {"threads": PADDING}),
        ("window_2x5", "a window of 2×5: the factor of the index, another shift on each axis",
         values("x", 2, 4, 10, 6), (2, 5), 3, True, {"grad": 80}),
        ("window_1x4", "a window of one row: its rows are not shifted",
         values("x", 2, 3, 8, 4), (1, 4), 2, True, {}),
        ("impulse",
         "a large value in one corner must not reach the opposite one, though the roll joins them",
         corner, (4, 4), 2, True, {"threads": NO_MASK}),
        ("batch_3", "batch 3 and six windows: the mask belongs to the window, not to the image",
         values("x", 3, 6, 9, 4), (3, 3), 2, True, {"threads": NO_MASK}),
    )  # fmt: skip
    for case, aim, x, window, heads, shifted, more in rows:
        params = weights_of(layers.WindowAttention(x.shape[3], heads, window, init=BLANKS))
        params["qkv.weight"] *= 2  # so that the probabilities are far from equal
        given = x, params, window, half(window, shifted), heads
        length = attention_length(x.shape[3], window[0] * window[1])
        yield from probe(
            f"window_attention/{case}", aim, *given, length=length, condition=4, **more
        )


def half(window: Pair, shifted: bool) -> Pair:
    return (window[0] // 2, window[1] // 2) if shifted else (0, 0)


def _blocks() -> Iterator[Probe]:
    cases: tuple[tuple[str, str, Pair, Pair, Threads], ...] = (
        ("shifted", "both sums, the norms before; the shift", (6, 8), (2, 2), ()),
        ("padded", "the norm comes before the padding, whose tokens are 0",
         (7, 6), (4, 4), PADDING),
        ("covered", "a window as large as the map: no shift", (4, 4), (4, 4), FITS),
        ("covered_one_side", "no shift on EITHER axis, as the original", (4, 8), (4, 4), FITS),
    )  # fmt: skip
    for case, aim, grid, window, threads in cases:
        params = weights_of(SwinBlock(8, 2, window, mlp_ratio=2.0, **KEEPING, init=BLANKS))
        yield from probe(
            f"block/{case}", aim, values("x", 2, *grid, 8), params, window, True, 2,
            threads=threads, length=attention_length(8, window[0] * window[1]) + 100, condition=4,
            grad=2 * grid[0] * grid[1] if case in ("shifted", "padded") else None,
        )  # fmt: skip
    C, heads, window = 4, 1, (2, 2)
    params = weights_of(SwinBlockV2(C, heads, window, mlp_ratio=3.0, **KEEPING, init=BLANKS))
    params |= {f"attn.{name}": x for name, x in cosine_params(C, heads).items()}
    yield from probe(
        "block_v2/shifted", "x + norm(f(x)): not f(norm(x)), not norm(x + f(x))",
        values("x", 2, 6, 4, C), params, window, True, heads,
        threads=("innat/medic-ai#50",), length=200, condition=64, grad=60,
    )  # fmt: skip


# ── Swin V2: cosine attention, the network of the bias ───────────────────────────────────────────


def cosine_params(C: int, heads: int) -> Arrays:
    params = weights_of(layers.WindowAttentionV2(C, heads, 2, init=BLANKS))
    params["logit_scale"] = 2 + np.arange(heads, dtype=np.float64).reshape(heads, 1, 1) / 2
    return params


def _biases_v2() -> Iterator[Probe]:
    params = {n: x for n, x in cosine_params(3, 3).items() if n.startswith("cpb_mlp")}
    aim = "8 Δ / (M − 1), log₂(1 + |·|) / log₂ 8, with its sign; 16 σ(·)"
    other = "weights of a pre-training with another window: Δ is divided by THAT window − 1"
    rows: tuple[tuple[str, str, Pair, Pair | None, Threads, int | None], ...] = (
        ("window_4x4", aim, (4, 4), None, CONSTANTS, None),
        ("window_2x5", aim, (2, 5), None, CONSTANTS, 100),
        ("pretrained_8", other, (4, 4), (8, 8), ("microsoft/Swin-Transformer#385",), None),
    )
    for case, aim, *given, threads, grad in rows:
        more: dict[str, Any] = {"threads": threads, "length": 2 * HIDDEN, "grad": grad}
        yield from probe(f"continuous_position_bias/{case}", aim, params, *given, **more)


def _attentions_v2() -> Iterator[Probe]:
    scales = np.array([4.0, 6.0]).reshape(2, 1, 1)
    opposite, leaking = _leaking()
    rows: tuple[tuple[str, str, Any, Arrays, Pair, bool, dict[str, Any]], ...] = (
        ("shifted", "cosines, no d^−½; the norm of each vector for itself; keys have no bias",
         values("x", 2, 6, 4, 4), cosine_params(4, 2), (2, 2), True,
         {"grad": 60, "threads": ("ChristophReich1996/Swin-Transformer-V2#1", *CONSTANTS)}),
        ("padded",
         "zeros that were padded have keys of length 0, and no NaN in the gradient either",
         values("x", 2, 5, 3, 4), cosine_params(4, 2), (3, 3), False, {"grad": 60}),
        ("clamped", "logit_scale beyond ln 100 = 4.6 is cut there: exp(6) is 403",
         values("x", 2, 4, 4, 4), cosine_params(4, 2) | {"logit_scale": scales}, (4, 4), False,
         {"condition": 256, "grad": 60, "grad_aim": "beyond ln 100, logit_scale has gradient 0"}),
        ("leaking_mask",
         "−100 masks nothing at the clamp: a mask that is added twice, or −∞, gives other numbers",
         opposite, leaking, (2, 2), True, {"condition": 256}),
    )  # fmt: skip
    for case, aim, x, params, window, shifted, more in rows:
        given = x, params, window, half(window, shifted), len(params["logit_scale"])
        more = {"length": attention_length(4, window[0] * window[1]), "condition": 32, **more}
        yield from probe(f"window_attention_v2/{case}", aim, *given, **more)


def _leaking() -> tuple[np.ndarray, Arrays]:
    """A map whose first rows have the opposite sign, and keys that are queries times −1.

    So a pair of one region has cosine −1, a masked one +1: logits −100 and 100 + mask.
    """
    C, grid, q = 4, (6, 8), values("q", 4, 4)
    side = np.where(np.arange(grid[0]) < 1, 1.0, -1.0).reshape(1, -1, 1, 1)
    x = side * (1 + values("token", C) / 2) * (1 + values("x", 2, *grid, 1) / 4)
    changed = {
        "logit_scale": np.full((1, 1, 1), 5.0), "q_bias": np.zeros(C),
        "qkv.weight": np.concatenate([q, -q, values("v", C, C)]),
    }  # fmt: skip
    return x, cosine_params(C, 1) | changed
