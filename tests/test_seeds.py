"""Wherever something is drawn, rng is what NumPy takes: None, a seed or a Generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minswin
from minswin import check, ops
from minswin.data import augment
from minswin.data.dataset import Dataset
from minswin.dense.backbones import small_backbone
from minswin.dense.detection import Detector
from minswin.dense.segmentation import Segmenter
from minswin.layers import Dropout, Linear
from minswin.look import receptive
from minswin.models import ResNet, Transformer
from minswin.reference.elementwise import multiply

IMAGES = np.random.default_rng(1).integers(0, 256, (8, 3, 8, 8)).astype(np.uint8)
TARGETS = np.eye(8, dtype=np.float32)
SET = Dataset(IMAGES, np.arange(8) % 2, ("a", "b"), "drawn")
SMALL = {"embed_dim": 6, "depths": (1, 1), "num_heads": (1, 2), "img_size": 8, "window_size": 2}
BACKBONE = small_backbone("swin", img_size=16, stride=2, rng=0)


def weights(layer: Any) -> Any:
    return np.concatenate([p.data.ravel() for p in layer.parameters()])


def dropped(rng: Any) -> Any:
    return Dropout(0.5, rng=rng)(ops.add(np.ones((4, 4)), 0)).data


DRAWS = {
    "create_model": lambda rng: weights(minswin.create_model("swin_cifar", **SMALL, rng=rng)),
    "ResNet": lambda rng: weights(ResNet(depths=(1,), width=4, img_size=8, rng=rng)),
    "Transformer": lambda rng: weights(Transformer(5, embed_dim=4, depth=1, num_heads=1, rng=rng)),
    "Linear": lambda rng: weights(Linear(3, 2, rng=rng)),
    "Dropout": dropped,
    "small_backbone": lambda rng: weights(small_backbone("resnet", img_size=16, stride=2, rng=rng)),
    "Segmenter": lambda rng: Segmenter(BACKBONE, 2, rng=rng).classifier.weight.data,
    "Detector": lambda rng: Detector(BACKBONE, 2, rng=rng).classify.weight.data,
    "split": lambda rng: SET.split(3, rng=rng)[1].images,
    "flip": lambda rng: augment.flip(IMAGES, rng=rng),
    "crop": lambda rng: augment.crop(IMAGES, padding=2, rng=rng),
    "piece": lambda rng: augment.piece(IMAGES, side=4, rng=rng),
    "random_erasing": lambda rng: augment.random_erasing(IMAGES, probability=1.0, rng=rng),
    "rand_augment": lambda rng: augment.rand_augment(IMAGES, rng=rng),
    "mixup": lambda rng: augment.mixup(IMAGES, TARGETS, alpha=0.5, rng=rng)[1],
    "cutmix": lambda rng: augment.cutmix(IMAGES, TARGETS, alpha=0.5, rng=rng)[0],
    "samples": lambda rng: next(check.samples(rng))[1][0],
    "check_vjp": lambda rng: check.check_vjp(multiply, np.ones(3), np.ones(3), rng=rng) < 1e-9,
    "dependence": lambda rng: receptive.dependence(lambda x: x, (4, 4), (1, 1), rng=rng),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_seed_draws_what_its_generator_draws(draw: Any) -> None:
    for seed in (3, np.int64(3), np.random.SeedSequence(3), [1, 2]):
        other = np.random.SeedSequence(3) if isinstance(seed, np.random.SeedSequence) else seed
        assert np.array_equal(draw(seed), draw(np.random.default_rng(other)))
    draw(None)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("rng", [1.5, "0", True, np.random.Generator])
def test_what_is_no_seed_is_named(draw: Any, rng: Any) -> None:
    with pytest.raises(TypeError, match="rng must be None, an int of 0 or more, a SeedSequence"):
        draw(rng)


def test_a_generator_is_used_itself_and_goes_on() -> None:
    rng = np.random.default_rng(0)
    first, second = Linear(3, 2, rng=rng), Linear(3, 2, rng=rng)
    assert not np.array_equal(first.weight.data, second.weight.data)
    assert Dropout(0.5, rng=rng).rng is rng
