"""Probes of whole tiny models of the relatives: ViT, DeiT and TNT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minswin.crosscheck.probes import Probe, gradient, probe
from minswin.crosscheck.probes.models import LENGTH, images, state_of
from minswin.models import TNT, DistilledVisionTransformer, VisionTransformer

Config = dict[str, Any]
CLASS_TOKEN = ("lucidrains/vit-pytorch#138", "jeonsworld/ViT-pytorch#34")
WORDS = ("huggingface/pytorch-image-models#701", "huggingface/pytorch-image-models#2480")


def probes() -> Iterator[Probe]:
    yield from _vit()
    yield from _deit()
    yield from _tnt()


def _model(case: str, aim: str, family: Any, settings: Config, threads: tuple[str, ...]) -> Probe:
    return probe(
        case, aim, settings, state_of(settings, family), images(settings),
        threads=threads, length=LENGTH, condition=4,
    )  # fmt: skip


def _vit() -> Iterator[Probe]:
    base: Config = {
        "img_size": (8, 12), "patch_size": 4, "embed_dim": 6, "depth": 2, "num_heads": 2,
        "mlp_ratio": 2.0, "num_classes": 5,
    }  # fmt: skip
    aim = "the class token stands first, has a position, and alone is read; ε is 1e-6"
    token = _model("model_vit/class_token", aim, VisionTransformer, base, CLASS_TOKEN)
    yield token
    yield gradient(token, "the gradients of all weights and of the image", length=200)
    rows: tuple[tuple[str, str, Config], ...] = (
        ("mean", "no class token: the mean of all patches", {"global_pool": "avg"}),
        ("patches_2x3", "patches that are not square, row by row", {"patch_size": (2, 3)}),
        ("no_qkv_bias", "without biases of q, k and v", {"qkv_bias": False}),
    )
    for case, aim, changes in rows:
        yield _model(f"model_vit/{case}", aim, VisionTransformer, {**base, **changes}, ())


def _deit() -> Iterator[Probe]:
    settings: Config = {
        "img_size": (8, 12), "patch_size": 4, "embed_dim": 6, "depth": 2, "num_heads": 3,
        "mlp_ratio": 2.0, "num_classes": 5,
    }  # fmt: skip
    aim = "class token, distillation token, patches; each head reads its own token; their mean"
    family = DistilledVisionTransformer
    yield _model("model_deit/two_heads", aim, family, settings, ("facebookresearch/deit#61",))


def _tnt() -> Iterator[Probe]:
    base: Config = {
        "img_size": (8, 16), "patch_size": 4, "embed_dim": 6, "inner_dim": 4, "depth": 2,
        "num_heads": 3, "inner_num_heads": 2, "inner_stride": 2, "mlp_ratio": 4.0, "num_classes": 5,
    }  # fmt: skip
    aim = "words of a patch see that patch, tell it alone, and the class token hears none"
    words = _model("model_tnt/words", aim, TNT, base, WORDS)
    yield words
    one = _model("model_tnt/words", aim, TNT, {**base, "depth": 1}, WORDS)  # a probe is small
    yield gradient(one, "the gradients of all weights and of the image", length=200)
    aim = "the older variant: filters see across patches; each word is normed by itself"
    yield _model("model_tnt/legacy", aim, TNT, {**base, "legacy": True}, WORDS)
    aim = "a stride that does not divide the patch: words are rounded up"
    yield _model("model_tnt/stride_3", aim, TNT, {**base, "inner_stride": 3}, ())
