"""Ten training steps end where torch.optim ends, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from minswin import ops
from minswin.models import SwinTransformer
from minswin.training.optimizers import SGD, AdamW, Optimizer

from .cases import case_named
from .compare import build
from .names import rename
from .peers import PEERS, tensor, torch

pytestmark = pytest.mark.parity

STEPS, SMOOTHING, DECAY, TOLERANCE = 10, 0.1, 0.05, 1e-9


def learning_rate(step: int, peak: float) -> float:
    """Another one at every step, so that the order of scheduling and stepping matters."""
    return peak * (1 - step / (2 * STEPS))


def without_decay(name: str, shape: tuple[int, ...]) -> bool:
    """Swin's rule, typed from the original's text."""
    tables = "absolute_pos_embed", "relative_position_bias_table"
    return len(shape) == 1 or name.endswith(".bias") or any(table in name for table in tables)


def their_groups(peer, module, model: SwinTransformer) -> list[dict[str, Any]]:
    """Their parameters in two groups: with decay, and without."""
    fixed = {n: np.full(p.shape, without_decay(n, p.shape)) for n, p in model.named_parameters()}
    flags = {name: bool(flag.all()) for name, flag in rename(fixed, peer.layout).items()}
    named = list(module.named_parameters())
    return [
        {"params": [p for n, p in named if not flags[n]], "weight_decay": DECAY},
        {"params": [p for n, p in named if flags[n]], "weight_decay": 0.0},
    ]


def our_steps(model, optimizer, images, labels, peak: float) -> list[float]:
    losses = []
    for step in range(STEPS):
        model.zero_grad()
        loss = ops.cross_entropy(model(images[step]), labels[step], smoothing=SMOOTHING)
        loss.backward()
        optimizer.step(learning_rate(step, peak))
        losses.append(loss.item())
    return losses


def their_steps(peer, module, optimizer, images, labels, peak: float) -> list[float]:
    losses = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak)
        optimizer.zero_grad()
        logits = peer.logits(module, tensor(images[step]))
        loss = torch.nn.functional.cross_entropy(
            logits, tensor(labels[step]), label_smoothing=SMOOTHING
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


class Training(NamedTuple):
    """A run of both: the model and its other implementation, and what makes the optimizers."""

    name: str
    case: str
    against: str
    peak: float
    ours: Callable[[Any], Optimizer]
    theirs: Callable[[Any], Any]


TRAININGS = (
    Training(
        "SGD", "patch 2×3", "transformers", 0.02,
        lambda named: SGD(named, 0.0, momentum=0.0, weight_decay=DECAY),
        lambda groups: torch.optim.SGD(groups, lr=0.0),
    ),
    Training(
        "SGD with momentum", "window 7", "timm", 0.02,
        lambda named: SGD(named, 0.0, momentum=0.9, weight_decay=DECAY),
        lambda groups: torch.optim.SGD(groups, lr=0.0, momentum=0.9),
    ),
    Training(
        "SGD with Nesterov momentum", "four stages", "timm", 0.02,
        lambda named: SGD(named, 0.0, momentum=0.9, nesterov=True, weight_decay=DECAY),
        lambda groups: torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True),
    ),
    Training(
        "AdamW", "window 7", "timm", 0.003,
        lambda named: AdamW(named, 0.0, weight_decay=DECAY),
        lambda groups: torch.optim.AdamW(groups, lr=0.0),
    ),
    Training(
        "AdamW, other betas", "absolute", "transformers", 0.003,
        lambda named: AdamW(named, 0.0, betas=(0.8, 0.95), eps=1e-6, weight_decay=DECAY),
        lambda groups: torch.optim.AdamW(groups, lr=0.0, betas=(0.8, 0.95), eps=1e-6),
    ),
)  # fmt: skip


class Outcome(NamedTuple):
    losses: float  # largest difference of a loss
    weights: float  # largest difference of a weight after the last step
    moved: float  # the least that any parameter's largest element has moved


def train_both(training: Training) -> Outcome:
    """Ten steps of our model and of the other on the same weights, images and labels."""
    case, rng = case_named(training.case), np.random.default_rng(3)
    peer, model = PEERS[training.against], build(case, rng)
    module = peer.build(case.settings).double()
    peer.load(module, model.state_dict())
    begin = {name: array.copy() for name, array in model.state_dict().items()}
    images = [case.draw_images(rng) for _ in range(STEPS)]
    labels = [rng.integers(0, case.settings["num_classes"], case.batch) for _ in range(STEPS)]
    data = images, labels, training.peak

    ours = our_steps(model, training.ours(model.named_parameters()), *data)
    optimizer = training.theirs(their_groups(peer, module, model))
    theirs = their_steps(peer, module, optimizer, *data)
    end = peer.parameters(module, list(begin))
    after = model.state_dict()
    return Outcome(
        float(np.abs(np.subtract(ours, theirs)).max()),
        max(float(abs(after[name] - end[name]).max()) for name in begin),
        min(float(abs(after[name] - begin[name]).max()) for name in begin),
    )


@pytest.mark.parametrize("training", TRAININGS, ids=lambda t: t.name)
def test_ten_steps_end_where_torch_ends(training):
    outcome = train_both(training)
    assert outcome.moved > 1000 * TOLERANCE  # else equal weights would say nothing
    assert outcome.losses < TOLERANCE
    assert outcome.weights < TOLERANCE
