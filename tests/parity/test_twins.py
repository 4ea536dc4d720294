"""Twins-SVT: logits, maps and every gradient equal those of timm, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin.models import Twins

from .cases import TOLERANCE, Case, Row, build, compare
from .names import rename
from .peers import PEERS, tensor

pytestmark = pytest.mark.parity

CASES = (
    Case(
        "Twins, windows of 3 on maps 12×8 and 6×4",
        {
            "img_size": (24, 16), "patch_size": 2, "embed_dim": 6, "depths": (3, 2),
            "num_heads": (1, 2), "sr_ratios": (4, 2), "window_size": 3, "num_classes": 5,
        },
        peers=("timm Twins",),
        batch=3,
        family=Twins,
    ),
    Case(
        "Twins, windows of 7 and one of the whole map, mlp ratio 2",
        {
            "img_size": 56, "patch_size": 2, "embed_dim": 10, "depths": (2, 3, 2),
            "num_heads": (2, 5, 4), "sr_ratios": (2, 1, 1), "window_size": 7, "mlp_ratio": 2.0,
            "num_classes": 6,
        },
        peers=("timm Twins",),
        family=Twins,
    ),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_logits_and_every_gradient_equal_those_of_timm(case, report: list[Row]):
    row = compare(case, "timm Twins")
    report.append(row)
    assert row.logits < TOLERANCE, row
    assert row.gradient < TOLERANCE, row


@pytest.mark.parametrize("case", CASES, ids=str)
def test_names_and_shapes_are_those_of_timm(case):
    peer, ours = PEERS["timm Twins"], build(case, np.random.default_rng(0)).state_dict()
    renamed = {name: array.shape for name, array in rename(ours, peer.layout).items()}
    theirs = {n: tuple(p.shape) for n, p in peer.build(case.settings).named_parameters()}
    assert renamed == theirs
    assert list(renamed) == list(theirs)  # in the order of definition, too


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_last_map_equals_that_of_timm(case):
    rng = np.random.default_rng(3)
    peer, model = PEERS["timm Twins"], build(case, rng)
    module = peer.build(case.settings).double()
    peer.load(module, model.state_dict())
    images = case.draw_images(rng)
    ours = model.feature_maps(images)[-1].numpy()
    theirs = module.forward_features(tensor(images)).detach().numpy()
    assert np.abs(ours.reshape(theirs.shape) - theirs).max() < TOLERANCE * np.abs(theirs).max()


def test_a_change_of_a_millionth_in_any_parameter_is_seen():
    case = CASES[0]
    names = [name for name, _ in build(case, np.random.default_rng(0)).named_parameters()]
    for name in names:

        def nudge(model: Any, name: str = name) -> None:
            # a key's bias has no effect on a softmax, so the last element, a value's, is nudged
            model.state_dict()[name].reshape(-1)[-1] += 1e-6

        row = compare(case, "timm Twins", spoil=nudge)
        assert row.largest > TOLERANCE, f"unseen: {name}, {row}"
