"""Probes of what only moves data or counts: windows, rolls, indices, masks, 2×2 neighbourhoods."""

from __future__ import annotations

from collections.abc import Iterator

from minswin.crosscheck.probes import Probe, counted, gradient, probe, values

Pair = tuple[int, int]
FUSED = "rows and columns are mixed up where the map is not square"


def probes() -> Iterator[Probe]:
    yield from _windows()
    yield from _rolls()
    yield from _indices()
    yield from _masks()
    yield from _neighbours()


def _windows() -> Iterator[Probe]:
    rounds = ("microsoft/Swin-Transformer#301", "tinyvision/SOLIDER#9")
    cases: tuple[tuple[str, str, tuple[int, ...], Pair, tuple[str, ...]], ...] = (
        ("wide", FUSED, (2, 4, 12, 3), (4, 4), ()),
        ("tall", FUSED, (2, 12, 8, 2), (4, 4), ()),
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
    name = "patch_merge/wide"
    merged = probe(name, aim, counted(2, 4, 10, 3), threads=threads)
    yield merged
    yield gradient(merged)
    yield probe("patch_merge/tall", aim, values("x", 3, 8, 2, 5), threads=threads)
