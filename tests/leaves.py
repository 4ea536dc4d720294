"""Tensors that require a gradient."""

from __future__ import annotations

import numpy as np

from minswin import Tensor


def leaf(*values: float) -> Tensor:
    return Tensor(np.array(values), requires_grad=True)
