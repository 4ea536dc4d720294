"""Element-wise operations: arithmetic with broadcasting, activations, dropout.

Here as everywhere: `value, vjp = f(*arrays, **settings)`; g is the incoming cotangent, and vjp(g)
gives one gradient per array, of its shape and dtype.
"""

from __future__ import annotations

import math

from minswin.arrays import Array, Vjp, array_module

__all__ = [
    "add",
    "divide",
    "dropout",
    "erf",
    "exp",
    "gelu",
    "gelu_tanh",
    "log",
    "multiply",
    "negative",
    "power",
    "relu",
    "sigmoid",
    "sqrt",
    "subtract",
    "tanh",
]


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum g over the axes along which an array of `shape` was repeated: broadcasting's adjoint."""
    if g.shape == shape:
        return g
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    repeated = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axis=repeated, keepdims=True) if repeated else g


# ── arithmetic ───────────────────────────────────────────────────────────────────────────────────


def add(x: Array, y: Array) -> tuple[Array, Vjp]:
    """x + y, broadcast."""
    of_x, of_y = x.shape, y.shape  # a vjp that named x and y would keep them
    return x + y, lambda g: (unbroadcast(g, of_x), unbroadcast(g, of_y))


def subtract(x: Array, y: Array) -> tuple[Array, Vjp]:
    """x − y, broadcast."""
    of_x, of_y = x.shape, y.shape
    return x - y, lambda g: (unbroadcast(g, of_x), unbroadcast(-g, of_y))


def multiply(x: Array, y: Array) -> tuple[Array, Vjp]:
    """x · y, broadcast."""
    return x * y, lambda g: (unbroadcast(g * y, x.shape), unbroadcast(g * x, y.shape))


def divide(x: Array, y: Array) -> tuple[Array, Vjp]:
    """x / y, broadcast."""
    z = x / y
    return z, lambda g: (unbroadcast(g / y, x.shape), unbroadcast(-g * z / y, y.shape))


def negative(x: Array) -> tuple[Array, Vjp]:
    """−x."""
    return -x, lambda g: (-g,)


def power(x: Array, *, exponent: float) -> tuple[Array, Vjp]:
    """x ** exponent, for a fixed exponent."""
    if exponent == 0:
        return x**0, lambda g: (g * 0,)  # also at x = 0, where x⁻¹ is not defined
    return x**exponent, lambda g: (g * (exponent * x ** (exponent - 1)),)


# ── functions ────────────────────────────────────────────────────────────────────────────────────


def exp(x: Array) -> tuple[Array, Vjp]:
    """eˣ."""
    y = array_module(x).exp(x)
    return y, lambda g: (g * y,)


def log(x: Array) -> tuple[Array, Vjp]:
    """Natural logarithm."""
    return array_module(x).log(x), lambda g: (g / x,)


def sqrt(x: Array) -> tuple[Array, Vjp]:
    """Square root."""
    y = array_module(x).sqrt(x)
    return y, lambda g: (g * 0.5 / y,)


def tanh(x: Array) -> tuple[Array, Vjp]:
    """Hyperbolic tangent."""
    y = array_module(x).tanh(x)
    return y, lambda g: (g * (1 - y * y),)


def sigmoid(x: Array) -> tuple[Array, Vjp]:
    """1 / (1 + e⁻ˣ), written with tanh so that nothing overflows."""
    y = 0.5 * array_module(x).tanh(0.5 * x) + 0.5
    return y, lambda g: (g * y * (1 - y),)


def relu(x: Array) -> tuple[Array, Vjp]:
    """max(x, 0); the gradient at 0 is 0. NaN stays NaN."""
    return array_module(x).maximum(x, 0), lambda g: (g * (x > 0),)


# ── GELU ─────────────────────────────────────────────────────────────────────────────────────────

# Chebyshev fits, computed with 50 digits: erf(x) = x P(x²) on [0, 1], and
# erfc(x) = e^(−x²) Q((x−3)/(x+3)) on [1, 6]; beyond 6, erf is 1 to the last digit.
_P = (1.1283791670955126, -0.3761263890318375, 0.11283791670954879, -0.026866170645076792,
      0.0052239776248180145, -0.000854832698083379, 0.0001205533111164271, -1.4925595266831182e-05,
      1.6461000484121368e-06, -1.6350312701054695e-07, 1.4659775274047436e-08,
      -1.1372848856791674e-09, 5.957176147748911e-11)  # fmt: skip
_Q = (0.17900115118138996, -0.3262335600430372, 0.24560380171233093, -0.15011593650077582,
      0.07166583719797331, -0.024392499318790735, 0.004269136333077869, 0.0007077464435611972,
      -0.0005970619531815352, 4.525520140579536e-05, 6.405657794051666e-05,
      -1.2859347351455289e-05, -7.977696579644072e-06, 2.1124428949403864e-06,
      1.2459620847174093e-06, -2.6915157592850126e-07, -2.0355575642200858e-07)  # fmt: skip


def erf(x: Array) -> Array:
    """The error function, within 2e-16 of the truth in float64. NumPy has none.

    >>> import numpy as np
    >>> float(erf(np.array(0.5))) == math.erf(0.5)
    True
    """
    xp = array_module(x)
    a = xp.minimum(abs(x), 6)
    t, b = xp.minimum(a, 1) ** 2, xp.maximum(a, 1)
    tail = 1 - xp.exp(-b * b) * _polynomial(_Q, (b - 3) / (b + 3))
    return xp.where(a <= 1, x * _polynomial(_P, t), xp.copysign(tail, x))


def _polynomial(coefficients: tuple[float, ...], t: Array) -> Array:
    value = t * coefficients[-1] + coefficients[-2]
    for c in coefficients[-3::-1]:  # Horner's rule
        value *= t
        value += c
    return value


def gelu(x: Array) -> tuple[Array, Vjp]:
    """x · Φ(x), Φ the normal distribution function.            Hendrycks & Gimpel 2016, eq. (1)

    y = x/2 · (1 + erf(x/√2))        dy/dx = Φ(x) + x φ(x)
    """
    xp = array_module(x)
    cdf = 0.5 * erf(x * math.sqrt(0.5)) + 0.5  # Φ(x)

    def vjp(g: Array) -> tuple[Array]:
        pdf = xp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))  # φ(x)
        return (g * (cdf + x * pdf),)

    return x * cdf, vjp


def gelu_tanh(x: Array) -> tuple[Array, Vjp]:
    """The tanh approximation of GELU, up to 4.7e-4 away from it.    Hendrycks & Gimpel 2016, §2

    y = x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))
    """
    k, c = math.sqrt(2 / math.pi), 0.044715
    t = array_module(x).tanh(k * (x + c * x * x * x))

    def vjp(g: Array) -> tuple[Array]:
        inner = k * (1 + 3 * c * x * x)  # derivative of tanh's argument
        return (g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner),)

    return 0.5 * x * (1 + t), vjp


# ── dropout ──────────────────────────────────────────────────────────────────────────────────────


def dropout(x: Array, keep: Array, *, rate: float) -> tuple[Array, Vjp]:
    """Zero what `keep` leaves out; scale the rest to the same mean.

    y = x · keep / (1 − rate)

    x (...)   keep -> (...) bool: one value for each sample, (B, 1, …, 1), is drop path
    """
    scale = keep.astype(x.dtype) * (1 / (1 - rate) if rate < 1 else 0)
    return x * scale, lambda g: (g * scale, None)
