"""The sweep of `minswin bench` over the sides of an image."""

from __future__ import annotations

import numpy as np
import pytest
from bench_results import SMALL

from minswin.bench import setups
from minswin.bench.clock import spread
from minswin.bench.sweep import Point, check_sides, per_pixel, sweep


def test_cost_per_pixel_is_relative_to_224():
    points = [
        Point(side, macs, spread([t]))
        for side, macs, t in [(112, 30, 0.5), (224, 100, 1.0), (448, 500, 6.0)]
    ]
    assert per_pixel(points) == {112: (2.0, 1.2), 224: (1.0, 1.0), 448: (1.5, 1.25)}
    assert per_pixel(points[2:]) == {448: (1.0, 1.0)}


def test_the_sweep_counts_the_products_of_every_side(monkeypatch):
    monkeypatch.setattr("minswin.bench.sweep.MODELS", ("swin_shapes", "no_such_model"))
    found = sweep((32, 64), rounds=2)
    assert list(found) == ["swin_shapes"]
    small, large = found["swin_shapes"]
    assert (small.side, large.side) == (32, 64)
    classes = 1000 * setups.our_model(SMALL, np.random.default_rng(0)).head.weight.shape[1]
    assert large.macs - classes == 4 * (small.macs - classes)
    assert small.times.low <= small.times.median <= small.times.high


def test_sides_that_patches_do_not_divide_are_refused():
    check_sides([32, 48])
    with pytest.raises(ValueError, match=r"multiples of 16, 32 or more, got \[100, 16\]"):
        check_sides([100, 224, 16])
