"""What is published about ViT and DeiT: parameters, multiply-adds, names; and their errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_costs import multiplications
from test_vit import CHOICES, deit, images, vit

from minswin import create_model
from minswin.autograd import Tensor
from minswin.layers.embeddings import ConvStem, SinusoidalPositions
from minswin.models import DistilledVisionTransformer, VisionTransformer
from minswin.models.blank import BLANK
from minswin.models.deit import hard_distillation_loss, soft_distillation_loss
from minswin.models.registry import DISTILLED, VIT

PUBLISHED = {  # parameters, MACs in G
    "vit_tiny": (5_717_416, None),
    "vit_small": (22_050_664, None),
    "vit_base": (86_567_656, "17.564"),
    "vit_base_32": (88_224_232, "4.409"),
    "vit_base_384": (86_859_496, None),
    "vit_large": (304_326_632, "61.555"),
    "vit_huge": (632_045_800, "167.295"),
    "deit_tiny_distilled": (5_910_800, None),
    "deit_small_distilled": (22_436_432, None),
    "deit_base_distilled": (87_338_192, None),
    "deit_base_distilled_384": (87_630_032, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_macs_are_the_published_ones(name: str) -> None:
    model = create_model(name, rng=BLANK)
    parameters, macs = PUBLISHED[name]
    assert model.parameter_count() == parameters
    assert macs is None or f"{model.flops() / 1e9:.3f}" == macs


@pytest.mark.parametrize("name", [*VIT, *DISTILLED])
def test_the_summary_accounts_for_every_parameter(name: str) -> None:
    model = create_model(name, rng=BLANK, stem="overlapping", positions="relative")
    rows = model.summary()
    assert sum(row.parameters for row in rows) == model.parameter_count()
    assert rows[0].shape == (*model.img_size, 3)
    assert rows[-1].shape == (1000 if "cifar" not in name else 10,)
    assert type(model) is (DistilledVisionTransformer if name in DISTILLED else VisionTransformer)


def test_names_and_shapes_of_a_distilled_model_are_those_of_the_original() -> None:
    c = 192
    expected: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, c),
        "pos_embed": (1, 198, c),
        "dist_token": (1, 1, c),
        "patch_embed.proj.weight": (c, 3, 16, 16),
        "patch_embed.proj.bias": (c,),
    }
    for i in range(12):
        block = f"blocks.{i}."
        expected |= {
            block + "norm1.weight": (c,),
            block + "norm1.bias": (c,),
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
    expected |= {"norm.weight": (c,), "norm.bias": (c,)}
    for head in ("head", "head_dist"):
        expected |= {head + ".weight": (1000, c), head + ".bias": (1000,)}
    model = create_model("deit_tiny_distilled", rng=BLANK)
    ours = {name: array.shape for name, array in model.state_dict().items()}
    assert list(ours.items()) == list(expected.items())


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("build", [vit, deit])
def test_the_stated_cost_is_the_number_of_products(build: Any, choice: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    if build is deit and choice.keys() & {"global_pool", "representation_size"}:
        choice = {"positions": "none"}
    model = build(rng, **choice)
    counted = multiplications(model, rng.standard_normal((1, 3, *model.img_size)))
    assert model.flops() == sum(counted.values()) - counted["layer_norm"]


# ── errors ───────────────────────────────────────────────────────────────────────────────────────

RNG = np.random.default_rng(0)
TWO = Tensor(np.zeros((2, 3))), Tensor(np.zeros((2, 3)))
LABELS = np.array([0, 1])
ERRORS = [
    (lambda: vit(RNG, depth=-1), "VisionTransformer: depth must be an int of 0 or more, got -1"),
    (
        lambda: vit(RNG, positions="learnt"),
        "VisionTransformer: positions must be one of learned, learned_2d, sinusoidal, relative, "
        "none, got 'learnt'",
    ),
    (lambda: vit(RNG, stem="conv"), "stem must be one of patches, overlapping, convolutions, got"),
    (lambda: vit(RNG, global_pool="max"), "global_pool must be one of token, avg, got 'max'"),
    (
        lambda: vit(RNG, patch_size=4),
        "VisionTransformer: a 6×10 image does not divide into 4×4 patches; pad it to 8×12",
    ),
    (
        lambda: vit(RNG)(images(RNG, size=(8, 10))),
        "VisionTransformer: the learned positions were made for 3×5 patches, got 4×5; build the "
        "model with img_size=(8, 10) or positions='sinusoidal'",
    ),
    (
        lambda: vit(RNG, positions="relative")(images(RNG, size=(6, 12))),
        "RelativePositionBias: a 3×6 grid is larger than that of the table, 3×5",
    ),
    (
        lambda: vit(RNG)(images(RNG).transpose(0, 2, 3, 1)),
        "VisionTransformer: images must be (B, 3, H, W), got (2, 6, 10, 3); move the channels",
    ),
    (
        lambda: SinusoidalPositions(6),
        "SinusoidalPositions: a sine and a cosine of each axis need channels divisible by 4, got 6",
    ),
    (
        lambda: ConvStem(12, (6, 6), rng=RNG),
        "ConvStem: patches must be square with a side of 2, 4, 8, … and half of it must divide "
        "the 12 channels, got 6×6",
    ),
    (lambda: ConvStem(10, (8, 8), rng=RNG), "half of it must divide the 10 channels, got 8×8"),
    (
        lambda: ConvStem(12, (4, 4), rng=RNG)(Tensor(images(RNG))),
        "ConvStem: a 6×10 image does not divide into 4×4 patches; pad it to 8×12",
    ),
    (
        lambda: deit(RNG, global_pool="avg"),
        "DistilledVisionTransformer: both heads read their own token, so global_pool must be",
    ),
    (
        lambda: create_model("deit_small_distilled", window_size=7),
        "create_model: deit_small_distilled has no setting window_size; known are img_size, "
        "patch_size, embed_dim, depth, num_heads,",
    ),
    (lambda: create_model("vit_smal"), "unknown model 'vit_smal'; did you mean 'vit_small', '"),
    (
        lambda: hard_distillation_loss(TWO, LABELS, np.zeros((2, 4))),
        "distillation loss: the logits of both heads and of the teacher must have one shape "
        "(B, K), got (2, 3), (2, 3), (2, 4)",
    ),
    (
        lambda: soft_distillation_loss(TWO, LABELS, np.zeros((2, 3)), alpha=2),
        "distillation loss: alpha must be in [0, 1], got 2",
    ),
    (
        lambda: soft_distillation_loss(TWO, LABELS, np.zeros((2, 3)), temperature=0),
        "soft_distillation_loss: temperature must be a positive number, got 0",
    ),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors_say_who_what_and_what_to_do(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert message in str(caught.value)
