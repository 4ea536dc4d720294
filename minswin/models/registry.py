"""The list of named models, and how to build one.

A new model is entered here, under its class in NAMED; `models` passes on what `__all__` lists.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import numpy as np

from minswin.arguments import Seed
from minswin.models.base import Model, defaults_of, plain_settings
from minswin.models.cvt import CvT
from minswin.models.deit import DistilledVisionTransformer
from minswin.models.resnet import ResNet
from minswin.models.swin import SwinTransformer
from minswin.models.swin_v2 import SwinTransformerV2
from minswin.models.tnt import TNT
from minswin.models.transformer import Transformer
from minswin.models.twins import Twins
from minswin.models.vit import VisionTransformer

__all__ = [
    "TNT",
    "CvT",
    "DistilledVisionTransformer",
    "ResNet",
    "SwinTransformer",
    "SwinTransformerV2",
    "Transformer",
    "Twins",
    "VisionTransformer",
    "create_model",
    "list_models",
]

_TINY: dict[str, Any] = {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)}
_SMALL: dict[str, Any] = {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)}
_BASE: dict[str, Any] = {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)}
_LARGE: dict[str, Any] = {"embed_dim": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48)}
_384: dict[str, Any] = {"img_size": 384, "window_size": 12}
_CIFAR: dict[str, Any] = {"img_size": 32, "patch_size": 2, "window_size": 4, "num_classes": 10}

# Liu et al. 2021, §3.3 and Table 1, with the drop path rates of the original's configurations;
# the CIFAR-sized ones are for 32×32 images.
SWIN: dict[str, dict[str, Any]] = {
    "swin_tiny": {**_TINY, "drop_path_rate": 0.2},
    "swin_small": {**_SMALL, "drop_path_rate": 0.3},
    "swin_base": {**_BASE, "drop_path_rate": 0.5},
    "swin_base_384": {**_BASE, **_384, "drop_path_rate": 0.5},
    "swin_large": {**_LARGE, "drop_path_rate": 0.2},
    "swin_large_384": {**_LARGE, **_384, "drop_path_rate": 0.2},
    "swin_tiny_c24": {
        **_TINY,
        "num_heads": (4, 8, 16, 32),
        "img_size": 256,
        "window_size": 8,
        "drop_path_rate": 0.2,
    },
    # 7 M parameters: the faithful Swin for CIFAR of the SPT/LSA study
    "swin_cifar_7m": {
        **_CIFAR,
        "embed_dim": 96,
        "depths": (2, 6, 4),
        "num_heads": (3, 6, 12),
        "mlp_ratio": 2.0,
        "ape": True,
        "drop_path_rate": 0.1,
    },
    "swin_cifar": {
        **_CIFAR,
        "embed_dim": 48,
        "depths": (2, 4, 2),
        "num_heads": (3, 6, 12),
        "drop_path_rate": 0.1,
    },
    "swin_cifar_small": {
        **_CIFAR,
        "embed_dim": 32,
        "depths": (2, 2, 2),
        "num_heads": (2, 4, 8),
        "drop_path_rate": 0.0,
    },
    # what makes its tokens is Xiao et al. 2021, one 3×3 convolution behind the one that halves;
    # the blocks are those of Swin
    "swin_cifar_stem": {
        **_CIFAR,
        "embed_dim": 48,
        "depths": (2, 2, 2),
        "num_heads": (3, 6, 12),
        "stem": "convolutions",
        "stem_depth": 1,
        "drop_path_rate": 0.0,
    },
    "swin_shapes": {
        **_CIFAR,
        "patch_size": 4,
        "embed_dim": 48,
        "depths": (2, 2),
        "num_heads": (3, 6),
        "drop_path_rate": 0.0,
    },
}

_V2_256: dict[str, Any] = {"img_size": 256, "window_size": 16}
_V2_192: dict[str, Any] = {"img_size": 192, "window_size": 12, "drop_path_rate": 0.2}
_V2_TUNED: dict[str, Any] = {"pretrained_window_sizes": (12, 12, 12, 6), "drop_path_rate": 0.2}
_V2_TUNED_256: dict[str, Any] = {**_V2_TUNED, **_V2_256}
_V2_TUNED_384: dict[str, Any] = {**_V2_TUNED, "img_size": 384, "window_size": 24}

# Liu et al. 2022 and the configurations of the original: window and image size, or both of
# pre-training (on ImageNet-22K) and fine-tuning.
SWIN_V2: dict[str, dict[str, Any]] = {
    "swinv2_tiny_window8_256": {**_TINY, **_V2_256, "window_size": 8, "drop_path_rate": 0.2},
    "swinv2_tiny_window16_256": {**_TINY, **_V2_256, "drop_path_rate": 0.2},
    "swinv2_small_window8_256": {**_SMALL, **_V2_256, "window_size": 8, "drop_path_rate": 0.3},
    "swinv2_small_window16_256": {**_SMALL, **_V2_256, "drop_path_rate": 0.3},
    "swinv2_base_window8_256": {**_BASE, **_V2_256, "window_size": 8, "drop_path_rate": 0.5},
    "swinv2_base_window16_256": {**_BASE, **_V2_256, "drop_path_rate": 0.5},
    "swinv2_base_window12_192": {**_BASE, **_V2_192},
    "swinv2_base_window12to16_192to256": {**_BASE, **_V2_TUNED_256},
    "swinv2_base_window12to24_192to384": {**_BASE, **_V2_TUNED_384},
    "swinv2_large_window12_192": {**_LARGE, **_V2_192},
    "swinv2_large_window12to16_192to256": {**_LARGE, **_V2_TUNED_256},
    "swinv2_large_window12to24_192to384": {**_LARGE, **_V2_TUNED_384},
    "swinv2_cifar": SWIN["swin_cifar"],
}

_VIT_TINY: dict[str, Any] = {"embed_dim": 192, "depth": 12, "num_heads": 3}
_VIT_SMALL: dict[str, Any] = {"embed_dim": 384, "depth": 12, "num_heads": 6}
_VIT_BASE: dict[str, Any] = {"embed_dim": 768, "depth": 12, "num_heads": 12}
_VIT_LARGE: dict[str, Any] = {"embed_dim": 1024, "depth": 24, "num_heads": 16}
_VIT_HUGE: dict[str, Any] = {"embed_dim": 1280, "depth": 32, "num_heads": 16}
_VIT_CIFAR: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 4,
    "embed_dim": 192,
    "depth": 9,
    "num_heads": 12,
    "mlp_ratio": 2.0,
    "drop_path_rate": 0.1,
    "num_classes": 10,
}

# Dosovitskiy et al. 2021, Table 1: patches of 16, but for those with another size in their names
# and for vit_huge, whose patches are 14. The two smallest sizes are those of DeiT; vit_cifar is
# the plain ViT of the SPT/LSA study, with 2.7 M parameters.
VIT: dict[str, dict[str, Any]] = {
    "vit_tiny": _VIT_TINY,
    "vit_small": _VIT_SMALL,
    "vit_base": _VIT_BASE,
    "vit_base_32": {**_VIT_BASE, "patch_size": 32},
    "vit_base_384": {**_VIT_BASE, "img_size": 384},
    "vit_base_32_384": {**_VIT_BASE, "patch_size": 32, "img_size": 384},
    "vit_large": _VIT_LARGE,
    "vit_large_32": {**_VIT_LARGE, "patch_size": 32},
    "vit_large_384": {**_VIT_LARGE, "img_size": 384},
    "vit_huge": {**_VIT_HUGE, "patch_size": 14},
    "vit_cifar": _VIT_CIFAR,
    "vit_cifar_small": {**_VIT_CIFAR, "embed_dim": 96, "depth": 6, "num_heads": 6},
    # Touvron et al. 2021, Table 1: ViT's models, trained with drop path
    "deit_tiny": {**_VIT_TINY, "drop_path_rate": 0.1},
    "deit_small": {**_VIT_SMALL, "drop_path_rate": 0.1},
    "deit_base": {**_VIT_BASE, "drop_path_rate": 0.1},
    "deit_base_384": {**_VIT_BASE, "img_size": 384, "drop_path_rate": 0.1},
}

DISTILLED: dict[str, dict[str, Any]] = {
    "deit_tiny_distilled": VIT["deit_tiny"],
    "deit_small_distilled": VIT["deit_small"],
    "deit_base_distilled": VIT["deit_base"],
    "deit_base_distilled_384": VIT["deit_base_384"],
    "deit_cifar_distilled": _VIT_CIFAR,
}

# Han et al. 2021, Table 1, with the drop path rate of its training
TNTS: dict[str, dict[str, Any]] = {
    "tnt_small": {"embed_dim": 384, "inner_dim": 24, "num_heads": 6, "drop_path_rate": 0.1},
    "tnt_base": {"embed_dim": 640, "inner_dim": 40, "num_heads": 10, "drop_path_rate": 0.1},
    "tnt_cifar": {
        "img_size": 32,
        "patch_size": 4,
        "inner_stride": 2,
        "embed_dim": 192,
        "inner_dim": 12,
        "depth": 9,
        "num_heads": 6,
        "inner_num_heads": 2,
        "mlp_ratio": 2.0,
        "drop_path_rate": 0.1,
        "num_classes": 10,
    },
}

_RESNET_CIFAR: dict[str, Any] = {
    "img_size": 32,
    "width": 16,
    "stem": "cifar",
    "shortcut": "padding",
    "num_classes": 10,
}

# He et al. 2016: Table 1 with the stride where torchvision has it, and §4.2, for 32×32 images,
# whose shortcuts have no parameters: 269,722 and 853,018 in all.
RESNET: dict[str, dict[str, Any]] = {
    "resnet18": {"depths": (2, 2, 2, 2)},
    "resnet50": {"depths": (3, 4, 6, 3), "block": "bottleneck"},
    "resnet20": {**_RESNET_CIFAR, "depths": (3, 3, 3)},
    "resnet56": {**_RESNET_CIFAR, "depths": (9, 9, 9)},
}

# Chu et al. 2021, Table 1: Twins-SVT, with the drop path rates of the original's training
TWINS: dict[str, dict[str, Any]] = {
    "twins_svt_small": {"drop_path_rate": 0.2},
    "twins_svt_base": {
        "embed_dim": 96,
        "depths": (2, 2, 18, 2),
        "num_heads": (3, 6, 12, 24),
        "drop_path_rate": 0.3,
    },
    "twins_svt_large": {
        "embed_dim": 128,
        "depths": (2, 2, 18, 2),
        "num_heads": (4, 8, 16, 32),
        "drop_path_rate": 0.5,
    },
    "twins_cifar": {
        "img_size": 32,
        "patch_size": 2,
        "embed_dim": 48,
        "depths": (2, 4, 2),
        "num_heads": (3, 6, 12),
        "sr_ratios": (4, 2, 1),
        "window_size": 4,
        "drop_path_rate": 0.1,
        "num_classes": 10,
    },
}

# Wu et al. 2021, Table 1, with the drop path rates of the original's configurations
_CVT_21: dict[str, Any] = {"depths": (1, 4, 16)}
CVT: dict[str, dict[str, Any]] = {
    "cvt_13": {},
    "cvt_13_384": {"img_size": 384},
    "cvt_21": _CVT_21,
    "cvt_21_384": {**_CVT_21, "img_size": 384},
    "cvt_w24_384": {
        "img_size": 384,
        "embed_dims": (192, 768, 1024),
        "depths": (2, 2, 20),
        "num_heads": (3, 12, 16),
        "drop_path_rate": 0.3,
    },
    "cvt_cifar": {
        "img_size": 32,
        "patch_sizes": (3, 3, 3),
        "strides": (2, 2, 2),
        "embed_dims": (48, 96, 192),
        "depths": (1, 2, 4),
        "num_heads": (1, 2, 4),
        "num_classes": 10,
    },
}

NAMED: dict[type[Model], dict[str, dict[str, Any]]] = {
    SwinTransformer: SWIN,
    SwinTransformerV2: SWIN_V2,
    VisionTransformer: VIT,
    DistilledVisionTransformer: DISTILLED,
    TNT: TNTS,
    ResNet: RESNET,
    Twins: TWINS,
    CvT: CVT,
}
MODELS = {name: settings for named in NAMED.values() for name, settings in named.items()}
CLASSES = {name: model for model, named in NAMED.items() for name in named}


def list_models() -> list[str]:
    """The names that `create_model` knows."""
    return list(MODELS)


def create_model(name: str, *, rng: Seed = None, dtype: Any = np.float32, **settings: Any) -> Model:
    """Build a named model with fresh weights; `settings` override those of the name.

    rng: draws the weights, and later the dropout masks; a seed, a Generator, or None.
    The model's `.name` and `.settings` build the same model again.
    """
    if not isinstance(name, str):
        raise TypeError(f"create_model: name must be a text, got {type(name).__name__}")
    if name not in MODELS:
        raise ValueError(
            f"create_model: unknown model {name!r}; did you mean {_nearest(str(name))}? "
            f"'minswin models' and list_models() give all {len(MODELS)} names"
        )
    family: Any = CLASSES[name]
    known = known_settings(family)
    wrong = [key for key in settings if key not in known]
    if wrong:
        near = get_close_matches(wrong[0], known, n=1, cutoff=0.7)
        advice = f"did you mean {near[0]}? Known are" if near else "known are"
        raise ValueError(
            f"create_model: {name} has no setting {', '.join(wrong)}; {advice} {', '.join(known)}"
        )
    settings = plain_settings(family, settings)
    model: Model = family(**{**MODELS[name], **settings}, rng=rng, dtype=dtype)
    model.name = name
    model.settings = {**settings, "dtype": np.dtype(dtype).name}
    return model


def size_of(name: str) -> int:
    """The side of the images that a named model is built for, where nothing else is said."""
    side: int = {**defaults_of(CLASSES[name]), **MODELS[name]}["img_size"]
    return side


def _nearest(name: str) -> str:
    """The three names that are most like one: first those that begin like it, or it like them."""
    plain = name.lower().replace("-", "_")
    alike = (known for known in MODELS if plain.startswith(known) or known.startswith(plain))
    begin = sorted(alike, key=lambda known: abs(len(known) - len(plain)))
    near = [*begin, *get_close_matches(plain, MODELS, n=3, cutoff=0)]
    first = [repr(known) for known in dict.fromkeys(near)][:3]
    return f"{', '.join(first[:-1])} or {first[-1]}"


def known_settings(family: type[Model]) -> list[str]:
    """The keywords with which a class of models is built, but for those that all have."""
    return [key for key in defaults_of(family) if key not in ("rng", "dtype")]
