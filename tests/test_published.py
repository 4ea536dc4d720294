"""What is published about Swin V1: parameter counts, multiply-adds, names and shapes."""

from __future__ import annotations

import numpy as np
import pytest

from minswin import create_model, list_models
from minswin.models.blank import BLANK
from minswin.models.swin import SwinTransformer, drop_path_rates

PUBLISHED = {  # parameters, MACs in G; Liu et al. 2021, Table 1, to the digits of the original code
    "swin_tiny": (28_288_354, "4.494"),
    "swin_small": (49_606_258, "8.747"),
    "swin_base": (87_768_224, "15.438"),
    "swin_base_384": (87_903_584, "47.105"),
    "swin_large": (196_532_476, "34.487"),
    "swin_large_384": (196_735_516, "103.952"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_macs_are_the_published_ones(name: str) -> None:
    model = create_model(name, rng=BLANK)
    parameters, macs = PUBLISHED[name]
    assert model.parameter_count() == parameters
    assert f"{model.flops() / 1e9:.3f}" == macs
    assert sum(row.parameters for row in model.summary()) == parameters


def test_names_and_shapes_of_swin_tiny_are_those_of_the_original() -> None:
    c, depths, heads = 96, (2, 2, 6, 2), (3, 6, 12, 24)
    expected: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (c, 3, 4, 4),
        "patch_embed.proj.bias": (c,),
        "patch_embed.norm.weight": (c,),
        "patch_embed.norm.bias": (c,),
    }
    for i, (depth, h) in enumerate(zip(depths, heads, strict=True)):
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}."
            expected |= {
                block + "norm1.weight": (c,),
                block + "norm1.bias": (c,),
                block + "attn.relative_position_bias_table": (169, h),
                block + "attn.qkv.weight": (3 * c, c),
                block + "attn.qkv.bias": (3 * c,),
                block + "attn.proj.weight": (c, c),
                block + "attn.proj.bias": (c,),
                block + "norm2.weight": (c,),
                block + "norm2.bias": (c,),
                block + "mlp.fc1.weight": (4 * c, c),
                block + "mlp.fc1.bias": (4 * c,),
                block + "mlp.fc2.weight": (c, 4 * c),
                block + "mlp.fc2.bias": (c,),
            }
        if i < 3:
            merge = f"layers.{i}.downsample."
            expected |= {
                merge + "reduction.weight": (2 * c, 4 * c),
                merge + "norm.weight": (4 * c,),
                merge + "norm.bias": (4 * c,),
            }
            c *= 2
    expected |= {
        "norm.weight": (c,),
        "norm.bias": (c,),
        "head.weight": (1000, c),
        "head.bias": (1000,),
    }
    ours = {
        name: array.shape
        for name, array in create_model("swin_tiny", rng=BLANK).state_dict().items()
    }
    assert ours == expected
    assert list(ours) == list(expected)
    assert len(ours) == 173


def test_the_summary_walks_the_pyramid_of_the_paper() -> None:
    shapes = [row.shape for row in create_model("swin_tiny", rng=BLANK).summary()]
    assert shapes[:5] == [(224, 224, 3), (56, 56, 48), (56, 56, 96), (56, 56, 96), (28, 28, 192)]
    assert shapes[-3:] == [(7, 7, 768), (768,), (1000,)]


@pytest.mark.parametrize("name", list_models())
def test_a_named_model_is_built_again_from_its_name_and_settings(name: str) -> None:
    model = create_model(name, num_classes=3, dtype=np.float64, rng=BLANK)
    again = create_model(model.name, **model.settings, rng=BLANK)
    assert again.settings == model.settings
    shapes = {k: (v.shape, v.dtype) for k, v in model.state_dict().items()}
    assert np.dtype("f4") not in {dtype for _, dtype in shapes.values()}
    assert shapes == {k: (v.shape, v.dtype) for k, v in again.state_dict().items()}


def test_drop_path_grows_in_equal_steps_from_zero() -> None:
    model = create_model("swin_tiny", rng=BLANK)
    rates = [block.drop_path.rate for stage in model.layers for block in stage.blocks]
    np.testing.assert_allclose(rates, np.linspace(0, 0.2, 12), rtol=1e-12)
    assert drop_path_rates(0.3, 1) == [0.0]


def test_first_weights_are_drawn_as_in_the_original() -> None:
    model = SwinTransformer(
        img_size=32, patch_size=4, embed_dim=96, depths=(2,), num_heads=(3,), num_classes=50,
        window_size=4, rng=np.random.default_rng(0),
    )  # fmt: skip
    state = model.state_dict()
    for name, array in state.items():
        if "norm" in name:
            assert (array == name.endswith("weight")).all()
        elif name.startswith("patch_embed"):
            assert abs(array).max() <= 48**-0.5  # PyTorch's default, by fan-in
            assert array.std() > 0.9 * (48 * 3) ** -0.5 or array.size < 1000
        elif name.endswith("bias"):
            assert (array == 0).all()
        else:
            assert abs(array.std() / 0.02 - 1) < 0.1, name
    assert abs(state["layers.0.blocks.0.mlp.fc1.weight"]).max() > 0.06  # not cut at two sigma
