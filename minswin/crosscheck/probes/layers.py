"""Probes of Swin V1: what only moves data or counts, functions, layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minswin.crosscheck.probes import Probe, counted, gradient, probe, values, with_gradient
from minswin.crosscheck.recipe import weights_of
from minswin.layers import Mlp, PatchEmbed, PatchMerging, WindowAttention
from minswin.layers.parameters import Init
from minswin.models.blank import BLANK
from minswin.models.swin import SwinBlock

Pair = tuple[int, int]
BLANKS = Init(BLANK)  # layers whose weights nobody needs: those of a probe are the recipe's, in
# which no gain is 1 and no bias 0, which would hide a missing term
KEEPING = {"drop_rate": 0.0, "drop_path_rate": 0.0}
PADDING = (
    "huggingface/pytorch-image-models#2438",
    "microsoft/Swin-Transformer#9",
    "open-mmlab/mmdetection#6747",
)
FITS = ("pytorch/vision#6222", "microsoft/Swin-Transformer#34")
NO_MASK = ("huggingface/candle#1655", "zzd1992/FlashWindowAttention#1")


def probes() -> Iterator[Probe]:
    yield from _windows()
    yield from _rolls()
    yield from _indices()
    yield from _masks()
    yield from _neighbours()
    yield from _norms()
    yield from _functions()
    yield from _tokens()
    yield from _attentions()
    yield from _blocks()


# ── windows, rolls, indices, masks, 2×2 neighbourhoods ──────────────────────────────────────────


def _windows() -> Iterator[Probe]:
    mixed = "rows and columns are mixed up where the map is not square"
    rounds = ("microsoft/Swin-Transformer#301", "tinyvision/SOLIDER#9")
    cases: tuple[tuple[str, str, tuple[int, ...], Pair, tuple[str, ...]], ...] = (
        ("wide", mixed, (2, 4, 12, 3), (4, 4), ()),
        ("tall", mixed, (2, 12, 8, 2), (4, 4), ()),
        ("window_2x5", "height and width of the window are mixed up", (2, 6, 10, 3), (2, 5), ()),
        ("window_1x4", "a window of one row", (2, 3, 8, 3), (1, 4), ()),
        ("batch_3", "the batch is found by a division that rounds", (3, 6, 4, 5), (2, 2), rounds),
    )
    for case, aim, shape, window, threads in cases:
        B, H, W, C = shape
        cut = probe(f"window_partition/{case}", aim, counted(*shape), window, threads=threads)
        pieces = B, (H // window[0]) * (W // window[1]), window[0] * window[1], C
        join = probe(
            f"window_merge/{case}",
            aim + "; or the transposition before the last reshape is forgotten",
            counted(*pieces),
            window,
            (H, W),
            threads=(*threads, "ByChelsea/CMOS#4"),
        )
        yield from (cut, join)
        if case in ("wide", "window_2x5"):
            yield from (gradient(cut), gradient(join))


def _rolls() -> Iterator[Probe]:
    cases = (
        ("up_left", "the direction of the roll, and which axis comes first", (-2, -1)),
        ("down_right", "the way back", (2, 3)),
        ("one_axis", "an axis that is not shifted", (0, -2)),
    )
    for case, aim, shift in cases:
        yield probe(f"roll/{case}", aim, counted(2, 5, 7, 3), shift)


def _indices() -> Iterator[Probe]:
    threads = (
        "microsoft/Swin-Transformer#281",
        "leondgarse/keras_cv_attention_models#26",
        "282857341/nnFormer#8",
    )
    cases = (
        ("window_2x2", "the sign: query minus key", (2, 2)),
        ("window_2x3", "the factor 2Mw − 1, or numpy.meshgrid, which counts columns first", (2, 3)),
        ("window_4x3", "the factor 2Mw − 1 where the window is tall", (4, 3)),
        ("window_1x5", "a window of one row", (1, 5)),
        ("window_7x7", "the window of the published models", (7, 7)),
    )
    for case, aim, window in cases:
        yield probe(f"relative_position_index/{case}", aim, window, threads=threads)
        rows = (2 * window[0] - 1) * (2 * window[1] - 1)
        if case in ("window_2x3", "window_1x5"):
            name = f"relative_position_bias/{case}"
            aim = "a table 0, 1, 2, …: sign, factor, and one table for all heads"
            table = counted(rows, 3)
            bias = probe(name, aim, table, window, threads=threads)
            yield bias
            summed = probe(name, aim, table, window, threads=threads, length=window[0] * window[1])
            yield gradient(summed, "pairs of one displacement share a row: their gradients add up")


def _masks() -> Iterator[Probe]:
    threads = ("zsyOAOA/ResShift#81", "microsoft/Swin-Transformer#38", "JingyunLiang/SwinIR#61")
    cases = (
        ("wide", "built on the wrong axes; regions are kept apart", (4, 12), (4, 4), (2, 2)),
        ("tall", "built on the wrong axes; regions are kept apart", (9, 6), (3, 3), (1, 1)),
        ("window_2x4", "height and width of window and shift", (6, 8), (2, 4), (1, 2)),
        ("window_1x4", "an axis without a shift must not be cut", (3, 8), (1, 4), (0, 2)),
        ("one_axis", "an axis without a shift must not be cut", (4, 8), (4, 4), (0, 2)),
        ("no_shift", "without a shift all see each other", (4, 6), (2, 2), (0, 0)),
    )
    for case, aim, grid, window, shift in cases:
        yield probe(f"attention_mask/{case}", aim, grid, window, shift, threads=threads)


def _neighbours() -> Iterator[Probe]:
    threads = (
        "huggingface/candle#1655",
        "berniwal/swin-transformer-pytorch#22",
        "open-mmlab/mmdetection#6747",
    )
    aim = "the row varies fastest: (0,0), (1,0), (0,1), (1,1); not row by row, not quadrants"
    yield from with_gradient(probe("patch_merge/wide", aim, counted(2, 4, 10, 3), threads=threads))
    yield probe("patch_merge/tall", aim, values("x", 3, 8, 2, 5), threads=threads)


# ── functions ────────────────────────────────────────────────────────────────────────────────────


def _norms() -> Iterator[Probe]:
    threads = (
        "keras-team/keras-hub#2298",
        "kornia/kornia#2786",
        "harvardnlp/annotated-transformer#119",
    )
    gain, bias = 1 + values("gain", 8) / 4, values("bias", 8) / 4
    x = values("x", 2, 3, 5, 8)
    more: dict[str, Any] = {"threads": threads, "length": 24}
    aim = "the variance divides by C, not C − 1; eps is inside the root"
    rows = probe("layer_norm/rows", aim, x, gain, bias, 1e-5, **more)
    yield from with_gradient(rows, length=30)
    aim = "a variance near eps: 1e-3 or 1e-6 in its place shows at once"
    quiet = probe("layer_norm/low_variance", aim, x[0] / 256, gain, bias, 1e-5, **more)
    yield from with_gradient(quiet, length=30)
    aim = "eps is taken from the call, not from habit"
    yield probe("layer_norm/other_eps", aim, x[1] / 256, gain, bias, 2.0**-10, **more)
    aim, more = "mean of squares minus square of mean loses all digits here", {"length": 24}
    near = 8 + x[0] / 64
    yield probe("layer_norm/near_constant", aim, near, gain, bias, 1e-5, condition=1024, **more)


def _functions() -> Iterator[Probe]:
    threads = (
        "tinygrad/tinygrad#16162",
        "Blaizzy/mlx-embeddings#81",
        "huggingface/pytorch-image-models#2105",
    )
    near = np.arange(-3.0, -2.375, 2.0**-6).reshape(2, 4, 5)
    aim = "near −2.7 the approximation by tanh is wrong by 4.7e-4"
    gelu = probe("gelu/near_-2.7", aim, near, threads=threads, length=8, condition=64)
    far = probe("gelu/far", "0 and x far from 0, no overflow", 12 * values("x", 3, 7), length=8)
    yield from with_gradient(gelu, aim + ", its slope by 1e-3")
    yield from with_gradient(far)
    x = 4 * values("logits", 2, 3, 6)
    rows = probe("softmax/rows", "over the keys, the last axis", x, length=16)
    yield from with_gradient(rows, "(p ∘ (g − Σ p g)); a cotangent of ones would give 0", length=12)
    masked = x - 100 * (values("mask", 2, 3, 6) > 0)
    masked[0, 0] = x[0, 0] - 100  # all of it: nothing is
    yield probe("softmax/masked", "a row in which everything is masked", masked, length=200)
    large = np.round(1000 * values("large", 3, 7))
    yield probe("softmax/large", "the maximum is taken off first", large, length=2000)
    logits, labels = 3 * values("logits", 3, 5), np.array([4, 4, 0])
    loss = probe("cross_entropy/batch_3", "the mean over the batch", logits, labels, length=24)
    yield from with_gradient(loss, length=12)


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────


def _tokens() -> Iterator[Probe]:
    mlp = probe(
        "mlp/tokens", "weights are (outputs, inputs); the exact GELU",
        3 * values("x", 2, 5, 6), weights_of(Mlp(6, 20, init=BLANKS)),
        threads=("tinygrad/tinygrad#16162",), length=60,
    )  # fmt: skip
    yield from with_gradient(mlp, length=20)
    for case, patch, size in (("patch_4x4", (4, 4), (8, 12)), ("patch_2x3", (2, 3), (8, 9))):
        params = weights_of(PatchEmbed(8, patch, init=BLANKS))
        embed = probe(
            f"patch_embed/{case}", "tokens row by row; weights (C, 3, p, p); a norm afterwards",
            values("image", 2, 3, *size), params, length=100,
        )  # fmt: skip
        yield from with_gradient(embed, length=24)
    params = weights_of(PatchMerging(4, init=BLANKS))
    odd = "zeros at the bottom by the parity of H, at the right by that of W"
    for case, size in (("odd_width", (4, 7)), ("odd_height", (5, 8)), ("odd_both", (3, 5))):
        merge = probe(
            f"patch_merging/{case}", odd, values("x", 2, *size, 4), params,
            threads=("huggingface/pytorch-image-models#2285",), length=80,
        )  # fmt: skip
        yield merge
        if case == "odd_width":
            yield gradient(merge, length=30)


# ── attention in windows ─────────────────────────────────────────────────────────────────────────


def attention_length(C: int, tokens: int) -> int:
    """Terms of the sums on the way through qkv, scores, softmax, values and proj."""
    return 4 * C + 4 * tokens


def attention(case: str, aim: str, x: np.ndarray, window: Pair, **more: Any) -> Probe:
    C, heads = x.shape[3], more.pop("heads")
    shift = (window[0] // 2, window[1] // 2) if more.pop("shifted", True) else (0, 0)
    params = weights_of(WindowAttention(C, heads, window, init=BLANKS))
    params["qkv.weight"] *= 2  # so that the probabilities are far from equal
    length = attention_length(C, window[0] * window[1])
    name = f"window_attention/{case}"
    return probe(name, aim, x, params, window, shift, heads, length=length, condition=4, **more)


def _attentions() -> Iterator[Probe]:
    aim = "channels of qkv are (3, heads, d); the scale is d^−½; heads are put side by side again"
    threads = ("Oneflow-Inc/libai#146", "jsbaan/transformer-from-scratch#6")
    x = values("x", 2, 4, 8, 6)
    plain = attention("plain", aim, x, (4, 4), heads=3, shifted=False, threads=threads)
    yield from with_gradient(plain, length=80)
    aim = "the roll, the mask and the way back, where H ≠ W; windows are batch-major"
    shifted = attention("shifted", aim, values("x", 3, 6, 4, 6), (2, 2), heads=2, threads=NO_MASK)
    yield from with_gradient(shifted, length=90)
    aim = "padded before the roll: after it, tokens from opposite ends of the image meet"
    padded = attention("padded", aim, values("x", 2, 9, 10, 4), (4, 4), heads=2, threads=PADDING)
    yield from with_gradient(padded, length=200)
    aim = "zeros that were padded are keys like others, and carry the biases of k and v"
    x = values("x", 2, 3, 7, 4)
    yield attention("zeros", aim, x, (3, 3), heads=2, shifted=False, threads=PADDING)
    aim = "a window of 2×5: the factor of the index, another shift on each axis"
    wide = attention("window_2x5", aim, values("x", 2, 4, 10, 6), (2, 5), heads=3)
    yield from with_gradient(wide, length=80)
    aim = "a window of one row: its rows are not shifted"
    yield attention("window_1x4", aim, values("x", 2, 3, 8, 4), (1, 4), heads=2)
    aim = "a large value in one corner must not reach the opposite one, though the roll joins them"
    x = values("x", 2, 8, 12, 4) / 16
    x[:, 0, 0] = (24, -16, 8, 12)
    yield attention("impulse", aim, x, (4, 4), heads=2, threads=NO_MASK)
    aim = "batch 3 and six windows: the mask belongs to the window, not to the image"
    yield attention("batch_3", aim, values("x", 3, 6, 9, 4), (3, 3), heads=2, threads=NO_MASK)


def _blocks() -> Iterator[Probe]:
    cases: tuple[tuple[str, str, Pair, Pair, tuple[str, ...]], ...] = (
        ("shifted", "both sums, the norms before; the shift", (6, 8), (2, 2), ()),
        ("padded", "the norm comes before the padding, whose tokens are 0",
         (7, 6), (4, 4), PADDING),
        ("covered", "a window as large as the map: no shift", (4, 4), (4, 4), FITS),
        ("covered_one_side", "no shift on EITHER axis, as the original", (4, 8), (4, 4), FITS),
    )  # fmt: skip
    for case, aim, grid, window, threads in cases:
        params = weights_of(SwinBlock(8, 2, window, mlp_ratio=2.0, **KEEPING, init=BLANKS))
        length = attention_length(8, window[0] * window[1]) + 100
        block = probe(
            f"block/{case}", aim, values("x", 2, *grid, 8), params, window, True, 2,
            threads=threads, length=length, condition=4,
        )  # fmt: skip
        yield block
        if case in ("shifted", "padded"):
            yield gradient(block, length=2 * grid[0] * grid[1])
