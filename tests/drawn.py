"""How the tests try laws: on what hypothesis draws, and on layers whose parameters are random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from minswin.layers import Layer, WindowAttention
from minswin.models.swin import SwinBlock, SwinTransformer
from minswin.testing.strategies import Pair


def law(*, examples: int | None = None, **drawn: st.SearchStrategy[Any]) -> Callable[..., Any]:
    """Hypothesis' `given`, with a second copy in `.quick` that neither shrinks nor remembers.

    The planted faults run `.quick`: a counter-example is all they ask for.
    """

    def decorate(test: Callable[..., None]) -> Callable[[], None]:
        count = examples or settings().max_examples
        usual: Any = settings(max_examples=count)(given(**drawn)(test))
        quick = settings(
            max_examples=count, phases=[Phase.generate], derandomize=True, database=None
        )
        usual.quick = quick(given(**drawn)(test))
        return usual

    return decorate


Kind = TypeVar("Kind", bound=Layer)


def fill(layer: Kind, rng: np.random.Generator) -> Kind:
    """Random values for every parameter: a gain of 1 or a bias of 0 hides a missing term."""
    for parameter in layer.parameters():
        parameter.data[...] = 0.5 * rng.standard_normal(parameter.shape)
    return layer


def window_attention(
    window: Pair, rng: np.random.Generator, *, shift: bool = True, heads: int = 2, width: int = 3
) -> WindowAttention:
    """A float64 layer of `heads` heads with `width` channels each, all parameters random."""
    layer = WindowAttention(heads * width, heads, window, shift=shift, rng=rng, dtype=np.float64)
    return fill(layer, rng)


def swin_block(
    window: Pair, rng: np.random.Generator, *, shift: bool = True, drop_path_rate: float = 0.0
) -> SwinBlock:
    """6 channels, 2 heads, an MLP twice as wide; all parameters random."""
    block = SwinBlock(
        6,
        2,
        window,
        shift=shift,
        mlp_ratio=2.0,
        qkv_bias=True,
        drop_rate=0.0,
        attn_drop_rate=0.0,
        drop_path_rate=drop_path_rate,
        rng=rng,
        dtype=np.float64,
    )
    return fill(block, rng)


# Maps of 10×14, 5×7 and 3×4 tokens: windows divide none, and both sides are odd once.
SMALL: dict[str, Any] = {
    "img_size": (20, 28),
    "patch_size": 2,
    "embed_dim": 6,
    "depths": (2, 2, 1),
    "num_heads": (2, 3, 4),
    "window_size": 4,
    "mlp_ratio": 1.5,
    "drop_path_rate": 0.0,
    "num_classes": 5,
}


def swin(rng: np.random.Generator, **settings: Any) -> SwinTransformer:
    """A small float64 model, all parameters random."""
    model = SwinTransformer(**{"dtype": np.float64, **SMALL, **settings}, rng=rng)
    return fill(model, rng)
