"""ResNet: published counts, shortcuts, batch norm and its buffers, pooling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn import fill, law
from hypothesis import strategies as st
from test_costs import multiplications

from minswin import create_model, data_parallel, ops
from minswin.autograd import Tensor, no_grad
from minswin.layers import BatchNorm2d, Layer, Linear, Parameter
from minswin.models import ResNet
from minswin.models.blank import BLANK
from minswin.models.resnet import BasicBlock
from minswin.testing.claims import (
    assert_adjoint,
    assert_close,
    assert_derivative,
    assert_far,
    assert_same,
)
from minswin.testing.strategies import Pair, seeds
from minswin.training import SGD, WeightAverage
from minswin.training.checkpoints import Checkpoint, read_checkpoint, save_checkpoint

SMALL: dict[str, Any] = {
    "img_size": (10, 14),
    "depths": (1, 2),
    "width": 3,
    "num_classes": 5,
    "dtype": np.float64,
}
CHOICES: list[dict[str, Any]] = [
    {"stem": "cifar", "shortcut": "padding"},
    {"block": "bottleneck"},
    {"depths": (1, 1, 1), "stem": "cifar"},
]


def resnet(rng: np.random.Generator, **settings: Any) -> ResNet:
    """A small float64 model, all parameters and running statistics random."""
    model = fill(ResNet(**{**SMALL, **settings}, rng=rng), rng)
    for name, buffer in model.named_buffers():
        if buffer.ndim:
            low = -1.0 if name.endswith("mean") else 0.5
            buffer.data[...] = rng.uniform(low, 2, buffer.shape)
    return model


def images(rng: np.random.Generator, B: int = 3, size: Pair = (10, 14)) -> np.ndarray:
    return rng.standard_normal((B, 3, *size))


# ── what is published ────────────────────────────────────────────────────────────────────────────

PUBLISHED = {  # parameters, MACs
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet50": (25_557_032, 4_089_184_256),
    "resnet20": (269_722, 40_551_040),
    "resnet56": (853_018, 125_485_696),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_macs_are_the_published_ones(name: str) -> None:
    model = create_model(name, rng=BLANK)
    assert isinstance(model, ResNet)
    assert (model.parameter_count(), model.flops()) == PUBLISHED[name]
    assert sum(row.parameters for row in model.summary()) == model.parameter_count()


def test_maps_halve_and_channels_double_from_stage_to_stage() -> None:
    shapes = [row.shape for row in create_model("resnet50", rng=BLANK).summary()]
    assert shapes == [
        (224, 224, 3), (112, 112, 64), (56, 56, 64), (56, 56, 256), (28, 28, 512),
        (14, 14, 1024), (7, 7, 2048), (2048,), (1000,),
    ]  # fmt: skip


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("size", [(10, 14), (13, 11)])
def test_the_stated_cost_is_the_number_of_products(choice: dict[str, Any], size: Pair) -> None:
    rng = np.random.default_rng(0)
    model = resnet(rng, **choice).eval()
    counted = multiplications(model, images(rng, 1, size))
    assert model.flops(size) == counted["conv2d"] + counted["linear"]
    maps = [x.shape[1:3] for x in model.feature_maps(images(rng, 1, size))]
    assert maps == [row.shape[:2] for row in model.summary(size) if row.name.startswith("layer")]


# ── the model ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_the_model_has_the_derivative_of_its_value(
    choice: dict[str, Any], mode: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a smooth function in the place of ReLU, whose kinks spoil finite differences."""
    monkeypatch.setattr(ops, "relu", ops.gelu)
    rng = np.random.default_rng(1)
    model = resnet(rng, **choice).train(mode)
    assert_derivative(model, images(rng), rng, model.parameters())


