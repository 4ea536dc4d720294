"""Ten training steps of every family give the losses that torch gives, in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from minswin.models import ResNet
from minswin.training.optimizers import AdamW

from .cases import Case, case_named
from .compare import build
from .family import Proof
from .names import rename
from .peers import PEERS, torch
from .test_training import DECAY, STEPS, TOLERANCE, our_steps, their_steps

pytestmark = pytest.mark.parity

RUNS = (
    ("odd heads, image 48×80", "timm"),
    ("absolute positions", "transformers"),
    ("V2, pretrained windows 3 and 6", "timm V2"),
    ("V2, pretrained windows 3 and 6", "transformers V2"),
    ("V2, patch 2×3", "transformers V2"),
    ("ViT, patch 4", "transformers ViT"),
    ("ViT, patch 2×3", "timm ViT"),
    ("DeiT distilled, patch 4", "timm DeiT"),
    ("DeiT distilled, patch 3×2", "transformers DeiT"),
    ("TNT, patch 6×5", "timm TNT"),
    ("ResNet, basic blocks", "timm ResNet"),
    ("ResNet for CIFAR, option A", "torch ResNet"),
)
PEAK = 0.002
SEED = 20210325  # Swin V2's τ is at most 14: at 65 a mask of −100 and transformers' −200 differ
# A key's bias has no gradient but rounding: a larger ε keeps AdamW from making a step of it.
ADAM: dict[str, Any] = {"betas": (0.8, 0.95), "eps": 1e-6}

# What the originals leave out of weight decay by its name, typed from their texts.
NAMES = ("absolute_pos_embed", "relative_position_bias_table", "cpb_mlp", "logit_scale")
TOKENS = ("pos_embed", "cls_token", "dist_token", "inner_pos", "outer_pos")


def their_groups(peer: Any, module: Any, model: Any) -> list[dict[str, Any]]:
    """Their parameters in two groups: with decay, and without."""
    free = {
        n: np.full(
            p.shape, p.ndim == 1 or n.endswith(".bias") or any(x in n for x in NAMES + TOKENS)
        )
        for n, p in model.named_parameters()
    }
    flags = {name: bool(flag.all()) for name, flag in rename(free, peer.layout).items()}
    named = list(module.named_parameters())
    return [
        {"params": [p for n, p in named if not flags[n]], "weight_decay": DECAY},
        {"params": [p for n, p in named if flags[n]], "weight_decay": 0.0},
    ]


class Outcome(NamedTuple):
    losses: float  # largest difference of a loss
    weights: float  # largest difference of a weight after the last step
    moved: float  # the least that any parameter's largest element has moved
    spread: float  # of the losses


def train_both(case: Case, against: str) -> Outcome:
    """Ten steps of our model and of the other on the same weights, images and labels."""
    rng = np.random.default_rng(SEED)
    peer, model = PEERS[against], build(case, rng)
    module = peer.build(case.settings).double()
    peer.load(module, model.state_dict())
    if case.family is ResNet:  # its norms are over the batch while they learn
        model.train()
        module.train()
    begin = {name: p.data.copy() for name, p in model.named_parameters()}
    images = [case.draw_images(rng) for _ in range(STEPS)]
    labels = [rng.integers(0, case.settings["num_classes"], case.batch) for _ in range(STEPS)]

    optimizer = AdamW(model.named_parameters(), 0.0, weight_decay=DECAY, **ADAM)
    ours = our_steps(model, optimizer, images, labels, PEAK)
    their_optimizer = torch.optim.AdamW(their_groups(peer, module, model), lr=0.0, **ADAM)
    theirs = their_steps(peer, module, their_optimizer, images, labels, PEAK)
    end = peer.parameters(module, list(begin))
    after = dict(model.named_parameters())
    return Outcome(
        float(np.abs(np.subtract(ours, theirs)).max()),
        max(float(abs(after[name].data - end[name]).max()) for name in begin),
        min(float(abs(after[name].data - begin[name]).max()) for name in begin),
        float(np.ptp(ours)),
    )


@pytest.mark.parametrize(("start", "against"), RUNS)
def test_ten_steps_give_torchs_losses_and_weights(start, against, proofs: list[Proof]):
    case = case_named(start)
    outcome = train_both(case, against)
    proofs.append(Proof(case.family, "ten steps", PEERS[against].version(), outcome.losses))
    assert outcome.moved > 1000 * TOLERANCE  # else equal weights would say nothing
    assert outcome.spread > 0.01
    assert outcome.losses < TOLERANCE
    assert outcome.weights < TOLERANCE
