"""An error says who, which argument, what was expected, what came, and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin import Tensor, create_model, kernels, ops
from minswin.composites import shifted_window_attention
from minswin.layers import (
    MSA,
    DropPath,
    Linear,
    Mlp,
    PatchEmbed,
    PatchMerging,
    WindowAttention,
)
from minswin.models.registry import CLASSES
from minswin.models.transformer import Transformer
from minswin.training.optimizers import clip_gradients
from minswin.weights import load

RNG = np.random.default_rng(0)


def zeros(*shape: int, dtype: Any = np.float32) -> Tensor:
    return Tensor(np.zeros(shape, dtype))


def tiny(**settings: Any) -> Any:
    small = {"img_size": 8, "patch_size": 2, "embed_dim": 4, "depths": (1,), "num_heads": (2,)}
    return create_model("swin_tiny", **{**small, "num_classes": 3, **settings})


CASES = [
    (
        lambda: tiny(img_size=(33, 32), patch_size=4),
        "SwinTransformer: a 33×32 image does not divide into 4×4 patches; "
        "pad it to 36×32 or choose patch_size=1",
    ),
    (
        lambda: tiny(num_heads=(3,)),
        "WindowAttention: 4 channels do not divide into 3 heads; "
        "choose num_heads among the divisors of 4",
    ),
    (lambda: MSA(6, 4, rng=RNG), "MSA: 6 channels do not divide into 4 heads"),
    (lambda: MSA(6, 0, rng=RNG), "MSA: 6 channels do not divide into 0 heads"),
    (
        lambda: tiny(depths=(1, 1)),
        "depths and num_heads need one entry per stage, got (1, 1) and (2,)",
    ),
    (lambda: tiny(window_size=(2, 2, 2)), "window_size must be a positive int or a pair, got (2"),
    (lambda: tiny(img_size=0), "img_size must be a positive int or a pair, got 0"),
    (lambda: tiny(dtype=np.float16), "dtype must be float32 or float64, got <class 'numpy.float16"),
    (lambda: DropPath(1.5, rng=RNG), "DropPath: rate must be in [0, 1], got 1.5"),
    (
        lambda: create_model("swin_tinny"),
        "create_model: unknown model 'swin_tinny'; did you mean 'swin_tiny', 'swin_tiny_c24' or "
        "'vit_tiny'? 'minswin models' and list_models() give all",
    ),
    (
        lambda: create_model("swin_tiny", depth=3),
        "create_model: swin_tiny has no setting depth; did you mean depths? Known are img_size,",
    ),
    (lambda: create_model("swin_tiny", xyz=3), "swin_tiny has no setting xyz; known are img_size,"),
    (
        lambda: create_model("swin_tiny", key="ema"),
        "create_model: key= chooses from a file; give weights= too",
    ),
    (lambda: create_model(3), "create_model: name must be a text, got int"),
    (
        lambda: tiny(dtype="wide"),
        "SwinTransformer: dtype must be float32 or float64, got wide",
    ),
    (lambda: ops.stack(), "stack(*xs, axis=0): expected one input or more"),
    (lambda: ops.concatenate(axis=1), "concatenate(*xs, axis=0): expected one input or more"),
    (
        lambda: np.sum(Tensor(np.zeros(2), requires_grad=True)),
        "np.sum: its result has no gradient, and the Tensors given require one; use ops.sum, or",
    ),
    (
        lambda: load("swin_shapes", {"a": {"w": np.ones(1)}}, key=3),
        "key must be the name of an entry, got int",
    ),
    (
        lambda: clip_gradients([], "1"),
        "clip_gradients: max_norm must be a positive number, got '1'",
    ),
    (
        lambda: clip_gradients([], True),
        "clip_gradients: max_norm must be a positive number, got True",
    ),
    (
        lambda: tiny()(zeros(2, 8, 8, 3)),
        "SwinTransformer: images must be (B, 3, H, W), got (2, 8, 8, 3); "
        "move the channels to axis 1",
    ),
    (
        lambda: tiny()(zeros(2, 3, 8, 8, dtype=np.float64)),
        "images must be float32 like the weights, got float64; use .astype(np.float32)",
    ),
    (
        lambda: tiny()(np.zeros((2, 3, 8, 8), np.uint8)),
        "images must be float32 like the weights, got uint8",
    ),
    (lambda: Tensor("x"), "Tensor: data must be numbers, got str"),
    (lambda: Tensor(None), "Tensor: data must be numbers, got NoneType"),
    (
        lambda: tiny(ape=True)(zeros(1, 3, 16, 8)),
        "the absolute position embedding was made for 4×4 patches, got 8×4; "
        "build the model with img_size=(16, 8) or ape=False",
    ),
    (
        lambda: Linear(3, 2, rng=RNG)(zeros(5, 4)),
        "linear: weight must be (M, K=4), got (2, 3); weights are stored (out, in)",
    ),
    (
        lambda: ops.linear(zeros(3), zeros(2, 3), zeros(3)),
        "linear: bias must be (M=2,) or None, got (3,)",
    ),
    (
        lambda: ops.matmul(zeros(2, 3), zeros(2, 3)),
        "matmul: y must be (*Y, K=3, M), got (2, 3)",
    ),
    (
        lambda: ops.layer_norm(zeros(2, 3), zeros(2), zeros(3)),
        "layer_norm: weight must be (C=3,), got (2,)",
    ),
    (
        lambda: ops.conv2d(zeros(1, 3, 4, 4), zeros(2, 4, 2, 2), None),
        "conv2d: weight must be (D, C=3, kh, kw), got (2, 4, 2, 2)",
    ),
    (
        lambda: ops.conv2d(zeros(1, 3, 4, 1), zeros(2, 3, 2, 2), None),
        "conv2d: a 4×1 map with padding (0, 0) is smaller than the 2×2 filter",
    ),
    (
        lambda: ops.conv2d(zeros(1, 3, 4, 4), zeros(2, 3, 2, 2), zeros(3)),
        "conv2d: bias must be (D=2,) or None, got (3,)",
    ),
    (
        lambda: ops.attention(zeros(2, 3, 4), zeros(2, 3, 5), zeros(2, 3, 4), None),
        "attention: k must be (2, M, d=4), got (2, 3, 5)",
    ),
    (
        lambda: ops.attention(zeros(2, 3, 4), zeros(2, 5, 4), zeros(2, 5, 4), zeros(5, 3)),
        "attention: bias must broadcast to (2, N=3, M=5) floats or None, got (5, 3)",
    ),
    (
        lambda: ops.window_partition(zeros(1, 6, 7, 2), window=(3, 3)),
        "window_partition: 3×3 windows must divide x, a map (B, H, W, C), got (1, 6, 7, 2); pad it",
    ),
    (
        lambda: ops.window_merge(zeros(1, 4, 9, 2), window=(3, 3), grid=(6, 9)),
        "window_merge: a 6×9 map of 3×3 windows needs x (B, 6, 9, C), got (1, 4, 9, 2)",
    ),
    (
        lambda: ops.patch_merge(zeros(1, 3, 4, 2)),
        "patch_merge: H and W of x, a map (B, H, W, C), must be even, got (1, 3, 4, 2); pad it",
    ),
    (
        lambda: ops.cross_entropy(zeros(2, 3), np.array([0, 3])),
        "cross_entropy: targets must lie in 0…2, got values from 0 to 3",
    ),
    (
        lambda: ops.cross_entropy(zeros(2, 3), np.array([0.0, 1.0], np.float32)),
        "targets must be integers, got float32; targets of shape (B,) are class indices, soft",
    ),
    (
        lambda: ops.cross_entropy(zeros(2, 3), np.array([0, 1, 2])),
        "cross_entropy: targets must be (B=2,) integers or (B=2, K=3), got (3,)",
    ),
    (
        lambda: ops.cross_entropy(zeros(2, 3), np.array([0, 1]), smoothing=1.0),
        "cross_entropy: smoothing must be in [0, 1), got 1.0",
    ),
    (lambda: ops.take(zeros(4, 2), np.array([-1])), "take: rows must lie in 0…3, got values from"),
    (
        lambda: ops.take(zeros(4, 2), np.array([0.5], np.float32)),
        "take: rows must be integers, got float32",
    ),
    (
        lambda: ops.scatter_add(zeros(3, 2), np.array([0, 1]), length=4),
        "scatter_add: x must be (2, *row), got (3, 2)",
    ),
    (
        lambda: zeros(2) + zeros(2, dtype=np.float64),
        "add: the inputs must share one floating dtype, got float32 and float64",
    ),
    (
        lambda: ops.exp(zeros(2, dtype=np.float16)),
        "exp: expected float32 or float64 data, got float16; use .astype",
    ),
    (
        lambda: kernels.using("fast").__enter__(),
        "using: unknown backend 'fast'; choose one of reference, numba",
    ),
]


def windows(qkv: Any, table: Any, **changed: Any) -> Tensor:
    settings = {"heads": 2, "window": (2, 3), "shift": (1, 1), "table_window": (2, 3)}
    return shifted_window_attention(qkv, table, **{**settings, **changed})


CASES += [
    (
        lambda: ops.linear(zeros(2, 3), zeros(4, 3), bias=None),
        "linear(x, weight, bias, /): 'bias' was given by keyword; data go by position",
    ),
    (lambda: ops.attention(zeros(2, 3), zeros(2, 3), zeros(2, 3)), ": missing bias; data go by"),
    (lambda: ops.softmax(zeros(2, 3), dim=1), ": unknown setting 'dim'; data go by position"),
    (lambda: ops.softmax(zeros(2, 3), axes=1), "unknown setting 'axes', did you mean 'axis'?;"),
    (lambda: ops.exp(zeros(2), zeros(2)), "exp(x, /): expected at most 1 inputs, got 2; data go"),
    (lambda: ops.window_partition(zeros(1, 4, 4, 1)), ": missing window=; data go by position"),
    (lambda: zeros(2) + zeros(3), "add: operands could not be broadcast together with shapes (2,)"),
    (
        lambda: ops.concatenate(zeros(2, 3), zeros(2, 4)),
        "must match exactly, but along dimension 1, the array at index 0 has size 3 and the array "
        "at index 1 has size 4; the inputs have the shapes (2, 3), (2, 4)",
    ),
    (lambda: zeros(2) ** zeros(2), "power: the exponent must be a number, got Tensor"),
    (
        lambda: ops.dropout(zeros(2, 3), np.ones((2, 2), bool), rate=0.5),
        "dropout: keep must broadcast to (2, 3) bool, got (2, 2)",
    ),
    (
        lambda: ops.dropout(zeros(2), np.ones(2, bool), rate=2.0),
        "dropout: rate must be in [0, 1], got 2.0",
    ),
    (
        lambda: ops.cross_entropy(zeros(0, 3), np.zeros(0, np.int64)),
        "cross_entropy: the batch is empty",
    ),
    (
        lambda: windows(zeros(1, 4, 5, 18), zeros(15, 2)),
        "shifted_window_attention: 2×3 windows do not divide (1, 4, 5, 18); pad the map",
    ),
    (
        lambda: windows(zeros(1, 4, 6, 21), zeros(15, 2)),
        "qkv must be a map (B, H, W, 3C) whose C divides into 2 heads, got (1, 4, 6, 21)",
    ),
    (
        lambda: windows(zeros(1, 4, 6, 18), zeros(15, 3)),
        "a table for 2×3 windows and 2 heads must be (15, 2), got (15, 3)",
    ),
    (
        lambda: windows(zeros(1, 4, 6, 18), zeros(3, 2), table_window=(1, 2)),
        "the window (2, 3) is larger than its table's (1, 2)",
    ),
    (
        lambda: windows(zeros(1, 4, 6, 18), zeros(15, 2), shift=(2, 0)),
        "shift must lie in 0…window − 1, got (2, 0) for (2, 3)",
    ),
    (
        lambda: windows(zeros(1, 4, 6, 18), zeros(15, 2, dtype=np.float64)),
        "shifted_window_attention: the inputs must share one floating dtype, got float32 and float",
    ),
    (
        lambda: Mlp(4, 8, rng=RNG)(zeros(2, 5)),
        "mlp: w1 must be (hidden, C=5), got (8, 4)",
    ),
    (
        lambda: WindowAttention(4, 2, (2, 2), rng=RNG)(zeros(2, 16, 4)),
        "WindowAttention: x must be a map (B, H, W, 4), got (2, 16, 4)",
    ),
    (
        lambda: PatchMerging(4, rng=RNG)(zeros(2, 4, 4, 3)),
        "PatchMerging: x must be a map (B, H, W, 4), got (2, 4, 4, 3)",
    ),
    (
        lambda: PatchEmbed(4, (2, 2), rng=RNG)(zeros(1, 3, 5, 4)),
        "PatchEmbed: a 5×4 image does not divide into 2×2 patches; pad it to 6×4",
    ),
    (lambda: tiny(img_size=8.0), "img_size must be a positive int or a pair, got 8.0"),
    (lambda: tiny(patch_size=True), "patch_size must be a positive int or a pair, got True"),
    (lambda: tiny(depths=(-2,)), "depths must be one int of 0 or more per stage, got (-2,)"),
    (lambda: tiny(depths=2), "depths must be one int of 0 or more per stage, got 2"),
    (lambda: tiny(embed_dim=-4), "embed_dim must be a positive int, got -4"),
    (lambda: tiny(num_classes=0), "num_classes must be a positive int, got 0"),
    (lambda: tiny().summary((8, 0)), "SwinTransformer: img_size must be"),
    (lambda: tiny(mlp_ratio=0), "mlp_ratio must be positive, and mlp_ratio · embed_dim at least 1"),
    (lambda: tiny(mlp_ratio=float("inf")), "mlp_ratio must be positive"),
    (lambda: tiny(drop_path_rate=-0.1), "rate must be in [0, 1], got -0.1"),
    (
        lambda: tiny(rng=1.5),
        "SwinTransformer: rng must be None, an int of 0 or more, a SeedSequence or a Generator, "
        "got 1.5",
    ),
    (lambda: tiny(rng=-1), "rng must be None, an int of 0 or more, a SeedSequence or a Generator"),
    (lambda: tiny(rng=True), "True and False are no seeds"),
]


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize(("call", "message"), CASES, ids=[m[:40] for _, m in CASES])
def test_the_message_is(call: Any, message: str, backend: str) -> None:
    with kernels.using(backend), pytest.raises((ValueError, TypeError)) as error:
        call()
    assert message in str(error.value)


def test_load_state_dict_names_all_that_does_not_fit_and_changes_nothing() -> None:
    model = tiny()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()}
    del state["head.bias"]
    state["head.extra"] = np.zeros(1)
    state["norm.weight"] = np.zeros(5)
    state["norm.bias"] = np.zeros(4, np.int64)
    with pytest.raises(ValueError) as error:
        model.load_state_dict(state)
    message = str(error.value)
    assert message.startswith("SwinTransformer.load_state_dict: the names do not fit")
    assert "missing (1): head.bias" in message
    assert "unexpected (1): head.extra" in message
    assert "norm.weight: expected (4,), got (5,)" in message
    assert "norm.bias: expected floating-point numbers, got int64" in message
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])

    state["norm.weight"] = before["norm.weight"] + 1
    del state["norm.bias"]
    model.load_state_dict(state, strict=False)
    np.testing.assert_array_equal(model.norm.weight.data, before["norm.weight"] + 1)
    np.testing.assert_array_equal(model.head.bias.data, before["head.bias"])


def test_an_unknown_backend_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_environment", None)  # not set, or set to nothing
    assert kernels.chosen(np.zeros(1)) == "numba"
    monkeypatch.setattr(kernels, "_environment", "cuda")
    with pytest.raises(ValueError, match="MINSWIN_KERNELS: unknown backend 'cuda'; choose one of"):
        ops.exp(zeros(2))


def test_only_a_dtype_that_models_can_have_is_recommended() -> None:
    with pytest.raises(TypeError, match=r"got float16; use .astype\(np.float32\)$"):
        tiny()(np.zeros((2, 3, 8, 8), np.float16))


def test_a_wrong_keyword_is_named_though_a_call_with_as_many_inputs_was_right() -> None:
    x = zeros(2, 3)
    ops.mean(x, axis=1)
    with pytest.raises(TypeError, match=r"mean\(.*\): unknown setting 'axes'"):
        ops.mean(x, axes=1)


@pytest.mark.parametrize(
    "name", ["swin_shapes", "swinv2_cifar", "vit_tiny", "deit_tiny", "tnt_cifar", "twins_cifar"]
)
@pytest.mark.parametrize("rate", ["drop_rate", "attn_drop_rate", "drop_path_rate"])
@pytest.mark.parametrize("value", [1.5, -0.1, "a"])
def test_a_rate_that_cannot_be_is_signed_by_the_model(name: str, rate: str, value: Any) -> None:
    family = CLASSES[name].__name__
    with pytest.raises(ValueError, match=rf"^{family}: {rate} must be in \[0, 1\], got {value!r}"):
        create_model(name, **{rate: value})


def test_rates_of_models_with_one_rate_are_signed_by_them_too() -> None:
    with pytest.raises(ValueError, match=r"^ResNet: drop_path_rate must be in"):
        create_model("resnet20", drop_path_rate=2)
    with pytest.raises(ValueError, match=r"^Transformer: drop_rate must be in"):
        Transformer(9, drop_rate=2)
