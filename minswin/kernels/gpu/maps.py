"""Maps of another size on the GPU: the definition, with the products of cuBLAS."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from minswin.arrays import Array, Vjp, array_module
from minswin.kernels import kernel
from minswin.kernels.gpu.launch import same_float
from minswin.kernels.gpu.linear import batched
from minswin.reference import maps as definitions
from minswin.reference.maps import METHODS, Pair


@kernel("resize", "cupy")
def resize(x: Array, *, size: Pair, method: str = "bilinear") -> tuple[Array, Vjp]:
    """Equals reference.resize, which runs for empty arrays and for 16 bits."""
    if not same_float(x) or 0 in (x.size, *size):
        return definitions.resize(x, size=size, method=method)
    xp = array_module(x)
    device = xp.cuda.runtime.getDevice()
    R, S = (
        _matrix(xp, device, x.dtype, method, before, after)
        for before, after in zip(x.shape[1:3], size, strict=True)
    )

    def along_both(R: Array, S: Array, x: Array) -> Array:
        B, H, W, C = x.shape
        x = batched(R[None], x.reshape(B, H, W * C))  # (B, H', W·C)
        x = batched(S[None], x.reshape(-1, W, C))  # (B·H', W', C)
        return x.reshape(B, len(R), len(S), C)

    return along_both(R, S, x), lambda g: (along_both(R.T, S.T, g),)


@lru_cache(maxsize=256)
def _matrix(xp: Any, device: int, dtype: Any, method: str, before: int, after: int) -> Array:
    """Copied to the GPU once: a captured step could not do it."""
    return xp.asarray(METHODS[method](before, after)).astype(dtype)
