"""Laws of the layers around attention: norms, softmax, GELU, dropout, embedding, merging, block."""

from __future__ import annotations

import math

import numpy as np
from drawn import fill, law, swin_block
from hypothesis import strategies as st

from minswin import ops
from minswin.autograd import Tensor
from minswin.layers import Dropout, DropPath, LayerNorm, Mlp, PatchEmbed, PatchMerging
from minswin.testing import oracles
from minswin.testing.claims import NORMED, ROUNDING, assert_close, assert_derivative, assert_same
from minswin.testing.strategies import Pair, seeds, uneven_maps

small = st.integers(1, 4)
grids = st.tuples(st.integers(1, 5), st.integers(1, 5)).filter(lambda n: n[0] != n[1])
patches = st.tuples(st.integers(1, 3), st.integers(1, 3))


# ── layer norm ───────────────────────────────────────────────────────────────────────────────────


@law(C=st.integers(2, 9), spread=st.sampled_from([1e-3, 1.0, 30.0]), seed=seeds)
def test_layer_norm_equals_its_formula_for_wide_and_narrow_rows(
    C: int, spread: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layer = LayerNorm(C, dtype=np.float64)
    fill(layer, rng)
    x = 2 + spread * rng.standard_normal((2, 3, C))
    truth = oracles.layer_norm(x, layer.weight.data, layer.bias.data)  # eps is 1e-5
    assert_close(layer(Tensor(x)), truth, NORMED)


@law(C=st.integers(2, 9), eps=st.floats(1e-6, 1.0), seed=seeds)
def test_a_normed_row_has_mean_zero_and_variance_v_over_v_plus_eps(
    C: int, eps: float, seed: int
) -> None:
    x = np.random.default_rng(seed).standard_normal((2, 3, C))
    y = ops.layer_norm(x, np.ones(C), np.zeros(C), eps=eps).data
    v = np.mean((x - x.mean(axis=-1, keepdims=True)) ** 2, axis=-1)  # divided by C, not C − 1
    assert_close(y.mean(axis=-1), np.zeros((2, 3)))
    assert_close(np.mean(y * y, axis=-1), v / (v + eps))


@law(C=st.integers(2, 9), a=st.floats(0.1, 10), c=st.floats(-3, 3), seed=seeds)
def test_layer_norm_of_a_scaled_row_is_layer_norm_with_a_scaled_eps(
    C: int, a: float, c: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 3, C))
    weight, bias = rng.standard_normal(C), rng.standard_normal(C)
    moved = ops.layer_norm(a * x + c, weight, bias, eps=0.01)
    assert_close(moved, ops.layer_norm(x, weight, bias, eps=0.01 / a**2), NORMED)


