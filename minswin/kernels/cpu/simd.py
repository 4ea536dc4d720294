"""A vector of 8 numbers for numba: what its loops need to run at the speed of the processor.

numba vectorises a loop only when LLVM can prove that its arrays do not overlap, and gives up in
silence otherwise: tiles written as plain loops multiplied 16×16 matrices at 12 GF/s. Written with
the vectors of this file it is 66 GF/s, and 27 with batched BLAS (one core, AMD EPYC,
AVX2). A vector is a value like a number:

    c = fma(broadcast(a, i), load(b, j), c)        # 8 multiply-adds: one instruction

LLVM maps it to the registers that the machine has (AVX, AVX-512, NEON). The arrays are 1-D and
contiguous, indices are not checked, and an index must not be negative.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

LANES = 8
LINE = 64  # bytes of a line of the cache


class Vector(types.Type):
    """The numba type of 8 float32 or 8 float64 numbers."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype} × {LANES})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        number = ir.FloatType() if kind.dtype == types.float32 else ir.DoubleType()
        super().__init__(manager, kind, ir.VectorType(number, LANES))


# ── memory ───────────────────────────────────────────────────────────────────────────────────────


def address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Where array[index] lies."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


@intrinsic
def itemsize(typing: Any, array: Any) -> Any:
    """Bytes of a number of an array or of what a pointer shows, known when a loop is compiled.

    array.itemsize is read at run time, so a division by it is a slow one.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant(types.intp, array.dtype.bitwidth // 8)

    return types.intp(array), build


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """array[index : index + 8]"""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = address(context, builder, signature.args[0], *arguments)
        vector = context.get_value_type(signature.return_type).as_pointer()
        return builder.load(builder.bitcast(number, vector), align=array.dtype.bitwidth // 8)

    return Vector(array.dtype)(array, types.intp), build


@intrinsic
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """array[index : index + 8] = vector"""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = address(context, builder, signature.args[0], *arguments[:2])
        place = builder.bitcast(number, arguments[2].type.as_pointer())
        builder.store(arguments[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), build


def prefetch_line(builder: Any, place: Any, to_write: bool) -> None:
    """Ask for a line of the cache; it may lie outside of the array.

    To read it, it comes as near as the second cache: the first can wait for two dozen lines only.
    """
    whole, text = ir.IntType(32), ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [text, whole, whole, whole])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    numbers = whole(int(to_write)), whole(2), whole(1)  # the second cache; data
    builder.call(function, [builder.bitcast(place, text), *numbers])


def _prefetch(to_write: bool) -> Any:
    @intrinsic
    def ask(typing: Any, array: Any, index: Any) -> Any:
        """Ask for the line of the cache with array[index]; the index may lie outside."""

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = address(context, builder, signature.args[0], *arguments)
            prefetch_line(builder, place, to_write)
            return context.get_dummy_value()

        return types.none(array, types.intp), build

    return ask


prefetch, prefetch_to_write = (_prefetch(to_write) for to_write in (False, True))


@intrinsic
def broadcast(typing: Any, array: Any, index: Any) -> Any:
    """array[index], eight times"""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = builder.load(address(context, builder, signature.args[0], *arguments))
        return spread(builder, context.get_value_type(signature.return_type), number)

    return Vector(array.dtype)(array, types.intp), build


@intrinsic
def splat(typing: Any, number: Any) -> Any:
    """The number, eight times"""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return spread(builder, context.get_value_type(signature.return_type), arguments[0])

    return Vector(number)(number), build


@intrinsic
def full(typing: Any, like: Any, number: Any) -> Any:
    """The number, eight times, in the dtype of the vector `like`"""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        like, number = arguments
        if isinstance(like.type.element, ir.FloatType):
            number = builder.fptrunc(number, like.type.element)
        return spread(builder, like.type, number)

    return like(like, types.float64), build


def spread(builder: Any, kind: Any, number: Any) -> Any:
    """The number in every lane of a vector."""
    lane = ir.IntType(32)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, lane(0))
    zeros = ir.Constant(ir.VectorType(lane, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def constant(kind: Any, number: float) -> Any:
    """A number known beforehand, in every lane of a vector."""
    return ir.Constant(kind, [number] * kind.count)


# ── arithmetic ───────────────────────────────────────────────────────────────────────────────────


def call(builder: Any, name: str, *arguments: Any, gives: Any = None) -> Any:
    """Call one of LLVM's own functions, whose name ends in the type it is meant for."""
    kind = arguments[-1].type
    suffix = f"v{kind.count}f{32 if isinstance(kind.element, ir.FloatType) else 64}"
    function = ir.FunctionType(gives or kind, [a.type for a in arguments])
    return builder.call(
        cgutils.get_or_insert_function(builder.module, function, f"{name}.{suffix}"), arguments
    )


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a · b + c, rounded once"""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, "llvm.fma", *arguments)

    return a(a, b, c), build


def _arithmetic(python: Any, instruction: str) -> None:
    @type_callable(python)
    def typing(context: Any) -> Any:
        return lambda a, b: a if isinstance(a, Vector) and a == b else None

    @lower_builtin(python, Vector, Vector)
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)


for _python, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_python, _instruction)


@intrinsic
def larger(typing: Any, a: Any, b: Any) -> Any:
    """The larger of each pair; b where a is NaN"""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return larger_of(builder, *arguments)

    return a(a, b), build


def larger_of(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@intrinsic
def smaller(typing: Any, a: Any, b: Any) -> Any:
    """The smaller of each pair; b where a is NaN"""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b = arguments
        return builder.select(builder.fcmp_ordered("<", a, b), a, b)

    return a(a, b), build


@intrinsic
def first(typing: Any, vector: Any) -> Any:
    """The number in the first lane"""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.extract_element(arguments[0], ir.IntType(32)(0))

    return vector.dtype(vector), build


@intrinsic
def total(typing: Any, vector: Any) -> Any:
    """The sum of the eight numbers, by halves"""
    return vector.dtype(vector), _by_halves(lambda builder, a, b: builder.fadd(a, b))


@intrinsic
def largest(typing: Any, vector: Any) -> Any:
    """The largest of the eight numbers; NaN when one is NaN"""

    return vector.dtype(vector), _by_halves(larger_of)


def _by_halves(join: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (vector,), lane = arguments, ir.IntType(32)
        width = LANES
        while width > 1:
            width //= 2
            low, high = range(width), range(width, 2 * width)
            none = ir.Constant(vector.type, ir.Undefined)
            low, high = (
                builder.shuffle_vector(
                    vector, none, ir.Constant(ir.VectorType(lane, width), list(half))
                )
                for half in (low, high)
            )
            vector = join(builder, low, high)
        return builder.extract_element(vector, lane(0))

    return build


@intrinsic
def absolute(typing: Any, vector: Any) -> Any:
    """|x|"""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, "llvm.fabs", *arguments)

    return vector(vector), build


@intrinsic
def sqrt(typing: Any, vector: Any) -> Any:
    """√x"""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, "llvm.sqrt", *arguments)

    return vector(vector), build


@intrinsic
def where_negative(typing: Any, test: Any, a: Any, b: Any) -> Any:
    """a where test < 0, and b elsewhere"""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        test, a, b = arguments
        return builder.select(builder.fcmp_ordered("<", test, constant(test.type, 0.0)), a, b)

    return a(test, a, b), build
