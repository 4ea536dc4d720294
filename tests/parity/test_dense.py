"""Dense tasks: resizing, pixel-wise and detection losses equal PyTorch's, values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin import kernels, ops
from minswin.dense import pixel_cross_entropy

from .compare import error
from .peers import torch
from .test_operations import TOLERANCE, Pair, our_run, their_run

pytestmark = pytest.mark.parity
F = torch.nn.functional


def channels_first(x: Any) -> Any:
    return x.permute(0, 3, 1, 2)


def resizes(rng: np.random.Generator) -> list[Pair]:
    pairs = []
    for H, W, h, w in [(4, 7, 8, 21), (5, 6, 3, 4), (3, 5, 7, 2), (1, 4, 6, 6), (8, 8, 32, 32)]:
        x = rng.standard_normal((2, H, W, 3))

        def bilinear(x: Any, size: Any = (h, w)) -> Any:
            y = F.interpolate(channels_first(x), size=size, mode="bilinear", align_corners=False)
            return y.permute(0, 2, 3, 1)

        def mean(x: Any, size: Any = (h, w)) -> Any:
            return F.adaptive_avg_pool2d(channels_first(x), size).permute(0, 2, 3, 1)

        for name, theirs in (("bilinear", bilinear), ("mean", mean)):
            pairs.append(
                Pair(
                    f"{name}, {H}×{W} to {h}×{w}",
                    lambda x, size=(h, w), name=name: ops.resize(x, size=size, method=name),
                    theirs,
                    (x,),
                )
            )
    return pairs


def pixels(rng: np.random.Generator) -> Pair:
    masks = rng.integers(0, 5, (2, 6, 7))
    masks[rng.random((2, 6, 7)) < 0.3] = 255
    return Pair(
        "cross-entropy of pixels, some ignored",
        lambda x: pixel_cross_entropy(x, masks),
        lambda x: F.cross_entropy(channels_first(x), torch.tensor(masks), ignore_index=255),
        (3 * rng.standard_normal((2, 6, 7, 5)),),
    )


def torch_focal(x: Any, t: Any) -> Any:
    p = torch.sigmoid(x)
    right, weight = torch.where(t == 1, p, 1 - p), 0.7 - 0.4 * t.to(x.dtype)
    return -weight * (1 - right) ** 2.5 * torch.log(right)


def torch_giou(a: Any, b: Any) -> Any:
    across = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
    both = across.clamp(min=0).prod(-1)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(-1)
    union = (a[:, 2:] - a[:, :2]).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - both
    return both / union - (hull - union) / hull


def boxes(rng: np.random.Generator) -> np.ndarray:
    start = rng.uniform(0, 3, (40, 2))
    return np.concatenate([start, start + rng.uniform(0.3, 3, (40, 2))], axis=1)


def detections(rng: np.random.Generator) -> list[Pair]:
    x, hard, soft = 3 * rng.standard_normal((9, 4)), rng.integers(0, 2, (9, 4)), rng.random((9, 4))
    return [
        Pair(
            "binary cross-entropy",
            ops.binary_cross_entropy,
            lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none"),
            (x, soft),
        ),
        Pair(
            "focal loss",
            lambda x, t: ops.focal_loss(x, t, alpha=0.3, gamma=2.5),
            torch_focal,
            (x, hard),
        ),
        Pair("giou", ops.giou, torch_giou, (boxes(rng), boxes(rng))),
    ]


RNG = np.random.default_rng(9)
PAIRS = [*resizes(RNG), pixels(RNG), *detections(RNG)]


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_dense_operations_and_their_gradients_equal_those_of_torch(pair, backend):
    g, theirs = their_run(pair, np.random.default_rng(10))
    with kernels.using(backend):
        ours = our_run(pair, g)
    assert len(ours) == len(theirs)
    for position, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        what = "value" if position == 0 else f"gradient of argument {position - 1}"
        assert error(np.asarray(mine), other) < TOLERANCE, what
