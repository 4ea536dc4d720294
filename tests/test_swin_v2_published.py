"""Swin V2 has the parameters, the names, the shapes and the cost that are published."""

from __future__ import annotations

import numpy as np
import pytest
from swin_v2_cases import swin_v2
from test_costs import multiplications

from minswin import create_model
from minswin.models import SwinTransformerV2
from minswin.models.blank import BLANK
from minswin.models.registry import SWIN_V2
from minswin.testing.strategies import Pair


@pytest.mark.parametrize("size", [(20, 28), (12, 8)])
def test_the_stated_cost_is_the_number_of_multiplications_but_for_the_bias(size: Pair) -> None:
    rng = np.random.default_rng(0)
    model, x = swin_v2(rng, img_size=size), rng.standard_normal((1, 3, *size))
    counted = sum(multiplications(model, x).values())
    for stage in model.layers:
        for block in stage.blocks:
            M, heads = block.attn.window[0], block.attn.heads
            counted -= (2 * M - 1) ** 2 * 512 * (2 + heads)
    final_norm, last_map = model.summary()[-2], model.feature_maps(x)[-1]
    assert model.flops() == counted - last_map.size + final_norm.macs


PUBLISHED = {  # parameters, MACs in G
    "swinv2_tiny_window8_256": (28_347_154, "5.9"),
    "swinv2_tiny_window16_256": (28_347_154, "6.6"),
    "swinv2_small_window8_256": (49_728_418, "11.5"),
    "swinv2_small_window16_256": (49_728_418, "12.6"),
    "swinv2_base_window8_256": (87_918_816, "20.3"),
    "swinv2_base_window16_256": (87_918_816, "21.8"),
    "swinv2_base_window12to16_192to256": (87_918_816, "21.8"),
    "swinv2_base_window12to24_192to384": (87_918_816, "54.7"),
    "swinv2_large_window12to16_192to256": (196_739_932, "47.5"),
    "swinv2_large_window12to24_192to384": (196_739_932, "115.4"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_macs_are_the_published_ones(name: str) -> None:
    model = create_model(name, rng=BLANK)
    parameters, macs = PUBLISHED[name]
    assert model.parameter_count() == parameters
    assert f"{model.flops() / 1e9:.1f}" == macs


@pytest.mark.parametrize("name", SWIN_V2)
def test_the_summary_accounts_for_every_parameter(name: str) -> None:
    model = create_model(name, rng=BLANK)
    assert isinstance(model, SwinTransformerV2)
    assert sum(row.parameters for row in model.summary()) == model.parameter_count()


def test_names_and_shapes_of_swinv2_tiny_are_those_of_the_original() -> None:
    model = create_model("swinv2_tiny_window16_256", rng=BLANK)
    ours = {name: array.shape for name, array in model.state_dict().items()}
    expected: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (96, 3, 4, 4),
        "patch_embed.proj.bias": (96,),
        "patch_embed.norm.weight": (96,),
        "patch_embed.norm.bias": (96,),
    }
    for i, (depth, h) in enumerate(zip((2, 2, 6, 2), (3, 6, 12, 24), strict=True)):
        c = 32 * h
        for j in range(depth):
            block: dict[str, tuple[int, ...]] = {
                "norm1.weight": (c,), "norm1.bias": (c,),
                "attn.logit_scale": (h, 1, 1), "attn.q_bias": (c,), "attn.v_bias": (c,),
                "attn.cpb_mlp.0.weight": (512, 2), "attn.cpb_mlp.0.bias": (512,),
                "attn.cpb_mlp.2.weight": (h, 512), "attn.qkv.weight": (3 * c, c),
                "attn.proj.weight": (c, c), "attn.proj.bias": (c,),
                "norm2.weight": (c,), "norm2.bias": (c,),
                "mlp.fc1.weight": (4 * c, c), "mlp.fc1.bias": (4 * c,),
                "mlp.fc2.weight": (c, 4 * c), "mlp.fc2.bias": (c,),
            }  # fmt: skip
            expected |= {f"layers.{i}.blocks.{j}.{name}": shape for name, shape in block.items()}
        if i < 3:
            expected[f"layers.{i}.downsample.reduction.weight"] = (2 * c, 4 * c)
            expected[f"layers.{i}.downsample.norm.weight"] = (2 * c,)
            expected[f"layers.{i}.downsample.norm.bias"] = (2 * c,)
    expected |= {"norm.weight": (768,), "norm.bias": (768,)}
    expected |= {"head.weight": (1000, 768), "head.bias": (1000,)}
    assert list(ours.items()) == list(expected.items())
