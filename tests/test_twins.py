"""Twins-SVT: what a token sees in each kind of block, its derivative, its costs."""

from __future__ import annotations

import numpy as np
import pytest

from minswin import create_model, kernels, no_grad
from minswin.autograd import Tensor
from minswin.layers import Depthwise, DropPath, Layer
from minswin.models import Twins
from minswin.models.blank import BLANK
from minswin.models.twins import LocalAttention, Positions, SummaryAttention
from minswin.testing.claims import assert_close, assert_derivative
from minswin.watch import Operation, watching

RNG = np.random.default_rng(0)
DROPS = {"drop_rate": 0.0, "attn_drop_rate": 0.0}
SETTINGS = {
    "img_size": (12, 16), "patch_size": 2, "embed_dim": 6, "depths": (3, 2), "num_heads": (1, 2),
    "sr_ratios": (2, 1), "window_size": 3, "num_classes": 5,
}  # fmt: skip


def fill(layer: Layer, rng: np.random.Generator) -> Layer:
    for p in layer.parameters():
        p.data += 0.3 * rng.standard_normal(p.shape)
    return layer


def twins(seed: int = 0, **changes) -> Twins:
    rng = np.random.default_rng(seed)
    return fill(Twins(**{**SETTINGS, **changes}, rng=rng, dtype=np.float64), rng).eval()


def reached(layer: Layer, shape: tuple[int, ...], token: tuple[int, int]) -> np.ndarray:
    """Which tokens of a map the given token depends on."""
    x = Tensor(RNG.standard_normal(shape), requires_grad=True)
    g = np.zeros(shape)
    g[:, token[0], token[1]] = RNG.standard_normal(shape[-1])
    layer(x).backward(g)
    return abs(x.grad).sum(axis=(0, 3)) > 1e-12


# ── what a token sees ────────────────────────────────────────────────────────────────────────────


def test_local_attention_sees_its_window_and_nothing_else():
    layer = fill(LocalAttention(4, 2, (2, 3), rng=1, dtype=np.float64, **DROPS), RNG)
    seen = reached(layer, (1, 5, 7, 4), (2, 4))
    want = np.zeros((5, 7), bool)
    want[2:4, 3:6] = True
    assert np.array_equal(seen, want)


def test_summary_attention_sees_every_token():
    layer = fill(SummaryAttention(4, 2, 2, rng=1, dtype=np.float64, **DROPS), RNG)
    assert reached(layer, (1, 4, 6, 4), (1, 1)).all()


