"""What a Swin may be made with or without: its patch embedding, the shift, the bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn import fill, law, swin
from test_costs import multiplications

from minswin.arguments import settings_in
from minswin.autograd import Tensor
from minswin.layers.embeddings import STEMS, ConvStem, PatchEmbed
from minswin.models import SwinTransformer, SwinTransformerV2
from minswin.testing.claims import NORMED, assert_close, assert_derivative, assert_far, assert_same
from minswin.testing.strategies import seeds
from minswin.training import AdamW

SIZE = (16, 24)
ONE: dict[str, Any] = {
    "img_size": SIZE, "patch_size": 2, "embed_dim": 6, "depths": (2,), "num_heads": (2,),
    "window_size": 4, "num_classes": 3, "drop_path_rate": 0.0, "dtype": np.float64,
}  # fmt: skip
BOTH = pytest.mark.parametrize("family", [SwinTransformer, SwinTransformerV2])


def images(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((2, 3, *SIZE))


def windows_turned(x: np.ndarray) -> np.ndarray:
    """A map (B, 8, 12, C) whose windows of 4×4 tokens are each turned by half a turn."""
    B, H, W, C = x.shape
    return x.reshape(B, H // 4, 4, W // 4, 4, C)[:, :, ::-1, :, ::-1].reshape(B, H, W, C)


@law(examples=3, seed=seeds)
def test_tokens_are_made_by_the_embedding_that_was_chosen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = images(rng)
    for stem in STEMS:
        model = swin(rng, img_size=SIZE, stem=stem)
        if stem == "convolutions":
            layer: Any = ConvStem(6, 2, rng=0, dtype=np.float64)
        else:
            layer = PatchEmbed(6, 2, overlap=stem == "overlapping", rng=0, dtype=np.float64)
        layer.load_state_dict(model.patch_embed.state_dict())
        assert_same(model.embed(x), layer(Tensor(x)))


@pytest.mark.parametrize(("stem", "depth"), [*((stem, 0) for stem in STEMS), ("convolutions", 1)])
def test_with_any_embedding_the_stated_cost_is_that_of_its_operations(
    stem: str, depth: int
) -> None:
    rng = np.random.default_rng(0)
    settings = {"img_size": SIZE, "patch_size": 4, "embed_dim": 12}
    model, x = swin(rng, **settings, stem=stem, stem_depth=depth), images(rng)[:1]
    counts, rows = multiplications(model, x), model.summary()
    final, last = rows[-2].macs, model.feature_maps(x)[-1].size  # stated as the original does
    area, left_out = SIZE[0] * SIZE[1], 0  # of the norms between the convolutions
    for conv in getattr(model.patch_embed, "convs", ()):
        area //= conv.stride[0] * conv.stride[1]
        left_out += area * conv.bias.size
    assert model.flops() == sum(counts.values()) - last + final - left_out
    assert sum(row.parameters for row in rows) == model.parameter_count()


@law(examples=1, seed=seeds)
def test_with_convolutions_the_model_has_the_derivative_of_its_value(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = fill(SwinTransformer(**{**ONE, "img_size": (8, 8), "stem": "convolutions"}, rng=0), rng)
    assert_derivative(model, rng.standard_normal((2, 3, 8, 8)), rng, model.parameters())


@BOTH
def test_without_the_shift_windows_never_meet(family: Any) -> None:
    rng = np.random.default_rng(1)
    x = images(rng)
    other = x.copy()
    other[:, :, :8, :8] += 1  # the first window of the map
    for shift in (True, False):
        model = fill(family(**ONE, shift=shift, rng=0), rng)
        stage = model.layers[0]  # the head's mean would mix all windows
        a, b = (stage(model.embed(image)).data for image in (x, other))
        moved = abs(a - b).max(axis=(0, 3)) > 0
        assert moved[:4, :4].any() and (moved[4:].any() or moved[:, 4:].any()) == shift


@BOTH
def test_without_the_bias_a_window_is_a_bag_of_tokens(family: Any) -> None:
    rng = np.random.default_rng(2)
    for bias in (True, False):
        model = family(**ONE, relative_bias=bias, shift=False, rng=0)
        for p in model.parameters():  # fresh ones are so small that the bias would hardly show
            p.data += 0.5 * rng.standard_normal(p.shape) if p.requires_grad else 0
        x, stage = rng.standard_normal((2, 8, 12, 6)), model.layers[0]
        turned, truth = stage(Tensor(windows_turned(x))), windows_turned(stage(Tensor(x)).data)
        assert_far(turned, truth) if bias else assert_close(turned, truth, NORMED)


@BOTH
def test_a_bias_that_was_left_out_is_not_learnt(family: Any) -> None:
    rng = np.random.default_rng(3)
    model = family(**ONE, relative_bias=False, rng=0)
    frozen = {n: p.data.copy() for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen and not any(array.any() for array in frozen.values())
    (model(images(rng)) ** 2).sum().backward()
    AdamW(model.named_parameters(), 0.1).step()
    for name, p in model.named_parameters():
        assert np.array_equal(p.data, frozen[name]) if name in frozen else p.grad is not None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("shift=false", False), ("shift=True", True), ("stem=none", None), ("size=4,2", (4, 2)),
        ("stem=convolutions", "convolutions"), ("mlp_ratio=.5", 0.5),
    ],
)  # fmt: skip
def test_a_setting_is_read_as_python_or_json_write_it(text: str, value: Any) -> None:
    assert settings_in("train", [text]) == {text.partition("=")[0]: value}
