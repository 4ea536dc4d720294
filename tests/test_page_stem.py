"""What the page says and draws of the way to the first tokens is what gradients say."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import numpy as np
import pytest
from page_node import ENGINE, needs_node

from minswin import create_model
from minswin.look import receptive
from minswin.look.page import tokens, words

SIZE = 24, 32
IMAGE: dict[str, Any] = {"img_size": SIZE, "patch_size": 4, "embed_dim": 8, "num_heads": 2}
SWIN = {**IMAGE, "depths": (1,), "num_heads": (2,), "window_size": 2}
TNT = {**IMAGE, "patch_size": 8, "embed_dim": 12, "inner_dim": 6, "depth": 1, "inner_num_heads": 2}
PYRAMID: dict[str, Any] = {"img_size": SIZE, "depths": (2,), "num_heads": (2,)}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "patches": ("swin_shapes", SWIN),
    "overlapping": ("swin_shapes", {**SWIN, "stem": "overlapping"}),
    "convolutions": ("swinv2_cifar", {**SWIN, "stem": "convolutions"}),
    "many convolutions": ("swinv2_cifar", {**SWIN, "stem": "convolutions", "stem_depth": 1}),
    "ViT": ("vit_cifar", {**IMAGE, "depth": 1, "stem": "overlapping"}),
    "TNT": ("tnt_cifar", TNT),
    "TNT, legacy": ("tnt_cifar", {**TNT, "legacy": True}),
    "Twins": ("twins_cifar", {**PYRAMID, "patch_size": 4, "embed_dim": 8, "sr_ratios": (1,)}),
    "CvT": ("cvt_cifar", {**PYRAMID, "patch_sizes": (7,), "strides": (4,), "embed_dims": (8,)}),
}


def model_of(case: str) -> Any:
    name, settings = MODELS[case]
    rng = np.random.default_rng(1)
    return create_model(name, num_classes=3, rng=rng, dtype=np.float64, **settings).eval()


def first_map(model: Any, images: Any) -> Any:
    """(B, H, W, C), as the model makes it."""
    if model.family == "tnt":
        sentences = model.embed(images)[1][:, 1:]
        return sentences.reshape(len(images.data), *model.grid, -1)
    if model.family == "cvt":
        return model.stages[0].patch_embed(images)
    return (model.patch_embeds[0] if model.family == "twins" else model.patch_embed)(images)


GRIDS = {"TNT": (3, 4), "TNT, legacy": (3, 4)}  # others: (6, 8)
DRAWN = """
const [page, [imageHeight, imageWidth], grid, tokens] = JSON.parse(process.argv[1]);
SOURCE
console.log(JSON.stringify(tokens.map((token) => [...pixelsOf(new Set([token]), grid)])));
"""


def truth(case: str, token: tuple[int, int]) -> np.ndarray:
    model = model_of(case)
    return receptive.dependence(lambda x: first_map(model, x), SIZE, token, rng=0, draws=1)


def middle(case: str) -> tuple[int, int]:
    H, W = GRIDS.get(case, (6, 8))
    return H // 2, W // 2


@needs_node
@pytest.mark.parametrize("case", MODELS)
def test_the_pixels_of_a_token_are_drawn_also_where_the_model_does_not_run(case: str) -> None:
    motion = ENGINE.with_name("motion.js").read_text("utf-8")
    source = re.search(r"function pixelsOf\(.*?\n}\n", motion, re.S)
    assert source is not None
    page = {"stem": [step._asdict() for step in tokens.steps_of(model_of(case))]}
    H, W = grid = GRIDS.get(case, (6, 8))
    places = [(0, 0), middle(case), (H - 1, W - 1)]
    given = json.dumps([page, SIZE, grid, [row * W + column for row, column in places]])
    command = ["node", "-e", DRAWN.replace("SOURCE", source[0]), given]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for place, drawn in zip(places, json.loads(done.stdout), strict=True):
        assert np.array_equal(np.array(drawn).reshape(SIZE) > 0, truth(case, place)), place


@pytest.mark.parametrize("case", ["convolutions", "many convolutions"])
def test_the_rectangle_that_is_told_is_the_one_of_gradients(case: str) -> None:
    seen = truth(case, middle(case))
    told = f"{seen.any(axis=1).sum()}×{seen.any(axis=0).sum()}"
    assert f"has seen {told} pixels" in tokens.about_tokens(model_of(case))


@pytest.mark.parametrize("case", MODELS)
def test_walls_let_through_what_the_first_tokens_share(case: str) -> None:
    H, W = middle(case)
    shared = (truth(case, (H, W)) & truth(case, (H, W - 1))).any()
    assert bool(tokens.about_walls(model_of(case))) == shared


TOLD = {
    "patches": ["cut into patches of 4×4 pixels. Each patch is", "a token of 8 channels"],
    "overlapping": ["For every 4×4 pixels there is a patch of 7×7: they overlap."],
    "TNT": [
        "patches of 8×8 pixels. A filter of 7×7 in steps of 2, which sees zeros",
        "makes 4×4 words of 6 channels of each",
        "together into a token of 12 channels",
    ],
    "TNT, legacy": ["in steps of 2, which sees across the borders of patches"],
    "Twins": ["cut into patches of 4×4 pixels. Each patch is", "a token of 8 channels"],
    "CvT": ["For every 4×4 pixels there is a patch of 7×7: they overlap.", "of 8 channels"],
}


@pytest.mark.parametrize("case", TOLD)
def test_every_family_is_told_how_it_makes_tokens(case: str) -> None:
    model = model_of(case)
    about = tokens.about_tokens(model)
    assert all(says in about for says in TOLD[case])
    holder = words.QUOTES[tokens.quote(model)].holder.__name__
    assert holder == ("WordEmbed" if "TNT" in case else "PatchEmbed")


def test_a_model_without_tokens_is_told_nothing_of_them() -> None:
    model = create_model("resnet20", depths=(1,), width=4)
    assert tokens.about_tokens(model) == "" and tokens.steps_of(model) == []
