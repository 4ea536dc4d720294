"""The weights and settings of a model as engine.js reads them: float16 numbers, as letters."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from minswin.arrays import to_numpy
from minswin.models import SwinTransformer, SwinTransformerV2, VisionTransformer

MOST_BYTES = 4_000_000  # of float16 weights in a page


def settings_of(model: Any) -> dict[str, Any] | None:
    """What engine.js needs to know beside the weights; None for a family that it does not run."""
    if isinstance(model, VisionTransformer):
        return {
            "family": "vit",
            "img_size": model.img_size,
            "patch_size": model.patch_size,
            "depth": len(model.blocks),
            "num_heads": model.blocks[0].attn.heads if model.blocks else 1,
            "positions": model.positions,
            "global_pool": model.global_pool,
        }
    if isinstance(model, SwinTransformer) and not isinstance(model, SwinTransformerV2):
        return {
            "family": "swin",
            "img_size": model.img_size,
            "patch_size": model.patch_size,
            "depths": [len(stage.blocks) for stage in model.layers],
            "num_heads": [_heads(stage) for stage in model.layers],
            "window_size": _window(model),
        }
    return None


def _heads(stage: Any) -> int:
    return int(stage.blocks[0].attn.heads) if stage.blocks else 1


def _window(model: Any) -> tuple[int, int]:
    """The largest window of any block: those of small maps shrink to fit."""
    windows = [block.attn.window for stage in model.layers for block in stage.blocks]
    return max(windows, default=(1, 1))


def runs_in_the_page(model: Any) -> bool:
    """Whether engine.js knows the family, and the weights are small enough for a page."""
    return settings_of(model) is not None and 2 * model.parameter_count() <= MOST_BYTES


def weights_as_text(model: Any) -> dict[str, Any]:
    """Settings and weights: {settings, index: {name: (shape, first)}, data: base64 of float16}."""
    index, parts, first = {}, [], 0
    for name, array in model.state_dict().items():
        half = to_numpy(array).astype("<f2")
        if not np.isfinite(half).all():
            raise ValueError(
                f"weights_as_text: {name} holds numbers that float16 cannot: beyond 65,504, or nan"
            )
        index[name] = array.shape, first
        parts.append(half.tobytes())
        first += array.size
    data = base64.b64encode(b"".join(parts)).decode()
    return {"settings": settings_of(model), "index": index, "data": data}
