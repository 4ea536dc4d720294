"""TNT: logits and every gradient equal those of timm, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin.models import TNT

from .cases import TOLERANCE, Case, Row, build, compare, our_run
from .names import rename
from .peers import PEERS

pytestmark = pytest.mark.parity

TNT_CASES = (
    Case(
        "TNT, patch 8, image 16×24",
        {
            "img_size": (16, 24), "patch_size": 8, "embed_dim": 15, "inner_dim": 6, "depth": 3,
            "num_heads": 5, "inner_num_heads": 2, "num_classes": 7,
        },
        peers=("timm TNT",),
        batch=3,
        family=TNT,
    ),
    Case(
        "TNT, patch 6×5, words every 4 pixels, qkv bias",
        {
            "img_size": (12, 15), "patch_size": (6, 5), "embed_dim": 8, "inner_dim": 9, "depth": 2,
            "num_heads": 4, "inner_num_heads": 3, "num_classes": 5, "qkv_bias": True,
        },
        peers=("timm TNT",),
        family=TNT,
    ),
    Case(
        "TNT legacy, patch 4×6, words every 2 pixels",
        {
            "img_size": (12, 12), "patch_size": (4, 6), "embed_dim": 10, "inner_dim": 4, "depth": 2,
            "num_heads": 2, "inner_num_heads": 1, "inner_stride": 2, "num_classes": 6,
            "legacy": True,
        },
        peers=("timm TNT",),
        family=TNT,
    ),
)  # fmt: skip


def case_named(start: str) -> Case:
    (case,) = (case for case in TNT_CASES if case.name.startswith(start))
    return case


@pytest.mark.parametrize("case", TNT_CASES, ids=str)
def test_logits_and_every_gradient_equal_those_of_timm(case, report: list[Row]):
    row = compare(case, "timm TNT")
    report.append(row)
    assert row.logits < TOLERANCE, row
    assert row.gradient < TOLERANCE, row


@pytest.mark.parametrize("case", TNT_CASES, ids=str)
def test_names_and_shapes_are_those_of_timm(case):
    peer, ours = PEERS["timm TNT"], build(case, np.random.default_rng(0)).state_dict()
    renamed = {name: array.shape for name, array in rename(ours, peer.layout).items()}
    theirs = {n: tuple(p.shape) for n, p in peer.build(case.settings).named_parameters()}
    _, c, rows, columns = theirs["pixel_pos"]
    assert renamed == {**theirs, "pixel_pos": (1, rows * columns, c)}
    assert list(renamed) == list(theirs)  # in the order of definition, too


@pytest.mark.parametrize("case", TNT_CASES, ids=str)
def test_the_random_attention_is_neither_flat_nor_saturated(case):
    """Else q and k would not matter, and a wrong scale would pass unseen."""
    rng = np.random.default_rng(1)
    model = build(case, rng)
    g = rng.standard_normal((case.batch, case.settings["num_classes"]))
    _, gradients = our_run(model, case.draw_images(rng), g)
    for name, gradient in gradients.items():
        if name.endswith("qk.weight"):
            v = np.linalg.norm(gradients[name.replace("qk", "v")])
            q, k = (np.linalg.norm(part) for part in np.split(gradient, 2))
            assert min(q, k) > 0.02 * v, f"{name}: |dq| {q:.1e}, |dk| {k:.1e}, |dv| {v:.1e}"


# ── planted faults: the comparison sees them ─────────────────────────────────────────────────────


@pytest.mark.parametrize("start", ["TNT, patch 6×5", "TNT legacy"])
def test_a_change_of_a_millionth_in_any_parameter_is_seen(start):
    case = case_named(start)
    names = [name for name, _ in build(case, np.random.default_rng(0)).named_parameters()]
    for name in (name for name in names if "blocks.1" not in name):

        def nudge(model: Any, name: str = name) -> None:
            # the first element: of qk a query's, since a key's bias has no effect on a softmax
            model.state_dict()[name].reshape(-1)[0] += 1e-6

        row = compare(case, "timm TNT", spoil=nudge)
        assert row.largest > TOLERANCE, f"unseen: {name}, {row}"


def swap_q_and_k(model: Any) -> None:
    qk = model.blocks[0].inner_attn.qk.weight.data
    qk[...] = np.concatenate(np.split(qk.copy(), 2)[::-1])


def another_epsilon(model: Any) -> None:
    model.blocks[1].proj_norm2.eps = 1e-6


def filters_across_patches(model: Any) -> None:
    model.patch_embed.legacy = True


def words_swapped(model: Any) -> None:
    model.inner_pos.data[...] = model.inner_pos.data[:, ::-1].copy()


@pytest.mark.parametrize(
    "fault",
    [swap_q_and_k, another_epsilon, filters_across_patches, words_swapped],
    ids=lambda f: f.__name__,
)
def test_a_planted_fault_is_seen(fault):
    row = compare(case_named("TNT, patch 8"), "timm TNT", spoil=fault)
    assert row.logits > 100 * TOLERANCE, row
