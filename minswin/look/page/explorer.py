"""The attention of a forward as numbers small enough for a page, where a reader points at a token.

A probability p becomes the byte round(255·√p): the root keeps small shares apart. The page looks
numbers up and computes nothing: where a token is, and whom it may see, is written down here.
"""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from minswin.look.attention import Attention, places
from minswin.look.masks import distinct_masks

AROUND = 400  # letters of a block beside its arrays


def explorer_data(seen: list[Attention], *, budget: float = math.inf) -> dict[str, Any]:
    """What report.js needs: blocks with geometry, masks and probabilities; and what was left out.

    budget: letters that the blocks may take in the page. Where all would be too much, blocks in
    the middle of a stage go first, then heads, then stages.
    """
    chosen, heads = choose(seen, budget)
    blocks = [_block(record, heads) for record in chosen]
    kept = {record.name for record in chosen}
    left_out = [record.name for record in seen if record.name not in kept]
    return {"blocks": blocks, "left_out": left_out, "heads_left_out": heads is not None}


def choose(seen: list[Attention], budget: float) -> tuple[list[Attention], int | None]:
    """The blocks, and how many of their heads (None: all), that fit."""
    ends = [record for record in seen if _at_an_end(record, seen)]
    most = (12, 8, 6, 4, 3, 2, 1)
    fewer_heads: list[tuple[list[Attention], int | None]] = [(ends, n) for n in most]
    fewer_stages: list[tuple[list[Attention], int | None]] = [(ends[-n:], 1) for n in (4, 2)]
    for records, heads in ((seen, None), (ends, None), *fewer_heads, *fewer_stages):
        if sum(letters(record, heads) for record in records) <= budget:
            return records, heads
    return [], None


def _at_an_end(record: Attention, seen: list[Attention]) -> bool:
    """Among the first two blocks of its stage, or the last two."""
    last = max(other.block for other in seen if other.stage == record.stage)
    return record.block < 2 or record.block > last - 2


def letters(record: Attention, heads: int | None) -> int:
    """What a block takes in the page, at most: three bytes are four letters."""
    windows, all_heads, N, _ = record.probabilities.shape
    probabilities = windows * min(heads or all_heads, all_heads) * N * N
    masks = 4 * (N * N // 8 + 1) if any(record.shift) else 0
    arrays = probabilities + masks + 2 * record.grid[0] * record.grid[1]
    return arrays * 4 // 3 + 3 * windows + AROUND  # -1, for a window without a mask


def _block(record: Attention, heads: int | None) -> dict[str, Any]:
    p = record.probabilities[:, :heads]  # (windows, h, N, N)
    masks, mask_of = _masks(record)
    return {
        "name": record.name,
        "grid": record.grid,
        "window": record.window,
        "shift": record.shift,
        "front": record.front,
        "shape": p.shape,
        "places": text(places(record).astype("<u2")),
        "masks": masks,
        "mask_of": mask_of,
        "probabilities": text(quantised(p)),
    }


def _masks(record: Attention) -> tuple[list[str], list[int]]:
    """The different masks as bits, 1 where a query may see a key; and the mask of every window."""
    windows = len(record.probabilities)
    if not any(record.shift):
        return [], [-1] * windows  # everything in the window is seen
    masks = distinct_masks(record.covered, record.window, record.shift)
    of = {number: i for i, mask in enumerate(masks) for number in mask.windows}
    bits = [text(np.packbits(mask.added == 0)) for mask in masks]
    return bits, [of[number] for number in range(windows)]


def quantised(p: np.ndarray) -> np.ndarray:
    """Probabilities as bytes: 255·√p, rounded."""
    return np.rint(255 * np.sqrt(p.clip(0, 1))).astype(np.uint8)


def text(array: np.ndarray) -> str:
    """The bytes of an array, in letters that a page can hold."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
