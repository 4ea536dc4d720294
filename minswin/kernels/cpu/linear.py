"""The linear layer and the MLP, over as many tokens at a time as stay in the cache.

Bias, GELU and its derivative are applied to some rows while they are still in the cache, so they
cost no pass over the largest activations of the network. One block of rows is one call of a
compiled loop, which works on a part of it at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from minswin.arrays import Array, Vjp
from minswin.autograd import is_recording
from minswin.kernels import kernel
from minswin.kernels.blas import threads
from minswin.kernels.cpu.again import later
from minswin.kernels.cpu.compiled import compiled, contiguous, same_float
from minswin.kernels.cpu.gelu import gelu_loop, gelu_vjp_loop
from minswin.kernels.cpu.products import filled
from minswin.kernels.cpu.rows import (
    add_gradient,
    fits,
    multiply_rows,
    packed,
    rows_of_a_part,
    scratch,
)
from minswin.kernels.cpu.threads import in_threads
from minswin.reference import linear as reference

BLOCK = 2**21  # bytes of the widest rows of a block,
ROWS = 768  # but at least this many rows: each block has a gradient of its own
FEWEST = 64  # rows of a block that is made small so that each thread has one
NARROW = 48  # channels up to which a hidden number is computed again: 2 C operations for 4 bytes
LARGE = 2**23  # multiply-adds of a product that is worth more than one thread


def _blocks(rows: Array, *, widest: int, parts: int = 1) -> Iterator[slice]:
    """Slices of about the same number of rows, at least `parts` of them if possible."""
    count = len(rows)
    most = min(max(ROWS, BLOCK // (widest * rows.itemsize)), max(FEWEST, -(-count // parts)))
    step = -(-count // max(1, -(-count // most)))
    return (slice(start, min(start + step, count)) for start in range(0, count, step or 1))


def _parts(rows: Array, weight: Array) -> int:
    """At least how many blocks a product is cut into: one for each thread, if it is large."""
    return threads() if len(rows) * weight.size >= LARGE else 1


def _run(work: Callable[[slice], None], blocks: Iterator[slice]) -> None:
    """work(block) of every block."""
    for _ in in_threads(work, blocks):
        pass


def _sums(blocks: Iterator[tuple[Array, ...]], *like: Array) -> list[Array]:
    """The gradients of some weights, added up block by block, in the order of the blocks."""
    totals: list[Array] = []
    for of_block in blocks:
        if not totals:
            totals = list(of_block)
        else:
            for total, gradient in zip(totals, of_block, strict=True):
                total += gradient
    return totals or [np.zeros_like(w) for w in like]


def _row(bias: Array | None, width: int, dtype: Any) -> Array:
    """What a product is added to."""
    return np.zeros(width, dtype) if bias is None else contiguous(bias)


# ── the kernels ──────────────────────────────────────────────────────────────────────────────────


@kernel("linear", "numba")
def linear(x: Array, weight: Array, bias: Array | None) -> tuple[Array, Vjp]:
    """Equals reference.linear, which runs for unequal dtypes and for no channels."""
    return linear_of(x, weight, bias, short=False)


def linear_of(x: Array, weight: Array, bias: Array | None, short: bool) -> tuple[Array, Vjp]:
    """The layer; short: with the factors of its three products rounded to bfloat16."""
    if not same_float(x, weight, bias) or 0 in weight.shape:
        return reference.linear(x, weight, bias)
    if not fits(*weight.shape):
        return _filled_up(partial(linear_of, short=short), x, weight, bias)
    rows = contiguous(x).reshape(-1, x.shape[-1])  # (R, K)
    M, K = weight.shape
    y = np.empty((len(rows), M), x.dtype)
    matrix, start = packed(weight.T, short), _row(bias, M, x.dtype)

    def multiply_block(block: slice) -> None:
        some, to = rows[block], y[block]
        room = scratch(len(some), K, M, dtype=x.dtype, short=short)
        multiply_rows(some.reshape(-1), 0, matrix, start, to.reshape(-1), 0, room, len(some), K, M)

    _run(multiply_block, _blocks(rows, widest=max(K, M), parts=_parts(rows, weight)))
    shape, inputs, dtype = x.shape, later(rows), x.dtype  # a vjp that named x would keep it

    def vjp(g: Array) -> tuple[Array | None, ...]:
        g = contiguous(g).reshape(-1, M)  # (R, M)
        dx, matrix = np.empty(shape, dtype), packed(weight, short)
        drows = dx.reshape(-1, K)

        def undo_block(block: slice) -> tuple[Array, ...]:
            dy, dsome, some = g[block], drows[block], inputs(block)
            of_weight, of_bias = np.zeros(weight.shape, dtype), np.zeros(M, dtype)
            room = scratch(len(dy), K, M, dtype=dtype, short=short)
            of, numbers = (of_weight.reshape(-1), of_bias), np.ones(1, dtype)
            to = dsome.reshape(-1), *of, numbers, np.zeros(K, dtype), room
            _undo(dy.reshape(-1), some.reshape(-1), matrix, *to, len(dy), K, M)
            return of_weight, of_bias

        of_weight, of_bias = _sums(
            in_threads(undo_block, _blocks(g, widest=max(K, M))), weight, g[:0].sum(0)
        )
        return dx, of_weight, None if bias is None else of_bias

    return y.reshape(*x.shape[:-1], M), vjp


def takes(x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> bool:
    return 0 not in (*w1.shape, *w2.shape)


@kernel("mlp", "numba", takes)
def mlp(x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> tuple[Array, Vjp]:
    """Equals composites.mlp; keeps the input of the GELU, and computes GELU again in backward.

    Of narrow rows, and where nothing is recorded, it keeps only a part at a time, and computes it
    again in backward.
    """
    return mlp_of(x, w1, b1, w2, b2, short=False)


def mlp_of(x: Array, w1: Array, b1: Array, w2: Array, b2: Array, short: bool) -> tuple[Array, Vjp]:
    """The MLP; short: with the factors of its six products rounded to bfloat16."""
    (H, C), M = w1.shape, len(w2)
    if not fits(C, H, M):
        return _filled_up(partial(mlp_of, short=short), x, w1, b1, w2, b2)
    rows = contiguous(x).reshape(-1, C)  # (R, C)
    kept = is_recording() and C > NARROW
    hidden = np.empty((len(rows), H if kept else 0), x.dtype)
    y = np.empty((len(rows), M), x.dtype)
    first, second = packed(w1.T, short), packed(w2.T, short)
    starts = contiguous(b1), contiguous(b2)

    def multiply_block(block: slice) -> None:
        some, to = rows[block], y[block]
        part = rows_of_a_part(len(some), max(C, H, M)) * H
        act = np.empty(part, x.dtype)
        h = hidden[block] if kept else np.empty(part, x.dtype)
        room = scratch(len(some), C, H, M, dtype=x.dtype, short=short)
        arrays = some.reshape(-1), first, second, *starts, h.reshape(-1), act, to.reshape(-1), room
        _mlp(*arrays, len(some), C, H, M)

    _run(multiply_block, _blocks(rows, widest=H, parts=_parts(rows, w1)))
    shape, inputs, dtype = x.shape, later(rows), x.dtype

    def vjp(g: Array) -> tuple[Array, ...]:
        g = contiguous(g).reshape(-1, M)  # (R, M)
        dx = np.empty(shape, dtype)
        drows = dx.reshape(-1, C)
        first, second = packed(w1, short), packed(w2, short)
        forth = first[:0] if kept else packed(w1.T, short)

        def undo_block(block: slice) -> tuple[Array, ...]:
            some, dy, to = inputs(block), g[block], drows[block]
            of = [np.zeros(w.shape, dtype) for w in (w1, b1, w2, b2)]
            part = rows_of_a_part(len(some), max(C, H, M)) * H
            act, dh = (np.empty(part, dtype) for _ in range(2))
            h = hidden[block] if kept else np.empty(part, dtype)
            rooms = act, dh, scratch(len(some), C, H, M, dtype=dtype, short=short)
            sums = (*(a.reshape(-1) for a in of), np.ones(1, dtype), np.zeros(max(C, H), dtype))
            arrays = (a.reshape(-1) for a in (some, h, dy, to))
            matrices = starts[0], forth, first, second
            _undo_mlp(*arrays, *matrices, *sums, *rooms, len(some), C, H, M, kept)
            return tuple(of)

        return dx, *_sums(in_threads(undo_block, _blocks(drows, widest=H)), w1, b1, w2, b2)

    return y.reshape(*x.shape[:-1], M), vjp


def _filled_up(
    kernel: Callable[..., tuple[Array, Vjp]], x: Array, *weights: Any
) -> tuple[Array, Vjp]:
    """The kernel on channels filled up with zeros to multiples of 8, which GELU(0) = 0 keeps."""
    wide = [None if w is None else filled(w, w.ndim) for w in weights]
    y, undo = kernel(filled(x, 1), *wide)
    K, M = x.shape[-1], len(weights[-2])
    shapes = [None if w is None else w.shape for w in weights]

    def vjp(g: Array) -> tuple[Array | None, ...]:
        dx, *gradients = undo(filled(g, 1))
        cut = (
            None if shape is None else np.ascontiguousarray(d[tuple(map(slice, shape))])
            for d, shape in zip(gradients, shapes, strict=True)
        )
        return np.ascontiguousarray(dx[..., :K]), *cut

    return np.ascontiguousarray(y[..., :M]), vjp


# ── a block of rows ──────────────────────────────────────────────────────────────────────────────


@compiled
def _undo(
    g: Any, x: Any, matrix: Any, dx: Any, of_weight: Any, of_bias: Any, one: Any, zero: Any,
    room: Any, rows: int, K: int, M: int,
) -> None:  # fmt: skip
    """dx = g matrix, and what these rows add to the gradients of weight and bias."""
    step = rows_of_a_part(rows, max(K, M))
    for i in range(0, rows, step):
        n = min(step, rows - i)
        multiply_rows(g, i * M, matrix, zero, dx, i * K, room, n, M, K)
        add_gradient(g, i * M, x, i * K, of_weight, of_bias, one, room, n, K, M)


@compiled
def _mlp(
    x: Any, first: Any, second: Any, b1: Any, b2: Any, h: Any, act: Any, y: Any, room: Any,
    rows: int, C: int, H: int, M: int,
) -> None:  # fmt: skip
    """h = b1 + x first        y = b2 + GELU(h) second

    h may have room for one part only.
    """
    step = rows_of_a_part(rows, max(C, H, M))
    for i in range(0, rows, step):
        n = min(step, rows - i)
        h0 = i * H if len(h) >= rows * H else 0
        multiply_rows(x, i * C, first, b1, h, h0, room, n, C, H)
        gelu_loop(h[h0 : h0 + n * H], act)
        multiply_rows(act, 0, second, b2, y, i * M, room, n, H, M)


@compiled
def _undo_mlp(
    x: Any, h: Any, g: Any, dx: Any, b1: Any, forth: Any, first: Any, second: Any,
    of_w1: Any, of_b1: Any, of_w2: Any, of_b2: Any, one: Any, zero: Any,
    act: Any, dh: Any, room: Any, rows: int, C: int, H: int, M: int, kept: bool,
) -> None:  # fmt: skip
    """dx, and what these rows add to the gradients of the weights and biases.

    h is computed again, and has room for one part, if it was not kept.
    """
    step = rows_of_a_part(rows, max(C, H, M))
    for i in range(0, rows, step):
        n = min(step, rows - i)
        h0 = i * H if kept else 0
        if not kept:
            multiply_rows(x, i * C, forth, b1, h, 0, room, n, C, H)
        multiply_rows(g, i * M, second, zero, dh, 0, room, n, M, H)
        gelu_vjp_loop(h[h0 : h0 + n * H], dh, act, dh)
        multiply_rows(dh, 0, first, zero, dx, i * C, room, n, H, C)
        add_gradient(g, i * M, act, 0, of_w2, of_b2, one, room, n, H, M)
        add_gradient(dh, 0, x, i * C, of_w1, of_b1, one, room, n, C, H)
