"""The weights and settings of a model as engine.js reads them: float16 numbers, as letters."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from minswin.arrays import to_numpy
from minswin.models import SwinTransformer, SwinTransformerV2, VisionTransformer

MOST_BYTES = 3_500_000  # of float16 weights in a page of 5 MB: as text they take a third more


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
            "shift": any(b.attn.shift for stage in model.layers for b in stage.blocks),
        }
    return None


def _heads(stage: Any) -> int:
    return int(stage.blocks[0].attn.heads) if stage.blocks else 1


def _window(model: Any) -> tuple[int, int]:
    """The largest window of any block: those of small maps shrink to fit."""
    windows = [block.attn.window for stage in model.layers for block in stage.blocks]
    return max(windows, default=(1, 1))


def runs_in_the_page(model: Any) -> bool:
    """Whether engine.js knows the family, the weights are few enough, and float16 holds them."""
    if settings_of(model) is None or 2 * model.parameter_count() > MOST_BYTES:
        return False
    return all(np.isfinite(half).all() for half in _halves(model).values())


def _halves(model: Any) -> dict[str, np.ndarray]:
    """The weights as float16; what is too large for it becomes infinite."""
    with np.errstate(over="ignore"):
        return {name: to_numpy(x).astype("<f2") for name, x in model.state_dict().items()}


def rounded_weights(model: Any) -> dict[str, np.ndarray]:
    """The weights as the page has them, in the model's own precision."""
    state = model.state_dict()
    return {name: half.astype(state[name].dtype) for name, half in _halves(model).items()}


def weights_as_text(model: Any) -> dict[str, Any]:
    """Settings and weights: {settings, index: {name: (shape, first)}, data: base64 of float16}."""
    index, parts, first = {}, [], 0
    for name, half in _halves(model).items():
        index[name] = half.shape, first
        parts.append(half.tobytes())
        first += half.size
    data = base64.b64encode(b"".join(parts)).decode()
    return {"settings": settings_of(model), "index": index, "data": data}
