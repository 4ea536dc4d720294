"""Small layers and models of Swin V2 whose parameters are all random."""

from __future__ import annotations

from typing import Any

import numpy as np
from drawn import fill

from minswin.layers import WindowAttentionV2
from minswin.models import SwinTransformerV2
from minswin.testing.strategies import Pair

# Maps of 10×14 and 5×7 tokens: windows of 3 divide neither.
SMALL: dict[str, Any] = {
    "img_size": (20, 28),
    "patch_size": 2,
    "embed_dim": 6,
    "depths": (2, 2),
    "num_heads": (2, 3),
    "window_size": 3,
    "mlp_ratio": 1.5,
    "drop_path_rate": 0.0,
    "num_classes": 5,
    "dtype": np.float64,
}


def randomised(layer: Any, rng: np.random.Generator) -> Any:
    """All parameters random: τ of about 7, biases that are neither 0 nor 16."""
    fill(layer, rng)
    for name, array in layer.state_dict().items():
        if name.endswith("logit_scale"):
            array += 2
        if name.endswith("cpb_mlp.2.weight"):
            array /= 16
    return layer


def attention(
    window: Pair, rng: np.random.Generator, *, heads: int = 2, **settings: Any
) -> WindowAttentionV2:
    layer = WindowAttentionV2(3 * heads, heads, window, rng=rng, dtype=np.float64, **settings)
    return randomised(layer, rng)


def swin_v2(rng: np.random.Generator, **settings: Any) -> SwinTransformerV2:
    return randomised(SwinTransformerV2(**{**SMALL, **settings}, rng=rng), rng)
