"""What is asked for as a pair may be an int, and arrays of other libraries are read or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin import Tensor, create_model, ops
from minswin.composites import shifted_window_attention
from minswin.layers import Conv2d, ConvStem, Linear, PatchEmbed, WindowAttention, WindowAttentionV2
from minswin.layers.windows import fit_window
from minswin.reference import windows

MAP = np.random.default_rng(0).standard_normal((2, 4, 4, 6)).astype(np.float32)
IMAGE = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
FILTER = np.ones((4, 3, 3, 3), np.float32)
TABLE = np.ones((9, 1), np.float32)
GEOMETRY = {"heads": 1}

CALLS = {
    "window_partition": lambda p: ops.window_partition(MAP, window=p(2)),
    "window_merge": lambda p: ops.window_merge(MAP, window=p(2), grid=p(4)),
    "roll": lambda p: ops.roll(MAP, shift=p(-1)),
    "resize": lambda p: ops.resize(MAP, size=p(3)),
    "conv2d": lambda p: ops.conv2d(IMAGE, FILTER, None, stride=p(2), padding=p(1)),
    "unfold": lambda p: ops.unfold(IMAGE, kernel=p(2), stride=p(2)),
    "max_pool2d": lambda p: ops.max_pool2d(IMAGE, kernel=p(3), stride=p(2), padding=p(1)),
    "avg_pool2d": lambda p: ops.avg_pool2d(IMAGE, kernel=p(2), stride=p(2)),
    "shifted windows": lambda p: shifted_window_attention(
        MAP, TABLE, window=p(2), shift=p(1), table_window=p(2), **GEOMETRY
    ),
    "fit_window": lambda p: np.array(fit_window(p(8), p(4))[0]),
    "relative_position_index": lambda p: windows.relative_position_index(p(2), p(3)),
    "shift_regions": lambda p: windows.shift_regions(p(8), p(4), p(2)),
    "attention_mask": lambda p: windows.attention_mask(p(8), p(4), p(2)),
    "Conv2d": lambda p: Conv2d(3, 2, p(3), stride=p(2), padding=p(1), rng=0)(Tensor(IMAGE)),
    "PatchEmbed": lambda p: PatchEmbed(4, p(2), rng=0)(Tensor(IMAGE)),
    "ConvStem": lambda p: ConvStem(4, p(4), rng=0)(Tensor(IMAGE)),
    "WindowAttention": lambda p: WindowAttention(6, 2, p(2), rng=0)(Tensor(MAP)),
    "WindowAttentionV2": lambda p: WindowAttentionV2(6, 2, p(2), pretrained=p(3), rng=0)(
        Tensor(MAP)
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_int_is_a_square(call: Any) -> None:
    square, pair = call(lambda side: side), call(lambda side: (side, side))
    assert np.array_equal(np.asarray(square), np.asarray(pair))


@pytest.mark.parametrize("window", [0, -2, (2, 2, 2), 2.0, "2", True])
def test_what_is_no_window_is_named(window: Any) -> None:
    with pytest.raises(
        ValueError, match="WindowAttention: window must be a positive int or a pair"
    ):
        WindowAttention(6, 2, window, rng=0)
    with pytest.raises(ValueError, match="fit_window: window must be a positive int or a pair"):
        fit_window((4, 4), window)


# ── arrays of other libraries ────────────────────────────────────────────────────────────────────


class Foreign:
    """An array of a library that NumPy can read, or that refuses with words of its own."""

    dtype, shape, ndim = "foreign", (2, 3, 32, 32), 4

    def __init__(self, data: Any) -> None:
        self.data = data

    def detach(self) -> Any:
        return self

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if self.data is None:
            raise RuntimeError("it requires grad")
        return np.asarray(self.data, dtype)


def model() -> Any:
    return create_model("swin_shapes", rng=0)


PIXELS = np.random.default_rng(2).standard_normal((2, 3, 32, 32)).astype(np.float32)
TAKERS = {
    "a model": lambda x: model()(x),
    "its maps": lambda x: model().feature_maps(x)[0],
    "another model": lambda x: create_model("vit_cifar_small", rng=0)(x),
    "a layer": lambda x: Linear(32, 2, rng=0)(x),
    "softmax": ops.softmax,
    "add": lambda x: ops.add(x, np.ones(32, np.float32)),
}


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
def test_arrays_of_other_libraries_are_taken(take: Any) -> None:
    assert np.array_equal(take(Foreign(PIXELS)).data, take(PIXELS).data)


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
def test_an_array_that_cannot_be_read_is_refused(take: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot be read as an array: it requires grad"):
        take(Foreign(None))


def test_torch_tensors_are_taken_by_models_and_load_state_dict() -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = model(), torch.tensor(PIXELS)
    want = ours(PIXELS).data
    assert np.array_equal(ours(theirs).data, want)
    state = {name: torch.tensor(array) for name, array in ours.state_dict().items()}
    fresh = create_model("swin_shapes", rng=1)
    fresh.load_state_dict(state)
    assert np.array_equal(fresh(PIXELS).data, want)
    with pytest.raises(TypeError, match=r"SwinTransformer: images: a torch.Tensor cannot be read"):
        ours(theirs.to("meta"))
