"""Swin V2: logits and every gradient equal those of transformers and timm, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin.models import SwinTransformerV2

from .cases import TOLERANCE, Case, Row, build, compare, error
from .names import rename
from .peers import PEERS, tensor

pytestmark = pytest.mark.parity

# transformers adds the mask of −100 twice. Where logits differ by far less, neither leaves a trace.
V2_CASES = (
    Case(
        "V2, patch 2×3, maps 10×14 and 5×7, window 3: padded",
        {
            "img_size": (20, 42), "patch_size": (2, 3), "window_size": 3, "embed_dim": 9,
            "num_classes": 5, "depths": (2, 3), "num_heads": (3, 2),
        },
        peers=("transformers V2",),  # timm pads after the roll, which is another function
        family=SwinTransformerV2,
    ),
    Case(
        "V2, pretrained windows 3 and 6, window 4, image 32×48",
        {
            "img_size": (32, 48), "patch_size": 2, "window_size": 4, "embed_dim": 10,
            "num_classes": 7, "depths": (2, 2), "num_heads": (5, 2),
            "pretrained_window_sizes": (3, 6),
        },
        peers=("transformers V2", "timm V2"),
        batch=3,
        family=SwinTransformerV2,
    ),
    Case(
        "V2, no qkv bias, mlp ratio 2, the last map is one window",
        {
            "img_size": 16, "patch_size": 2, "window_size": 4, "embed_dim": 8,
            "num_classes": 6, "depths": (2, 2, 1), "num_heads": (2, 4, 1),
            "qkv_bias": False, "mlp_ratio": 2.0, "pretrained_window_sizes": (0, 3, 2),
        },
        peers=("transformers V2", "timm V2"),
        family=SwinTransformerV2,
    ),
)  # fmt: skip

PAIRS = [(case, peer) for case in V2_CASES for peer in case.peers]


def case_named(start: str) -> Case:
    (case,) = (case for case in V2_CASES if case.name.startswith(start))
    return case


@pytest.mark.parametrize(("case", "against"), PAIRS, ids=str)
def test_logits_and_every_gradient_equal_those_of(case, against, report: list[Row]):
    row = compare(case, against)
    report.append(row)
    assert row.logits < TOLERANCE, row
    assert row.gradient < TOLERANCE, row


@pytest.mark.parametrize(("case", "against"), PAIRS, ids=str)
def test_names_and_shapes_are_those_of(case, against):
    peer, ours = PEERS[against], build(case, np.random.default_rng(0)).state_dict()
    renamed = {name: array.shape for name, array in rename(ours, peer.layout).items()}
    theirs = {n: tuple(p.shape) for n, p in peer.build(case.settings).named_parameters()}
    assert renamed == theirs


def test_at_the_clamp_a_mask_of_100_leaks_and_transformers_masks_with_200():
    """Logits then differ by up to 216: −100 and −200 let different things through."""
    case, rng = case_named("V2, pretrained"), np.random.default_rng(3)
    ours, images = build(case, rng), case.draw_images(rng)
    for name, array in ours.state_dict().items():
        if name.endswith("logit_scale"):
            array[...] = 5.0  # beyond ln 100
    theirs = {}
    for against in case.peers:
        module = PEERS[against].build(case.settings).double()
        PEERS[against].load(module, ours.state_dict())
        theirs[against] = PEERS[against].logits(module, tensor(images)).detach().numpy()

    def masked_with(value: float) -> np.ndarray:
        model = SwinTransformerV2(**case.settings, mask_value=value, rng=rng, dtype=np.float64)
        model.load_state_dict(ours.state_dict())
        return model.eval()(images).numpy()

    assert error(masked_with(-100), theirs["timm V2"]) < TOLERANCE
    assert error(masked_with(-200), theirs["transformers V2"]) < TOLERANCE
    assert error(theirs["timm V2"], theirs["transformers V2"]) > 1e-6
    assert error(masked_with(-np.inf), theirs["timm V2"]) > 1e-6


# ── planted faults: the comparison sees them ─────────────────────────────────────────────────────


def test_a_change_of_a_millionth_in_any_parameter_is_seen():
    case = case_named("V2, patch 2×3")
    names = [name for name, _ in build(case, np.random.default_rng(0)).named_parameters()]
    for name in (name for name in names if "blocks.1" not in name and "blocks.2" not in name):

        def nudge(model: Any, name: str = name) -> None:
            model.state_dict()[name].reshape(-1)[-1] += 1e-6

        row = compare(case, "transformers V2", spoil=nudge)
        assert row.largest > TOLERANCE, f"unseen: {name}, {row}"


def another_pretrained_window(model: Any) -> None:
    model.layers[1].blocks[0].attn.pretrained = (5, 5)


def biases_swapped(model: Any) -> None:
    attn = model.layers[0].blocks[0].attn
    attn.q_bias, attn.v_bias = attn.v_bias, attn.q_bias


def norms_swapped(model: Any) -> None:
    block = model.layers[0].blocks[1]
    block.norm1, block.norm2 = block.norm2, block.norm1


def never_shift(model: Any) -> None:
    model.layers[0].blocks[1].attn.shift = False


@pytest.mark.parametrize(
    "fault",
    [another_pretrained_window, biases_swapped, norms_swapped, never_shift],
    ids=lambda f: f.__name__,
)
def test_a_planted_fault_is_seen(fault):
    row = compare(case_named("V2, patch 2×3"), "transformers V2", spoil=fault)
    assert row.logits > 100 * TOLERANCE, row
