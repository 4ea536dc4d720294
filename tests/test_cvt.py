"""CvT: what a token sees, its derivative, its costs, its class token."""

from __future__ import annotations

import numpy as np
import pytest

from minswin import create_model, kernels, no_grad
from minswin.autograd import Tensor
from minswin.layers import BatchNorm2d, DropPath, Layer
from minswin.models import CvT
from minswin.models.blank import BLANK
from minswin.models.cvt import ConvAttention, ConvProjection
from minswin.testing.claims import assert_close, assert_derivative
from minswin.watch import Operation, watching

RNG = np.random.default_rng(0)
DROPS = {"drop_rate": 0.0, "attn_drop_rate": 0.0}
SETTINGS = {
    "img_size": (13, 18), "patch_sizes": (5, 3), "strides": (2, 2), "embed_dims": (4, 6),
    "depths": (1, 2), "num_heads": (2, 3), "num_classes": 5,
}  # fmt: skip


def fill(layer: Layer, rng: np.random.Generator) -> Layer:
    for p in layer.parameters():
        p.data += 0.3 * rng.standard_normal(p.shape)
    for name, b in layer.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            b.data += rng.uniform(0.1, 0.5, b.shape)
    return layer


def cvt(seed: int = 0, **changes) -> CvT:
    rng = np.random.default_rng(seed)
    return fill(CvT(**{**SETTINGS, **changes}, rng=rng, dtype=np.float64), rng).eval()


