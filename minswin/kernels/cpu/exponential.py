"""eˣ for x ≤ 0, without a branch, so that loops over it work on eight numbers at once.

    eˣ = 2ⁿ · eʳ        n = ⌊x / ln 2 + ½⌋        r = x − n ln 2,  |r| ≤ ln 2 / 2

eʳ is a Taylor polynomial; 2ⁿ is written straight into the exponent bits of a number. The relative
error is at most 1e-7 in float32 and 4e-16 in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

# Here nothing may be reordered: the two steps that take n ln 2 off could become one, and inexact.
_AS_WRITTEN = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}, "forceinline": True}


@njit(**_AS_WRITTEN)
def polynomial(coefficients: tuple[Any, ...], t: Any) -> Any:
    """Σ coefficients[k] tᵏ."""
    value = coefficients[len(coefficients) - 1]
    for k in range(len(coefficients) - 2, -1, -1):  # Horner's rule
        value = value * t + coefficients[k]
    return value


def _exp_of(dtype: Any, integer: Any, terms: int, high_bits: int) -> Callable[[Any], Any]:
    """The function for one dtype. `integer` is the integer type of the same width."""
    info = np.finfo(dtype)
    lowest = dtype(np.log(info.smallest_normal) + info.eps * 64)
    high = round(math.log(2) * 2**high_bits) / 2**high_bits  # short: n · high is exact
    low = dtype(math.log(2) - high + 2.3190468138462996e-17)  # ln 2 has more digits than a float64
    high, per_ln2 = dtype(high), dtype(1 / math.log(2))
    half, zero = dtype(0.5), dtype(0)
    mantissa_bits, bias = integer(info.nmant), integer(1 - info.minexp)
    taylor = tuple(dtype(1 / math.factorial(k)) for k in range(terms))

    def exp(x: Any) -> Any:
        n = np.floor((x if x > lowest else lowest) * per_ln2 + half)  # finite even if x is not
        r = (x - n * high) - n * low
        two_to_n = integer((np.int32(n) + bias) << mantissa_bits).view(dtype)
        return zero if x < lowest else polynomial(taylor, r) * two_to_n

    return exp


_exp32 = _exp_of(np.float32, np.int32, terms=8, high_bits=14)
_exp64 = _exp_of(np.float64, np.int64, terms=14, high_bits=40)


def exp(x: Any) -> Any:
    """eˣ for x ≤ 0, in compiled loops only; NaN stays NaN.

    Where eˣ would be subnormal (x below −87.3 in float32, −708.4 in float64) it is 0: processors
    take many times longer over subnormal numbers, and masked windows are full of them.
    """
    raise NotImplementedError("exp: this stands for the compiled function in compiled loops")


@overload(exp, jit_options=_AS_WRITTEN)
def _choose_exp(x: Any) -> Callable[[Any], Any]:
    return _exp32 if x == types.float32 else _exp64
