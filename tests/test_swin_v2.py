"""Laws of Swin V2: cosines, the mask at the clamp, the computed bias, norms behind the branches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from drawn import fill, law
from hypothesis import strategies as st
from swin_v2_cases import attention, randomised, swin_v2

from minswin import create_model, kernels
from minswin.autograd import Tensor
from minswin.layers import PatchMergingV2, WindowAttentionV2
from minswin.layers.windows_v2 import cosine_attention, log_spaced, unit
from minswin.models.swin_v2 import SwinBlockV2
from minswin.testing import oracles
from minswin.testing.claims import NORMED, assert_close, assert_derivative, assert_far, assert_same
from minswin.testing.strategies import Pair, seeds

# ── cosines ──────────────────────────────────────────────────────────────────────────────────────


@law(examples=8, seed=seeds)
def test_the_length_of_a_query_or_a_key_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((2, 3, 5, 4)) for _ in range(3))
    scale, bias = Tensor(rng.uniform(1, 30, (3, 1, 1))), Tensor(rng.standard_normal((3, 5, 5)))
    y = cosine_attention(Tensor(q), Tensor(k), Tensor(v), scale, bias).data
    longer = (Tensor(a * rng.uniform(0.01, 100, (2, 3, 5, 1))) for a in (q, k))
    assert_close(cosine_attention(*longer, Tensor(v), scale, bias), y)
    assert_far(cosine_attention(Tensor(-q), Tensor(k), Tensor(v), scale, bias), y)


def test_a_unit_vector_has_length_one_and_zero_stays_zero_with_a_finite_gradient() -> None:
    x = Tensor(np.array([[3.0, -4.0], [1e-9, 0.0], [0.0, 0.0]]), requires_grad=True)
    assert_close(unit(x), [[0.6, -0.8], [1, 0], [0, 0]])
    unit(x).backward(np.ones((3, 2)))
    assert x.grad is not None and np.isfinite(x.grad).all()


def test_the_scale_is_learnt_up_to_100() -> None:
    layer = attention((2, 2), np.random.default_rng(0), heads=3)
    layer.logit_scale.data[...] = np.array([-1.0, 4.6, 50.0]).reshape(3, 1, 1)
    tau = layer.scale()
    assert_close(tau.data.ravel(), [math.exp(-1), math.exp(4.6), 100])
    tau.backward(np.full((3, 1, 1), 2.0))
    assert layer.logit_scale.grad is not None
    assert_close(layer.logit_scale.grad.ravel(), [2 * math.exp(-1), 2 * math.exp(4.6), 0])
    fresh = WindowAttentionV2(6, 2, (2, 2), rng=np.random.default_rng(0), dtype=np.float64)
    assert_close(fresh.scale(), np.full((2, 1, 1), 10.0))


def test_a_map_that_is_padded_has_the_derivative_of_its_value() -> None:
    """Its padding has keys of zero, and a vector of length zero has no direction."""
    rng = np.random.default_rng(0)
    layer = attention((2, 3), rng, shift=True)
    state = layer.state_dict()
    state["cpb_mlp.0.weight"] *= 0.2  # small beside the biases: nothing comes near a ReLU's kink
    state["cpb_mlp.0.bias"][...] = 3 * (-1) ** np.arange(512)
    assert_derivative(layer, rng.standard_normal((2, 5, 4, 6)), rng, layer.parameters())


# ── the mask at the clamp ────────────────────────────────────────────────────────────────────────


def opposed(value: float) -> tuple[WindowAttentionV2, np.ndarray]:
    """A layer with τ = 100 and k = −q, and a map whose corner and opposite corners are opposed.

    The first token may see itself alone, at cosine −1; those at the other corners, which the roll
    brings beside it, have cosine 1.
    """
    layer = attention((2, 2), np.random.default_rng(0), heads=1, shift=True, mask_value=value)
    one = np.eye(3)
    layer.load_state_dict(
        {
            **{name: np.zeros_like(array) for name, array in layer.state_dict().items()},
            "logit_scale": np.full((1, 1, 1), 9.0),
            "qkv.weight": np.concatenate([one, -one, one]),
            "proj.weight": one,
        }
    )
    x = np.random.default_rng(1).standard_normal((2, 4, 4, 3))
    for corner in ((0, -1), (-1, 0), (-1, -1)):
        x[:, corner[0], corner[1]] = -x[:, 0, 0]
    return layer, x


@pytest.mark.parametrize("backend", ["reference", None])
@pytest.mark.parametrize("value", [-np.inf, -400.0, -100.0])
def test_a_mask_holds_at_the_clamp_unless_it_is_the_originals(
    value: float, backend: str | None
) -> None:
    layer, x = opposed(value)
    leaf = Tensor(x, requires_grad=True)
    with kernels.using(backend or kernels.chosen(x)):
        y = layer(leaf)
        if value == -100:  # the logits are −100 of itself, and 100 − 100 of the masked ones
            assert_close(y.data[:, 0, 0], -x[:, 0, 0])
            return
        assert_close(y.data[:, 0, 0], x[:, 0, 0])
        g = np.zeros(y.shape)
        g[0, 0, 0] = (1, 2, -1.5)
        y.backward(g)
    assert leaf.grad is not None
    assert abs(leaf.grad[0, 0, 0]).max() > 0.5
    leaf.grad[0, 0, 0] = 0  # the token itself; all others are masked, or in other windows
    assert abs(leaf.grad).max() <= math.exp(value + 200) * 1e4


# ── the bias ─────────────────────────────────────────────────────────────────────────────────────

sides = st.tuples(st.integers(1, 6), st.integers(1, 6))


@law(window=sides, pretrained=sides)
def test_coordinates_are_odd_and_end_at_a_third_of_the_logarithm_of_nine(
    window: Pair, pretrained: Pair
) -> None:
    t = log_spaced(window, pretrained)
    assert t.shape == ((2 * window[0] - 1) * (2 * window[1] - 1), 2)
    assert_same(t[::-1], -t)
    own = abs(log_spaced(window, window)).max(axis=0)
    ends = [math.log2(9) / 3 if side > 1 else 0 for side in window]
    assert_close(own, ends)


@law(examples=10, window=sides, pretrained=st.none() | sides, seed=seeds)
def test_a_bias_lies_between_0_and_16(window: Pair, pretrained: Pair | None, seed: int) -> None:
    layer = attention(window, np.random.default_rng(seed), pretrained=pretrained)
    layer.cpb_mlp[2].weight.data *= 100  # type: ignore[attr-defined]
    bias, N = layer.bias(window).data, window[0] * window[1]
    assert bias.shape == (2, N, N)
    assert bias.min() >= 0
    assert bias.max() <= 16


@law(examples=10, trained=sides, more=sides, seed=seeds)
def test_a_larger_window_keeps_the_biases_of_the_window_it_was_trained_with(
    trained: Pair, more: Pair, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    small = attention(trained, rng)
    window = trained[0] + more[0], trained[1] + more[1]
    large = attention(window, rng, pretrained=trained)
    large.load_state_dict(small.state_dict())
    places = np.arange(window[0] * window[1]).reshape(window)[-trained[0] :, -trained[1] :].ravel()
    assert_close(large.bias(window).data[:, places][:, :, places], small.bias(trained).data)


# ── norms ────────────────────────────────────────────────────────────────────────────────────────


def block_v2(rng: np.random.Generator, **settings: Any) -> SwinBlockV2:
    own: dict[str, Any] = {"shift": True, "pretrained": None, "mask_value": -100.0}
    own |= {"mlp_ratio": 2.0, "qkv_bias": True, "drop_rate": 0.0, "attn_drop_rate": 0.0}
    own |= {"drop_path_rate": 0.0, **settings}
    return SwinBlockV2(6, 2, (2, 3), **own, rng=rng, dtype=np.float64)


@law(examples=5, seed=seeds)
def test_a_fresh_block_changes_nothing_and_a_trained_one_adds_normed_branches(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = Tensor(rng.standard_normal((2, 4, 9, 6)))
    block = block_v2(rng)
    assert_same(block(x), x.data)
    randomised(block, rng)
    branch = block.attn(x).data
    middle = x.data + oracles.layer_norm(branch, block.norm1.weight.data, block.norm1.bias.data)
    branch = block.mlp(Tensor(middle)).data
    y = middle + oracles.layer_norm(branch, block.norm2.weight.data, block.norm2.bias.data)
    assert_close(block(x), y, NORMED)


@law(examples=5, grid=st.tuples(st.integers(1, 5), st.integers(1, 5)), seed=seeds)
def test_a_merge_norms_what_it_gives(grid: Pair, seed: int) -> None:
    rng = np.random.default_rng(seed)
    merge = fill(PatchMergingV2(3, rng=rng, dtype=np.float64), rng)
    x, state = rng.standard_normal((2, *grid, 3)), merge.state_dict()
    y = oracles.merge_neighbours(oracles.zero_extended(x, (2, 2))) @ state["reduction.weight"].T
    truth = oracles.layer_norm(y, state["norm.weight"], state["norm.bias"])
    assert_close(merge(Tensor(x)), truth, NORMED)


# ── the model ────────────────────────────────────────────────────────────────────────────────────


def test_images_of_a_batch_do_not_mix_and_sizes_leave_no_trace() -> None:
    rng = np.random.default_rng(0)
    model = swin_v2(rng, ape=False)
    x, wide = rng.standard_normal((4, 3, 20, 28)), rng.standard_normal((2, 3, 8, 36))
    together, order = model(x).data, rng.permutation(4)
    assert model(wide).shape == (2, 5)
    assert_same(model(x), together)
    assert_close(model(x[order]), together[order], NORMED)
    assert_close(model(x[1:3]), together[1:3], NORMED)


@law(examples=3, seed=seeds)
def test_float32_gives_the_logits_of_float64_to_four_digits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, low = swin_v2(rng), swin_v2(np.random.default_rng(0), dtype=np.float32)
    low.load_state_dict(model.state_dict())
    x = rng.standard_normal((2, 3, 20, 28)).astype(np.float32)
    ours = low(x)
    assert ours.dtype == np.float32
    assert_close(ours, model(x.astype(np.float64)).data, 1e-4)


def test_recomputed_blocks_give_the_same_numbers() -> None:
    rng = np.random.default_rng(0)
    model, x = (
        swin_v2(rng, drop_path_rate=0.4, attn_drop_rate=0.2),
        rng.standard_normal((2, 3, 20, 28)),
    )
    again = swin_v2(
        np.random.default_rng(0), drop_path_rate=0.4, attn_drop_rate=0.2, recompute=True
    )
    again.load_state_dict(model.state_dict())
    g, values = rng.standard_normal((2, 5)), []
    for each in (model, again):
        for layer in each.layers_within():
            vars(layer).update({"rng": np.random.default_rng(5)} if "rng" in vars(layer) else {})
        y = each(x)
        y.backward(g)
        values.append([y.data, *(p.grad for p in each.parameters())])
    for one, other in zip(*values, strict=True):
        assert_same(one, other)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────

RNG = np.random.default_rng(0)
ERRORS = [
    (
        lambda: swin_v2(RNG, pretrained_window_sizes=(3,)),
        "SwinTransformerV2: depths and pretrained_window_sizes need one entry per stage, got 2 "
        "stages and (3,)",
    ),
    (lambda: swin_v2(RNG, pretrained_window_sizes=(3, -1)), "pretrained_window_sizes must be one"),
    (
        lambda: swin_v2(RNG, mask_value=100.0),
        "WindowAttentionV2: mask_value must be negative, got 100.0; use -100, as the original,",
    ),
    (
        lambda: attention((2, 2), RNG)(Tensor(np.zeros((2, 4, 4, 5)))),
        "x must be a map (B, H, W, 6), got (2, 4, 4, 5)",
    ),
    (
        lambda: PatchMergingV2(3, rng=RNG)(Tensor(np.zeros((2, 4, 4, 6)))),
        "PatchMergingV2: x must be a map (B, H, W, 3), got (2, 4, 4, 6)",
    ),
    (lambda: create_model("swinv2_tiny_window8"), "did you mean 'swinv2_tiny_window8_256', '"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors_say_who_what_and_what_to_do(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert message in str(caught.value)