# ── what a token sees ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stride", [1, 2])
def test_a_projection_sees_three_by_three_neighbours(stride):
    layer = fill(ConvProjection(3, stride, rng=1, dtype=np.float64), RNG).eval()
    x = Tensor(RNG.standard_normal((1, 5, 7, 3)), requires_grad=True)
    y = layer(x)
    grid = -(-5 // stride), -(-7 // stride)
    assert y.shape == (1, grid[0] * grid[1], 3)
    row, column = 1, 2
    g = np.zeros(y.shape)
    g[0, row * grid[1] + column] = 1
    y.backward(g)
    seen = abs(x.grad).sum(axis=(0, 3)) > 0
    want = np.zeros((5, 7), bool)
    want[row * stride - 1 : row * stride + 2, column * stride - 1 : column * stride + 2] = True
    assert np.array_equal(seen, want)


def test_attention_is_that_of_the_formula_divided_by_the_root_of_all_channels():
    layer = fill(ConvAttention(6, 3, rng=1, dtype=np.float64, **DROPS), RNG).eval()
    x = RNG.standard_normal((2, 1 + 12, 6))  # a class token and a map of 3×4
    state, grid = layer.state_dict(), (3, 4)
    tokens = {}
    for which in "qkv":
        conv = getattr(layer, f"conv_proj_{which}")(Tensor(x[:, 1:].reshape(2, *grid, 6))).data
        y = np.concatenate([x[:, :1], conv], axis=1)
        tokens[which] = y @ state[f"proj_{which}.weight"].T + state[f"proj_{which}.bias"]
    parts = []
    for h in range(3):
        q, k, v = (tokens[which][..., 2 * h : 2 * h + 2] for which in "qkv")
        logits = q @ k.transpose(0, 2, 1) / np.sqrt(6)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        parts.append(p / p.sum(-1, keepdims=True) @ v)
    y = np.concatenate(parts, -1) @ state["proj.weight"].T + state["proj.bias"]
    assert_close(layer(Tensor(x), grid), y)


# ── the model ────────────────────────────────────────────────────────────────────────────────────


def test_the_model_has_the_derivative_of_its_value():
    rng = np.random.default_rng(2)
    model = cvt(img_size=(6, 8), depths=(1, 1))
    assert_derivative(model, rng.standard_normal((2, 3, 6, 8)), rng, model.parameters())


def test_a_training_step_reaches_every_parameter_and_the_running_statistics():
    model, rng = cvt().train(), np.random.default_rng(3)
    y = model(rng.standard_normal((3, 3, 13, 18)))
    y.backward(rng.standard_normal(y.shape))
    assert all(p.grad is not None for p in model.parameters())
    norms = [layer for layer in model.layers_within() if isinstance(layer, BatchNorm2d)]
    assert len(norms) == 9 and all(norm.num_batches_tracked.data == 1 for norm in norms)


def test_only_the_last_stage_has_a_class_token_and_drops_branches():
    model = cvt(depths=(2, 3), drop_path_rate=0.4)
    assert [stage.cls_token is None for stage in model.stages] == [True, False]
    rates = [[block.drop_path.rate for block in stage.blocks] for stage in model.stages]
    assert rates == [[0, 0], [0, 0.2, 0.4]]
    names = [name for name, p in model.named_parameters() if not p.decays]
    assert "stages.1.cls_token" in names


def test_images_do_not_mix_and_dropped_branches_leave_the_patches():
    x = RNG.standard_normal((3, 3, 13, 18))
    model = cvt()
    with no_grad():
        assert_close(model(x)[1:], model(x[1:]))
    for layer in model.layers_within():
        if isinstance(layer, DropPath):
            layer.rate, layer.training = 1.0, True
    assert_close(model.feature_maps(x)[0], model.stages[0].patch_embed(Tensor(x)))


@pytest.mark.parametrize(("size", "grid"), [((13, 18), (7, 9)), ((20, 8), (10, 4))])
def test_maps_are_divided_by_the_strides_rounded_up(size, grid):
    maps = cvt().feature_maps(RNG.standard_normal((2, 3, *size)))
    assert [y.shape for y in maps] == [(2, *grid, 4), (2, -(-grid[0] // 2), -(-grid[1] // 2), 6)]
    assert [row.shape for row in cvt().summary(size) if row.is_stage] == [y.shape[1:] for y in maps]


# name: parameters, multiply-adds. Wu et al. 2021, Table 2: 20 M and 4.5 G, 32 M and 7.1 G; at 384
# 277 M and 193.2 G.
SIZES = {
    "cvt_13": (19_997_480, 4_566_089_216),
    "cvt_13_384": (19_997_480, None),
    "cvt_21": (31_622_696, 7_177_985_024),
    "cvt_21_384": (31_622_696, None),
    "cvt_w24_384": (277_196_392, 194_221_654_016),
    "cvt_cifar": (2_276_842, 53_357_952),
}


@pytest.mark.parametrize("name", SIZES)
def test_named_models_have_their_size(name):
    model, (parameters, macs) = create_model(name, rng=BLANK), SIZES[name]
    assert model.parameter_count() == parameters
    assert macs is None or model.flops() == macs


def test_the_stated_cost_is_the_number_of_products():
    model, counted = cvt(), []

    def count(operation: Operation) -> None:
        if operation.name in ("linear", "conv2d"):
            weight = operation.arrays[1]
            counted.append(operation.value.size // weight.shape[0] * weight.size)
        if operation.name == "attention":
            q, k, v = operation.arrays[:3]
            counted.append((q.size + v.shape[-1] * (q.size // q.shape[-1])) * k.shape[-2])

    image = RNG.standard_normal((1, 3, 13, 18))
    with no_grad(), kernels.using("reference"), watching(count):
        model(image)
    maps = model.feature_maps(image)
    (H, W), (h, w) = maps[0].shape[1:3], maps[1].shape[1:3]
    quarter, of_quarter = -(-H // 2) * -(-W // 2), -(-h // 2) * -(-w // 2)
    depthwise = 9 * 4 * (H * W + 2 * quarter) + 2 * 9 * 6 * (h * w + 2 * of_quarter)
    assert model.flops() == sum(counted) + depthwise


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"depths": (2,)},
            "CvT: every setting of stages needs one entry per stage, got embed_dims",
        ),
        ({"num_heads": (2, 5)}, "6 channels do not divide into 5 heads"),
        ({"strides": (0, 1)}, "CvT: strides must be one int of 1 or more per stage"),
        ({"mlp_ratio": 0}, "CvT: mlp_ratio must be positive"),
    ],
)
def test_errors_say_who_and_what(changes, message):
    with pytest.raises(ValueError) as error:
        cvt(**changes)
    assert message in str(error.value)
