"""The linear layer and the MLP, over as many tokens at a time as stay in the cache.

Bias, GELU and its derivative are applied to a block while it is still in the cache, so they cost no
pass over the largest activations of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.blas import threads
from minswin.kernels.cpu.again import later
from minswin.kernels.cpu.compiled import compiled, contiguous, same_float
from minswin.kernels.cpu.gelu import gelu_loop, gelu_vjp_loop
from minswin.kernels.cpu.products import LINE, multiply, panels
from minswin.kernels.cpu.threads import in_threads
from minswin.reference import linear as reference

BLOCK = 2**20  # bytes of the widest rows that are worked on at a time,
ROWS = 384  # but at least this many rows: they share the reading of the weights
FEWEST = 64  # rows of a block that is made small so that each thread has one
LARGE = 2**23  # multiply-adds of a product that is worth more than one thread
TILED = 2**18  # bytes of a matrix up to which tiles are faster than BLAS


def _blocks(*rows: Array, parts: int = 1) -> Iterator[slice]:
    """Slices of as many rows as are worked on at a time, at least `parts` of them if possible."""
    widest = max(r.shape[1] * r.itemsize for r in rows)
    step = min(max(ROWS, BLOCK // widest), max(FEWEST, -(-len(rows[0]) // parts)))
    return (slice(start, start + step) for start in range(0, len(rows[0]) or 1, step))


def _parts(rows: Array, weight: Array) -> int:
    """At least how many blocks a product is cut into: one for each thread, if it is large."""
    return threads() if len(rows) * weight.size >= LARGE else 1


def _run(work: Callable[[slice], None], blocks: Iterator[slice]) -> None:
    """work(block) of every block."""
    for _ in in_threads(work, blocks):
        pass


# ── the products ─────────────────────────────────────────────────────────────────────────────────


def _times(matrix: Array, bias: Array | None = None) -> Callable[[Array, Array], None]:
    """A function (x, y) that sets y = x matrix + bias, for blocks of rows.

    GF/s on one core (AMD EPYC, AVX2), float32, 96 to 512 rows at a time:

        (K, M)        BLAS    tiles
        (48, 192)      66      91
        (192, 48)      66      77
        (96, 384)      82      94
        (384, 96)      80      90
        (192, 768)     91      97      but the packing of the panels costs as much
    """
    start = np.zeros(matrix.shape[1], matrix.dtype) if bias is None else contiguous(bias)
    if matrix.nbytes > TILED or matrix.shape[1] % 8:

        def with_blas(x: Array, y: Array) -> None:
            np.matmul(x, matrix, out=y)
            if bias is not None:
                y += bias

        return with_blas
    packed = panels(matrix)

    def with_tiles(x: Array, y: Array) -> None:
        _multiply_rows(x.reshape(-1), packed, start, y.reshape(-1), *x.shape, y.shape[1])

    return with_tiles


@compiled
def _multiply_rows(x: Any, packed: Any, bias: Any, y: Any, R: int, K: int, M: int) -> None:
    step = 96  # rows: the part of x stays in the first cache
    for i in range(0, R, step):
        right = packed, 0, LINE // y.itemsize, LINE // y.itemsize * K
        multiply((x, i * K, K, 1), right, (bias, 0, 0), (y, i * M, M), min(step, R - i), K, M)


class _Gradient:
    """The gradients of weight (M, K) and bias (M,), added up block by block."""

    weight: Array | None = None
    bias: Array | None = None

    def add(self, of_weight: Array, of_bias: Array) -> None:
        """Add those of a block, in the order of the blocks."""
        if self.weight is None or self.bias is None:
            self.weight, self.bias = of_weight, of_bias
        else:
            self.weight += of_weight
            self.bias += of_bias


def _of_block(g: Array, x: Array) -> tuple[Array, Array]:
    """The gradients of weight and bias by some rows.        g (n, M)   x (n, K)"""
    return g.T @ x, np.ones(len(g), g.dtype) @ g


# ── the kernels ──────────────────────────────────────────────────────────────────────────────────


@kernel("linear", "numba")
def linear(x: Array, weight: Array, bias: Array | None) -> tuple[Array, Vjp]:
    """Equals reference.linear, which runs for unequal dtypes and for no channels."""
    if not same_float(x, weight, bias) or 0 in weight.shape:
        return reference.linear(x, weight, bias)
    rows = contiguous(x).reshape(-1, x.shape[-1])  # (R, K)
    y = np.empty((len(rows), len(weight)), x.dtype)  # (R, M)
    times = _times(weight.T, bias)

    def multiply_block(block: slice) -> None:
        times(rows[block], y[block])

    _run(multiply_block, _blocks(rows, y, parts=_parts(rows, weight)))
    shape, inputs = x.shape, later(rows)  # a vjp that named x would keep it

    def vjp(g: Array) -> tuple[Array | None, ...]:
        g = contiguous(g).reshape(-1, g.shape[-1])  # (R, M)
        dx, gradient, undo = np.empty(shape, g.dtype), _Gradient(), _times(weight)
        drows = dx.reshape(-1, shape[-1])

        def undo_block(block: slice) -> tuple[Array, Array]:
            undo(g[block], drows[block])
            return _of_block(g[block], inputs(block))

        for of_block in in_threads(undo_block, _blocks(drows, g)):
            gradient.add(*of_block)
        dbias = None if bias is None else gradient.bias
        return dx, gradient.weight, dbias

    return y.reshape(*x.shape[:-1], len(weight)), vjp


@kernel("mlp", "numba")
def mlp(x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> tuple[Array, Vjp]:
    """Equals composites.mlp; keeps the input of the GELU, and computes GELU again in backward."""
    rows = contiguous(x).reshape(-1, x.shape[-1])  # (R, C)
    hidden = np.empty((len(rows), len(w1)), x.dtype)  # (R, 4C)
    y = np.empty((len(rows), len(w2)), x.dtype)  # (R, C)
    first, second = _times(w1.T, b1), _times(w2.T, b2)

    def multiply_block(block: slice) -> None:
        h = hidden[block]
        act = np.empty_like(h)
        first(rows[block], h)
        gelu_loop(h.reshape(-1), act.reshape(-1))
        second(act, y[block])

    _run(multiply_block, _blocks(hidden, parts=_parts(rows, w1)))
    shape, inputs = x.shape, later(rows)

    def vjp(g: Array) -> tuple[Array, ...]:
        g = contiguous(g).reshape(-1, g.shape[-1])  # (R, M)
        dx, of1, of2 = np.empty(shape, g.dtype), _Gradient(), _Gradient()
        drows = dx.reshape(-1, shape[-1])
        undo_first, undo_second = _times(w1), _times(w2)

        def undo_block(block: slice) -> tuple[Array, ...]:
            h, dy = hidden[block], g[block]
            act, dh = np.empty_like(h), np.empty_like(h)
            undo_second(dy, dh)
            flat = dh.reshape(-1)
            gelu_vjp_loop(h.reshape(-1), flat, act.reshape(-1), flat)
            undo_first(dh, drows[block])
            return *_of_block(dy, act), *_of_block(dh, inputs(block))

        for gradients in in_threads(undo_block, _blocks(hidden)):
            of2.add(*gradients[:2])
            of1.add(*gradients[2:])
        return dx, of1.weight, of1.bias, of2.weight, of2.bias

    return y.reshape(*x.shape[:-1], len(w2)), vjp
