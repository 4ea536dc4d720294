"""Maps of another size, and the losses of detection: laws and slow oracles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from drawn import law
from hypothesis import strategies as st

from minswin import ops
from minswin.reference.detection import binary_cross_entropy, focal_loss, giou
from minswin.reference.maps import METHODS, resize
from minswin.testing.claims import assert_close, assert_same
from minswin.testing.strategies import seeds

sides = st.integers(1, 9)
methods = st.sampled_from(sorted(METHODS))


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# ── resize ───────────────────────────────────────────────────────────────────────────────────────


@law(seed=seeds, H=sides, W=sides, method=methods)
def test_resize_to_its_own_size_changes_nothing(seed: int, H: int, W: int, method: str) -> None:
    x = draw(seed, 2, H, W, 3)
    assert_same(resize(x, size=(H, W), method=method)[0], x)


@law(seed=seeds, H=sides, W=sides, h=sides, w=sides, method=methods)
def test_resize_and_mirroring_can_change_places(
    seed: int, H: int, W: int, h: int, w: int, method: str
) -> None:
    x = draw(seed, 2, H, W, 3)
    y = resize(x, size=(h, w), method=method)[0]
    assert_close(resize(x[:, ::-1], size=(h, w), method=method)[0], y[:, ::-1])
    assert_close(resize(x[:, :, ::-1], size=(h, w), method=method)[0], y[:, :, ::-1])


@law(H=sides, h=sides, method=methods)
def test_a_resized_map_takes_means_with_weights_of_sum_one(H: int, h: int, method: str) -> None:
    matrix = METHODS[method](H, h)
    assert (matrix >= 0).all()
    assert_close(matrix.sum(axis=1), np.ones(h))


@law(H=st.integers(2, 9), h=sides, slope=st.floats(-3, 3))
def test_between_the_outermost_centres_bilinear_keeps_a_slope(H: int, h: int, slope: float) -> None:
    old, new = np.arange(H) + 0.5, (np.arange(h) + 0.5) * H / h  # in old pixels
    y = resize(slope * old.reshape(1, H, 1, 1), size=(h, 2))[0][0, :, 0, 0]
    assert_close(y, slope * new.clip(0.5, H - 0.5))


@pytest.mark.parametrize(("before", "after"), [(7, 3), (4, 6), (5, 1), (6, 3), (2, 5)])
def test_mean_pooling_is_the_mean_of_the_pixels_that_are_touched(before: int, after: int) -> None:
    x = draw(0, 2, before, 3, 4)
    y = resize(x, size=(after, 3), method="mean")[0]
    for i in range(after):
        first, end = math.floor(i * before / after), math.ceil((i + 1) * before / after)
        assert_close(y[:, i], x[:, first:end].mean(axis=1))


# ── losses ───────────────────────────────────────────────────────────────────────────────────────


def test_cross_entropy_and_focal_loss_are_their_formulas() -> None:
    rng = np.random.default_rng(2)
    x, t, hard = rng.standard_normal(50) * 3, rng.random(50), rng.integers(0, 2, 50)
    p = 1 / (1 + np.exp(-x))
    assert_close(binary_cross_entropy(x, t)[0], -t * np.log(p) - (1 - t) * np.log(1 - p))
    of_target, weight = np.where(hard, p, 1 - p), np.where(hard, 0.3, 0.7)
    truth = -weight * (1 - of_target) ** 1.5 * np.log(of_target)
    assert_close(focal_loss(x, hard, alpha=0.3, gamma=1.5)[0], truth)
    flat = focal_loss(x, hard, alpha=0.5, gamma=0.0)[0]
    assert_close(flat, binary_cross_entropy(x, hard.astype(float))[0] / 2)


def test_far_out_logits_give_a_straight_line_and_no_overflow() -> None:
    x, hard = np.array([1000.0, -1000.0, 1000.0, -1000.0]), np.array([1, 1, 0, 0])
    value, pull = binary_cross_entropy(x, hard.astype(float))
    assert_close(value, [0, 1000, 1000, 0])
    assert_close(pull(np.full(4, 2.0))[0], [0, -2, 2, 0])
    value, pull = focal_loss(x, hard)
    assert_close(value, [0, 250, 750, 0])
    assert_close(pull(np.full(4, 2.0))[0], [0, -0.5, 1.5, 0])


def slow_giou(a: Any, b: Any) -> float:
    wide = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * high
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return wide * high / union - (hull - union) / hull


def some_boxes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    start = rng.uniform(0, 4, (*shape, 2))
    return np.concatenate([start, start + rng.uniform(0.3, 4, (*shape, 2))], axis=-1)


@law(seed=seeds)
def test_giou_is_its_formula_and_does_not_see_order_place_or_scale(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = some_boxes(rng, 2, 7), some_boxes(rng, 2, 7)
    value = giou(a, b)[0]
    pairs = zip(a.reshape(-1, 4), b.reshape(-1, 4), strict=True)
    assert_close(value, np.array([slow_giou(*pair) for pair in pairs]).reshape(2, 7))
    assert_close(giou(b, a)[0], value)
    assert_close(giou(3 * a + 5, 3 * b + 5)[0], value, 1e-11)
    assert (value > -1).all()
    assert (value < 1).all()
    assert_close(giou(a, a)[0], np.ones((2, 7)))


def test_giou_pulls_boxes_together_that_do_not_meet() -> None:
    value, pull = giou(np.array([[0.0, 0, 1, 1]]), np.array([[3.0, 0, 4, 1]]))
    assert_close(value, [2 / 4 - 1])
    (da,) = pull(np.ones(1))[0]
    assert da[2] > 0  # a larger x1 makes them agree more


@law(seed=seeds)
def test_the_gradient_of_giou_is_its_slope(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = some_boxes(rng, 5), some_boxes(rng, 5)
    g, t, u = rng.standard_normal(5), rng.standard_normal((5, 4)), rng.standard_normal((5, 4))
    da, db = giou(a, b)[1](g)
    h = 1e-6
    slope = (giou(a + h * t, b + h * u)[0] - giou(a - h * t, b - h * u)[0]) @ g / (2 * h)
    assert_close((da * t).sum() + (db * u).sum(), slope, 1e-6)


def test_boxes_that_only_touch_have_the_gradient_of_boxes_that_are_apart() -> None:
    a, gap = np.array([[0.0, 0, 2, 3]]), np.array([[1e-9, 0, 1e-9, 0]])
    touching = np.array([[2.0, 1, 4, 5]])
    for ours, apart in zip(
        giou(a, touching)[1](np.ones(1)), giou(a, touching + gap)[1](np.ones(1)), strict=True
    ):
        assert_close(ours, apart, 1e-7)


def test_where_edges_are_one_giou_has_the_mean_of_its_slopes_on_both_sides() -> None:
    a, b = np.array([[0.0, 0, 2, 3]]), np.array([[0.0, 1, 2, 3]])
    t, h = np.random.default_rng(3).standard_normal((2, 1, 4)), 1e-6
    da, db = giou(a, b)[1](np.ones(1))
    slope = (giou(a + h * t[0], b + h * t[1])[0] - giou(a - h * t[0], b - h * t[1])[0]) / (2 * h)
    assert_close((da * t[0] + db * t[1]).sum(), slope[0], 10 * h)  # a kink: errors of order h


# ── what does not fit ────────────────────────────────────────────────────────────────────────────

F = np.zeros
WRONG: list[tuple[Any, type[Exception], str]] = [
    (
        lambda: ops.resize(F((2, 3, 4)), size=(2, 2)),
        ValueError,
        r"resize: x must be \(B, H, W, C\), got \(2, 3, 4\)",
    ),
    (lambda: ops.resize(F((1, 0, 4, 1)), size=(2, 2)), ValueError, r"got \(1, 0, 4, 1\)"),
    (lambda: ops.resize(F((1, 3, 4, 1)), size=(2, 0)), ValueError, r"or a pair, got \(2, 0\)"),
    (
        lambda: ops.resize(F((1, 3, 4, 1)), size=(2, 2), method="cubic"),
        ValueError,
        "method must be one of bilinear, mean, got cubic",
    ),
    (lambda: ops.giou(F((3, 4)), F((2, 4))), ValueError, r"giou: b must be \(3, 4\), got \(2, 4\)"),
    (lambda: ops.focal_loss(F(3), F(3)), TypeError, "targets must be bool or integers, got float"),
    (lambda: ops.focal_loss(F(3), np.full(3, 2)), ValueError, "targets must lie in 0…1"),
    (
        lambda: ops.focal_loss(F(3), F(4, int)),
        ValueError,
        r"targets must be \(3,\) flags, got \(4,\)",
    ),
    (
        lambda: ops.binary_cross_entropy(F(3), F(4)),
        ValueError,
        r"targets must be \(3,\), got \(4,\)",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_what_does_not_fit_is_named(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
