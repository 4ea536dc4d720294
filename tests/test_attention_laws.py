"""What attention must satisfy whatever its weights are: sums, symmetries, dead biases."""

from __future__ import annotations

import numpy as np
from drawn import fill, law, window_attention
from hypothesis import strategies as st

from minswin import ops
from minswin.autograd import Tensor, no_grad
from minswin.composites import merge_heads, split_heads
from minswin.layers import MSA, Dropout, WindowAttention
from minswin.testing import oracles
from minswin.testing.claims import assert_close, assert_derivative, assert_far, assert_same
from minswin.testing.strategies import Cut, Pair, seeds, uneven_maps, windows

several = windows(counts=(2, 3))
sizes = st.integers(1, 5)


def run(layer: WindowAttention, qkv: np.ndarray, window: Pair, shift: Pair) -> np.ndarray:
    with no_grad():
        return layer.shifted_windows(Tensor(qkv), window, shift).numpy()


# ── the probabilities ────────────────────────────────────────────────────────────────────────────


@law(N=sizes, M=sizes, d=sizes, seed=seeds)
def test_probabilities_are_a_softmax_of_scaled_products_and_bias(
    N: int, M: int, d: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((2, 3, N, d)), rng.standard_normal((2, 3, M, d))
    v, bias = rng.standard_normal((2, 3, M, d + 1)), rng.standard_normal((3, N, M))
    y = ops.attention(q, k, v, bias).data
    for b, head in np.ndindex(2, 3):
        assert_close(y[b, head], oracles.attend(q[b, head], k[b, head], v[b, head], bias[head]))


@law(N=sizes, M=sizes, d=sizes, seed=seeds)
def test_probabilities_are_positive_and_sum_to_one(N: int, M: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    q, k = 3 * rng.standard_normal((2, 3, N, d)), rng.standard_normal((2, 3, M, d))
    identity = np.broadcast_to(np.eye(M), (2, 3, M, M))  # so that P v = P
    P = ops.attention(q, k, identity, rng.standard_normal((3, N, M))).data
    assert np.all(P > 0)
    assert_close(P.sum(axis=-1), np.ones((2, 3, N)))


@law(cut=several, seed=seeds)
def test_an_output_lies_between_the_values_that_it_sees(cut: Cut, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = window_attention(cut.window, rng)
    qkv = rng.standard_normal((2, *cut.grid, 18))
    y, v = run(layer, qkv, cut.window, cut.shift), qkv[..., 12:]
    for tokens in oracles.rectangles(cut.grid, cut.window, cut.shift):
        rows, columns = [r for r, _ in tokens], [c for _, c in tokens]
        ours, seen = y[:, rows, columns], v[:, rows, columns]
        assert np.all(ours <= seen.max(axis=1, keepdims=True) + 1e-12)
        assert np.all(ours >= seen.min(axis=1, keepdims=True) - 1e-12)


@law(N=sizes, heads=st.integers(2, 3), d=st.integers(2, 4), seed=seeds)
def test_the_channels_are_q_k_v_times_heads_times_width(
    N: int, heads: int, d: int, seed: int
) -> None:
    C = heads * d
    qkv = np.random.default_rng(seed).standard_normal((2, 3, N, 3 * C))
    parts = split_heads(Tensor(qkv), heads)
    for which, part in enumerate(parts):
        for head in range(heads):
            start = which * C + head * d
            assert_same(part.data[:, :, head], qkv[..., start : start + d])
        assert_same(merge_heads(part), qkv[..., which * C : (which + 1) * C])


@law(N=sizes, heads=st.integers(1, 3), seed=seeds)
def test_msa_equals_one_head_after_the_other(N: int, heads: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    C = 3 * heads
    layer = fill(MSA(C, heads, rng=rng, dtype=np.float64), rng)
    x, bias = rng.standard_normal((2, N, C)), rng.standard_normal((heads, N, N))
    state = layer.state_dict()
    q, k, v = np.split(x @ state["qkv.weight"].T + state["qkv.bias"], 3, axis=-1)
    y = np.zeros((2, N, C))
    for b, head in np.ndindex(2, heads):
        own = slice(3 * head, 3 * head + 3)
        y[b, :, own] = oracles.attend(q[b, :, own], k[b, :, own], v[b, :, own], bias[head])
    assert_close(layer(Tensor(x), bias), y @ state["proj.weight"].T + state["proj.bias"])


class KeepAll:
    """In the place of a Generator: no draw falls below the rate."""

    def random(self, shape: tuple[int, ...], dtype: type = float) -> np.ndarray:
        return np.ones(shape, dtype)


@law(cut=several, seed=seeds)
def test_attention_that_may_drop_probabilities_is_the_same_attention(cut: Cut, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = window_attention(cut.window, rng)
    qkv = rng.standard_normal((2, *cut.grid, 18))
    y = run(layer, qkv, cut.window, cut.shift)
    layer.attn_drop = Dropout(0.2)
    layer.attn_drop.rng = KeepAll()  # type: ignore[assignment]
    assert_close(run(layer, qkv, cut.window, cut.shift), y / 0.8)
    layer.attn_drop = Dropout(0.2, rng=rng)
    assert_far(run(layer, qkv, cut.window, cut.shift), y / 0.8)


# ── special cases ────────────────────────────────────────────────────────────────────────────────


@law(cut=windows(shifted=False), seed=seeds)
def test_without_a_shift_the_windows_are_separate_images(cut: Cut, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = window_attention(cut.window, rng, shift=False)
    x = rng.standard_normal((2, *cut.grid, 6))
    truth = oracles.window_attention(x, layer.state_dict(), window=cut.window, shifted=False)
    assert_close(layer(Tensor(x)), truth)


@law(grid=st.tuples(st.integers(2, 4), st.integers(2, 4)), shift=st.booleans(), seed=seeds)
def test_a_window_that_covers_the_map_is_attention_over_the_whole_map(
    grid: Pair, shift: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layer = window_attention(grid, rng, shift=shift)
    everywhere = MSA(6, 2, rng=rng, dtype=np.float64)
    own = set(everywhere.state_dict())
    everywhere.load_state_dict({n: a for n, a in layer.state_dict().items() if n in own})
    x = Tensor(rng.standard_normal((2, *grid, 6)))
    tokens = x.reshape(2, grid[0] * grid[1], 6)
    assert_close(layer(x), everywhere(tokens, layer.bias(grid)).reshape(2, *grid, 6))
    layer.relative_position_bias_table.data[...] = 0
    assert_close(layer(x), everywhere(tokens).reshape(2, *grid, 6))


@law(cut=several, seed=seeds)
def test_without_a_bias_shuffled_tokens_of_a_window_give_shuffled_outputs(
    cut: Cut, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layer = window_attention(cut.window, rng)
    qkv = rng.standard_normal((2, *cut.grid, 18))
    order = rng.permutation(cut.tokens)

    def shuffled(x: np.ndarray) -> np.ndarray:
        cells = ops.window_partition(x, window=cut.window).data[:, :, order]
        return ops.window_merge(cells, window=cut.window, grid=cut.grid).numpy()

    layer.relative_position_bias_table.data[...] = 0
    y = shuffled(run(layer, qkv, cut.window, (0, 0)))
    assert_close(run(layer, shuffled(qkv), cut.window, (0, 0)), y)


# ── directions in which nothing moves ────────────────────────────────────────────────────────────


@law(cut=several, seed=seeds)
def test_a_constant_added_to_a_heads_table_changes_nothing(cut: Cut, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = window_attention(cut.window, rng)
    qkv = Tensor(rng.standard_normal((2, *cut.grid, 18)))
    table = layer.relative_position_bias_table
    y = layer.shifted_windows(qkv, cut.window, cut.shift)
    y.backward(rng.standard_normal(y.shape))
    assert table.grad is not None
    assert abs(table.grad).max() > 1e-3
    assert_close(table.grad.sum(axis=0), np.zeros(2))
    table.data += rng.standard_normal(2)  # one constant per head
    assert_close(layer.shifted_windows(qkv, cut.window, cut.shift), y.data)


@law(grid_window=uneven_maps(), seed=seeds)
def test_the_key_bias_is_dead_and_the_query_bias_is_not(
    grid_window: tuple[Pair, Pair], seed: int
) -> None:
    grid, window = grid_window
    rng = np.random.default_rng(seed)
    layer = window_attention(window, rng)
    x = Tensor(rng.standard_normal((2, *grid, 6)))
    y = layer(x)
    y.backward(rng.standard_normal(y.shape))
    bias = layer.qkv.bias
    assert bias is not None
    assert bias.grad is not None
    query, key = bias.grad[:6], bias.grad[6:12]
    assert_close(key, np.zeros(6))
    assert abs(query).max() > 1e-6
    bias.data[6:12] += rng.standard_normal(6)
    assert_close(layer(x), y.data)
    bias.data[:6] += 1
    assert abs(layer(x).data - y.data).max() > 1e-6


@law(grid_window=uneven_maps(), seed=seeds)
def test_a_step_in_the_value_bias_is_the_same_step_for_every_token(
    grid_window: tuple[Pair, Pair], seed: int
) -> None:
    grid, window = grid_window
    rng = np.random.default_rng(seed)
    layer = window_attention(window, rng)
    x = Tensor(rng.standard_normal((2, *grid, 6)))
    before, step = layer(x).data, rng.standard_normal(6)
    assert layer.qkv.bias is not None
    layer.qkv.bias.data[12:] += step
    assert_close(layer(x), before + layer.proj.weight.data @ step)


# ── symmetries ───────────────────────────────────────────────────────────────────────────────────


@law(cut=several, seed=seeds)
def test_images_of_a_batch_do_not_mix(cut: Cut, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = window_attention(cut.window, rng)
    B = 3 if cut.windows[0] * cut.windows[1] != 3 else 2  # a batch is not a row of windows
    qkv = rng.standard_normal((B, *cut.grid, 18))
    together = run(layer, qkv, cut.window, cut.shift)
    for b in range(B):
        alone = run(layer, qkv[b : b + 1], cut.window, cut.shift)
        assert_close(together[b : b + 1], alone)
    assert_close(run(layer, qkv[::-1], cut.window, cut.shift), together[::-1])


@law(cut=several, seed=seeds)
def test_windows_move_with_the_map_by_whole_windows_only(cut: Cut, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = window_attention(cut.window, rng)
    qkv = 2 * rng.standard_normal((2, *cut.grid, 18))
    (Mh, Mw), still = cut.window, (0, 0)

    def moved(x: np.ndarray, by: Pair) -> np.ndarray:
        return np.roll(x, by, (1, 2))

    y = run(layer, qkv, cut.window, still)
    assert_close(run(layer, moved(qkv, (Mh, -Mw)), cut.window, still), moved(y, (Mh, -Mw)))
    assert_far(run(layer, moved(qkv, (1, 0)), cut.window, still), moved(y, (1, 0)))
    assert_far(run(layer, moved(qkv, (0, 1)), cut.window, still), moved(y, (0, 1)))
    y, half = run(layer, qkv, cut.window, (Mh // 2, Mw // 2)), (Mh // 2, Mw // 2)
    assert_far(run(layer, moved(qkv, (Mh, Mw)), cut.window, half), moved(y, (Mh, Mw)))


def with_table(layer: WindowAttention, window: Pair, table: np.ndarray) -> WindowAttention:
    """A layer of `window` whose table is `table`, given as (2Mh−1, 2Mw−1, h)."""
    other = window_attention(window, np.random.default_rng(0), heads=table.shape[-1])
    other.relative_position_bias_table.data[...] = table.reshape(-1, table.shape[-1])
    return other


@law(cut=several, seed=seeds)
def test_a_turned_map_with_a_turned_table_gives_the_turned_output(cut: Cut, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = window_attention(cut.window, rng)
    (Mh, Mw), (sh, sw) = cut.window, cut.shift
    rest = (Mh - sh) % Mh, (Mw - sw) % Mw
    table = layer.relative_position_bias_table.data.reshape(2 * Mh - 1, 2 * Mw - 1, 2)
    qkv = rng.standard_normal((2, *cut.grid, 18))
    y = run(layer, qkv, cut.window, cut.shift)
    upside_down = with_table(layer, cut.window, table[::-1])
    ours = run(upside_down, qkv[:, ::-1], cut.window, (rest[0], sw))
    assert_close(ours, y[:, ::-1])
    mirrored = with_table(layer, cut.window, table[:, ::-1])
    assert_close(run(mirrored, qkv[:, :, ::-1], cut.window, (sh, rest[1])), y[:, :, ::-1])
    transposed = with_table(layer, (Mw, Mh), table.swapaxes(0, 1))
    ours = run(transposed, qkv.swapaxes(1, 2), (Mw, Mh), (sw, sh))
    assert_close(ours, y.swapaxes(1, 2))


# ── gradients ────────────────────────────────────────────────────────────────────────────────────


@law(window=st.tuples(st.integers(2, 4), st.integers(2, 4)), seed=seeds)
def test_the_tables_gradient_adds_up_all_pairs_of_a_displacement(window: Pair, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer, N = window_attention(window, rng, heads=3), window[0] * window[1]
    tokens, number = list(np.ndindex(window)), oracles.displacement_rows(window)
    g = rng.standard_normal((2, 4, 3, N, N))  # images, windows, heads, pairs
    logits = layer.bias(window) + np.zeros_like(g)
    logits.backward(g)
    truth = np.zeros(layer.relative_position_bias_table.shape)
    for i, j in np.ndindex(N, N):
        row = number[tokens[i][0] - tokens[j][0], tokens[i][1] - tokens[j][1]]
        truth[row] += g[..., i, j].sum(axis=(0, 1))
    assert_close(layer.relative_position_bias_table.grad, truth)


@law(examples=8, grid_window=uneven_maps(), seed=seeds)
def test_the_layer_has_the_derivative_of_its_value(
    grid_window: tuple[Pair, Pair], seed: int
) -> None:
    grid, window = grid_window
    rng = np.random.default_rng(seed)
    layer = window_attention(window, rng)
    x = rng.standard_normal((2, *grid, 6))
    assert_derivative(layer, x, rng, layer.parameters())
