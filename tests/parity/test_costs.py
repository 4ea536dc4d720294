"""Parameters and multiply-adds of published models, as torch counts them in timm's."""

from __future__ import annotations

import math
from typing import Any

import pytest

from minswin import create_model
from minswin.models.blank import BLANK

from .family import Proof
from .peers import load_timm, torch

pytestmark = pytest.mark.parity

PUBLISHED = {  # ours -> timm's
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "swin_base_384": "swin_base_patch4_window12_384",
    "swinv2_tiny_window8_256": "swinv2_tiny_window8_256",
    "swinv2_base_window12to24_192to384": "swinv2_base_window12to24_192to384",
    "vit_tiny": "vit_tiny_patch16_224",
    "vit_base": "vit_base_patch16_224",
    "vit_large_384": "vit_large_patch16_384",
    "deit_small": "deit_small_patch16_224",
    "deit_tiny_distilled": "deit_tiny_distilled_patch16_224",
    "deit_base_distilled_384": "deit_base_distilled_patch16_384",
    "tnt_small": "tnt_s_patch16_224",
    "tnt_base": "tnt_b_patch16_224",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
}

# GMACs, to the digits in which the TNT paper and timm's model cards give them
GIVEN = {"deit_tiny": "1.3", "deit_small": "4.6", "deit_base": "17.6"}


def build_on_paper(name: str) -> Any:
    """timm's model, of shapes without numbers, with attention as products that torch counts."""
    with torch.device("meta"):
        module = load_timm().create_model(name).eval()
    for layer in module.modules():
        if hasattr(layer, "fused_attn"):
            layer.fused_attn = False
    return module


def count_on_paper(module: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Multiply-adds of an image's products, and the elements that its layer norms give out."""
    from torch.utils.flop_counter import FlopCounterMode

    normed: list[int] = []
    for layer in module.modules():
        if isinstance(layer, torch.nn.LayerNorm):
            layer.register_forward_hook(lambda layer, given, out: normed.append(out.numel()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.empty(1, 3, *size, device="meta"))
    return counter.get_total_flops() // 2, sum(normed)


def not_counted(model: Any) -> int:
    """Products of Swin V2's position bias, which the original leaves out of its figure."""
    total = 0
    for stage in getattr(model, "layers", ()):
        for attn in (block.attn for block in stage.blocks):
            if hasattr(attn, "cpb_mlp"):
                rows = (2 * attn.window[0] - 1) * (2 * attn.window[1] - 1)
                total += rows * 512 * (2 + attn.heads)
    return total


def stated_anew(model: Any) -> int:
    """By how much Swin's figure is over its last norm: the original divides by 2⁴ and not 4³."""
    if not hasattr(model, "layers"):
        return 0
    *_, last_stage, norm, _ = model.summary()
    elements = math.prod(last_stage.shape)
    assert norm.macs == 4 * elements
    return 3 * elements


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_macs_are_those_that_torch_counts_in_timms_model(
    name: str, proofs: list[Proof]
) -> None:
    model: Any = create_model(name, rng=BLANK)
    module = build_on_paper(PUBLISHED[name])
    parameters = sum(p.numel() for p in module.parameters())
    products, normed = count_on_paper(module, model.img_size)
    if name.startswith(("vit", "deit", "resnet")):  # figures without the norms
        normed = 0
    macs = products - not_counted(model) + normed + stated_anew(model)
    against = f"timm {load_timm().__version__}"
    proofs.append(Proof(type(model), "parameters", against, model.parameter_count() - parameters))
    proofs.append(Proof(type(model), "MACs", against, model.flops() - macs))
    assert model.parameter_count() == parameters
    assert model.flops() == macs


@pytest.mark.parametrize("name", GIVEN)
def test_the_macs_of_deit_are_the_published_ones(name: str) -> None:
    for distilled in ("", "_distilled") if name != "deit_base" else ("",):
        flops = create_model(name + distilled, rng=BLANK).flops()
        assert f"{flops / 1e9:.1f}" == GIVEN[name]
