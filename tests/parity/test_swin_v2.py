"""Swin V2: where it differs between transformers and timm; faults are seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin.models import SwinTransformerV2

from .cases import case_named
from .compare import TOLERANCE, build, compare, error
from .peers import PEERS, tensor

pytestmark = pytest.mark.parity


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
