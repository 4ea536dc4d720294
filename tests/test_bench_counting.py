"""`minswin bench` counts products and bytes from shapes."""

from __future__ import annotations

import numpy as np
import pytest

from minswin import kernels
from minswin.bench.counting import MACS, backward_work, forward_work


def blank(*sides):
    return np.empty(sides, np.float32)


@pytest.mark.parametrize(
    ("name", "shapes", "settings", "macs"),
    [
        ("matmul", [(2, 1, 3, 4), (5, 4, 6)], {}, 2 * 5 * 3 * 4 * 6),
        ("linear", [(2, 3, 4), (5, 4), (5,)], {}, 6 * 4 * 5),
        ("mlp", [(2, 3, 4), (8, 4), (8,), (5, 8), (5,)], {}, 6 * 4 * 8 + 6 * 8 * 5),
        ("attention", [(2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)], {}, 6 * 4 * 6 * (5 + 7)),
        ("conv2d", [(2, 3, 8, 12), (5, 3, 2, 4)], {"stride": (2, 4)}, 2 * 12 * 5 * 3 * 8),
        ("conv2d", [(2, 3, 5, 6), (5, 3, 3, 2)], {"padding": (1, 0)}, 2 * 5 * 5 * 5 * 3 * 6),
        # 2 images of 4 windows of 6 tokens; each meets 6 in q kᵀ and again in P v, 8 channels
        (
            "shifted_window_attention",
            [(2, 4, 6, 24), (15, 2)],
            {"heads": 2, "window": (2, 3), "shift": (1, 1), "table_window": (2, 3)},
            2 * 4 * 6 * 6 * 8 * 2,
        ),
    ],
)
def test_products_are_counted_from_their_shapes(name, shapes, settings, macs):
    inputs = [blank(*s) for s in shapes] + [None] * (name in ("attention", "conv2d"))
    value, g = blank(2, 2), blank(2, 2)
    assert forward_work(name, inputs, settings, value) == (2 * macs, 0)
    assert backward_work(name, 2 * macs, 99, g, (blank(3), blank(4))) == (4 * macs, 0)
    assert backward_work(name, 2 * macs, 99, g, (None, blank(4))) == (2 * macs, 0)


def test_every_counted_product_is_an_operation():
    with kernels.using("numba"):
        assert set(MACS) <= set(kernels.FAST)


def test_other_operations_are_counted_in_bytes():
    x, gain = blank(3, 5), blank(5)
    assert forward_work("layer_norm", (x, gain, gain), {}, blank(3, 5)) == (0, 60 + 40 + 60)
    assert forward_work("reshape", (x,), {}, x.reshape(15)) == (0, 0)
    g = blank(3, 5)
    assert backward_work("layer_norm", 0, 100, g, (blank(3, 5), None)) == (0, 60 + 60 + 100)
    assert backward_work("roll", 0, 100, g, (blank(3, 5),)) == (0, 60 + 60)
    assert backward_work("add", 0, 120, g, (g, g)) == (0, 0)
