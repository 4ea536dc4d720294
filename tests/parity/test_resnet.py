"""ResNet: names, training with its running statistics, and pooling equal timm and torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minswin import ops
from minswin.autograd import Tensor

from .cases import RESNET_CASES, Case, case_named, pairs
from .compare import TOLERANCE, build, compare, error, our_run, their_run
from .peers import PEERS, tensor, torch

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(("case", "against"), pairs(RESNET_CASES), ids=str)
def test_names_shapes_and_their_order_are_those_of(case, against):
    ours = build(case, np.random.default_rng(0)).state_dict()
    theirs = PEERS[against].build(case.settings).state_dict()
    shapes = {name: array.shape for name, array in ours.items()}
    assert list(shapes.items()) == [(n, tuple(t.shape)) for n, t in theirs.items()]


def train_both(
    case: Case, against: str, spoil: Callable[[Any], None] | None = None
) -> dict[str, float]:
    """Errors after two batches in training mode: logits, gradients of the second, buffers."""
    rng = np.random.default_rng(20151210)
    peer, model = PEERS[against], build(case, rng)
    module = peer.build(case.settings).double()
    peer.load(module, model.state_dict())
    model.train()
    module.train()
    if spoil is not None:
        spoil(model)
    names = [name for name, _ in model.named_parameters()]
    for _ in range(2):
        images = case.draw_images(rng)
        g = rng.standard_normal((case.batch, case.settings["num_classes"]))
        logits, gradients = our_run(model, images, g)
        module.zero_grad()
        their_logits, their_gradients = their_run(peer, module, images, g, names)
    errors = {"logits": error(logits, their_logits)}
    errors |= {n: error(gradients[n], their_gradients[n]) for n in gradients}
    for name, buffer in module.named_buffers():
        errors[name] = error(model.state_dict()[name], buffer.numpy())
    return errors


@pytest.mark.parametrize(("case", "against"), pairs(RESNET_CASES), ids=str)
def test_in_training_gradients_and_running_statistics_equal_those_of(case, against):
    errors = train_both(case, against)
    worst = max(errors, key=lambda name: errors[name])
    assert errors[worst] < TOLERANCE, f"{worst}: {errors[worst]:.1e}"
    assert sum(name.endswith("running_var") for name in errors) > 5


# ── pooling ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ties", [False, True])
def test_the_largest_of_a_patch_and_its_gradient_equal_torch(ties):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 3, 9, 8))
    x = np.round(x) if ties else x  # of equal maxima both take the first
    ours, theirs = Tensor(x, requires_grad=True), tensor(x, requires_grad=True)
    y = ops.max_pool2d(ours, kernel=(3, 2), stride=(2, 3), padding=(1, 1))
    z = torch.nn.functional.max_pool2d(theirs, (3, 2), (2, 3), (1, 1))
    g = rng.standard_normal(y.shape)
    y.backward(g)
    z.backward(tensor(g))
    assert error(y.data, z.detach().numpy()) == 0
    assert error(ours.grad, theirs.grad.numpy()) < 1e-15


def test_the_mean_of_a_patch_and_its_gradient_equal_torch():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((2, 3, 9, 8))
    ours, theirs = Tensor(x, requires_grad=True), tensor(x, requires_grad=True)
    y = ops.avg_pool2d(ours, kernel=(3, 2), stride=(2, 3))
    z = torch.nn.functional.avg_pool2d(theirs, (3, 2), (2, 3))
    g = rng.standard_normal(y.shape)
    y.backward(g)
    z.backward(tensor(g))
    assert error(y.data, z.detach().numpy()) < 1e-14
    assert error(ours.grad, theirs.grad.numpy()) < 1e-14


# ── planted faults: the comparison sees them ─────────────────────────────────────────────────────


def another_epsilon(model: Any) -> None:
    model.layer1[0].bn1.eps = 1e-6


def stride_in_front(model: Any) -> None:
    """Where the paper has it, not torchvision."""
    block = model.layer2[0]
    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def zeros_in_front(model: Any) -> None:
    block = model.layer2[0]

    def shortcut(x: Tensor, channels: int) -> Tensor:
        width = ((0, 0), (channels - x.shape[1], 0), (0, 0), (0, 0))
        return ops.pad(x[:, :, ::2, ::2], width=width)

    block.shortcut = shortcut


def norms_swapped(model: Any) -> None:
    block = model.layer1[0]
    block.bn1, block.bn2 = block.bn2, block.bn1


FAULTS = [
    ("ResNet, basic", another_epsilon),
    ("ResNet, bottlenecks", stride_in_front),
    ("ResNet for CIFAR, option A", zeros_in_front),
    ("ResNet for CIFAR, four", norms_swapped),
]


@pytest.mark.parametrize(
    ("start", "fault"), FAULTS, ids=lambda part: getattr(part, "__name__", str(part))
)
def test_a_planted_fault_is_seen(start, fault):
    case = case_named(start)
    row = compare(case, case.peers[0], spoil=fault)
    assert row.logits > 100 * TOLERANCE, row


def another_momentum(model: Any) -> None:
    model.layer1[0].bn1.momentum = 0.11


def statistics_of_one_norm_fixed(model: Any) -> None:
    model.layer1[0].bn1.eval()


@pytest.mark.parametrize("fault", [another_momentum, statistics_of_one_norm_fixed])
def test_a_planted_fault_in_training_is_seen(fault):
    errors = train_both(case_named("ResNet for CIFAR, option A"), "torch ResNet", spoil=fault)
    assert max(errors.values()) > 100 * TOLERANCE
