"""The configurations on which whole models are compared, and with whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minswin.models import TNT, CvT, ResNet, SwinTransformer, SwinTransformerV2, Twins
from minswin.models.deit import DistilledVisionTransformer
from minswin.models.vit import VisionTransformer


@dataclass(frozen=True)
class Case:
    """Settings of a model, and which implementations define the same function for them."""

    name: str
    settings: dict[str, Any]
    peers: tuple[str, ...] = ("transformers", "timm")
    batch: int = 2
    images: tuple[int, int] | None = None  # None: as the model was built for
    family: type[Any] = SwinTransformer
    # by name: what has no effect on the logits, so that its gradients are nothing but rounding
    idle: Callable[[str], bool] = lambda name: False

    def __str__(self) -> str:
        return self.name

    def draw_images(self, rng: np.random.Generator, dtype: Any = np.float64) -> np.ndarray:
        size = self.images or self.settings["img_size"]
        size = (size, size) if isinstance(size, int) else size
        return rng.standard_normal((self.batch, 3, *size)).astype(dtype)


SWIN_CASES = (
    Case(
        "four stages, the last map is one window",
        {
            "img_size": 64, "patch_size": 4, "window_size": 2, "embed_dim": 6, "num_classes": 5,
            "depths": (2, 2, 3, 2), "num_heads": (1, 3, 2, 6),
        },
    ),
    Case(
        "odd heads, image 48×80",
        {
            "img_size": (48, 80), "patch_size": 2, "window_size": 4, "embed_dim": 15,
            "num_classes": 7, "depths": (2, 3), "num_heads": (3, 5),
        },
        batch=3,
    ),
    Case(
        "window 7, no qkv bias, mlp ratio 2",
        {
            "img_size": 28, "patch_size": 2, "window_size": 7, "embed_dim": 20, "num_classes": 6,
            "depths": (2, 2), "num_heads": (5, 4), "qkv_bias": False, "mlp_ratio": 2.0,
        },
    ),
    Case(
        "patch 2×3, maps 10×14, 5×7, 3×4, window 3: padded",
        {
            "img_size": (20, 42), "patch_size": (2, 3), "window_size": 3, "embed_dim": 8,
            "num_classes": 5, "depths": (2, 2, 2), "num_heads": (1, 2, 4),
        },
        peers=("transformers",),  # timm pads after the roll, which is another function
    ),
    Case(
        "absolute positions, maps 12×8, 6×4, window 4",
        {
            "img_size": (24, 16), "patch_size": 2, "window_size": 4, "embed_dim": 9,
            "num_classes": 4, "depths": (2, 2), "num_heads": (3, 2), "ape": True,
        },
        peers=("transformers",),  # timm has no absolute positions, and shifts an axis by itself
    ),
    Case(
        "made for 32×32, run on 48×40",
        {
            "img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 10, "num_classes": 5,
            "depths": (2, 2, 2), "num_heads": (1, 2, 5),
        },
        peers=("transformers",),  # timm refuses another size than its own
        images=(48, 40),
    ),
    Case(
        "window 2×4, image 32×64",
        {
            "img_size": (32, 64), "patch_size": 2, "window_size": (2, 4), "embed_dim": 12,
            "num_classes": 5, "depths": (2, 2), "num_heads": (3, 2),
        },
        peers=("timm",),  # transformers has square windows only
    ),
)  # fmt: skip

# transformers adds the mask of −100 twice. Where logits differ by far less, neither leaves a trace.
V2_CASES = (
    Case(
        "V2, patch 2×3, maps 10×14 and 5×7, window 3: padded",
        {
            "img_size": (20, 42), "patch_size": (2, 3), "window_size": 3, "embed_dim": 9,
            "num_classes": 5, "depths": (2, 3), "num_heads": (3, 2),
        },
        peers=("transformers V2",),  # timm pads after the roll, which is another function
        family=SwinTransformerV2,
    ),
    Case(
        "V2, pretrained windows 3 and 6, window 4, image 32×48",
        {
            "img_size": (32, 48), "patch_size": 2, "window_size": 4, "embed_dim": 10,
            "num_classes": 7, "depths": (2, 2), "num_heads": (5, 2),
            "pretrained_window_sizes": (3, 6),
        },
        peers=("transformers V2", "timm V2"),
        batch=3,
        family=SwinTransformerV2,
    ),
    Case(
        "V2, no qkv bias, mlp ratio 2, the last map is one window",
        {
            "img_size": 16, "patch_size": 2, "window_size": 4, "embed_dim": 8,
            "num_classes": 6, "depths": (2, 2, 1), "num_heads": (2, 4, 1),
            "qkv_bias": False, "mlp_ratio": 2.0, "pretrained_window_sizes": (0, 3, 2),
        },
        peers=("transformers V2", "timm V2"),
        family=SwinTransformerV2,
    ),
)  # fmt: skip

VIT_CASES = (
    Case(
        "ViT, patch 4, image 12×20",
        {
            "img_size": (12, 20), "patch_size": 4, "embed_dim": 15, "depth": 3, "num_heads": 5,
            "num_classes": 7,
        },
        peers=("transformers ViT", "timm ViT"),
        batch=3,
        family=VisionTransformer,
    ),
    Case(
        "ViT, patch 2×3, no qkv bias, mlp ratio 2",
        {
            "img_size": (10, 12), "patch_size": (2, 3), "embed_dim": 12, "depth": 2,
            "num_heads": 3, "num_classes": 5, "qkv_bias": False, "mlp_ratio": 2.0,
        },
        peers=("transformers ViT", "timm ViT"),
        family=VisionTransformer,
    ),
    Case(
        "ViT with pre-logits",
        {
            "img_size": 16, "patch_size": 4, "embed_dim": 10, "depth": 2, "num_heads": 2,
            "num_classes": 6, "representation_size": 7,
        },
        peers=("transformers ViT",),  # timm has it no more
        family=VisionTransformer,
    ),
    Case(
        "ViT, mean of the tokens",
        {
            "img_size": (8, 20), "patch_size": 4, "embed_dim": 14, "depth": 2, "num_heads": 7,
            "num_classes": 5, "global_pool": "avg",
        },
        peers=("timm ViT",),
        family=VisionTransformer,
    ),
    Case(
        "ViT without positions",
        {
            "img_size": (8, 20), "patch_size": 4, "embed_dim": 9, "depth": 2, "num_heads": 3,
            "num_classes": 5, "positions": "none",
        },
        peers=("timm ViT",),
        family=VisionTransformer,
    ),
    Case(
        "ViT, relative positions, class token",
        {
            "img_size": (8, 20), "patch_size": 4, "embed_dim": 9, "depth": 2, "num_heads": 3,
            "num_classes": 5, "positions": "relative",
        },
        peers=("timm ViT",),
        family=VisionTransformer,
    ),
    Case(
        "ViT, relative positions, mean of the tokens",
        {
            "img_size": (20, 12), "patch_size": 4, "embed_dim": 10, "depth": 2, "num_heads": 2,
            "num_classes": 4, "positions": "relative", "global_pool": "avg",
        },
        peers=("timm ViT",),
        family=VisionTransformer,
    ),
    Case(
        "DeiT distilled, patch 4, image 12×20",
        {
            "img_size": (12, 20), "patch_size": 4, "embed_dim": 15, "depth": 3, "num_heads": 5,
            "num_classes": 7,
        },
        peers=("transformers DeiT", "timm DeiT"),
        batch=3,
        family=DistilledVisionTransformer,
    ),
    Case(
        "DeiT distilled, patch 3×2, mlp ratio 3",
        {
            "img_size": (9, 16), "patch_size": (3, 2), "embed_dim": 8, "depth": 2, "num_heads": 4,
            "num_classes": 5, "mlp_ratio": 3.0,
        },
        peers=("transformers DeiT", "timm DeiT"),
        family=DistilledVisionTransformer,
    ),
)  # fmt: skip

TNT_CASES = (
    Case(
        "TNT, patch 8, image 16×24",
        {
            "img_size": (16, 24), "patch_size": 8, "embed_dim": 15, "inner_dim": 6, "depth": 3,
            "num_heads": 5, "inner_num_heads": 2, "num_classes": 7,
        },
        peers=("timm TNT",),
        batch=3,
        family=TNT,
    ),
    Case(
        "TNT, patch 6×5, words every 4 pixels, qkv bias",
        {
            "img_size": (12, 15), "patch_size": (6, 5), "embed_dim": 8, "inner_dim": 9, "depth": 2,
            "num_heads": 4, "inner_num_heads": 3, "num_classes": 5, "qkv_bias": True,
        },
        peers=("timm TNT",),
        family=TNT,
    ),
    Case(
        "TNT legacy, patch 4×6, words every 2 pixels",
        {
            "img_size": (12, 12), "patch_size": (4, 6), "embed_dim": 10, "inner_dim": 4, "depth": 2,
            "num_heads": 2, "inner_num_heads": 1, "inner_stride": 2, "num_classes": 6,
            "legacy": True,
        },
        peers=("timm TNT",),
        family=TNT,
    ),
)  # fmt: skip

TWINS_CASES = (
    Case(
        "Twins, windows of 3 on maps 12×8 and 6×4",
        {
            "img_size": (24, 16), "patch_size": 2, "embed_dim": 6, "depths": (3, 2),
            "num_heads": (1, 2), "sr_ratios": (4, 2), "window_size": 3, "num_classes": 5,
        },
        peers=("timm Twins",),
        batch=3,
        family=Twins,
    ),
    Case(
        "Twins, windows of 7 and one of the whole map, mlp ratio 2",
        {
            "img_size": 56, "patch_size": 2, "embed_dim": 10, "depths": (2, 3, 2),
            "num_heads": (2, 5, 4), "sr_ratios": (2, 1, 1), "window_size": 7, "mlp_ratio": 2.0,
            "num_classes": 6,
        },
        peers=("timm Twins",),
        family=Twins,
    ),
)  # fmt: skip


def has_no_effect_in_cvt(name: str) -> bool:
    """What adds one number to all logits of a query, and the query of the last block's patches."""
    last_query = name.startswith("stages.2.blocks.2.attn.conv_proj_q.")  # the head reads the class
    every_key = name.endswith("attn.conv_proj_k.bn.bias") and not name.startswith("stages.2.")
    return last_query or every_key or name.endswith("attn.proj_k.bias")


