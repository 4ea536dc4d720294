"""TNT: planted faults are seen in the comparison with timm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .cases import case_named
from .compare import TOLERANCE, compare

pytestmark = pytest.mark.parity


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