def test_without_residual_a_block_is_its_shortcut() -> None:
    """Every second element, and zeros for the channels that are missing."""
    rng = np.random.default_rng(0)
    own = {"shortcut": "padding", "drop_path_rate": 0.0, "rng": rng, "dtype": np.float64}
    block = BasicBlock(3, 5, stride=2, **own)
    block.bn2.weight.data[...] = 0
    x = images(rng, size=(7, 8))
    y = block(Tensor(x)).data
    truth = np.zeros((3, 5, 4, 4))
    truth[:, :3] = np.maximum(x, 0)[:, :, ::2, ::2]
    assert_same(y, truth)
    assert not block.downsample
    fewer = BasicBlock(3, 3, stride=2, **own)
    fewer.bn2.weight.data[...] = 0
    assert_same(fewer(Tensor(x)).data, np.maximum(x, 0)[:, :, ::2, ::2])
    same = BasicBlock(3, 3, stride=1, **{**own, "shortcut": "projection"})
    same.bn2.weight.data[...] = 0
    assert_same(same(Tensor(x)).data, np.maximum(x, 0))


def test_in_evaluation_images_do_not_mix_and_in_training_they_do() -> None:
    rng = np.random.default_rng(0)
    model, x = resnet(rng), images(rng, B=4)
    assert_far(model(x[:2]), model(x).data[:2])
    model.eval()
    assert_close(model(x[:2]), model(x).data[:2])


def test_a_model_with_batch_norm_is_not_split_over_threads() -> None:
    rng = np.random.default_rng(0)
    model, x = resnet(rng), images(rng)
    assert_same(data_parallel(model)(x), model(x))
    with pytest.raises(ValueError, match="BatchNorm2d needs the whole batch, which 2 threads"):
        data_parallel(model, 2)


def test_in_evaluation_it_is_split_and_its_twins_follow_the_running_statistics() -> None:
    rng = np.random.default_rng(0)
    model, x = resnet(rng).eval(), images(rng)
    parallel = data_parallel(model, 2)
    assert_close(parallel(x), model(x))
    before = model(x).data
    model.load_state_dict(resnet(rng).state_dict())
    assert_far(model(x), before)
    assert_close(parallel(x), model(x))
    model.train()
    with pytest.raises(ValueError, match="BatchNorm2d needs the whole batch, which 2 threads"):
        parallel(x)


# ── batch norm ───────────────────────────────────────────────────────────────────────────────────


@law(examples=8, seed=seeds, size=st.tuples(st.integers(1, 4), st.integers(2, 3)))
def test_each_channel_of_a_batch_gets_mean_bias_and_deviation_weight(seed: int, size: Pair) -> None:
    rng = np.random.default_rng(seed)
    layer = fill(BatchNorm2d(5, eps=0.0, dtype=np.float64), rng)
    x = rng.standard_normal((4, 5, *size)) * 3 + 7
    y = layer(Tensor(x)).data
    assert_close(y.mean(axis=(0, 2, 3)), layer.bias.data, 1e-10)
    assert_close(y.std(axis=(0, 2, 3)), abs(layer.weight.data), 1e-10)
    # where its input is on another scale, nothing changes
    assert_close(layer(Tensor(5 * x + 1)), y, 1e-10)


def test_running_statistics_move_a_tenth_of_the_way_and_evaluation_uses_them() -> None:
    rng = np.random.default_rng(0)
    layer = fill(BatchNorm2d(2, dtype=np.float64), rng)
    mean, var = np.zeros(2), np.ones(2)
    for _ in range(3):
        x = rng.standard_normal((4, 2, 3, 5)) * 2 + 1
        layer(Tensor(x))
        columns = x.transpose(1, 0, 2, 3).reshape(2, -1)
        mean = 0.9 * mean + 0.1 * columns.mean(axis=1)
        var = 0.9 * var + 0.1 * columns.var(axis=1, ddof=1)
    assert_close(layer.running_mean, mean)
    assert_close(layer.running_var, var)
    assert layer.num_batches_tracked.item() == 3
    layer.eval()
    x = rng.standard_normal((1, 2, 1, 1))
    truth = (x[0, :, 0, 0] - mean) / np.sqrt(var + 1e-5) * layer.weight.data + layer.bias.data
    assert_close(layer(Tensor(x)).data[0, :, 0, 0], truth)
    assert_close(layer.running_mean, mean)  # and leaves them alone
    assert layer.num_batches_tracked.item() == 3