@law(C=st.integers(2, 9), eps=st.floats(0.01, 1.0), seed=seeds)
def test_layer_norm_passes_back_no_mean_and_little_along_the_row(
    C: int, eps: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, g = rng.standard_normal((2, 3, C)), rng.standard_normal((2, 3, C))
    weight, bias = rng.standard_normal(C), rng.standard_normal(C)
    leaves = [Tensor(array, requires_grad=True) for array in (x, weight, bias)]
    ops.layer_norm(*leaves, eps=eps).backward(g)
    dx, dweight, dbias = (np.asarray(leaf.grad) for leaf in leaves)
    centred = x - x.mean(axis=-1, keepdims=True)
    v = np.mean(centred**2, axis=-1, keepdims=True)
    xhat = centred / np.sqrt(v + eps)
    assert_close(dx.sum(axis=-1), np.zeros((2, 3)))
    along = np.sum(g * weight * xhat, axis=-1, keepdims=True) / np.sqrt(v + eps)
    assert_close(np.sum(dx * xhat, axis=-1, keepdims=True), along * eps / (v + eps))
    assert_close(dweight, (g * xhat).sum(axis=(0, 1)))
    assert_close(dbias, g.sum(axis=(0, 1)))


# ── softmax and GELU ─────────────────────────────────────────────────────────────────────────────


@law(N=st.integers(2, 6), seed=seeds)
def test_a_softmax_passes_back_rows_of_sum_zero_and_nothing_where_masked(N: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, g = rng.standard_normal((2, 3, N)), rng.standard_normal((2, 3, N))
    masked = rng.random((2, 3, N)) < 0.4
    masked[..., 0], masked[0, 0, 1] = False, True
    leaf = Tensor(np.where(masked, -np.inf, x), requires_grad=True)
    p = ops.softmax(leaf)
    p.backward(g)
    assert np.all(p.data[masked] == 0)
    dx = np.asarray(leaf.grad)
    assert np.all(dx[masked] == 0)
    assert_close(dx.sum(axis=-1), np.zeros((2, 3)))
    assert_derivative(ops.softmax, x, rng)


@law(seed=seeds)
def test_gelu_is_x_times_the_normal_distribution_function(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.append(3 * rng.standard_normal(20), [-2.7, 0, 2.7])
    y = ops.gelu(x).data
    assert_close(y, oracles.gelu(x))
    assert_close(y - ops.gelu(-x).data, x)
    leaf, g = Tensor(x, requires_grad=True), rng.standard_normal(len(x))
    ops.gelu(leaf).backward(g)
    cdf = np.array([0.5 * (1 + math.erf(t / math.sqrt(2))) for t in x])
    assert_close(leaf.grad, g * (cdf + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)))
    assert 4.6e-4 < abs(y - ops.gelu_tanh(x).data).max() <= 4.74e-4


# ── dropping ─────────────────────────────────────────────────────────────────────────────────────


@law(B=st.integers(3, 6), rate=st.floats(0.2, 0.8), rank=st.integers(2, 4), seed=seeds)
def test_drop_path_keeps_or_drops_whole_samples(B: int, rate: float, rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = Tensor(rng.standard_normal((B, 5, 2, 7)[:rank]))
    layer = DropPath(rate, rng=rng)
    mixed = False
    for _ in range(40):
        y = layer(x).data
        assert y.shape == x.shape
        kept = [bool(sample.any()) for sample in y]
        for b in range(B):
            assert_close(y[b], x.data[b] / (1 - rate) if kept[b] else 0 * x.data[b])
        mixed = mixed or len(set(kept)) == 2
    assert mixed, "the samples of a batch share one fate"
    layer.eval()
    assert_same(layer(x), x)


def test_dropping_keeps_the_mean_and_the_rate() -> None:
    for kind in (Dropout, DropPath):
        layer = kind(0.3, rng=np.random.default_rng(3))
        y = layer(Tensor(np.full((40_000, 1), 2.0))).data
        # The share of zeros has standard deviation √(0.3·0.7/40,000) = 0.0023.
        assert abs(np.mean(y == 0) - 0.3) < 5 * 0.0023
        assert abs(np.mean(y) - 2) < 5 * 0.0023 * 2 / 0.7


@law(rate=st.floats(0.1, 0.9), seed=seeds)
def test_dropout_scales_what_it_keeps_and_its_gradient_alike(rate: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, g = Tensor(rng.standard_normal((4, 50)), requires_grad=True), rng.standard_normal((4, 50))
    y = Dropout(rate, rng=rng)(x)
    y.backward(g)
    kept = y.data != 0
    assert 0 < kept.sum() < kept.size
    assert_close(y.data, np.where(kept, x.data / (1 - rate), 0))
    assert_close(x.grad, np.where(kept, g / (1 - rate), 0))


# ── embedding, merging, MLP, block ───────────────────────────────────────────────────────────────


@law(grid=grids, patch=patches, norm=st.booleans(), seed=seeds)
def test_patch_embedding_is_each_patch_times_each_filter(
    grid: Pair, patch: Pair, norm: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layer = PatchEmbed(4, patch, norm=norm, rng=rng, dtype=np.float64)
    state = fill(layer, rng).state_dict()
    images = rng.standard_normal((2, 3, grid[0] * patch[0], grid[1] * patch[1]))
    y = oracles.patches(images, state["proj.weight"], state["proj.bias"])
    if norm:
        y = oracles.layer_norm(y, state["norm.weight"], state["norm.bias"])
    assert y.shape == (2, *grid, 4)
    assert_close(layer(Tensor(images)), y, NORMED if norm else ROUNDING)


@law(grid=grids, patch=patches, seed=seeds)
def test_patch_embedding_is_linear_on_channel_major_patches(
    grid: Pair, patch: Pair, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layer = PatchEmbed(4, patch, norm=False, rng=rng, dtype=np.float64)
    images = Tensor(rng.standard_normal((2, 3, grid[0] * patch[0], grid[1] * patch[1])))
    rows = ops.unfold(images, kernel=patch, stride=patch)  # (B, H', W', 3·ph·pw)
    matrix = layer.proj.weight.reshape(4, 3 * patch[0] * patch[1])
    assert_close(layer(images), ops.linear(rows, matrix, layer.proj.bias))


@law(grid=grids, C=small, seed=seeds)
def test_patch_merging_norms_the_four_neighbours_then_reduces_them(
    grid: Pair, C: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layer = PatchMerging(C, rng=rng, dtype=np.float64)
    state = fill(layer, rng).state_dict()
    x = rng.standard_normal((2, *grid, C))
    y = oracles.merge_neighbours(oracles.zero_extended(x, (2, 2)))
    y = oracles.layer_norm(y, state["norm.weight"], state["norm.bias"])
    assert_close(layer(Tensor(x)), y @ state["reduction.weight"].T)
    assert set(state) == {"reduction.weight", "norm.weight", "norm.bias"}


@law(C=small, hidden=st.integers(5, 9), seed=seeds)
def test_the_mlp_is_two_linear_maps_with_a_gelu_between(C: int, hidden: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = Mlp(C, hidden, rng=rng, dtype=np.float64)
    fill(layer, rng)
    x = rng.standard_normal((2, 3, C))
    assert_close(layer(Tensor(x)), oracles.mlp(x, layer.state_dict()))


@law(examples=8, grid_window=uneven_maps(), shift=st.booleans(), seed=seeds)
def test_a_block_adds_attention_then_the_mlp_each_of_the_normed_map(
    grid_window: tuple[Pair, Pair], shift: bool, seed: int
) -> None:
    grid, window = grid_window
    rng = np.random.default_rng(seed)
    block = swin_block(window, rng, shift=shift)
    x = rng.standard_normal((2, *grid, 6))
    truth = oracles.block(x, block.state_dict(), window=window, shifted=shift)
    assert_close(block(Tensor(x)), truth, NORMED)


@law(examples=5, grid_window=uneven_maps(), seed=seeds)
def test_embedding_block_and_merging_have_the_derivative_of_their_values(
    grid_window: tuple[Pair, Pair], seed: int
) -> None:
    grid, window = grid_window
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, *grid, 6))
    block, merging = swin_block(window, rng), PatchMerging(6, rng=rng, dtype=np.float64)
    embedding = PatchEmbed(4, (2, 3), rng=rng, dtype=np.float64)
    assert_derivative(block, x, rng, block.parameters())
    assert_derivative(fill(merging, rng), x, rng, merging.parameters())
    images = rng.standard_normal((2, 3, 6, 6))
    assert_derivative(fill(embedding, rng), images, rng, embedding.parameters())


@law(examples=5, rate=st.sampled_from([0.4, 0.6]), seed=seeds)
def test_a_block_drops_each_branch_of_each_sample_by_itself(rate: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    block = swin_block((2, 3), rng, drop_path_rate=rate)
    state = block.state_dict()
    x = rng.standard_normal((3, 4, 9, 6))
    possible = {}  # (attention kept, MLP kept) -> what a sample becomes
    normed = oracles.layer_norm(x, state["norm1.weight"], state["norm1.bias"])
    attended = oracles.window_attention(
        normed, oracles.below(state, "attn"), window=(2, 3), shifted=True
    )
    for first in (False, True):
        between = x + first * attended / (1 - rate)
        normed = oracles.layer_norm(between, state["norm2.weight"], state["norm2.bias"])
        mapped = oracles.mlp(normed, oracles.below(state, "mlp"))
        for second in (False, True):
            possible[first, second] = between + second * mapped / (1 - rate)
    draws = []
    for _ in range(40):
        y, fates = block(Tensor(x)).data, []
        for b in range(3):
            errors = {fate: abs(y[b] - z[b]).max() for fate, z in possible.items()}
            fates.append(min(errors, key=errors.__getitem__))
            assert_close(y[b], possible[fates[b]][b], NORMED)
        draws.append(set(fates))
    assert len(set.union(*draws)) == 4, "a branch is never dropped without the other"
    assert max(map(len, draws)) > 1, "the samples of a batch share one fate"


def test_a_block_whose_branches_are_all_dropped_is_the_identity() -> None:
    rng = np.random.default_rng(5)
    block = swin_block((2, 3), rng, drop_path_rate=1.0)
    x = rng.standard_normal((2, 4, 9, 6))
    assert_same(block(Tensor(x)), x)


def test_a_printed_layer_shows_what_is_inside():
    layer = Mlp(2, 3, rng=np.random.default_rng(0))
    assert repr(layer) == "\n".join(
        [
            "Mlp, 17 learnt numbers",
            "  fc1: Linear",
            "    weight (3, 2)",
            "    bias (3,)",
            "  fc2: Linear",
            "    weight (2, 3)",
            "    bias (2,)",
            "  drop: Dropout",
        ]
    )
