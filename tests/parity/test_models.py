"""Whole models of all families: logits, every gradient, and names equal those of others."""

from __future__ import annotations

import numpy as np
import pytest

from .cases import (
    CASES,
    SWIN_CASES,
    TNT_CASES,
    TWINS_CASES,
    V2_CASES,
    VIT_CASES,
    case_named,
    pairs,
)
from .compare import TOLERANCE, Pair, Row, build, compare, our_run
from .peers import PEERS

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(("case", "against"), pairs(CASES), ids=str)
def test_logits_and_every_gradient_equal_those_of(case, against, report: list[Row]):
    row = compare(case, against)
    report.append(row)
    assert row.logits < TOLERANCE, row
    assert row.gradient < TOLERANCE, row


ATTENDING = (*SWIN_CASES, *VIT_CASES, *TNT_CASES)


@pytest.mark.parametrize(("case", "against"), pairs((*ATTENDING, *V2_CASES, *TWINS_CASES)), ids=str)
def test_names_and_shapes_are_those_of(case, against):
    """Those of a ResNet, with its buffers, are in test_resnet.py; those of a CvT load it."""
    peer, ours = PEERS[against], build(case, np.random.default_rng(0)).state_dict()
    module = peer.build(case.settings)
    renamed = {name: array.shape for name, array in peer.renamed(module, ours).items()}
    theirs = {name: tuple(p.shape) for name, p in module.named_parameters()}
    assert renamed == theirs
    if peer.same_order and case.settings.get("positions") != "relative":
        assert list(renamed) == list(theirs)  # in the order of definition, too


@pytest.mark.parametrize("case", ATTENDING, ids=str)
def test_the_random_attention_is_neither_flat_nor_saturated(case):
    """Else q and k would not matter, and a wrong scale, bias or mask would pass unseen."""
    rng = np.random.default_rng(1)
    model = build(case, rng)
    g = rng.standard_normal((case.batch, case.settings["num_classes"]))
    _, gradients = our_run(model, case.draw_images(rng), g)
    for name, gradient in gradients.items():
        if name.endswith(("qkv.weight", "qk.weight")):
            values = [gradients[name.replace("qk.", "v.")]] if "qk." in name else []
            parts = np.split(gradient, 3 - len(values)) + values
            q, k, v = (np.linalg.norm(part) for part in parts)
            assert min(q, k) > (0.02 if values else 0.05) * v, (
                f"{name}: |dq| {q:.1e}, |dk| {k:.1e}, |dv| {v:.1e}"
            )


# ── the comparison sees a small change ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("start", "against"),
    [
        ("absolute positions", "transformers"),
        ("V2, patch 2×3", "transformers V2"),
        ("ViT with pre-logits", "transformers ViT"),
        ("ViT, relative positions, class", "timm ViT"),
        ("DeiT distilled, patch 3×2", "timm DeiT"),
        ("TNT, patch 6×5", "timm TNT"),
        ("TNT legacy", "timm TNT"),
        ("Twins, windows of 3", "timm Twins"),
        ("CvT, odd maps", "transformers CvT"),
    ],
)
def test_a_change_of_a_millionth_in_any_parameter_is_seen(start, against):
    pair = Pair(case_named(start), against)
    for name in (name for name in pair.names if not pair.case.idle(name)):
        # of qkv and kv a value's, of qk a query's: a key's bias has no effect on a softmax
        number = pair.model.state_dict()[name].reshape(-1)[: 1 if ".qk." in name else None][-1:]
        before = number.copy()
        number += 1e-6
        row = pair.row()
        assert row.largest > TOLERANCE, f"unseen: {name}, {row}"
        number[:] = before
