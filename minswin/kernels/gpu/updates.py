"""The steps of SGD and AdamW on the GPU: one launch for all parameters of one dtype.

`sgd_steps` and `adamw_steps` are for an optimizer with many parameters; `sgd_step` and `adamw_step`
are the same for one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minswin.arrays import Array, array_module
from minswin.kernels import kernel
from minswin.kernels.gpu.launch import c_name, ceil_div, contiguous, launch, same_float
from minswin.reference import updates

CHUNK = 4096  # numbers of a block: as in updates.cu


@kernel("sgd_step", "cupy")
def sgd_step(
    p: Array, g: Array, v: Array, *, lr: float, momentum: float, nesterov: bool, decay: float
) -> None:
    """Equals reference.sgd_step, which runs where p or v is not contiguous."""
    sgd_steps([(p, g, v)], lr=lr, momentum=momentum, nesterov=nesterov, decays=[decay])


@kernel("adamw_step", "cupy")
def adamw_step(
    p: Array, g: Array, m: Array, v: Array, *,
    lr: float, beta1: float, beta2: float, eps: float, decay: float, t: int,
) -> None:  # fmt: skip
    """Equals reference.adamw_step, which runs where p, m or v is not contiguous."""
    numbers = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "t": t}
    adamw_steps([(p, g, m, v)], decays=[decay], **numbers)  # type: ignore[arg-type]


def sgd_steps(
    parameters: Sequence[tuple[Array, Array, Array]],
    *, lr: float, momentum: float, nesterov: bool, decays: Sequence[float],
) -> None:  # fmt: skip
    """sgd_step for many (p, g, v), each with a decay of its own."""
    settings = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
    for arrays, group_decays in _by_dtype(parameters, decays, updates.sgd_step, settings):
        dtype = arrays[0][0].dtype
        tables, blocks = _tables([(p, g, v, v) for p, g, v in arrays], group_decays)
        numbers = dtype.type(lr), dtype.type(momentum), np.bool_(nesterov)
        launch("updates.cu", f"sgd_steps<{c_name(dtype)}>", (blocks,), (256,), *tables, *numbers)


def adamw_steps(
    parameters: Sequence[tuple[Array, Array, Array, Array]],
    *, lr: float, beta1: float, beta2: float, eps: float, decays: Sequence[float], t: int,
) -> None:  # fmt: skip
    """adamw_step for many (p, g, m, v), each with a decay of its own, all at their step t."""
    settings = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "t": t}
    rate, root = lr / (1 - beta1**t), math.sqrt(1 - beta2**t)
    for arrays, group_decays in _by_dtype(parameters, decays, updates.adamw_step, settings):
        dtype = arrays[0][0].dtype
        tables, blocks = _tables(arrays, group_decays)
        numbers = (dtype.type(a) for a in (rate, 1 - beta1, beta2, 1 - beta2, root, eps))
        name = f"adamw_steps<{c_name(dtype)}>"
        launch("updates.cu", name, (blocks,), (256,), *tables, np.float64(lr), *numbers)


# An optimizer takes from the kernel of one parameter that of many.
sgd_step.together = sgd_steps  # type: ignore[attr-defined]
adamw_step.together = adamw_steps  # type: ignore[attr-defined]


# ── which arrays there are ───────────────────────────────────────────────────────────────────────


def _by_dtype(
    parameters: Sequence[tuple[Array, ...]],
    decays: Sequence[float],
    definition: Any,
    settings: dict[str, Any],
) -> list[tuple[list[tuple[Array, ...]], list[float]]]:
    """(arrays, decays) of each dtype, for a kernel; the definition steps the others at once."""
    groups: dict[Any, tuple[list[tuple[Array, ...]], list[float]]] = {}
    for (p, g, *kept), decay in zip(parameters, decays, strict=True):
        changed = [p, *kept]
        same = same_float(g, *changed) and all(a.shape == g.shape for a in changed)
        if not same or not all(a.flags.c_contiguous for a in changed):
            definition(p, g, *kept, decay=decay, **settings)
        elif p.size:
            arrays, group_decays = groups.setdefault(p.dtype, ([], []))
            arrays.append((p, contiguous(g), *kept))
            group_decays.append(float(decay))
    return list(groups.values())


def _tables(
    parameters: Sequence[tuple[Array, ...]], decays: list[float]
) -> tuple[tuple[Array, Array, int], int]:
    """What the kernel is given: the arrays and decays of all parameters; and how many blocks."""
    sizes = [row[0].size for row in parameters]
    blocks = [ceil_div(size, CHUNK) for size in sizes]
    first = np.cumsum([0, *blocks[:-1]]).tolist()
    rows = tuple(
        (*(a.data.ptr for a in arrays), size, begin)
        for arrays, size, begin in zip(parameters, sizes, first, strict=True)
    )
    xp = array_module(parameters[0][0])
    table, decay_table = _on_gpu(xp, xp.cuda.runtime.getDevice(), rows, tuple(decays))
    return (table, decay_table, len(rows)), sum(blocks)


@lru_cache(maxsize=1024)
def _on_gpu(
    xp: Any, device: int, rows: tuple[tuple[int, ...], ...], decays: tuple[float, ...]
) -> tuple[Array, Array]:
    """Copied anew only when an array has moved: from one step to the next most stay."""
    return xp.asarray(np.array(rows, np.int64)), xp.asarray(np.array(decays, np.float64))
