"""An error says who, which argument, what was expected, what came, and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin import Tensor, create_model, kernels, ops
from minswin.layers import MSA, DropPath, Linear

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
        "create_model: unknown model 'swin_tinny'; did you mean 'swin_tiny'? known are swin_tiny,",
    ),
    (
        lambda: create_model("swin_tiny", depth=3),
        "create_model: swin_tiny has no setting depth; known are img_size, patch_size,",
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
    (
        lambda: tiny(ape=True)(zeros(1, 3, 16, 8)),
        "the absolute position embedding was made for 4×4 patches, got 8×4; "
        "build the model with img_size=(16, 8) or ape=False",
    ),
    (
        lambda: Linear(3, 2, rng=RNG)(zeros(5, 4)),
        "linear: weight must be (M, K=4) for x of shape (5, 4), got (2, 3); "
        "weights are stored (out, in)",
    ),
    (lambda: ops.linear(zeros(3), zeros(2, 3), zeros(3)), "linear: bias must be (2,), got (3,)"),
    (
        lambda: ops.matmul(zeros(2, 3), zeros(2, 3)),
        "matmul: expected x (..., N, K) and y (..., K, M), got (2, 3) and (2, 3); K must agree",
    ),
    (
        lambda: ops.layer_norm(zeros(2, 3), zeros(2), zeros(3)),
        "layer_norm: weight and bias must be (3,) for x of shape (2, 3), got (2,) and (3,)",
    ),
    (
        lambda: ops.conv2d(zeros(1, 3, 4, 4), zeros(2, 4, 2, 2), None),
        "conv2d: expected x (B, C, H, W) and weight (D, C, kh, kw), got (1, 3, 4, 4) and",
    ),
    (
        lambda: ops.conv2d(zeros(1, 3, 4, 1), zeros(2, 3, 2, 2), None),
        "conv2d: a 4×1 map with padding (0, 0) is smaller than the 2×2 filter",
    ),
    (
        lambda: ops.conv2d(zeros(1, 3, 4, 4), zeros(2, 3, 2, 2), zeros(3)),
        "conv2d: bias must be (2,), got (3,)",
    ),
    (
        lambda: ops.attention(zeros(2, 3, 4), zeros(2, 3, 5), zeros(2, 3, 4), None),
        "attention: expected q (..., N, d), k (..., M, d) and v (..., M, e), got (2, 3, 4), (2",
    ),
    (
        lambda: ops.attention(zeros(2, 3, 4), zeros(2, 5, 4), zeros(2, 5, 4), zeros(5, 3)),
        "attention: bias must broadcast to (2, 3, 5), got (5, 3)",
    ),
    (
        lambda: ops.window_partition(zeros(1, 6, 7, 2), window=(3, 3)),
        "window_partition: x must be a map (B, H, W, C) that 3×3 windows divide, got (1, 6, 7, 2)",
    ),
    (
        lambda: ops.window_merge(zeros(1, 4, 9, 2), window=(3, 3), grid=(6, 9)),
        "window_merge: a 6×9 map of 3×3 windows needs x (B, 6, 9, C), got (1, 4, 9, 2)",
    ),
    (
        lambda: ops.patch_merge(zeros(1, 3, 4, 2)),
        "patch_merge: x must be a map (B, H, W, C) with H and W even, got (1, 3, 4, 2)",
    ),
    (
        lambda: ops.cross_entropy(zeros(2, 3), np.array([0, 3])),
        "cross_entropy: targets must lie in 0…2, got values from 0 to 3",
    ),
    (
        lambda: ops.cross_entropy(zeros(2, 3), np.array([0.0, 1.0], np.float32)),
        "targets of shape (B,) are class indices and must be integers, got float32",
    ),
    (
        lambda: ops.cross_entropy(zeros(2, 3), np.array([0, 1, 2])),
        "targets must be (2,) class indices or (2, 3) probabilities, got (3,)",
    ),
    (
        lambda: ops.cross_entropy(zeros(2, 3), np.array([0, 1]), smoothing=1.0),
        "cross_entropy: smoothing must be in [0, 1), got 1.0",
    ),
    (lambda: ops.take(zeros(4, 2), np.array([-1])), "take: rows must lie in 0…3, got values from"),
    (
        lambda: ops.take(zeros(4, 2), np.array([0.5], np.float32)),
        "take: rows must be integers, got",
    ),
    (
        lambda: ops.scatter_add(zeros(3, 2), np.array([0, 1]), length=4),
        "scatter_add: rows (2,) must lead the shape of x, got (3, 2)",
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


@pytest.mark.parametrize(("call", "message"), CASES, ids=[m[:40] for _, m in CASES])
def test_the_message_is(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert message in str(error.value)


def test_load_state_dict_names_all_that_does_not_fit_and_changes_nothing() -> None:
    model = tiny()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()}
    del state["head.bias"]
    state["head.extra"] = np.zeros(1)
    state["norm.weight"] = np.zeros(5)
    with pytest.raises(ValueError) as error:
        model.load_state_dict(state)
    message = str(error.value)
    assert message.startswith("SwinTransformer.load_state_dict: the names do not fit")
    assert "missing (1): head.bias" in message
    assert "unexpected (1): head.extra" in message
    assert "norm.weight: expected (4,), got (5,)" in message
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])

    state["norm.weight"] = before["norm.weight"] + 1
    model.load_state_dict(state, strict=False)
    np.testing.assert_array_equal(model.norm.weight.data, before["norm.weight"] + 1)
    np.testing.assert_array_equal(model.head.bias.data, before["head.bias"])


def test_an_unknown_backend_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINSWIN_KERNELS", "cuda")
    with pytest.raises(ValueError, match="MINSWIN_KERNELS: unknown backend 'cuda'; choose one of"):
        ops.exp(zeros(2))
