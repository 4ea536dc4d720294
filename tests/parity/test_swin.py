"""Swin: each stage's map, and the definitions without kernels, equal transformers and timm."""

from __future__ import annotations

import numpy as np
import pytest

from minswin import kernels, ops
from minswin.models import SwinTransformer

from .cases import SWIN_CASES, case_named, pairs
from .compare import TOLERANCE, build, compare, error
from .peers import PEERS, tensor

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(("case", "against"), pairs(SWIN_CASES), ids=str)
def test_without_kernels_they_equal_too(case, against):
    with kernels.using("reference"):
        row = compare(case, against)
    assert row.largest < TOLERANCE, row


@pytest.mark.parametrize("against", ["transformers", "timm"])
def test_the_map_of_every_stage_equals_that_of(against):
    case = case_named("odd heads" if against == "timm" else "patch 2×3")
    rng = np.random.default_rng(2)
    peer, model = PEERS[against], build(case, rng)
    module = peer.build(case.settings).double()
    peer.load(module, model.state_dict())
    images = case.draw_images(rng)
    ours = [x.numpy() for x in model.feature_maps(images)]
    theirs = peer.features(module, tensor(images))
    assert len(ours) == len(theirs) == len(case.settings["depths"])
    for stage, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        assert mine.shape == other.shape, f"stage {stage}"
        assert error(mine, other) < TOLERANCE, f"stage {stage}"


# ── planted faults: the comparison sees them ─────────────────────────────────────────────────────


def swap_q_and_k(model: SwinTransformer) -> None:
    for name, array in model.state_dict().items():
        if ".qkv." in name:
            q, k, v = np.split(array.copy(), 3)
            array[...] = np.concatenate([k, q, v])


def key_minus_query(model: SwinTransformer) -> None:
    for name, array in model.state_dict().items():
        if name.endswith("relative_position_bias_table"):
            array[...] = array[::-1].copy()  # displacement d is row r, −d is row −1 − r


def merge_by_rows(model: SwinTransformer) -> None:
    for name, array in model.state_dict().items():
        if ".downsample.norm." in name:
            g00, g10, g01, g11 = np.split(array.copy(), 4)
            array[...] = np.concatenate([g00, g01, g10, g11])
        if ".downsample.reduction." in name:
            g00, g10, g01, g11 = np.split(array.copy(), 4, axis=1)
            array[...] = np.concatenate([g00, g01, g10, g11], axis=1)


def flip_a_sign(model: SwinTransformer) -> None:
    model.layers[0].blocks[0].norm1.bias.data[0] *= -1


def never_shift(model: SwinTransformer) -> None:
    model.layers[0].blocks[1].attn.shift = False


def another_epsilon(model: SwinTransformer) -> None:
    model.norm.eps = 1e-6


MODEL_FAULTS = [
    swap_q_and_k, key_minus_query, merge_by_rows, flip_a_sign, never_shift, another_epsilon
]  # fmt: skip


@pytest.mark.parametrize("fault", MODEL_FAULTS, ids=lambda f: f.__name__)
def test_a_planted_fault_is_seen(fault):
    row = compare(case_named("patch 2×3"), "transformers", spoil=fault)
    assert row.logits > 100 * TOLERANCE, row


OPERATION_FAULTS = {
    "the tanh approximation": ("gelu", lambda right: ops.gelu_tanh),
    "a roll the wrong way": (
        "roll",
        lambda right: lambda x, shift: right(x, shift=(-shift[0], -shift[1])),
    ),
    "a gradient cut off": (
        "layer_norm",
        lambda right: lambda x, w, b, eps: right(x, w.detach() + 0 * w, b, eps=eps),
    ),
}


@pytest.mark.parametrize("fault", OPERATION_FAULTS)
def test_a_planted_fault_in_an_operation_is_seen(fault, monkeypatch):
    name, make = OPERATION_FAULTS[fault]
    monkeypatch.setattr(ops, name, make(getattr(ops, name)))
    with kernels.using("reference"):  # a kernel may do without the faulty operation
        row = compare(case_named("patch 2×3"), "transformers")
    assert row.largest > 100 * TOLERANCE, row
