"""Tiles of a matrix product whose sums stay in the registers of the processor.

A tile is a few rows, each some vectors wide. Every number of A that is loaded meets a whole row of
B, and every vector of B all rows of A. GF/s in float32 on one core (AMD EPYC, znver4), which can do
118 at best, and BLAS beside it:

    (K, M), 336 rows    BLAS    tiles          (K, M)    BLAS    tiles
    (48, 192)             92      111        (192, 48)     93      115
    (192, 768)           101      115        (768, 192)   100      117
    (384, 1536)           93      113        (1536, 384)   95      116
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from llvmlite import ir
from llvmlite.binding import add_symbol
from numba import types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.experimental.function_type import _get_wrapper_address
from numba.extending import intrinsic, register_jitable

from minswin.kernels.cpu.compiled import by_symbol, compiled, written_out
from minswin.kernels.cpu.pairs import halves
from minswin.kernels.cpu.simd import LINE, call, itemsize, prefetch_line, spread


def _has(feature: str) -> bool:
    """Whether numba compiles for it."""
    features = config.CPU_FEATURES
    return f"+{feature}" in (get_host_cpu_features() if features is None else features).split(",")


# Bytes of a register, of the rows of a tile (as many as there are columns left), and its heights.
# 32 registers hold 8 × 3 sums and a row of B; 16 of them 6 × 2 sums, a row of B, a number of A.
if _has("avx512f"):
    REGISTER, WIDTHS, HEIGHT = 64, (192, 128, 64, 32), 8
else:
    REGISTER, WIDTHS, HEIGHT = 32, (64, 64, 64, 32), 6
_WIDEST, _DOUBLE, _SINGLE, _HALF = WIDTHS
PAIRS_AT_ONCE = _has("avx512bf16")  # elsewhere pairs of bfloat16 numbers are as slow as numbers


@register_jitable
def panel_width(columns: int, itemsize: int) -> int:
    """How wide the next panel is, in numbers, where so many columns are left."""
    left = columns * itemsize
    if left >= _WIDEST:
        return _WIDEST // itemsize
    if left >= _DOUBLE:
        return _DOUBLE // itemsize
    return (_SINGLE if left >= _SINGLE else _HALF) // itemsize


Finish = Callable[[Any, list[Any], list[Any]], list[Any]]


def tile_of(height: int, nbytes: int, finish: Finish | None = None) -> Any:
    """The loop of a tile of `height` rows, each of `nbytes` bytes, in LLVM's own language.

    C = finish(builder, rows of D, rows of A B), vector by vector, if it is not their sum.
    """

    @intrinsic
    def tile(
        typing: Any,
        a: Any, a0: Any, ar: Any, ac: Any,
        b: Any, b0: Any, br: Any,
        d: Any, d0: Any, dr: Any,
        c: Any, c0: Any, cr: Any,
        depth: Any,
    ) -> Any:  # fmt: skip
        """C[i, j] = D[i, j] + Σₜ A[i, t] B[t, j]"""

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values = _pointers(context, builder, signature, arguments)
            _write_tile(builder, values, height, nbytes, finish)
            return context.get_dummy_value()

        whole = types.intp
        start, matrix = (whole, whole), (whole, whole, whole)
        return types.none(a, *matrix, b, *start, d, *start, c, *start, whole), build

    return tile


def _pointers(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    """The arguments, where each array is a pointer to its numbers."""
    return [
        context.make_array(kind)(context, builder, value).data
        if isinstance(kind, types.Array)
        else value
        for kind, value in zip(signature.args, arguments, strict=True)
    ]


def _write_tile(
    builder: Any, arguments: Any, height: int, nbytes: int, finish: Finish | None
) -> None:
    a, a0, ar, ac, b, b0, br, d, d0, dr, c, c0, cr, depth = arguments
    number = c.type.pointee
    size = 4 if isinstance(number, ir.FloatType) else 8
    lanes = max(1, min(REGISTER, nbytes) // size)
    vector, factor = ir.VectorType(number, lanes), ir.VectorType(a.type.pointee, lanes)
    starts = range(0, nbytes // size, lanes)  # of the vectors of a row

    def along(start: Any, step: Any, i: int) -> Any:
        return builder.add(start, builder.mul(step, step.type(i)))

    def place(at: Any, start: int, kind: Any = vector) -> Any:
        return builder.bitcast(builder.gep(at, [depth.type(start)]), kind.as_pointer())

    def from_d(i: int, start: int) -> Any:
        return builder.load(place(builder.gep(d, [along(d0, dr, i)]), start), align=size)

    sums = {(i, s): cgutils.alloca_once(builder, vector) for i in range(height) for s in starts}
    for at, total in sums.items():
        builder.store(ir.Constant(vector, None) if finish else from_d(*at), total)
    for i in range(height, height if finish else 2 * height):  # the rows of the next tile
        row = builder.gep(c, [along(c0, cr, i)])
        for s in range(0, nbytes // size, LINE // size):
            prefetch_line(builder, builder.gep(row, [depth.type(s)]), to_write=True)
    in_a = cgutils.alloca_once_value(builder, builder.gep(a, [a0]))
    in_b = cgutils.alloca_once_value(builder, builder.gep(b, [b0]))
    rows_of_a = [builder.mul(ar, ar.type(i)) for i in range(height)]
    with _loop(builder, depth):
        column, row = builder.load(in_a), builder.load(in_b)
        ys = {s: builder.load(place(row, s, factor), align=size) for s in starts}
        for i in range(height):
            x = spread(builder, factor, builder.load(builder.gep(column, [rows_of_a[i]])))
            for s in starts:
                total = sums[i, s]
                builder.store(_multiply_add(builder, x, ys[s], builder.load(total)), total)
        builder.store(builder.gep(column, [ac]), in_a)
        builder.store(builder.gep(row, [br]), in_b)
    rows = {at: builder.load(total) for at, total in sums.items()}
    if finish:
        for s in starts:
            column = [(i, s) for i in range(height)]
            done = finish(builder, [from_d(*at) for at in column], [rows[at] for at in column])
            rows.update(zip(column, done, strict=True))
    for i in range(height):
        row = builder.gep(c, [along(c0, cr, i)])
        for s in starts:
            builder.store(rows[i, s], place(row, s), align=size)


def _multiply_add(builder: Any, x: Any, y: Any, total: Any) -> Any:
    """total + x y; of pairs, total + the products of the first and of the second numbers."""
    if x.type == total.type:
        return call(builder, "llvm.fma", x, y, total)
    if not PAIRS_AT_ONCE:
        for first, second in zip(halves(builder, x), halves(builder, y), strict=True):
            total = call(builder, "llvm.fma", first, second, total)
        return total
    kind = ir.FunctionType(total.type, [total.type, x.type, y.type])
    name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * total.type.count}"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [total, x, y])


@contextmanager
def _loop(builder: Any, count: Any) -> Iterator[None]:
    """Repeat what is built inside so often. LLVM alone would write it out many times over."""
    left = cgutils.alloca_once_value(builder, count)
    body, end = builder.append_basic_block("tile"), builder.append_basic_block("tile.end")
    some = builder.icmp_signed(">", count, count.type(0))
    builder.cbranch(some, body, end)
    builder.position_at_end(body)
    yield
    after = builder.sub(builder.load(left), count.type(1))
    builder.store(after, left)
    back = builder.cbranch(builder.icmp_signed(">", after, count.type(0)), body, end)
    module = builder.module
    rule = module.add_metadata(["llvm.loop.unroll.disable"])
    loop = ir.values.MDValue(module, (), str(len(module.metadata)))
    loop.operands = loop, rule  # LLVM knows a loop by a node that names itself
    back.set_metadata("llvm.loop", loop)
    builder.position_at_end(end)


def _panel(nbytes: int) -> Any:
    """All rows of a panel that is `nbytes` wide, from high tiles, tiles of four rows and of one."""
    high, four, single = (tile_of(height, nbytes) for height in (HEIGHT, 4, 1))

    @written_out
    def multiply_panel(
        a: Any, a0: int, ar: int, ac: int, b: Any, b0: int, br: int,
        d: Any, d0: int, dr: int, c: Any, c0: int, cr: int, rows: int, depth: int,
    ) -> None:  # fmt: skip
        i = 0
        while rows - i >= HEIGHT and (HEIGHT != 6 or rows - i != 8):  # 8 is 4 + 4
            ai, di, ci = a0 + i * ar, d0 + i * dr, c0 + i * cr
            high(a, ai, ar, ac, b, b0, br, d, di, dr, c, ci, cr, depth)
            i += HEIGHT
        while rows - i >= 4:
            ai, di, ci = a0 + i * ar, d0 + i * dr, c0 + i * cr
            four(a, ai, ar, ac, b, b0, br, d, di, dr, c, ci, cr, depth)
            i += 4
        while i < rows:
            ai, di, ci = a0 + i * ar, d0 + i * dr, c0 + i * cr
            single(a, ai, ar, ac, b, b0, br, d, di, dr, c, ci, cr, depth)
            i += 1

    return multiply_panel


_panels = {nbytes: _panel(nbytes) for nbytes in WIDTHS}
_widest, _double, _single, _half = (_panels[nbytes] for nbytes in WIDTHS)


@partial(compiled, for_c=True)
def _multiply_panels(
    a: Any, a0: int, ar: int, ac: int, b: Any, b0: int, br: int,
    d: Any, d0: int, dr: int, c: Any, c0: int, cr: int,
    rows: int, depth: int, columns: int,
) -> None:  # fmt: skip
    j, size = 0, itemsize(c)
    while j < columns:
        width = panel_width(columns - j, size)
        step, start = (br, b0 + j) if br else (width, b0 + j * depth)
        if width * size == _WIDEST:
            _widest(a, a0, ar, ac, b, start, step, d, d0 + j, dr, c, c0 + j, cr, rows, depth)
        elif width * size == _DOUBLE:
            _double(a, a0, ar, ac, b, start, step, d, d0 + j, dr, c, c0 + j, cr, rows, depth)
        elif width * size == _SINGLE:
            _single(a, a0, ar, ac, b, start, step, d, d0 + j, dr, c, c0 + j, cr, rows, depth)
        else:
            _half(a, a0, ar, ac, b, start, step, d, d0 + j, dr, c, c0 + j, cr, rows, depth)
        j += width


# ── one copy for all loops ───────────────────────────────────────────────────────────────────────
# numba puts the machine code of a function into everybody who calls it: a second for each of a
# dozen loops. So this one is compiled by itself, and the others find it by its symbol.

_found: set[Any] = set()


def _symbol(factor: Any, dtype: Any) -> str:
    return f"minswin_multiply_panels_{factor}_{dtype}"


def provide(factor: Any, dtype: Any) -> None:
    """Compile the panels for factors and sums of dtypes of numba, or take them from the disk.

    Before a call. Factors are numbers like the sums, or pairs of bfloat16 numbers in a uint32.
    """
    if (factor, dtype) in _found or (factor, dtype) not in _KINDS:
        return
    factors, numbers, whole = types.CPointer(factor), types.CPointer(dtype), types.intp
    read = *(factors, *[whole] * 3), *(factors, whole, whole)
    signature = types.none(*read, *(numbers, whole, whole) * 2, *[whole] * 3)
    add_symbol(_symbol(factor, dtype), _get_wrapper_address(_multiply_panels, signature))
    _found.add((factor, dtype))


@intrinsic
def multiply_panels(
    typing: Any,
    a: Any, a0: Any, ar: Any, ac: Any, b: Any, b0: Any, br: Any,
    d: Any, d0: Any, dr: Any, c: Any, c0: Any, cr: Any, rows: Any, depth: Any, columns: Any,
) -> Any:  # fmt: skip
    """C = D + A B, as `products.multiply` says."""
    factor, dtype, whole = a.dtype, c.dtype, types.intp

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        provide(factor, dtype)
        values = _pointers(context, builder, signature, arguments)
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        function = cgutils.get_or_insert_function(builder.module, kind, _symbol(factor, dtype))
        builder.call(function, values)
        return context.get_dummy_value()

    kinds = *(a, *[whole] * 3), *(b, whole, whole), *(d, whole, whole), *(c, whole, whole)
    return types.none(*kinds, *[whole] * 3), build


_KINDS = (
    (types.float32, types.float32),
    (types.float64, types.float64),
    (types.uint32, types.float32),
)
for _kind in _KINDS:
    by_symbol[_symbol(*_kind)] = partial(provide, *_kind)