def test_float32_statistics_of_a_large_map_keep_their_digits() -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((8, 128, 128, 2)) + 100).astype(np.float32)
    x = x.transpose(0, 3, 1, 2)  # in memory the channels are last, as a convolution leaves them
    layer = BatchNorm2d(2)
    layer(Tensor(x))
    exact = x.astype(np.float64).transpose(1, 0, 2, 3).reshape(2, -1)
    np.testing.assert_allclose(layer.running_mean.data, 0.1 * exact.mean(axis=1), rtol=1e-6)
    variance = 0.9 + 0.1 * exact.var(axis=1, ddof=1)
    np.testing.assert_allclose(layer.running_var.data, variance, rtol=1e-6)
    assert layer.running_var.dtype == np.float32


def test_one_value_per_channel_is_refused_in_training() -> None:
    layer = BatchNorm2d(3)
    with pytest.raises(ValueError, match="one value per channel has no variance"):
        layer(Tensor(np.zeros((1, 3, 1, 1), np.float32)))
    with pytest.raises(ValueError, match=r"x must be \(B, 3, H, W\), got \(2, 4, 5, 5\)"):
        layer(Tensor(np.zeros((2, 4, 5, 5), np.float32)))


# ── buffers ──────────────────────────────────────────────────────────────────────────────────────


def test_buffers_are_saved_and_loaded_but_not_trained() -> None:
    rng = np.random.default_rng(0)
    model, other = resnet(rng), resnet(rng)
    learnt = dict(model.named_parameters())
    kept = dict(model.named_buffers())
    assert not learnt.keys() & kept.keys()
    assert model.state_dict().keys() == learnt.keys() | kept.keys()
    assert {name.split(".")[-1] for name in kept} == {
        "running_mean", "running_var", "num_batches_tracked"
    }  # fmt: skip
    assert model.parameter_count() == sum(p.size for p in learnt.values())
    optimizer = SGD(model.named_parameters(), lr=0.1)
    assert not any("running" in name for name in optimizer.state_dict())
    model(images(rng))
    other.load_state_dict(model.state_dict())
    x = images(rng)
    assert_same(other.eval()(x), model.eval()(x))
    for name, array in other.state_dict().items():
        assert array is not model.state_dict()[name]
        assert array.dtype == model.state_dict()[name].dtype


def test_the_state_is_live_and_keeps_its_arrays_while_training() -> None:
    rng = np.random.default_rng(0)
    model = resnet(rng)
    state = model.state_dict()
    before = {name: array.copy() for name, array in state.items()}
    with no_grad():
        model(images(rng))
    assert all(array is state[name] for name, array in model.state_dict().items())
    changed = {name for name in state if not np.array_equal(state[name], before[name])}
    assert changed == {name for name, _ in model.named_buffers()}


def test_a_count_must_be_loaded_from_integers_and_a_mean_from_floats() -> None:
    model = resnet(np.random.default_rng(0))
    state = dict(model.state_dict())
    state["bn1.num_batches_tracked"] = np.array(3.0)
    with pytest.raises(ValueError, match="num_batches_tracked: expected integers, got float64"):
        model.load_state_dict(state)
    state = dict(model.state_dict())
    state["bn1.running_mean"] = np.zeros(3, np.int64)
    with pytest.raises(ValueError, match="running_mean: expected floating-point numbers, got int"):
        model.load_state_dict(state)
    del state["bn1.running_mean"]
    with pytest.raises(ValueError, match=r"missing \(1\): bn1.running_mean"):
        model.load_state_dict(state)


