"""Each setting of each family is checked alone, and the error names the family and the setting."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from typing import Any

import pytest

from minswin.models import (
    TNT,
    ResNet,
    SwinTransformer,
    SwinTransformerV2,
    Transformer,
    VisionTransformer,
)

IMAGE = {"img_size": 16, "num_classes": 3}
SWIN = {**IMAGE, "patch_size": 2, "embed_dim": 4, "depths": (1,), "num_heads": (2,)}
TINY: dict[type, tuple[tuple[Any, ...], dict[str, Any]]] = {
    SwinTransformer: ((), {**SWIN, "window_size": 4}),
    SwinTransformerV2: ((), {**SWIN, "window_size": 4}),
    VisionTransformer: (
        (), {**IMAGE, "patch_size": 4, "embed_dim": 4, "depth": 1, "num_heads": 2}
    ),
    TNT: (
        (),
        {
            **IMAGE, "patch_size": 8, "embed_dim": 4, "inner_dim": 4, "depth": 1, "num_heads": 2,
            "inner_num_heads": 2, "inner_stride": 4,
        },
    ),
    Transformer: ((7,), {"embed_dim": 4, "depth": 1, "num_heads": 2}),
    ResNet: ((), {**IMAGE, "depths": (1,), "width": 2}),
}  # fmt: skip
WRONG = {
    **dict.fromkeys(("img_size", "patch_size", "window_size"), (0, -1, True, "4", (4, 0), (0, 4))),
    **dict.fromkeys(("embed_dim", "inner_dim", "width", "num_classes"), (0, -1, True, "4", 4.5)),
    **dict.fromkeys(("inner_num_heads", "inner_stride"), (0, -1, True, "4", 4.5)),
    **dict.fromkeys(("depth", "stem_depth"), (-1, True, "4", 4.5)),
    **dict.fromkeys(("drop_rate", "attn_drop_rate", "drop_path_rate"), (-0.1, 1.5, "0.1")),
    **dict.fromkeys(("block", "stem", "shortcut", "positions", "global_pool"), ("nothing",)),
    "mlp_ratio": (0, -1.0, "4"),
    "num_heads": (0, -1, True, "4", (2, 2)),
    "depths": (0, (), (-1,), (1.5,), "2"),
}  # fmt: skip


def cases() -> Iterator[Any]:
    for family in TINY:
        for setting in signature(family.__init__).parameters.keys() & WRONG.keys():
            for value in WRONG[setting]:
                yield pytest.param(
                    family, setting, value, id=f"{family.__name__} {setting}={value}"
                )


@pytest.mark.parametrize("family", TINY, ids=lambda family: family.__name__)
def test_without_a_wrong_setting_the_model_is_made(family: type) -> None:
    inputs, settings = TINY[family]
    assert family(*inputs, **settings).parameter_count() > 0


@pytest.mark.parametrize("family", [SwinTransformer, SwinTransformerV2])
def test_every_second_block_of_a_stage_is_shifted(family: type) -> None:
    """§3.2: two blocks after each other, W-MSA and then SW-MSA; each stage begins anew."""
    _, settings = TINY[family]
    model = family(**{**settings, "depths": (5, 6), "num_heads": (2, 2), "window_size": 2})
    shifts = [[block.attn.shift for block in stage.blocks] for stage in model.layers]
    assert shifts == [[False, True, False, True, False], [False, True] * 3]


@pytest.mark.parametrize(("family", "setting", "value"), sorted(cases(), key=lambda case: case.id))
def test_a_wrong_setting_is_named_with_its_family(family: type, setting: str, value: Any) -> None:
    inputs, settings = TINY[family]
    named = rf"^{family.__name__}: .*\b{setting}\b"
    named = r"rate must be in \[0, 1\]" if setting.endswith("_rate") else named
    with pytest.raises((ValueError, TypeError), match=named):
        family(*inputs, **{**settings, setting: value})
