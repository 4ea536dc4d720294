"""Polynomials, eˣ and the bell curve of a vector, without a branch."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minswin.kernels.cpu.simd import LANES, call, constant, larger_of


def _horner(builder: Any, coefficients: tuple[float, ...], x: Any) -> Any:
    value = constant(x.type, coefficients[-1])
    for c in coefficients[-2::-1]:
        value = call(builder, "llvm.fma", value, x, constant(x.type, c))
    return value


def polynomial(single: tuple[float, ...], double: tuple[float, ...]) -> Any:
    """The function Σ c[k] xᵏ of a vector, with its coefficients for float32 and for float64."""

    @intrinsic
    def evaluate(typing: Any, vector: Any) -> Any:
        coefficients = single if vector.dtype == types.float32 else double

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _horner(builder, coefficients, arguments[0])

        return vector(vector), build

    return evaluate


_LN2_HIGH = 0.693359375  # ln 2 cut off so short that a whole number times it is exact
_LN2_LOW = math.log(2) - _LN2_HIGH + 2.3190468138462996e-17  # a float64 lacks these digits


@intrinsic
def exp(typing: Any, vector: Any) -> Any:
    """eˣ = 2ⁿ eʳ with x = n ln 2 + r, |r| ≤ ln 2/2, and Taylor's polynomial for eʳ. NaN stays NaN.

    Where the result would be subnormal it is 0: such numbers slow processors down. Within a factor
    of two of the largest number it is ∞.
    """
    single = vector.dtype == types.float32
    degree, bits, mantissa = (7, 32, 23) if single else (13, 64, 52)
    low, high = (-87.3, 88.7) if single else (-708.3, 709.7)
    bias = 2 ** (bits - mantissa - 2) - 1
    taylor = tuple(1 / math.factorial(k) for k in range(degree + 1))

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (x,) = arguments
        kind, whole = x.type, ir.VectorType(ir.IntType(bits), LANES)
        inside = larger_of(builder, x, constant(kind, low))  # NaN becomes a number: n must be one
        above = builder.fcmp_ordered(">", inside, constant(kind, high))
        inside = builder.select(above, constant(kind, high), inside)
        scaled = builder.fmul(inside, constant(kind, 1 / math.log(2)))
        n = call(builder, "llvm.rint", scaled)
        r = call(builder, "llvm.fma", n, constant(kind, -_LN2_HIGH), x)
        r = call(builder, "llvm.fma", n, constant(kind, -_LN2_LOW), r)
        exponent = builder.add(builder.fptosi(n, whole), ir.Constant(whole, [bias] * LANES))
        power = builder.shl(exponent, ir.Constant(whole, [mantissa] * LANES))  # the bits of 2ⁿ
        y = builder.fmul(_horner(builder, taylor, r), builder.bitcast(power, kind))
        below = builder.fcmp_ordered("<", x, constant(kind, low))
        return builder.select(below, constant(kind, 0.0), y)

    return vector(vector), build


# Chebyshev fits of 2ʳ on |r| ≤ ½, computed with 50 digits: to 3e-9 and to 4e-18.
_POWER_SINGLE = (1.0, 0.6931472067028326, 0.24022650922288757, 0.05550327226670302,
                 0.009618056678524637, 0.0013400428177615838, 0.0001546144469856913)  # fmt: skip
_POWER_DOUBLE = (1.0, 0.6931471805599453, 0.24022650695910158, 0.055504108664821625,
                 0.009618129107587256, 0.001333355814640647, 0.00015403530463724353,
                 1.5252733841556773e-05, 1.3215432535912375e-06, 1.0178057087733941e-07,
                 7.074194297288521e-09, 4.4558179083360645e-10)  # fmt: skip


def _two_to(builder: Any, sum_: Any, r: Any) -> Any:
    """2ⁿ⁺ʳ, where the last bits of `sum_` are those of n, with the bias of an exponent."""
    kind, (bits, mantissa, _) = r.type, _format(r.type.element)
    whole = ir.VectorType(ir.IntType(bits), r.type.count)
    moved = ir.Constant(whole, [mantissa] * r.type.count)
    two_to_n = builder.bitcast(builder.shl(builder.bitcast(sum_, whole), moved), kind)
    return builder.fmul(
        _horner(builder, _POWER_SINGLE if bits == 32 else _POWER_DOUBLE, r), two_to_n
    )


def _format(number: Any) -> tuple[int, int, int]:
    """Bits of a number, of its mantissa, and the bias of its exponent."""
    return (32, 23, 127) if isinstance(number, ir.FloatType) else (64, 52, 1023)


def _ends(bias: int) -> tuple[float, float]:
    """The last −t whose 2ᵗ is a normal number; and one where n = −bias: no bits, and 2ⁿ is 0."""
    return bias - 1.01, bias + 0.3


_LOG2_E = {  # in two parts
    32: (1.4426950216293335, 1.925963033500011e-08),
    64: (1.4426950408889634, 2.0355273740931033e-17),
}


@intrinsic
def falling_exp(typing: Any, vector: Any) -> Any:
    """eˣ for x ≤ 0, where it is a normal number, else 0. NaN stays NaN. Fewer steps than exp.

    It is 2ᵗ with t = x/ln 2 = n + r. A large number is added to t whose last bit is worth 1: the
    sum ends in the bits of n, which are those of 2ⁿ, once they are moved into its exponent.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return falling_power(builder, *arguments)

    return vector(vector), build


def falling_power(builder: Any, x: Any) -> Any:
    """falling_exp of a vector of any length."""
    kind, (bits, mantissa, bias) = x.type, _format(x.type.element)
    large = constant(kind, 1.5 * 2**mantissa + bias)
    least, none = (constant(kind, -math.log(2) * t) for t in _ends(bias))
    x = builder.select(builder.fcmp_ordered("<", x, least), none, x)
    high, low = (constant(kind, part) for part in _LOG2_E[bits])
    sum_ = call(builder, "llvm.fma", x, high, large)
    n = builder.fsub(sum_, large)
    r = call(builder, "llvm.fma", x, high, builder.fneg(n))
    return _two_to(builder, sum_, call(builder, "llvm.fma", x, low, r))


@intrinsic
def bell(typing: Any, vector: Any) -> Any:
    """e^(−a²/2) for a ≥ 0, where it is a normal number, else 0; as falling_exp, NaN is 0."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (a,) = arguments
        kind, (_, mantissa, bias) = a.type, _format(a.type.element)
        large = constant(kind, 1.5 * 2**mantissa + bias)
        most, none = (constant(kind, math.sqrt(2 * math.log(2) * t)) for t in _ends(bias))
        a = builder.select(builder.fcmp_ordered("<", a, most), a, none)
        square, factor = builder.fmul(a, a), constant(kind, -0.5 / math.log(2))
        sum_ = call(builder, "llvm.fma", square, factor, large)
        n = builder.fsub(sum_, large)
        return _two_to(builder, sum_, call(builder, "llvm.fma", square, factor, builder.fneg(n)))

    return vector(vector), build