def test_a_checkpoint_keeps_buffers_and_an_average_leaves_them_to_the_model(tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    model = resnet(rng)
    average = WeightAverage(model.named_parameters(), 0.9)
    model(images(rng))
    saved = Checkpoint({}, model.state_dict(), average=average.state_dict())
    save_checkpoint(tmp_path / "last.safetensors", saved)
    found = read_checkpoint(tmp_path)
    other = resnet(rng)
    other.load_state_dict({**found.weights, **found.average})
    for (name, ours), (_, theirs) in zip(other.named_buffers(), model.named_buffers(), strict=True):
        assert_same(ours, theirs)
        assert ours.dtype == theirs.dtype, name


def test_a_list_of_layers_and_own_tensors_keep_the_order_of_definition() -> None:
    rng = np.random.default_rng(0)

    class Mixed(Layer):
        def __init__(self) -> None:
            self.heads = [Linear(2, 3, rng=rng, bias=False), BatchNorm2d(2)]
            self.scale = Parameter(np.ones(2))

    assert list(Mixed().state_dict()) == [
        "scale", "heads.0.weight", "heads.1.weight", "heads.1.bias", "heads.1.running_mean",
        "heads.1.running_var", "heads.1.num_batches_tracked",
    ]  # fmt: skip


# ── pooling ──────────────────────────────────────────────────────────────────────────────────────

windows = st.tuples(st.integers(1, 3), st.integers(1, 3))


@law(examples=10, kernel=windows, stride=windows, seed=seeds)
def test_pooling_takes_the_maximum_and_the_mean_of_each_patch(
    kernel: Pair, stride: Pair, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-9, 9, (2, 3, 5, 7)).astype(float)
    largest = ops.max_pool2d(x, kernel=kernel, stride=stride).data
    mean = ops.avg_pool2d(x, kernel=kernel, stride=stride).data
    for r, c in np.ndindex(*largest.shape[2:]):
        top, left = r * stride[0], c * stride[1]
        patch = x[:, :, top : top + kernel[0], left : left + kernel[1]]
        assert_same(largest[:, :, r, c], patch.max(axis=(2, 3)))
        assert_close(mean[:, :, r, c], patch.mean(axis=(2, 3)))
    y = rng.integers(-9, 9, mean.shape).astype(float) * kernel[0] * kernel[1]
    if kernel != (3, 1) and kernel != (1, 3) and 3 not in kernel:  # a third is not exact
        assert_adjoint(lambda t: ops.avg_pool2d(t, kernel=kernel, stride=stride), x, y)


def test_padding_is_never_the_largest_and_nan_always_is() -> None:
    x = -1 - np.arange(12.0).reshape(1, 1, 3, 4)
    edge = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}
    assert_same(ops.max_pool2d(x, **edge).data, [[[[-1, -2], [-5, -6]]]])
    x[0, 0, 2, 3] = np.nan
    assert np.isnan(ops.max_pool2d(x, **edge).data[0, 0, 1, 1])
    with pytest.raises(ValueError, match="max_pool2d: the padding must be at most half"):
        ops.max_pool2d(x, kernel=(3, 3), stride=(1, 1), padding=(2, 0))
    with pytest.raises(ValueError, match=r"avg_pool2d: x must be \(B, C, H, W\), got \(3, 4\)"):
        ops.avg_pool2d(x[0, 0], kernel=(2, 2), stride=(2, 2))


# ── errors ───────────────────────────────────────────────────────────────────────────────────────

RNG = np.random.default_rng(0)
ERRORS = [
    (lambda: resnet(RNG, depths=(2, 0)), "ResNet: depths must be one int of 1 or more per stage"),
    (lambda: resnet(RNG, block="wide"), "ResNet: block must be one of basic, bottleneck, got"),
    (lambda: resnet(RNG, stem="7×7"), "ResNet: stem must be one of imagenet, cifar, got '7×7'"),
    (lambda: resnet(RNG, shortcut="B"), "shortcut must be one of projection, padding, got 'B'"),
    (lambda: resnet(RNG)(np.zeros((2, 8, 8, 3))), "ResNet: images must be (B, 3, H, W), got"),
    (
        lambda: create_model("resnet18", recompute=True),
        "create_model: resnet18 has no setting recompute; known are img_size, depths, width,",
    ),
    (
        lambda: ops.batch_norm(np.zeros((2, 3, 4, 4)), np.zeros(4), np.zeros(4)),
        "batch_norm: weight must be (C=3,), got (4,)",
    ),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors_say_who_what_and_what_to_do(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert message in str(caught.value)
