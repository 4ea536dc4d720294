"""The steps of attention on as many keys as half of the registers: there logits get probabilities.

16 keys are 16 of the 32 registers of AVX-512: from the product to the probabilities nothing goes to
memory. The logits of other numbers do, between the product and the softmax of its columns. What is
here becomes part of whoever calls it: a call with four arrays takes 10 ns, since each is seven
arguments, and one of the panels 30, where a product of 16 × 16 × 16 takes 70.
A head of 16 tokens and channels takes 224 ns so, and 306 with a call for each step; backward 514
and 702 (one core of an AMD EPYC, all in the cache).

    P, dS (M, N)   K (M, d)   V (M, e)   …t: transposed   each (array, offset, row stride)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.extending import register_jitable

from minswin.kernels.cpu.functions import falling_power
from minswin.kernels.cpu.products import multiply
from minswin.kernels.cpu.simd import constant, itemsize, larger_of
from minswin.kernels.cpu.softmax import softmax_columns, undo_softmax_columns
from minswin.kernels.cpu.tiles import REGISTER, tile_of

KEYS = REGISTER // 4  # half of the registers: 16 of 32, or 8 of 16


@register_jitable(forceinline=True)
def probabilities(K: Any, Qt: Any, Bt: Any, P: Any, M: int, d: int, queries: int) -> None:
    """P = softmax(K Qᵀ + Bᵀ) down each column; a multiple of 8 of them."""
    (k, k0, kr), (qt, qt0, qtr), (b, b0, br), (p, p0, pr) = K, Qt, Bt, P
    lanes = REGISTER // itemsize(p)
    if M == KEYS and queries % lanes == 0:
        for j in range(0, queries, lanes):
            _softmax_tile(k, k0, kr, 1, qt, qt0 + j, qtr, b, b0 + j, br, p, p0 + j, pr, d)
    else:
        multiply((k, k0, kr, 1), Qt, Bt, P, M, d, queries)
        softmax_columns(p, M, queries)


@register_jitable(forceinline=True)
def undo_probabilities(
    V: Any, dYt: Any, P: Any, dS: Any, zero: Any, M: int, e: int, queries: int
) -> None:
    """dS = P (dP − Σ P dP) down each column, where dP = V dYᵀ."""
    (v, v0, vr), (dyt, dyt0, dytr), (p, p0, pr), (ds, ds0, dsr) = V, dYt, P, dS
    lanes = REGISTER // itemsize(p)
    if M == KEYS and queries % lanes == 0:
        for j in range(0, queries, lanes):
            _undo_tile(
                v, v0, vr, 1, dyt, dyt0 + j, dytr, p, p0 + j, pr, ds, ds0 + j, dsr, e
            )  # fmt: skip
    else:
        multiply((v, v0, vr, 1), dYt, (zero, 0, 0), dS, M, e, queries)
        undo_softmax_columns(p, ds, M, queries)


@register_jitable(forceinline=True)
def product(A: Any, B: Any, D: Any, C: Any, rows: int, depth: int, columns: int) -> None:
    """C = D + A B, as `multiply`: rows as many as these keys are one tile, and call no panels."""
    (a, a0, ar, ac), (b, b0, br), (d, d0, dr), (c, c0, cr) = A, B, D, C
    lanes = REGISTER // itemsize(c)
    if rows == KEYS and columns % lanes == 0:
        for j in range(0, columns, lanes):
            _sum_tile(a, a0, ar, ac, b, b0 + j, br, d, d0 + j, dr, c, c0 + j, cr, depth)
    else:
        multiply(A, B, D, C, rows, depth, columns)


# ── in the registers ─────────────────────────────────────────────────────────────────────────────


def _softmax(builder: Any, b: list[Any], product: list[Any]) -> list[Any]:
    logits = _sum(builder, b, product)
    top = _joined(lambda x, y: larger_of(builder, x, y), logits)
    powers = [falling_power(builder, builder.fsub(x, top)) for x in logits]
    share = builder.fdiv(constant(top.type, 1), _joined(builder.fadd, powers))
    return [builder.fmul(power, share) for power in powers]


def _undo_softmax(builder: Any, p: list[Any], dp: list[Any]) -> list[Any]:
    products = [builder.fmul(x, y) for x, y in zip(p, dp, strict=True)]
    along = _joined(builder.fadd, products)
    return [builder.fmul(x, builder.fsub(y, along)) for x, y in zip(p, dp, strict=True)]


def _joined(join: Callable[[Any, Any], Any], vectors: list[Any]) -> Any:
    """One vector of a power of two of them, pair by pair: most of them wait for few others."""
    while len(vectors) > 1:
        vectors = [join(x, y) for x, y in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]


def _sum(builder: Any, d: list[Any], product: list[Any]) -> list[Any]:
    return [builder.fadd(x, y) for x, y in zip(d, product, strict=True)]


_sum_tile = tile_of(KEYS, REGISTER, _sum)
_softmax_tile = tile_of(KEYS, REGISTER, _softmax)
_undo_tile = tile_of(KEYS, REGISTER, _undo_softmax)
