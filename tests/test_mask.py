"""Shifted windows: the mask keeps apart what is apart in the image, and nothing else.

The strongest test of all is the first one: attention run separately on every rectangle of the
image, without roll and without mask, gives what the rolled and masked windows give.
"""

from __future__ import annotations

import numpy as np
from drawn import law, window_attention
from hypothesis import strategies as st

from minswin.autograd import Tensor, no_grad
from minswin.reference.windows import attention_mask, shift_regions
from minswin.testing import laws, oracles
from minswin.testing.claims import assert_close, assert_derivative, assert_same, influence, no_leak
from minswin.testing.strategies import Cut, Pair, seeds, uneven_maps, windows

several = windows(counts=(2, 3))  # two windows or more along each axis


# ── the region oracle ────────────────────────────────────────────────────────────────────────────


@law(cut=windows(), B=st.integers(2, 3), heads=st.integers(1, 3), seed=seeds)
def test_shifted_windows_equal_attention_on_each_rectangle_of_the_image(
    cut: Cut, B: int, heads: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layer = window_attention(cut.window, rng, heads=heads)
    qkv = rng.standard_normal((B, *cut.grid, 9 * heads))
    table = layer.relative_position_bias_table.data
    truth = oracles.region_attention(qkv, table, cut.window, cut.shift)
    with no_grad():
        assert_close(layer.shifted_windows(Tensor(qkv), cut.window, cut.shift), truth)
        with no_leak():
            assert_close(layer.shifted_windows(Tensor(qkv), cut.window, cut.shift), truth)


@law(examples=8, cut=windows(sides=(2, 3), counts=(1, 2)), seed=seeds)
def test_shifted_windows_have_the_derivative_of_attention_on_each_rectangle(
    cut: Cut, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layer = window_attention(cut.window, rng)
    qkv = rng.standard_normal((2, *cut.grid, 18))
    table = layer.relative_position_bias_table
    assert_derivative(
        lambda x: layer.shifted_windows(x, cut.window, cut.shift),
        qkv,
        rng,
        [table],
        truth=lambda: oracles.region_attention(qkv, table.data, cut.window, cut.shift),
    )


@law(examples=10, grid_window=uneven_maps(), shift=st.booleans(), seed=seeds)
def test_a_map_that_windows_do_not_divide_equals_the_zero_extended_map(
    grid_window: tuple[Pair, Pair], shift: bool, seed: int
) -> None:
    grid, window = grid_window
    rng = np.random.default_rng(seed)
    layer = window_attention(window, rng, shift=shift)
    x = rng.standard_normal((2, *grid, 6))
    truth = oracles.window_attention(x, layer.state_dict(), window=window, shifted=shift)
    assert_close(layer(Tensor(x)), truth)


@law(
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    window=st.tuples(st.integers(2, 5), st.integers(2, 5)),
    seed=seeds,
)
def test_a_map_no_longer_than_the_window_is_not_shifted(
    grid: Pair, window: Pair, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layer = window_attention(window, rng, shift=True)
    x = rng.standard_normal((2, *grid, 6))
    truth = oracles.window_attention(x, layer.state_dict(), window=window, shifted=True)
    assert_close(layer(Tensor(x)), truth)


# ── who sees whom ────────────────────────────────────────────────────────────────────────────────


def seen(cut: Cut) -> np.ndarray:
    """The mask of `cut` in the image: (H, W, H, W) bool, may token (r, c) see (r', c')?"""
    mask = attention_mask(cut.grid, cut.window, cut.shift)
    sees = np.zeros((*cut.grid, *cut.grid), dtype=bool)
    for window, tokens in enumerate(laws.tokens_of_windows(cut)):
        for i, p in enumerate(tokens):
            for j, q in enumerate(tokens):
                sees[p[0], p[1], q[0], q[1]] = mask[window, i, j] == 0
    return sees


@law(cut=windows())
def test_the_mask_allows_the_pairs_of_one_rectangle_and_no_others(cut: Cut) -> None:
    mask = attention_mask(cut.grid, cut.window, cut.shift)
    assert set(np.unique(mask).tolist()) == {0, -100}  # both kinds: the mask does something
    laws.mask(mask, cut)


@law(cut=several)
def test_a_masked_window_falls_apart_into_regions(cut: Cut) -> None:
    mask = attention_mask(cut.grid, cut.window, cut.shift)
    assert_same(mask, mask.swapaxes(1, 2))
    assert np.all(np.diagonal(mask, axis1=1, axis2=2) == 0)
    allowed = (mask == 0).astype(int)
    assert not allowed.all()
    assert_same((allowed @ allowed > 0).astype(int), allowed)  # transitive: regions are classes


@law(cut=windows(counts=(1, 4)))
def test_regions_masks_and_free_windows_are_as_many_as_the_shift_makes(cut: Cut) -> None:
    (nh, nw), (sh, sw) = cut.windows, cut.shift
    labels = np.unique(shift_regions(cut.grid, cut.window, cut.shift))
    pieces = [1 if not s else 3 if n > 1 else 2 for n, s in [(nh, sh), (nw, sw)]]
    assert len(labels) == pieces[0] * pieces[1]
    mask = attention_mask(cut.grid, cut.window, cut.shift)
    kinds = [2 if s and n > 1 else 1 for n, s in [(nh, sh), (nw, sw)]]
    assert len(np.unique(mask, axis=0)) == kinds[0] * kinds[1]
    free = int(np.sum(~mask.any(axis=(1, 2))))
    assert free == (nh - (sh > 0)) * (nw - (sw > 0))


@law(cut=several.filter(lambda cut: all(cut.shift)))
def test_edge_windows_hold_two_regions_and_the_corner_four(cut: Cut) -> None:
    nh, nw = cut.windows
    mask = attention_mask(cut.grid, cut.window, cut.shift)
    classes = [len(np.unique(window, axis=0)) for window in mask]  # different rows of the mask
    edges = {"inside": 1, "right": 2, "bottom": 2, "corner": 4}
    assert classes[0] == edges["inside"]
    assert classes[nw - 1] == edges["right"]
    assert classes[(nh - 1) * nw] == edges["bottom"]
    assert classes[-1] == edges["corner"]


@law(cut=windows())
def test_the_number_of_allowed_pairs_is_the_product_of_both_axes(cut: Cut) -> None:
    def along(count: int, side: int, shift: int) -> int:
        return (count - 1) * side**2 + (side - shift) ** 2 + shift**2

    allowed = np.sum(attention_mask(cut.grid, cut.window, cut.shift) == 0)
    rows, columns = zip(cut.windows, cut.window, cut.shift, strict=True)
    assert allowed == along(*rows) * along(*columns)


@law(cut=several)
def test_turning_the_image_turns_the_mask(cut: Cut) -> None:
    def turned(pair: Pair) -> Pair:
        return pair[1], pair[0]

    swapped = Cut(turned(cut.grid), turned(cut.window), turned(cut.shift))
    assert_same(seen(swapped), seen(cut).transpose(1, 0, 3, 2))
    (Mh, Mw), (sh, sw) = cut.window, cut.shift
    rest = Cut(cut.grid, cut.window, ((Mh - sh) % Mh, (Mw - sw) % Mw))
    assert_same(seen(rest), seen(cut)[::-1, ::-1, ::-1, ::-1])


# ── who moves whom ───────────────────────────────────────────────────────────────────────────────


@law(cut=several, at=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)), seed=seeds)
def test_a_token_depends_on_its_rectangle_and_on_nothing_else(
    cut: Cut, at: tuple[float, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layer = window_attention(cut.window, rng)
    half = cut.window[0] // 2, cut.window[1] // 2
    token = int(at[0] * cut.grid[0]), int(at[1] * cut.grid[1])
    x = rng.standard_normal((2, *cut.grid, 6))
    inside = oracles.same_rectangle(cut.grid, cut.window, half)[token]
    with no_leak():
        moved = influence(layer, x, token)
    assert np.all(moved[0][inside] > 0)
    assert np.all(moved[0][~inside] == 0)
    assert np.all(moved[1] == 0)  # another image
    leaked = influence(layer, x, token)  # with −100: about e⁻¹⁰⁰ times the logits' range
    assert np.all(leaked[0][~inside] < 1e-20)


def test_opposite_ends_of_a_padded_map_do_not_see_each_other() -> None:
    rng = np.random.default_rng(12)
    layer = window_attention((7, 7), rng)
    x = rng.standard_normal((2, 12, 9, 6))  # the windows cover 14×14
    inside = oracles.same_rectangle((14, 14), (7, 7), (3, 3))
    with no_leak():
        for token in [(0, 0), (11, 8), (0, 8), (11, 0), (2, 4), (10, 3), (6, 8)]:
            moved = influence(layer, x, token)[0]
            assert_same(moved > 0, inside[token][:12, :9])
