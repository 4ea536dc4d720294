"""Moving tokens: windows, rolls, neighbours, displacements. Nothing is computed: all is exact."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
from drawn import law, window_attention
from hypothesis import strategies as st

from minswin import ops
from minswin.autograd import Tensor
from minswin.layers import PatchMerging
from minswin.layers.windows import pad_map
from minswin.reference.windows import relative_position_index
from minswin.testing import laws, oracles
from minswin.testing.claims import assert_adjoint, assert_same
from minswin.testing.strategies import Cut, Pair, maps, numbered, seeds, windows

any_cut = windows(sides=(1, 4), shifted=False)
even_grids = st.tuples(st.integers(1, 3), st.integers(1, 3)).filter(lambda n: n[0] != n[1])
any_window = st.tuples(st.integers(1, 4), st.integers(1, 4))
batches, channels = st.integers(1, 3), st.integers(1, 4)


def integers(seed: int, *shape: int) -> np.ndarray:
    """Random whole numbers, whose sums of products are exact."""
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float64)


# ── windows ──────────────────────────────────────────────────────────────────────────────────────


@law(cut=any_cut, B=batches, C=channels)
def test_window_merge_undoes_window_partition(cut: Cut, B: int, C: int) -> None:
    x = numbered(B, *cut.grid, C)
    windows = ops.window_partition(x, window=cut.window)
    assert_same(ops.window_merge(windows, window=cut.window, grid=cut.grid), x)
    laws.merge(
        lambda y, window, grid: ops.window_merge(y, window=window, grid=grid),
        cut,
        batch=B,
        channels=C,
    )


@law(cut=any_cut, B=batches, C=channels)
def test_window_partition_undoes_window_merge(cut: Cut, B: int, C: int) -> None:
    count = cut.windows[0] * cut.windows[1]
    x = numbered(B, count, cut.tokens, C)
    joined = ops.window_merge(x, window=cut.window, grid=cut.grid)
    assert joined.shape == (B, *cut.grid, C)
    assert_same(ops.window_partition(joined, window=cut.window), x)


@law(cut=any_cut, B=batches, C=channels)
def test_windows_and_their_tokens_are_numbered_row_by_row(cut: Cut, B: int, C: int) -> None:
    laws.partition(
        lambda x, window: ops.window_partition(x, window=window), cut, batch=B, channels=C
    )


# ── rolls ────────────────────────────────────────────────────────────────────────────────────────

steps = st.tuples(st.integers(-9, 9), st.integers(-9, 9))
grids = st.tuples(st.integers(1, 6), st.integers(1, 6))


@law(grid=grids, a=steps, b=steps)
def test_rolls_add_up_and_a_whole_turn_is_none(grid: Pair, a: Pair, b: Pair) -> None:
    x = numbered(2, *grid, 3)
    both = ops.roll(x, shift=(a[0] + b[0], a[1] + b[1]))
    assert_same(ops.roll(ops.roll(x, shift=a), shift=b), both)
    assert_same(ops.roll(ops.roll(x, shift=a), shift=(-a[0], -a[1])), x)
    assert_same(ops.roll(x, shift=grid), x)


@law(grid=grids, s=steps)
def test_a_negative_roll_moves_the_map_up_and_left(grid: Pair, s: Pair) -> None:
    x = numbered(2, *grid, 3)
    rolled = ops.roll(x, shift=(-s[0], -s[1])).data
    for r, c in np.ndindex(grid):
        assert_same(rolled[:, r, c], x[:, (r + s[0]) % grid[0], (c + s[1]) % grid[1]])


# ── 2×2 neighbours ───────────────────────────────────────────────────────────────────────────────


@law(x=maps(multiple=(2, 2)))
def test_merging_gathers_each_neighbourhood_in_the_published_order(x: np.ndarray) -> None:
    laws.merging(ops.patch_merge, x)


@law(half=even_grids, B=batches, C=channels)
def test_merging_keeps_every_element_once(half: Pair, B: int, C: int) -> None:
    x = numbered(B, 2 * half[0], 2 * half[1], C)
    merged = ops.patch_merge(x)
    assert merged.shape == (B, *half, 4 * C)
    assert_same(np.sort(merged.data.ravel()), x.ravel())


@law(half=even_grids)
def test_merged_groups_carry_row_parity_then_column_parity(half: Pair) -> None:
    row, column = np.indices((2 * half[0], 2 * half[1])) % 2
    marker = (2.0 * column + row)[None, :, :, None]  # the group in which a token must end up
    groups = ops.patch_merge(marker).data
    for g in range(4):
        assert np.all(groups[..., g] == g)


@law(half=even_grids, C=channels)
def test_flips_and_transposition_permute_the_merged_groups(half: Pair, C: int) -> None:
    x = numbered(2, 2 * half[0], 2 * half[1], C)

    def groups(y: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
        return np.concatenate([y[..., g * C : (g + 1) * C] for g in order], axis=-1)

    merged = ops.patch_merge(x).data
    upside_down, mirrored = ops.patch_merge(x[:, ::-1]), ops.patch_merge(x[:, :, ::-1])
    assert_same(upside_down, groups(merged[:, ::-1], (1, 0, 3, 2)))
    assert_same(mirrored, groups(merged[:, :, ::-1], (2, 3, 0, 1)))
    transposed = ops.patch_merge(x.swapaxes(1, 2))
    assert_same(transposed, groups(merged.swapaxes(1, 2), (0, 2, 1, 3)))


@law(grid=st.tuples(st.integers(1, 7), st.integers(1, 7)), C=channels)
def test_patch_merging_halves_the_map_upwards_and_doubles_the_channels(grid: Pair, C: int) -> None:
    layer = PatchMerging(C, rng=np.random.default_rng(C), dtype=np.float64)
    y = layer(Tensor(numbered(2, *grid, C)))
    assert y.shape == (2, (grid[0] + 1) // 2, (grid[1] + 1) // 2, 2 * C)


@law(grid=grids, multiple=any_window)
def test_maps_are_extended_by_zeros_at_the_bottom_and_right(grid: Pair, multiple: Pair) -> None:
    x = 1 + numbered(2, *grid, 3)  # no zero of its own
    assert_same(pad_map(Tensor(x), multiple), oracles.zero_extended(x, multiple))


# ── displacements ────────────────────────────────────────────────────────────────────────────────


@law(window=any_window)
def test_the_index_of_a_pair_is_the_place_of_its_displacement(window: Pair) -> None:
    laws.index(relative_position_index(window), window)


@law(window=any_window)
def test_opposite_displacements_mirror_in_the_table(window: Pair) -> None:
    index = relative_position_index(window)
    last = (2 * window[0] - 1) * (2 * window[1] - 1) - 1
    assert index.min() == 0
    assert index.max() == last
    assert_same(index + index.T, np.full_like(index, last))
    assert np.all(np.diag(index) == last // 2)


@law(window=any_window)
def test_a_displacement_occurs_once_per_place_where_it_fits(window: Pair) -> None:
    occurs = Counter(relative_position_index(window).ravel().tolist())
    for (dr, dc), row in oracles.displacement_rows(window).items():
        assert occurs[row] == (window[0] - abs(dr)) * (window[1] - abs(dc))


@law(window=any_window, more=st.tuples(st.integers(0, 2), st.integers(0, 2)))
def test_a_smaller_window_finds_its_displacements_in_a_larger_table(
    window: Pair, more: Pair
) -> None:
    larger = window[0] + more[0], window[1] + more[1]
    number, index = oracles.displacement_rows(larger), relative_position_index(window, larger)
    tokens = list(np.ndindex(window))
    for (i, p), (j, q) in product(enumerate(tokens), repeat=2):
        assert index[i, j] == number[p[0] - q[0], p[1] - q[1]]


@law(window=any_window, seed=seeds)
def test_the_bias_is_the_tables_row_of_the_displacement_for_each_head(
    window: Pair, seed: int
) -> None:
    layer = window_attention(window, np.random.default_rng(seed), heads=3)
    table, bias = layer.relative_position_bias_table.data, layer.bias(window).data
    number, tokens = oracles.displacement_rows(window), list(np.ndindex(window))
    assert bias.shape == (3, len(tokens), len(tokens))
    for (i, p), (j, q) in product(enumerate(tokens), repeat=2):
        assert_same(bias[:, i, j], table[number[p[0] - q[0], p[1] - q[1]]])


@law(window=any_window, seed=seeds)
def test_the_bias_depends_on_the_displacement_only(window: Pair, seed: int) -> None:
    layer = window_attention(window, np.random.default_rng(seed), heads=3)
    bias = layer.bias(window).data.reshape(3, *window, *window)
    down, right = bias[:, 1:, :, 1:], bias[:, :, 1:, :, 1:]  # query and key one step on
    assert_same(down, bias[:, :-1, :, :-1])
    assert_same(right, bias[:, :, :-1, :, :-1])


# ── backward is the adjoint ──────────────────────────────────────────────────────────────────────


@law(cut=windows(sides=(1, 4)), seed=seeds)
def test_moving_windows_back_is_the_adjoint_of_moving_them(cut: Cut, seed: int) -> None:
    (H, W), N, (nh, nw) = cut.grid, cut.tokens, cut.windows
    x, windows = integers(seed, 2, H, W, 3), integers(seed + 1, 2, nh * nw, N, 3)
    assert_adjoint(lambda t: ops.window_partition(t, window=cut.window), x, windows)
    assert_adjoint(lambda t: ops.window_merge(t, window=cut.window, grid=cut.grid), windows, x)
    assert_adjoint(lambda t: ops.roll(t, shift=cut.shift), x, integers(seed + 2, 2, H, W, 3))


@law(half=even_grids, grid=grids, multiple=any_window, seed=seeds)
def test_unmerging_and_cropping_are_the_adjoints_of_merging_and_padding(
    half: Pair, grid: Pair, multiple: Pair, seed: int
) -> None:
    x, y = integers(seed, 2, 2 * half[0], 2 * half[1], 3), integers(seed + 1, 2, *half, 12)
    assert_adjoint(ops.patch_merge, x, y)
    small = integers(seed, 2, *grid, 3)
    extended = oracles.zero_extended(integers(seed + 1, *small.shape) + 0.5, multiple)
    large = integers(seed + 2, *extended.shape)
    assert_adjoint(lambda t: pad_map(t, multiple), small, large)
    assert_adjoint(lambda t: t[:, : grid[0], : grid[1]], large, small)


@law(window=any_window, seed=seeds)
def test_scattering_with_addition_is_the_adjoint_of_looking_up(window: Pair, seed: int) -> None:
    rows = (2 * window[0] - 1) * (2 * window[1] - 1)
    index = relative_position_index(window)
    table, y = integers(seed, rows, 3), integers(seed + 1, *index.shape, 3)
    assert_adjoint(lambda t: ops.take(t, index), table, y)
    assert_adjoint(lambda t: ops.scatter_add(t, index, length=rows), y, table)