def test_summary_attention_with_ratio_one_is_attention_over_all_tokens():
    layer = fill(SummaryAttention(6, 3, 1, rng=1, dtype=np.float64, **DROPS), RNG)
    x = RNG.standard_normal((2, 3, 4, 6))
    tokens, state = x.reshape(2, 12, 6), layer.state_dict()
    q = tokens @ state["q.weight"].T + state["q.bias"]
    kv = tokens @ state["kv.weight"].T + state["kv.bias"]
    heads = []
    for h in range(3):
        part = slice(2 * h, 2 * h + 2)
        logits = q[..., part] @ kv[..., :6][..., part].transpose(0, 2, 1) / np.sqrt(2)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        heads.append(p / p.sum(-1, keepdims=True) @ kv[..., 6:][..., part])
    y = np.concatenate(heads, -1) @ state["proj.weight"].T + state["proj.bias"]
    assert_close(layer(Tensor(x)), y.reshape(x.shape))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_depthwise_convolution_is_a_filter_for_each_channel(stride, bias):
    layer = fill(Depthwise(3, stride=stride, bias=bias, rng=1, dtype=np.float64), RNG)
    x = RNG.standard_normal((2, 4, 5, 3))
    truth = np.zeros((2, -(-4 // stride), -(-5 // stride), 3))
    truth += layer.bias.data if bias else 0
    for b, r, c, k in np.ndindex(truth.shape):
        for i, j in np.ndindex(3, 3):
            row, column = r * stride + i - 1, c * stride + j - 1
            if 0 <= row < 4 and 0 <= column < 5:
                truth[b, r, c, k] += layer.weight.data[k, 0, i, j] * x[b, row, column, k]
    assert_close(layer(Tensor(x)), truth)


def test_positions_keep_the_size_of_the_map():
    x = RNG.standard_normal((2, 4, 5, 3))
    assert_close(fill(Positions(3, rng=1, dtype=np.float64), RNG)(Tensor(0 * x)).shape, x.shape)


def test_without_positions_the_order_of_windows_is_not_seen():
    """Moving whole windows moves the result of a local block: `pos_block` tells places apart."""
    layer = fill(LocalAttention(4, 2, (2, 2), rng=1, dtype=np.float64, **DROPS), RNG)
    x = RNG.standard_normal((1, 4, 6, 4))
    moved = np.roll(x, (2, 4), axis=(1, 2))
    assert_close(layer(Tensor(moved)), np.roll(layer(Tensor(x)).data, (2, 4), axis=(1, 2)))


# ── the model ────────────────────────────────────────────────────────────────────────────────────


def test_the_model_has_the_derivative_of_its_value():
    rng = np.random.default_rng(2)
    model = twins(img_size=(4, 8), window_size=2)
    assert_derivative(model, rng.standard_normal((2, 3, 4, 8)), rng, model.parameters())


def test_blocks_take_turns_and_positions_follow_the_first_of_a_stage():
    model = twins()
    kinds = [[type(block.attn) for block in blocks] for blocks in model.blocks]
    assert kinds == [[LocalAttention, SummaryAttention, LocalAttention], kinds[0][:2]]
    assert [len(model.pos_block), len(model.patch_embeds)] == [2, 2]
    rates = [
        block.drop_path.rate for blocks in twins(drop_path_rate=0.4).blocks for block in blocks
    ]
    assert np.allclose(rates, [0, 0.1, 0.2, 0.3, 0.4])


def test_images_do_not_mix_and_dropped_branches_leave_the_skip():
    x = RNG.standard_normal((3, 3, 12, 16))
    model = twins()
    with no_grad():
        assert_close(model(x)[1:], model(x[1:]))
    for layer in model.layers_within():
        if isinstance(layer, DropPath):
            layer.rate, layer.training = 1.0, True
    y = model.patch_embeds[0](Tensor(x))
    assert_close(model.feature_maps(x)[0], model.pos_block[0](y))


@pytest.mark.parametrize(("size", "grid"), [((12, 16), (6, 8)), ((20, 8), (10, 4))])
def test_maps_halve_and_double(size, grid):
    maps = twins().feature_maps(RNG.standard_normal((2, 3, *size)))
    want = [(2, *grid, 6), (2, grid[0] // 2, grid[1] // 2, 12)]
    assert [y.shape for y in maps] == want


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("twins_svt_small", 24_060_776),
        ("twins_svt_base", 56_070_952),
        ("twins_svt_large", 99_271_400),
    ],
)
def test_published_sizes_have_their_numbers_of_parameters(name, parameters):
    assert create_model(name, rng=BLANK).parameter_count() == parameters


def test_the_stated_cost_is_the_number_of_products():
    model, counted = twins(), []

    def count(operation: Operation) -> None:
        if operation.name in ("linear", "conv2d"):
            weight = operation.arrays[1]
            counted.append(operation.value.size // weight.shape[0] * weight.size)
        if operation.name == "attention":
            q, k, v = operation.arrays[:3]
            counted.append(
                q.size * k.shape[-2] + v.shape[-1] * (q.size // q.shape[-1]) * k.shape[-2]
            )

    with no_grad(), kernels.using("reference"), watching(count):
        model(RNG.standard_normal((1, 3, 12, 16)))
    depthwise = 9 * sum(y.size for y in model.feature_maps(np.zeros((1, 3, 12, 16))))
    assert model.flops() == sum(counted) + depthwise


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": (2,)}, "Twins: every setting of stages needs one entry per stage, got depths"),
        ({"num_heads": (1, 5)}, "12 channels do not divide into 5 heads"),
        ({"window_size": 0}, "Twins: window_size must be a positive int or a pair, got 0"),
        ({"sr_ratios": (0, 1)}, "Twins: sr_ratios must be one int of 1 or more per stage"),
    ],
)
def test_errors_say_who_and_what(changes, message):
    with pytest.raises(ValueError) as error:
        twins(**changes)
    assert message in str(error.value)


def test_an_image_that_patches_do_not_divide_is_an_error():
    with pytest.raises(ValueError, match=r"a 13×16 image does not divide into 2×2 patches"):
        twins()(np.zeros((1, 3, 13, 16)))
