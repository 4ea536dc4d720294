"""Linear layers and MLPs that round what they multiply to bfloat16; all else is that of "numba".

Sums, what comes out and what is kept for backward are float32. Processors with AVX512_BF16 (AMD
since Zen 4, Intel since Cooper Lake) multiply twice as many pairs as numbers: 228 GF/s on one core
of an AMD EPYC (Zen 4) for (336, 192) times (192, 768), where float32 has 115. Others are no faster
than in float32 and as near to the exact sums, not equal to the bit: the instruction adds in another
order, and takes numbers below 1.2e-38 for 0. Parameters and inputs of float64 stay as they are.
"""

from __future__ import annotations

import numpy as np

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.linear import linear_of, mlp_of, takes


@kernel("linear", "bfloat16")
def linear(x: Array, weight: Array, bias: Array | None) -> tuple[Array, Vjp]:
    """Equals reference.linear of rounded factors, but for subnormal ones; so does its vjp."""
    return linear_of(x, weight, bias, short=x.dtype == np.float32)


@kernel("mlp", "bfloat16", takes)
def mlp(x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> tuple[Array, Vjp]:
    """Equals composites.mlp of rounded factors, GELU(h) among them; so does its vjp."""
    return mlp_of(x, w1, b1, w2, b2, short=x.dtype == np.float32)
