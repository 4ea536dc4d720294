"""Laws of the whole model: its slow oracle, its memory (none), its modes, its costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from drawn import law, swin, window_attention
from hypothesis import strategies as st

from minswin.models.swin import SwinTransformer, drop_path_rates
from minswin.testing import oracles
from minswin.testing.claims import (
    NORMED,
    assert_close,
    assert_derivative,
    assert_far,
    assert_same,
    influence,
    no_leak,
)
from minswin.testing.strategies import Cut, Pair, seeds, windows


def images(rng: np.random.Generator, B: int = 2, size: Pair = (20, 28)) -> np.ndarray:
    return rng.standard_normal((B, 3, *size))


# ── what it computes ─────────────────────────────────────────────────────────────────────────────

SHAPES: list[dict[str, Any]] = [
    {},  # 10×14, 5×7 and 3×4 tokens: windows of 4, 4 and 3, padded, shifted but for the last
    {"img_size": (16, 24), "patch_size": (2, 3), "window_size": (2, 4), "ape": True},
    {"img_size": (15, 6), "patch_size": (3, 1), "window_size": 3, "depths": (3, 1, 2)},
]


@law(examples=6, settings=st.sampled_from(SHAPES), seed=seeds)
def test_the_model_equals_the_paper_in_slow_loops(settings: dict[str, Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = swin(rng, **settings)
    x = images(rng, size=model.img_size)
    window, depths = settings.get("window_size", 4), settings.get("depths", (2, 2, 1))
    window = (window, window) if isinstance(window, int) else window
    truth = oracles.swin(x, model.state_dict(), depths=depths, window=window)
    assert_close(model(x), truth, NORMED)


@law(examples=1, seed=seeds)
def test_the_model_has_the_derivative_of_its_value(seed: int) -> None:
    rng = np.random.default_rng(seed)
    settings = {"img_size": (6, 10), "window_size": 2, "depths": (2, 1), "num_heads": (2, 3)}
    model = swin(rng, **settings)
    assert_derivative(model, images(rng, size=(6, 10)), rng, model.parameters())


@law(cut=windows(counts=(2, 3)), at=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)), seed=seeds)
def test_two_blocks_look_as_far_as_the_windows_that_meet_the_shifted_one(
    cut: Cut, at: tuple[float, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    first = window_attention(cut.window, rng, shift=False)
    second = window_attention(cut.window, rng, shift=True)
    token = int(at[0] * cut.grid[0]), int(at[1] * cut.grid[1])
    x = rng.standard_normal((2, *cut.grid, 6))
    half = cut.window[0] // 2, cut.window[1] // 2
    shifted = oracles.same_rectangle(cut.grid, cut.window, half)[token]
    regular = oracles.same_rectangle(cut.grid, cut.window, (0, 0))
    reach = np.any(regular[shifted], axis=0)  # union of the windows that meet the rectangle
    with no_leak():
        assert_same(influence(lambda t: second(first(t)), x, token)[0] > 0, reach)
    assert reach.sum() in {cut.tokens, 2 * cut.tokens, 4 * cut.tokens}


# ── the tail ─────────────────────────────────────────────────────────────────────────────────────


def tail(rng: np.random.Generator, size: Pair) -> SwinTransformer:
    """A model without blocks: patches, norm, mean, head."""
    return swin(rng, img_size=size, patch_size=(2, 3), depths=(0,), num_heads=(2,))


@law(seed=seeds)
def test_the_order_of_tokens_does_not_matter_after_the_last_block(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, x = tail(rng, (4, 9)), images(rng, size=(4, 9))
    patches = x.reshape(2, 3, 2, 2, 3, 3).transpose(2, 4, 0, 1, 3, 5).reshape(6, 2, 3, 2, 3)
    shuffled = patches[rng.permutation(6)].reshape(2, 3, 2, 3, 2, 3).transpose(2, 3, 0, 4, 1, 5)
    assert_close(model(shuffled.reshape(x.shape)), model(x).data, NORMED)


@law(seed=seeds)
def test_a_map_of_equal_tokens_is_classified_like_one_of_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = tail(rng, (4, 9))
    patch = images(rng, size=(2, 3))
    assert_close(model(np.tile(patch, (1, 1, 2, 3))), model(patch).data, NORMED)


@law(examples=4, seed=seeds)
def test_every_token_is_normed_before_the_mean_is_taken(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, x = swin(rng), images(rng)
    normed = model.feature_maps(x)[-1].data
    state = model.state_dict()
    logits = normed.mean(axis=(1, 2)) @ state["head.weight"].T + state["head.bias"]
    assert_close(model(x), logits, NORMED)
    model.norm.weight.data[...], model.norm.bias.data[...] = 1, 0
    normed = model.feature_maps(x)[-1].data
    assert_close(normed.mean(axis=-1), np.zeros(normed.shape[:-1]), NORMED)


# ── no memory ────────────────────────────────────────────────────────────────────────────────────


@law(examples=4, sizes=st.permutations([(20, 28), (8, 12), (4, 4), (28, 20)]), seed=seeds)
def test_an_answer_does_not_depend_on_earlier_questions(sizes: list[Pair], seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = swin(rng)
    for size in [*sizes, *sizes]:
        fresh = swin(np.random.default_rng(0))
        fresh.load_state_dict(model.state_dict())
        x = images(rng, size=size)
        assert_same(model(x), fresh(x))


@law(examples=4, seed=seeds)
def test_forward_and_backward_change_neither_images_nor_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, x = swin(rng), images(rng)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    kept = x.copy()
    model(x).backward(rng.standard_normal((2, 5)))
    assert_same(x, kept)
    for name, array in model.state_dict().items():
        assert_same(array, before[name])


def test_one_seed_gives_one_model_and_one_training_forward() -> None:
    def build() -> SwinTransformer:
        rng = np.random.default_rng(7)
        return swin(rng, drop_rate=0.2, attn_drop_rate=0.3, drop_path_rate=0.4)

    one, two = build(), build()
    x = images(np.random.default_rng(8))
    first = one(x)
    assert_same(first, two(x))
    assert_far(one(x), first)  # the next draw is another one


@law(examples=4, seed=seeds)
def test_images_of_a_batch_do_not_mix_in_the_model(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, x = swin(rng), images(rng, B=5)
    together = model(x).data
    for part in (slice(0, 2), slice(2, 5)):
        assert_close(model(x[part]), together[part], NORMED)
    order = rng.permutation(5)
    assert_close(model(x[order]), together[order], NORMED)


@law(examples=4, seed=seeds)
def test_float32_gives_the_logits_of_float64_to_four_digits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, low = swin(rng), swin(np.random.default_rng(0), dtype=np.float32)
    low.load_state_dict(model.state_dict())
    x = images(rng).astype(np.float32)
    truth = model(x.astype(np.float64)).data
    ours = low(x)
    assert ours.dtype == np.float32
    assert_close(ours, truth, 1e-4)


# ── modes and weights ────────────────────────────────────────────────────────────────────────────


@law(examples=4, seed=seeds)
def test_evaluation_equals_a_model_without_any_dropping(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = swin(rng, drop_rate=0.3, attn_drop_rate=0.4, drop_path_rate=0.5)
    plain = swin(np.random.default_rng(0))
    plain.load_state_dict(model.state_dict())
    x = images(rng)
    assert_far(model(x), model(x))  # training: every forward draws anew
    model.eval()
    assert_same(model(x), plain(x))
    model.train()
    assert_far(model(x), plain(x))


@law(rate=st.floats(0, 0.9), blocks=st.integers(2, 12))
def test_drop_path_rates_are_an_arithmetic_progression_from_zero(rate: float, blocks: int) -> None:
    rates = drop_path_rates(rate, blocks)
    assert len(rates) == blocks
    assert rates[0] == 0
    assert_close(rates[-1], rate)
    assert_close(np.diff(rates), np.full(blocks - 1, rate / (blocks - 1)))


def test_the_rates_run_through_all_blocks_of_all_stages() -> None:
    model = swin(np.random.default_rng(0), depths=(1, 3, 2), drop_path_rate=0.5)
    rates = [block.drop_path.rate for stage in model.layers for block in stage.blocks]
    assert_close(rates, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


@law(examples=4, seed=seeds)
def test_loaded_weights_are_copies_of_all_that_was_saved(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, other = swin(rng, ape=True), swin(np.random.default_rng(0), ape=True)
    x = images(rng)
    saved = {name: array.copy() for name, array in model.state_dict().items()}
    other.load_state_dict(model.state_dict())
    answer = model(x).data
    assert_same(other(x), answer)
    for parameter in model.parameters():
        parameter.data += 1
    assert_same(other(x), answer)
    for name, array in other.state_dict().items():
        assert_same(array, saved[name])
