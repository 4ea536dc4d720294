"""Attention on the GPU: the products of cuBLAS, and the kernel of softmax between them."""

from __future__ import annotations

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.gpu.launch import same_float
from minswin.kernels.gpu.linear import batched
from minswin.kernels.gpu.softmax import softmax
from minswin.reference.attention import attention as definition
from minswin.reference.elementwise import unbroadcast
from minswin.reference.linear import swap


@kernel("attention", "cupy")
def attention(q: Array, k: Array, v: Array, bias: Array | None) -> tuple[Array, Vjp]:
    """Equals reference.attention, which runs for empty arrays and for 16 bits."""
    if not same_float(q, k, v, bias) or 0 in (q.size, k.size, v.size):
        return definition(q, k, v, bias)
    scaled, scale = q * q.shape[-1] ** -0.5, q.shape[-1] ** -0.5
    logits = batched(scaled, swap(k))  # (..., N, M)
    if bias is not None:
        logits += bias
    p, undo_softmax = softmax(logits)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        (ds,) = undo_softmax(batched(g, swap(v)))
        dq, dk = batched(ds, k) * scale, batched(swap(ds), scaled)
        dbias = None if bias is None else unbroadcast(ds, bias.shape)
        return dq, dk, batched(swap(p), g), dbias

    return batched(p, v), vjp
