"""The steps of SGD and AdamW: each number of a parameter is read and written once."""

from __future__ import annotations

import math
from typing import Any

from minswin.arrays import Array
from minswin.kernels import kernel
from minswin.kernels.cpu.compiled import compiled, contiguous, same_float
from minswin.kernels.cpu.simd import LANES, broadcast, first, fma, load, splat, sqrt, store
from minswin.reference import updates


@kernel("sgd_step", "numba")
def sgd_step(
    p: Array, g: Array, v: Array, *, lr: float, momentum: float, nesterov: bool, decay: float
) -> None:
    """Equals reference.sgd_step, which runs where p or v is not contiguous."""
    if not _fit(g, p, v):
        updates.sgd_step(p, g, v, lr=lr, momentum=momentum, nesterov=nesterov, decay=decay)
        return
    numbers = (p.dtype.type(a) for a in (lr, momentum, decay))
    _sgd_loop(*(a.reshape(-1) for a in (p, contiguous(g), v)), *numbers, bool(nesterov))


@kernel("adamw_step", "numba")
def adamw_step(
    p: Array, g: Array, m: Array, v: Array, *,
    lr: float, beta1: float, beta2: float, eps: float, decay: float, t: int,
) -> None:  # fmt: skip
    """Equals reference.adamw_step, which runs where p, m or v is not contiguous."""
    if not _fit(g, p, m, v):
        updates.adamw_step(p, g, m, v, lr=lr, beta1=beta1, beta2=beta2, eps=eps, decay=decay, t=t)
        return
    rate, root = lr / (1 - beta1**t), math.sqrt(1 - beta2**t)
    settings = (rate, 1 - lr * decay, 1 - beta1, beta2, 1 - beta2, root, eps)
    numbers = (p.dtype.type(a) for a in settings)
    _adamw_loop(*(a.reshape(-1) for a in (p, contiguous(g), m, v)), *numbers)


def _fit(g: Array, *changed: Array) -> bool:
    """Whether all have one dtype and shape, and those to change can be changed where they lie."""
    return same_float(g, *changed) and all(a.flags.carray and a.shape == g.shape for a in changed)


# ── vectors, and then the last numbers one at a time, in all lanes ───────────────────────────────


@compiled
def _sgd(p: Any, g: Any, v: Any, lr: Any, momentum: Any, decay: Any, nesterov: bool) -> Any:
    """The new p and v."""
    if decay != 0:
        g = fma(p, splat(decay), g)
    v = fma(v, splat(momentum), g)
    ahead = fma(v, splat(momentum), g) if nesterov else v
    return p - ahead * splat(lr), v


@compiled
def _sgd_loop(p: Any, g: Any, v: Any, lr: Any, momentum: Any, decay: Any, nesterov: bool) -> None:
    whole = len(p) - len(p) % LANES
    for i in range(0, whole, LANES):
        to = _sgd(load(p, i), load(g, i), load(v, i), lr, momentum, decay, nesterov)
        store(p, i, to[0])
        store(v, i, to[1])
    for i in range(whole, len(p)):
        numbers = broadcast(p, i), broadcast(g, i), broadcast(v, i)
        to = _sgd(*numbers, lr, momentum, decay, nesterov)
        p[i], v[i] = first(to[0]), first(to[1])


@compiled
def _adamw(
    p: Any, g: Any, m: Any, v: Any,
    rate: Any, shrink: Any, new1: Any, beta2: Any, new2: Any, root: Any, eps: Any,
) -> Any:  # fmt: skip
    """The new p, m and v."""
    m = fma(g - m, splat(new1), m)
    v = fma(g * g, splat(new2), v * splat(beta2))
    below = sqrt(v) / splat(root) + splat(eps)  # √v̂ + ε
    return p * splat(shrink) - m / below * splat(rate), m, v


@compiled
def _adamw_loop(
    p: Any, g: Any, m: Any, v: Any,
    rate: Any, shrink: Any, new1: Any, beta2: Any, new2: Any, root: Any, eps: Any,
) -> None:  # fmt: skip
    numbers = rate, shrink, new1, beta2, new2, root, eps
    whole = len(p) - len(p) % LANES
    for i in range(0, whole, LANES):
        to = _adamw(load(p, i), load(g, i), load(m, i), load(v, i), *numbers)
        store(p, i, to[0])
        store(m, i, to[1])
        store(v, i, to[2])
    for i in range(whole, len(p)):
        four = broadcast(p, i), broadcast(g, i), broadcast(m, i), broadcast(v, i)
        to = _adamw(*four, *numbers)
        p[i], m[i], v[i] = first(to[0]), first(to[1]), first(to[2])
