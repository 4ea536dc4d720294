"""Models without numbers, for those who ask for names, shapes and sizes alone."""

from __future__ import annotations

from typing import Any

import numpy as np


class _Blank:
    """Stands in for a random generator where weights are only counted: its numbers take no room."""

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(np.float32(0), shape).view(_Zeros)

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
        return self.standard_normal(shape)


class _Zeros(np.ndarray):
    """One zero in every place, which neither scaling nor converting writes out."""

    def __rmul__(self, factor: Any) -> _Zeros:
        return self

    def astype(self, dtype: Any, **settings: Any) -> _Zeros:  # type: ignore[override]
        return np.broadcast_to(np.zeros((), dtype), self.shape).view(_Zeros)


BLANK: Any = _Blank()