CVT_CASES = (
    Case(
        "CvT, odd maps 12×9, 6×5 and 3×3 of an image 47×36",
        {
            "img_size": (47, 36), "patch_sizes": (7, 3, 3), "strides": (4, 2, 2),
            "embed_dims": (6, 10, 12), "depths": (1, 2, 3), "num_heads": (1, 2, 3),
            "num_classes": 5,
        },
        peers=("transformers CvT",),
        batch=3,
        family=CvT,
        idle=has_no_effect_in_cvt,
    ),
    Case(
        "CvT, patches of 3 with stride 2, mlp ratio 2",
        {
            "img_size": 32, "patch_sizes": (3, 3, 3), "strides": (2, 2, 2),
            "embed_dims": (8, 6, 10), "depths": (2, 2, 3), "num_heads": (2, 3, 5),
            "mlp_ratio": 2.0, "num_classes": 7,
        },
        peers=("transformers CvT",),
        family=CvT,
        idle=has_no_effect_in_cvt,
    ),
)  # fmt: skip

# timm's first stage has 64 channels always.
RESNET_CASES = (
    Case(
        "ResNet, basic blocks, image 40×56",
        {"img_size": (40, 56), "depths": (1, 2, 1, 1), "block": "basic", "num_classes": 5},
        peers=("timm ResNet",),
        family=ResNet,
    ),
    Case(
        "ResNet, bottlenecks, image 48×36",
        {"img_size": (48, 36), "depths": (2, 1, 1, 1), "block": "bottleneck", "num_classes": 7},
        peers=("timm ResNet",),
        batch=3,
        family=ResNet,
    ),
    Case(
        "ResNet for CIFAR, option A, image 12×18",
        {
            "img_size": (12, 18), "depths": (1, 2, 2), "width": 6, "num_classes": 5,
            "stem": "cifar", "shortcut": "padding",
        },
        peers=("torch ResNet",),
        batch=4,
        family=ResNet,
    ),
    Case(
        "ResNet for CIFAR, four stages, odd maps",
        {
            "img_size": (15, 11), "depths": (2, 1, 1, 1), "width": 5, "num_classes": 4,
            "stem": "cifar", "shortcut": "padding",
        },
        peers=("torch ResNet",),
        batch=3,
        family=ResNet,
    ),
)  # fmt: skip

CASES = (
    *SWIN_CASES, *V2_CASES, *VIT_CASES, *TNT_CASES, *TWINS_CASES, *CVT_CASES, *RESNET_CASES
)  # fmt: skip


def pairs(cases: Iterable[Case]) -> list[tuple[Case, str]]:
    """Each case with each implementation that defines the same function for it."""
    return [(case, peer) for case in cases for peer in case.peers]


def case_named(start: str) -> Case:
    """The one whose name begins so."""
    (case,) = (case for case in CASES if case.name.startswith(start))
    return case
