"""GELU, exact and with tanh: one exponential gives both the value and the derivative."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minswin.arrays import Array, Vjp
from minswin.kernels import kernel
from minswin.kernels.cpu.compiled import compiled, contiguous, same_float
from minswin.kernels.cpu.functions import bell, exp, polynomial
from minswin.kernels.cpu.simd import (
    LANES,
    absolute,
    broadcast,
    first,
    fma,
    full,
    load,
    smaller,
    store,
    where_negative,
)
from minswin.reference import elementwise

# Φ(−a) = e^(−a²/2) T((a − 3)/(a + 3)) for a ≥ 0: Chebyshev fits computed with 50 digits, on
# [0, 14] to 4e-8 for float32, on [0, 40] to 1e-17 for float64. No branch, and small tails keep
# their digits.
_tail = polynomial(
    single=(0.1215139477423257, -0.2064026220707326, 0.12322502174886213, -0.04621324746685274,
            0.006132192509652008, 0.0029044283897440414, -0.000984276383317789,
            -0.0003395564635074362, 0.00011620792924158665, 5.409386007228654e-05),
    double=(0.12151394835556216, -0.20640261200847704, 0.12322495031534947, -0.04621345751960089,
            0.006133359686575802, 0.002905914710797504, -0.000990838162779457,
            -0.0003455701494903087, 0.00013154220328673354, 6.849498844755361e-05,
            -1.2596895164305331e-05, -1.534320773640614e-05, -1.2408651122193059e-06,
            2.862142850323802e-06, 1.1941408711212048e-06, -2.3096419459150578e-07,
            -3.774953384135824e-07, -9.984044029628724e-08, 5.7531329663599495e-08,
            5.250543275638046e-08, 4.6518777551682766e-09, -1.176094801360388e-08,
            -4.056996943179782e-09, 1.103049686996899e-09, 5.902289220294654e-10),
)  # fmt: skip
_PEAK = 1 / math.sqrt(2 * math.pi)  # of the bell φ
_K, _C = math.sqrt(2 / math.pi), 0.044715


@compiled
def _gelu(x: Any) -> Any:
    """x Φ(x) and its derivative Φ(x) + x φ(x), of a vector."""
    a = smaller(absolute(x), full(x, 40.0))  # beyond, Φ is 0 or 1; ∞ would make NaN
    density = bell(a)  # √(2π) φ(x)
    tail = density * _tail((a - full(x, 3.0)) / (a + full(x, 3.0)))  # Φ(−|x|)
    cdf = where_negative(x, tail, full(x, 1.0) - tail)
    return x * cdf, fma(x * density, full(x, _PEAK), cdf)


@compiled
def _gelu_tanh(x: Any) -> Any:
    """½ x (1 + tanh(k (x + c x³))) and its derivative, of a vector."""
    square, one = x * x, full(x, 1.0)
    z = x * fma(square, full(x, 2 * _K * _C), full(x, 2 * _K))  # ½ (1 + tanh(z/2)) = 1/(1 + e⁻ᶻ)
    e = exp(full(x, 0.0) - absolute(z))
    small = e / (one + e)
    cdf = where_negative(z, small, one - small)
    dz = fma(square, full(x, 6 * _K * _C), full(x, 2 * _K))
    return x * cdf, fma(x * dz, cdf * (one - cdf), cdf)


@compiled
def gelu_loop(x: Any, y: Any) -> None:
    """y = GELU(x)"""
    whole = len(x) - len(x) % LANES
    for i in range(0, whole, LANES):
        store(y, i, _gelu(load(x, i))[0])
    for i in range(whole, len(x)):  # a number at a time, in all lanes
        y[i] = first(_gelu(broadcast(x, i))[0])


@compiled
def gelu_vjp_loop(x: Any, g: Any, y: Any, dx: Any) -> None:
    """y = GELU(x) once more, and dx = g · GELU'(x). y or g may be dx itself."""
    whole = len(x) - len(x) % LANES
    for i in range(0, whole, LANES):
        value, slope = _gelu(load(x, i))
        dy = load(g, i)
        store(y, i, value)
        store(dx, i, dy * slope)
    for i in range(whole, len(x)):
        value, slope = _gelu(broadcast(x, i))
        dy = g[i]
        y[i] = first(value)
        dx[i] = dy * first(slope)


@compiled
def _gelu_tanh_loop(x: Any, y: Any) -> None:
    whole = len(x) - len(x) % LANES
    for i in range(0, whole, LANES):
        store(y, i, _gelu_tanh(load(x, i))[0])
    for i in range(whole, len(x)):
        y[i] = first(_gelu_tanh(broadcast(x, i))[0])


@compiled
def _gelu_tanh_vjp_loop(x: Any, g: Any, y: Any, dx: Any) -> None:
    whole = len(x) - len(x) % LANES
    for i in range(0, whole, LANES):
        store(dx, i, load(g, i) * _gelu_tanh(load(x, i))[1])
    for i in range(whole, len(x)):
        dx[i] = g[i] * first(_gelu_tanh(broadcast(x, i))[1])


@kernel("gelu", "numba")
def gelu(x: Array) -> tuple[Array, Vjp]:
    """Equals reference.gelu; keeps nothing but x."""
    return _elementwise(x, gelu_loop, gelu_vjp_loop) if same_float(x) else elementwise.gelu(x)


@kernel("gelu_tanh", "numba")
def gelu_tanh(x: Array) -> tuple[Array, Vjp]:
    """Equals reference.gelu_tanh; keeps nothing but x."""
    if not same_float(x):
        return elementwise.gelu_tanh(x)
    return _elementwise(x, _gelu_tanh_loop, _gelu_tanh_vjp_loop)


def _elementwise(
    x: Array, loop: Callable[..., None], vjp_loop: Callable[..., None]
) -> tuple[Array, Vjp]:
    x = contiguous(x)
    y = np.empty_like(x)
    loop(x.reshape(-1), y.reshape(-1))

    def vjp(g: Array) -> tuple[Array]:
        dx = np.empty_like(x)
        flat = dx.reshape(-1)
        vjp_loop(x.reshape(-1), contiguous(g).reshape(-1), flat, flat)
        return (dx,)

    return y, vjp
