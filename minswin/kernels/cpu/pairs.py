"""Pairs of bfloat16 numbers, which a processor multiplies two at a time and adds up in float32.

A bfloat16 is the upper half of a float32, rounded to even: 8 bits of mantissa, the same range. Two
that are multiplied one after the other lie side by side in 32 bits, the first in the lower half.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minswin.kernels.cpu.simd import LANES, address

_UPPER = 0xFFFF0000


def _rounded(builder: Any, x: Any) -> Any:
    """The bits of float32 numbers, rounded to the upper half. What is below is to be cut off."""
    whole = ir.VectorType(ir.IntType(32), x.type.count)
    bits = builder.bitcast(x, whole)
    odd = builder.and_(builder.lshr(bits, _all(whole, 16)), _all(whole, 1))
    up = builder.add(bits, builder.add(odd, _all(whole, 0x7FFF)))
    quiet = builder.or_(bits, _all(whole, 0x00400000))  # a NaN must not be rounded up to something
    return builder.select(builder.fcmp_unordered("uno", x, x), quiet, up)


def _all(kind: Any, number: int) -> Any:
    return ir.Constant(kind, [number] * kind.count)


def _joined(builder: Any, first: Any, second: Any) -> Any:
    low = builder.lshr(first, _all(first.type, 16))
    return builder.or_(low, builder.and_(second, _all(second.type, _UPPER)))


def halves(builder: Any, pairs: Any) -> tuple[Any, Any]:
    """The first and the second numbers of a vector of pairs, as float32."""
    kind = ir.VectorType(ir.FloatType(), pairs.type.count)
    first = builder.shl(pairs, _all(pairs.type, 16))
    second = builder.and_(pairs, _all(pairs.type, _UPPER))
    return builder.bitcast(first, kind), builder.bitcast(second, kind)


@intrinsic
def pair_along(typing: Any, x: Any, start: Any, pairs: Any, to: Any) -> Any:
    """pairs[to : to + 4] = the neighbours x[start], x[start + 1]; x[start + 2], …"""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, start, pairs, to = arguments
        of_x, of_pairs = signature.args[0], signature.args[2]
        bits = _rounded(builder, _load(context, builder, of_x, x, start))
        lane, none = ir.IntType(32), ir.Constant(bits.type, ir.Undefined)
        first, second = (
            builder.shuffle_vector(
                bits, none, ir.Constant(ir.VectorType(lane, LANES // 2), list(range(i, LANES, 2)))
            )
            for i in (0, 1)
        )
        _store(context, builder, of_pairs, pairs, to, _joined(builder, first, second))
        return context.get_dummy_value()

    return types.none(x, types.intp, pairs, types.intp), build


@intrinsic
def pair_down(typing: Any, x: Any, above: Any, below: Any, pairs: Any, to: Any) -> Any:
    """pairs[to + i] = x[above + i], x[below + i] for i = 0…7; zeros below where below < 0"""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, above, below, pairs, to = arguments
        of_x, of_pairs = signature.args[0], signature.args[3]
        missing = builder.icmp_signed("<", below, below.type(0))
        first = _rounded(builder, _load(context, builder, of_x, x, above))
        there = builder.select(missing, above, below)
        second = _rounded(builder, _load(context, builder, of_x, x, there))
        second = builder.select(missing, _all(second.type, 0), second)
        _store(context, builder, of_pairs, pairs, to, _joined(builder, first, second))
        return context.get_dummy_value()

    whole = types.intp
    return types.none(x, whole, whole, pairs, whole), build


def _load(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    place = address(context, builder, kind, array, index)
    vector = ir.VectorType(place.type.pointee, LANES).as_pointer()
    return builder.load(builder.bitcast(place, vector), align=4)


def _store(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> None:
    place = address(context, builder, kind, array, index)
    builder.store(vector, builder.bitcast(place, vector.type.as_pointer()), align=4)
