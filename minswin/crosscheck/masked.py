"""Pairs that a mask keeps apart: −100 does it, and anything lower, −∞ too, does it as well."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from minswin.crosscheck.recording import Step

Array = np.ndarray
KINDS = ("mask", "bias_and_mask", "logits")
MASK, MASKED = -100.0, -50.0  # a sum of logit, bias and mask below the second is masked


def masked_pairs(step: Step, steps: Mapping[str, Step]) -> Array:
    """Where the right value is masked: by the mask of its block, where there is one."""
    mask = steps.get(f"{step.name.rpartition('.')[0]}.mask")
    if mask is None and not any(step.geometry.get("shift", (1,))):
        return np.zeros(step.value.shape, bool)  # a logit may be small without a mask
    value = step.value if mask is None else mask.value
    return np.broadcast_to(value < MASKED, step.value.shape)


def lifted(y: Array, right: Array, pairs: Array, allowed: Array | float = 0) -> Array:
    """y with the right value in those of `pairs` where it is lower still."""
    return np.where(pairs & (y < right - allowed), right.astype(y.dtype), y)


def legible(y: Array, right: Array, pairs: Array) -> Array:
    """y with what −100 would give in the place of −∞, wherever it stands."""
    return np.where(y == -np.inf, np.where(pairs, right, right + MASK), y)
