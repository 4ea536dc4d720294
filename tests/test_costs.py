"""What the model costs: multiplications, parameters, sizes of its maps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from drawn import law, swin, swin_block
from hypothesis import strategies as st
from table import definition_of

import minswin
from minswin import autograd, create_model, kernels, ops
from minswin.autograd import Tensor, no_grad
from minswin.layers import Layer
from minswin.lifting import OPERATIONS
from minswin.models.base import mlp_width
from minswin.reference.attention import attention
from minswin.testing.strategies import Pair

# Products per element of the result, by the operation's second array: weight, filters, keys, gain.
PRODUCTS: dict[str, Callable[[Any], int]] = {
    "linear": lambda weight: weight.shape[1],
    "conv2d": lambda filters: filters[0].size,
    "attention": lambda keys: 2 * keys.shape[-2],
    "layer_norm": lambda gain: 1,
}


def multiplications(model: Layer, x: np.ndarray) -> dict[str, int]:
    """Run the model and count the products of its operations, and the elements that it norms."""
    counts = dict.fromkeys(PRODUCTS, 0)

    def counted(name: str) -> Any:
        definition = definition_of(name)

        def run(*arrays: Any, **settings: Any) -> Any:
            value, vjp = definition(*arrays, **settings)
            counts[name] += value.size * PRODUCTS[name](arrays[1])
            return value, vjp

        return mock.patch.object(OPERATIONS[name], "definition", run)

    with ExitStack() as stack, kernels.using("reference"), no_grad():
        for name in counts:
            stack.enter_context(counted(name))
        model(Tensor(x))
    return counts


def test_the_stated_cost_is_the_number_of_multiplications() -> None:
    rng = np.random.default_rng(0)
    for size in [(20, 28), (32, 48), (12, 8)]:
        model, x = swin(rng, img_size=size), rng.standard_normal((1, 3, *size))
        counted = sum(multiplications(model, x).values())
        final_norm, last_map = model.summary()[-2], model.feature_maps(x)[-1]
        # The final norm is stated as the original states it: not by the elements of the last map.
        assert model.flops() == counted - last_map.size + final_norm.macs


@law(M=st.integers(2, 4), nh=st.integers(2, 4), nw=st.integers(2, 4))
def test_windows_cost_in_proportion_to_the_area_and_a_covering_window_is_msa(
    M: int, nh: int, nw: int
) -> None:
    H, W, C = nh * M, nw * M, 6
    mlp_and_norms = 2 * 2 * H * W * C * C + 2 * H * W * C
    block = swin_block((M, M), np.random.default_rng(0))
    assert block.macs((H, W)) == 4 * H * W * C**2 + 2 * M**2 * H * W * C + mlp_and_norms
    assert block.macs((3 * H, W)) == 3 * block.macs((H, W))
    msa = swin_block((H, W), np.random.default_rng(0)).macs((H, W))
    assert msa == 4 * H * W * C**2 + 2 * (H * W) ** 2 * C + mlp_and_norms
    assert msa > block.macs((H, W))


@law(size=st.tuples(st.integers(2, 9), st.integers(2, 9)))
def test_parameters_depend_on_the_image_through_the_tables_of_shrunk_windows_only(
    size: Pair,
) -> None:
    grid = 2 * size[0], 2 * size[1]
    model = swin(np.random.default_rng(0), img_size=(2 * grid[0], 2 * grid[1]))
    expected = 3 * 4 * 6 + 6 + 12 + 2 * 24 + 24 * 5 + 5  # patches and their norm, norm, head
    for depth, heads, C in zip((2, 2, 1), (2, 3, 4), (6, 12, 24), strict=True):
        M = min(4, *grid)
        table = (2 * M - 1) ** 2 * heads
        hidden = int(1.5 * C)
        expected += depth * (4 * C + 3 * C * C + 3 * C + C * C + C + table)
        expected += depth * (2 * C * hidden + hidden + C)
        if C < 24:
            expected += 8 * C * C + 8 * C
        grid = (grid[0] + 1) // 2, (grid[1] + 1) // 2
    assert model.parameter_count() == expected


@law(examples=6, size=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_each_stage_halves_the_map_upwards_and_doubles_the_channels(size: Pair) -> None:
    rng = np.random.default_rng(0)
    model = swin(rng)
    maps = model.feature_maps(rng.standard_normal((2, 3, 2 * size[0], 2 * size[1])))
    for i, stage in enumerate(maps):
        H, W = (-(-n // 2**i) for n in size)  # n / 2ⁱ, rounded up
        assert stage.shape == (2, H, W, 6 * 2**i)


def test_an_operation_takes_at_most_15_python_calls_forward_and_backward() -> None:
    """All of them, models and layers too: what a reader or a debugger has to step through."""
    model = create_model("swin_cifar_small", rng=np.random.default_rng(0)).eval()
    images, labels = np.zeros((2, 3, 32, 32), np.float32), np.array([1, 2])
    home, calls, operations = str(Path(minswin.__file__).parent), 0, 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls, operations
        if event == "call" and frame.f_code.co_filename.startswith(home):
            calls += 1
            operations += frame.f_code is autograd.record.__code__

    def step() -> None:
        ops.cross_entropy(model(images), labels).backward()

    with kernels.using("reference"):
        step()  # the shapes are checked at the first
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            step()
        finally:
            sys.setprofile(before)
    assert operations == 145 and calls <= 15 * operations


def test_from_the_model_to_the_formula_of_attention_a_reader_follows_8_calls() -> None:
    """Each function that is entered on the way from model(x) to softmax(q kᵀ + B) v."""
    model = create_model("swin_cifar_small", rng=np.random.default_rng(0)).eval()
    way: list[str] = []

    def look(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code is attention.__code__ and not way:
            while frame.f_code is not type(model).__call__.__code__:
                way.insert(0, f"{Path(frame.f_code.co_filename).name} {frame.f_code.co_name}")
                frame = frame.f_back

    with kernels.using("reference"):
        before = sys.getprofile()
        sys.setprofile(look)
        try:
            model(np.zeros((1, 3, 32, 32), np.float32))
        finally:
            sys.setprofile(before)
    assert way == [
        "swin.py __call__",  # of a stage
        "swin.py __call__",  # of a block
        "windows.py __call__",  # of WindowAttention
        "windows.py shifted_windows",
        "__init__.py operation",  # of lifting: checks, chooses the kernel, records
        "composites.py shifted_window_attention",
        "__init__.py operation",
        "attention.py attention",
    ]


def test_an_mlp_may_have_one_hidden_channel() -> None:
    assert mlp_width("Swin", 0.25, 4) == 1
