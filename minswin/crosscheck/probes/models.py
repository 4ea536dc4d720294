"""Probes of whole tiny models: awkward maps, memory between calls, gradients, a step; relatives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minswin import models
from minswin.crosscheck import recipe
from minswin.crosscheck.probes import Arrays, Probe, gradient, probe, values
from minswin.crosscheck.probes.layers import FITS, PADDING, Threads
from minswin.layers.windows_v2 import HIDDEN
from minswin.models.blank import BLANK

Config = dict[str, Any]
ALL = "the gradients of all weights and of the image"
LENGTH = 600  # terms of the sums on the way through the deepest of these models
MEMORY = ("pytorch/vision#6266",)
CLASS_TOKEN = ("lucidrains/vit-pytorch#138", "jeonsworld/ViT-pytorch#34")
WORDS = ("huggingface/pytorch-image-models#701", "huggingface/pytorch-image-models#2480")
DROPOUT = ("pytorch/vision#7103", "huggingface/pytorch-image-models#1978")
FAMILIES: dict[str, Any] = {
    "model": models.SwinTransformer, "model_v2": models.SwinTransformerV2, "model_tnt": models.TNT,
    "model_vit": models.VisionTransformer, "model_deit": models.DistilledVisionTransformer,
}  # fmt: skip


def config(**changes: Any) -> Config:
    """Two stages of two blocks, 4 and 8 channels, on maps of 8×12 and 4×6 tokens."""
    return {
        "img_size": (16, 24), "patch_size": 2, "window_size": 2, "embed_dim": 4, "depths": (2, 2),
        "num_heads": (1, 2), "mlp_ratio": 2.0, "num_classes": 5, **changes,
    }  # fmt: skip


def state_of(settings: Config, family: Any = models.SwinTransformer) -> Arrays:
    """Weights by the recipe for a model of these settings."""
    state = recipe.weights_of(family(**settings, rng=BLANK))
    return {n: x + 2 if n.endswith("logit_scale") else x for n, x in state.items()}


def model(name: str, aim: str, settings: Config, **more: Any) -> tuple[Probe, ...]:
    v2 = name.startswith("model_v2/")
    sums = {"length": LENGTH + HIDDEN * v2, "condition": 32 if v2 else 4}
    state = state_of(settings, FAMILIES[name.split("/")[0]])
    given = settings, state, recipe.images(2, 3, settings["img_size"])
    return probe(name, aim, *given, grad_aim=ALL, **sums, **more)


def probes() -> Iterator[Probe]:
    for part in (_models, _memories, _learning):
        yield from part()


def _models() -> Iterator[Probe]:
    one = {"depths": (2,), "num_heads": (2,)}
    small = {"depths": (2, 1), "mlp_ratio": 1.0}  # gradients are as large as weights and image
    asked_next = "the model whose gradients are asked for next"
    # Channels, tokens and words are not equally many: else a reshape that mixes them would pass.
    vit: Config = {
        "img_size": (8, 12), "patch_size": 4, "embed_dim": 10, "depth": 2, "num_heads": 2,
        "mlp_ratio": 2.0, "num_classes": 5,
    }  # fmt: skip
    tnt: Config = {
        **vit, "img_size": (8, 20), "embed_dim": 9, "num_heads": 3, "mlp_ratio": 4.0,
        "inner_dim": 6, "inner_num_heads": 2, "inner_stride": 2,
    }  # fmt: skip
    rows: tuple[tuple[str, str, Config, dict[str, Any]], ...] = (
        ("model/divisible", "all maps divide: the whole model in the ordinary case", config(), {}),
        ("model/padded", "maps of 9×10 and 5×5 under windows of 4: padded before the roll",
         config(img_size=(18, 20), window_size=4), {"threads": PADDING}),
        ("model/odd_merges", "maps of 7×10, 4×5 and 2×3: zeros at the right edges of every merge",
         config(img_size=(14, 20), depths=(1, 1, 1), num_heads=(1, 2, 4)),
         {"threads": ("huggingface/pytorch-image-models#2285",)}),
        ("model/small_map",
         "the last map is 2×2 under windows of 4: window and table shrink, as the original",
         config(img_size=(16, 16), window_size=4, depths=(1, 2, 2), num_heads=(1, 2, 4)),
         {"threads": FITS}),
        ("model/flat_map", "a map of 4×12 under windows of 4: no shift on either axis",
         config(img_size=(8, 24), window_size=4, **one), {"threads": FITS}),
        ("model/low_map",
         "maps of 4×8 and 2×4 under windows of 4: the second shrinks to 2×2, not 2×4",
         config(img_size=(8, 16), window_size=4, depths=(1, 1)), {"threads": FITS}),
        ("model/narrow_map",
         "maps of 8×4 and 4×2 under windows of 4: the second shrinks to 2×2, not 4×2",
         config(img_size=(16, 8), window_size=4, depths=(1, 1)), {"threads": FITS}),
        ("model/window_2x4", "windows that are not square",
         config(img_size=(12, 24), window_size=(2, 4), **one), {}),
        ("model/positions", "absolute positions: added after the norm of the patches",
         config(img_size=(8, 12), ape=True, **one),
         {"threads": ("huggingface/transformers#37161",)}),
        ("model/no_qkv_bias", "without biases of q, k and v, as some weights are",
         config(img_size=(8, 12), qkv_bias=False, **one), {}),
        ("model/small_divisible", asked_next, config(img_size=(8, 16), **small), {"grad": 512}),
        ("model/small_padded", asked_next, config(img_size=(10, 14), window_size=3, **small),
         {"threads": PADDING, "grad": 512}),
        ("model_v2/one_stage", "two blocks of Swin V2 on a map of 6×10",
         config(img_size=(12, 20), depths=(2,), num_heads=(1,)), {}),
        ("model_v2/padded", "maps of 7×5 and 4×3 under windows of 3: padded before the roll",
         config(img_size=(14, 10), window_size=3, depths=(1, 2)), {"threads": PADDING}),
        ("model_v2/pretrained",
         "each stage divides its offsets by the window of its own pre-training, less 1",
         config(img_size=(8, 12), depths=(1, 1), pretrained_window_sizes=(6, 3)), {}),
        ("model_vit/class_token",
         "the class token stands first, has a position, and alone is read; ε is 1e-6",
         vit, {"threads": CLASS_TOKEN, "grad": 200}),
        ("model_vit/mean", "no class token: the mean of all patches",
         {**vit, "global_pool": "avg"}, {}),
        ("model_vit/patches_2x3", "patches that are not square, row by row",
         {**vit, "patch_size": (2, 3)}, {}),
        ("model_vit/no_qkv_bias", "without biases of q, k and v", {**vit, "qkv_bias": False}, {}),
        ("model_deit/two_heads",
         "class token, distillation token, patches; each head reads its own token; their mean",
         {**vit, "num_heads": 5}, {"threads": ("facebookresearch/deit#61",)}),
        ("model_tnt/words",
         "words of a patch see that patch, tell it alone, and the class token hears none",
         tnt, {"threads": WORDS}),
        ("model_tnt/legacy",
         "the older variant: filters see across patches; each word is normed by itself",
         {**tnt, "legacy": True}, {"threads": WORDS}),
        ("model_tnt/stride_3", "a stride that does not divide the patch: words are rounded up",
         {**tnt, "inner_stride": 3}, {}),
        ("model_tnt/patches_4x8", "patches of 4×8 and 2×4 words: not square, row by row",
         {**tnt, "img_size": (8, 24), "patch_size": (4, 8), "depth": 1}, {}),
    )  # fmt: skip
    for name, aim, settings, more in rows:
        yield from model(name, aim, settings, **more)
        if name == "model_tnt/words":  # a probe is small
            tiny = {**tnt, "img_size": (4, 12), "embed_dim": 6, "depth": 1}
            yield from (gradient(p, ALL, length=200) for p in model(name, aim, tiny, **more))


def _memories() -> Iterator[Probe]:
    big, small = (recipe.images(2, 3, size) for size in ((16, 24), (8, 8)))
    x = recipe.images(2, 3, (8, 16))
    rates = {"drop_rate": 0.5, "attn_drop_rate": 0.5, "drop_path_rate": 0.5}
    rows: tuple[tuple[str, str, Config, tuple[np.ndarray, ...], Threads], ...] = (
        ("big_small_big",
         "a small image, whose map the window covers, must not take the shift from later ones",
         config(window_size=4, depths=(2,), num_heads=(2,)), (big, small, big), MEMORY),
        ("twice_with_dropout",
         "in evaluation nothing is dropped: twice the same, and as without dropout",
         config(img_size=(8, 16), depths=(2,), num_heads=(2,), **rates), (x, x), DROPOUT),
    )  # fmt: skip
    for case, aim, settings, images, threads in rows:
        named = {f"image_{i}": image for i, image in enumerate(images)}
        yield from probe(
            f"build_model/{case}", aim, settings, state_of(settings), named,
            threads=threads, length=LENGTH, condition=4,
        )  # fmt: skip


def _learning() -> Iterator[Probe]:
    settings = config(img_size=(12, 20), depths=(2, 1), mlp_ratio=1.0)
    yield from probe(
        "train_step/one", "w − lr · gradient for every weight, tables and gains too",
        settings, state_of(settings), recipe.images(3, 3, (12, 20)), np.array([4, 1, 1]), 0.5,
        threads=("microsoft/Swin-Transformer#369",), length=3 * LENGTH, condition=4,
    )  # fmt: skip
    p, g, m, v = (values(name, 3, 4) for name in ("p", "g", "m", "v"))
    numbers = 2.0**-6, 0.875, 1 - 2.0**-9, 1e-8
    aim = "corrected by 1 − βᵗ, eps outside the root, the decay apart from the gradient"
    for case, start, t, decay in (("first", 0.0, 1, 0.25), ("fifth", 0.5, 5, 0.0)):
        arrays = p, g, start * m, start * abs(v)
        yield from probe(f"adamw/{case}", aim, *arrays, *numbers, decay, t, length=64)
