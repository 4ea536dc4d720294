"""The attention of a forward as numbers small enough for a page that cannot run its model.

A probability p becomes the byte round(255·√p): the root keeps small shares apart.
"""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from minswin.look.attention import Attention

AROUND = 400  # letters of a block beside its arrays


def recorded_attention(records: list[Attention], *, budget: float = math.inf) -> dict[str, Any]:
    """Blocks with their geometry and probabilities for source.js; and those left out (from 1).

    budget: letters that the blocks may take in the page. Where all would be too much, blocks in
    the middle of a stage go first, then heads, then stages.
    """
    chosen, heads = choose(records, budget)
    blocks = [_block(record, heads) for record in chosen]
    kept = {record.name for record in chosen}
    others = [record for record in records if record.name not in kept]
    left_out = [f"{record.stage + 1} · {record.block + 1}" for record in others]
    return {"blocks": blocks, "left_out": left_out, "heads_left_out": heads is not None}


def choose(records: list[Attention], budget: float) -> tuple[list[Attention], int | None]:
    """The blocks, and how many of their heads (None: all), that fit."""
    ends = [record for record in records if _at_an_end(record, records)]
    most = (12, 8, 6, 4, 3, 2, 1)
    fewer_heads: list[tuple[list[Attention], int | None]] = [(ends, n) for n in most]
    fewer_stages: list[tuple[list[Attention], int | None]] = [(ends[-n:], 1) for n in (4, 2)]
    for chosen, heads in ((records, None), (ends, None), *fewer_heads, *fewer_stages):
        if sum(letters(record, heads) for record in chosen) <= budget:
            return chosen, heads
    return [], None


def _at_an_end(record: Attention, records: list[Attention]) -> bool:
    """Among the first two blocks of its stage, or the last two."""
    last = max(other.block for other in records if other.stage == record.stage)
    return record.block < 2 or record.block > last - 2


def letters(record: Attention, heads: int | None) -> int:
    """What a block takes in the page, at most: three bytes are four letters."""
    windows, all_heads, N, _ = record.probabilities.shape
    return windows * min(heads or all_heads, all_heads) * N * N * 4 // 3 + AROUND


def _block(record: Attention, heads: int | None) -> dict[str, Any]:
    p = record.probabilities[:, :heads]  # (windows, h, N, N)
    return {
        "stage": record.stage,
        "block": record.block,
        "grid": record.grid,
        "window": record.window,
        "shift": record.shift,
        "front": record.front,
        "shape": p.shape,
        "probabilities": as_text(quantised(p)),
    }


def quantised(p: np.ndarray) -> np.ndarray:
    """Probabilities as bytes: 255·√p, rounded."""
    return np.rint(255 * np.sqrt(p.clip(0, 1))).astype(np.uint8)


def as_text(array: np.ndarray) -> str:
    """The bytes of an array, in letters that a page can hold."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
