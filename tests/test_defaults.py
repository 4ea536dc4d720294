"""What a constructor or function does by default is what the papers do, and other libraries."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import pytest

from minswin import ops
from minswin.data.augment import crop, one_hot, rand_augment, random_erasing
from minswin.dense.metrics import average_precision, confusion
from minswin.layers.basic import LayerNorm, Linear, Mlp
from minswin.layers.convolutions import BatchNorm2d
from minswin.models import (
    TNT,
    ResNet,
    SwinTransformer,
    SwinTransformerV2,
    Transformer,
    VisionTransformer,
)
from minswin.training import AdamW
from minswin.training.optimizers import SGD, noam

# Nothing is dropped where the paper has no drop rate for its smallest training.
NOTHING_DROPPED = {"drop_rate": 0.0, "attn_drop_rate": 0.0, "drop_path_rate": 0.0}

DEFAULTS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    # Swin-T of Liu et al. 2021, §3.3; its drop path is that of microsoft's constructor
    (
        SwinTransformer,
        {
            "img_size": 224, "patch_size": 4, "embed_dim": 96, "depths": (2, 2, 6, 2),
            "num_heads": (3, 6, 12, 24), "window_size": 7, "mlp_ratio": 4.0, "qkv_bias": True,
            "drop_rate": 0.0, "attn_drop_rate": 0.0, "drop_path_rate": 0.1, "ape": False,
            "patch_norm": True, "num_classes": 1000,
        },
    ),
    # Swin V2-T of Liu et al. 2022, trained on 256×256
    (SwinTransformerV2, {"img_size": 256, "window_size": 8, "pretrained_window_sizes": None}),
    # ViT-B/16 of Dosovitskiy et al. 2021, table 1
    (
        VisionTransformer,
        {
            "img_size": 224, "patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12,
            "mlp_ratio": 4.0, "qkv_bias": True, "num_classes": 1000, **NOTHING_DROPPED,
        },
    ),
    # TNT-S of Han et al. 2021, table 2
    (
        TNT,
        {
            "img_size": 224, "patch_size": 16, "embed_dim": 384, "inner_dim": 24, "depth": 12,
            "num_heads": 6, "inner_num_heads": 4, "inner_stride": 4, "mlp_ratio": 4.0,
            "qkv_bias": False, "num_classes": 1000, **NOTHING_DROPPED,
        },
    ),
    # the base model of Vaswani et al. 2017, table 3
    (
        Transformer,
        {"embed_dim": 512, "depth": 6, "num_heads": 8, "mlp_ratio": 4, "drop_rate": 0.1, "pad": 0},
    ),
    # ResNet-18 of He et al. 2016, table 1
    (
        ResNet,
        {
            "img_size": 224, "depths": (2, 2, 2, 2), "width": 64, "block": "basic",
            "stem": "imagenet", "num_classes": 1000, "drop_path_rate": 0.0,
        },
    ),
    # as torch.nn has them
    (LayerNorm, {"eps": 1e-5}),
    (BatchNorm2d, {"eps": 1e-5, "momentum": 0.1}),
    (Linear, {"bias": True}),
    (Mlp, {"drop_rate": 0.0}),
    # Adam's of Kingma & Ba 2015, algorithm 1; the decay of Swin's training
    (AdamW, {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.05}),
    (SGD, {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0}),
    # Vaswani et al. 2017, §5.3
    (noam, {"warmup": 4000, "factor": 1.0}),
    # DeiT's and Swin's recipe: rand-m9-n2; Zhong et al. 2020, §5 with timm's smallest area
    (rand_augment, {"operations": 2, "magnitude": 9.0}),
    (random_erasing, {"probability": 0.25, "area": (0.02, 1 / 3), "aspect": 0.3}),
    (crop, {"mode": "constant"}),
    (one_hot, {"smoothing": 0.0}),
    # NumPy's and torch's functions of these names; RetinaNet's of Lin et al. 2017, §4.1
    (ops.softmax, {"axis": -1}),
    (ops.log_softmax, {"axis": -1}),
    (ops.sum, {"axis": None, "keepdims": False}),
    (ops.mean, {"axis": None, "keepdims": False}),
    (ops.max, {"axis": None, "keepdims": False}),
    (ops.concatenate, {"axis": 0}),
    (ops.stack, {"axis": 0}),
    (ops.layer_norm, {"eps": 1e-5}),
    (ops.batch_norm, {"eps": 1e-5, "moments": None}),
    (ops.conv2d, {"stride": (1, 1), "padding": (0, 0)}),
    (ops.max_pool2d, {"padding": (0, 0)}),
    (ops.cross_entropy, {"smoothing": 0.0}),
    (ops.resize, {"method": "bilinear"}),
    (ops.roll, {"axis": (1, 2)}),
    (ops.focal_loss, {"alpha": 0.25, "gamma": 2.0}),
    # what COCO counts, and the label that Cityscapes leaves out
    (average_precision, {"most": 100}),
    (confusion, {"ignore": 255}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "expected"), DEFAULTS, ids=[function.__name__ for function, _ in DEFAULTS]
)
def test_the_defaults_are_those_of_the_paper(
    function: Callable[..., Any], expected: dict[str, Any]
) -> None:
    called = function.__init__ if isinstance(function, type) else function
    parameters = signature(called).parameters
    assert {name: parameters[name].default for name in expected} == expected
