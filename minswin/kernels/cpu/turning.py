"""A block of 8×8 numbers turned over, in eight vectors."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minswin.kernels.cpu.simd import LANES, Vector, address


@intrinsic
def transpose(typing: Any, a: Any, a0: Any, ar: Any, b: Any, b0: Any, br: Any) -> Any:
    """b[b0 + j·br + i] = a[a0 + i·ar + j] for i, j = 0…7: turn a block of 8×8 numbers over"""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, a0, ar, b, b0, br = arguments
        a_kind, b_kind = signature.args[0], signature.args[3]
        kind = context.get_value_type(Vector(a_kind.dtype))
        size = a_kind.dtype.bitwidth // 8

        def row(array_kind: Any, array: Any, start: Any, step: Any, i: int) -> Any:
            index = builder.add(start, builder.mul(step, ir.Constant(step.type, i)))
            number = address(context, builder, array_kind, array, index)
            return builder.bitcast(number, kind.as_pointer())

        rows = [builder.load(row(a_kind, a, a0, ar, i), align=size) for i in range(LANES)]
        for half in (4, 2, 1):  # swap the off-diagonal quarters of ever smaller blocks
            for i in range(LANES):
                if not i & half:
                    rows[i], rows[i + half] = _swap_quarters(builder, rows[i], rows[i + half], half)
        for j in range(LANES):
            builder.store(rows[j], row(b_kind, b, b0, br, j), align=size)
        return context.get_dummy_value()

    index = types.intp
    return types.none(a, index, index, b, index, index), build


def _swap_quarters(builder: Any, x: Any, y: Any, half: int) -> tuple[Any, Any]:
    """Exchange the lanes of x whose number has the bit `half` with those of y that have not."""
    upper = [LANES + (j ^ half) if j & half else j for j in range(LANES)]
    lower = [LANES + j if j & half else j | half for j in range(LANES)]
    masks = (ir.Constant(ir.VectorType(ir.IntType(32), LANES), m) for m in (upper, lower))
    first, second = (builder.shuffle_vector(x, y, mask) for mask in masks)
    return first, second
