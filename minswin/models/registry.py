"""The list of named models, and how to build one."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import numpy as np

from minswin.models.swin import SwinTransformer

_TINY: dict[str, Any] = {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)}
_SMALL: dict[str, Any] = {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)}
_BASE: dict[str, Any] = {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)}
_LARGE: dict[str, Any] = {"embed_dim": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48)}
_384: dict[str, Any] = {"img_size": 384, "window_size": 12}
_CIFAR: dict[str, Any] = {"img_size": 32, "patch_size": 2, "window_size": 4, "num_classes": 10}

# Liu et al. 2021, §3.3 and Table 1, with the drop path rates of the original's configurations;
# the CIFAR-sized ones are for 32×32 images.
MODELS: dict[str, dict[str, Any]] = {
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
    "swin_shapes": {
        **_CIFAR,
        "patch_size": 4,
        "embed_dim": 48,
        "depths": (2, 2),
        "num_heads": (3, 6),
        "drop_path_rate": 0.0,
    },
}


def list_models() -> list[str]:
    """The names that `create_model` knows."""
    return list(MODELS)


def create_model(
    name: str, *, rng: np.random.Generator | None = None, dtype: Any = np.float32, **settings: Any
) -> SwinTransformer:
    """Build a named model with fresh weights; `settings` override those of the name.

    rng: draws the weights, and later the dropout masks; left out, a new random one.
    The model's `.name` and `.settings` build the same model again.
    """
    if name not in MODELS:
        near = get_close_matches(str(name), MODELS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"create_model: unknown model {name!r}; {hint}known are {', '.join(MODELS)}"
        )
    try:
        model = SwinTransformer(**{**MODELS[name], **settings}, rng=rng, dtype=dtype)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        known = SwinTransformer.__init__.__kwdefaults__ or {}
        wrong = [key for key in settings if key not in known]
        raise ValueError(
            f"create_model: {name} has no setting {', '.join(wrong)}; known are {', '.join(known)}"
        ) from None
    model.name = name
    model.settings = {**settings, "dtype": np.dtype(dtype).name}
    return model
