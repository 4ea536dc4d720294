"""All cores for one step: a batch is split into parts, and each thread takes a part.

NumPy and the kernels release the interpreter lock, so plain threads suffice. A part runs in a twin
of the model, which has the same weights (the very arrays), but its own gradients and its own
random numbers. The gradients of the parts are added in a fixed order: the same settings give the
same bits. It is faster than threads inside each operation, since most operations are too short to
be shared, provided that BLAS does not start threads of its own (`one_blas_thread`).
"""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minswin import kernels, ops
from minswin.arrays import Array
from minswin.autograd import no_grad


class Workers:
    """A model and its twins, one for each thread; with one thread only the model itself."""

    def __init__(self, model: Any, threads: int = 1) -> None:
        self.model = model
        self.twins = [model] if threads == 1 else [_twin(model) for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads, "minswin") if threads > 1 else None
        if threads > 1:
            one_blas_thread()

    def gradients(self, x: Array, targets: Array, *, smoothing: float) -> tuple[float, Array]:
        """Set `.grad` of the model's parameters for the mean loss; give the loss and the logits.

        x (B, 3, H, W)   targets (B,) or (B, K)   gives a number, (B, K)
        """
        B = len(x)

        def work(twin: Any, x: Array, targets: Array) -> tuple[float, Array]:
            logits = twin(x)
            loss = ops.cross_entropy(logits, targets, smoothing=smoothing)
            share = len(x) / B
            loss.backward(np.asarray(share, loss.dtype))
            return float(loss.item()) * share, logits.data

        for twin in self.twins:
            twin.zero_grad()
        losses, logits = zip(*self._each(work, x, targets), strict=True)
        self._add_gradients()
        return sum(losses), np.concatenate(logits)  # (B, K)

    def logits(self, x: Array) -> Array:
        """The model's answer without recording: x (B, 3, H, W), gives (B, K)."""

        def work(twin: Any, x: Array) -> Array:
            with no_grad():
                return twin(x).data

        return np.concatenate(self._each(work, x))  # (B, K)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def _each(self, work: Callable[..., Any], *arrays: Array) -> list[Any]:
        """work(twin, *parts of the arrays) for every twin that has a part, at the same time."""
        parts = list(zip(*(_split(a, len(self.twins)) for a in arrays), strict=True))
        twins = self.twins[: len(parts)]
        self._prepare(twins)
        if self._pool is None:
            return [_quietly(work, twins[0], *parts[0])]
        backend = kernels.chosen(arrays[0])
        jobs = [
            self._pool.submit(_with_backend, backend, work, twin, *part)
            for twin, part in zip(twins, parts, strict=True)
        ]
        return [job.result() for job in jobs]

    def _prepare(self, twins: Sequence[Any]) -> None:
        """Twins take the model's modes, layer by layer, and in training random numbers it draws."""
        if self._pool is None:
            return
        for twin in twins:
            for own, layer in zip(twin.layers_within(), self.model.layers_within(), strict=True):
                own.training = layer.training
            if self.model.training:
                seed = int(self.model.rng.integers(2**63))
                twin.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state

    def _add_gradients(self) -> None:
        if self._pool is None:
            return
        by_twin = [twin.parameters() for twin in self.twins]
        for p, *copies in zip(self.model.parameters(), *by_twin, strict=True):
            p.grad = _sum(c.grad for c in copies)


def _twin(model: Any) -> Any:
    """A copy of a model that shares its weights."""
    shared = {id(p.data): p.data for p in model.parameters()}
    return copy.deepcopy(model, shared)


def _split(x: Array, parts: int) -> list[Array]:
    """At most `parts` nearly equal parts of a batch, none empty."""
    return np.array_split(x, min(parts, len(x)))


def _sum(gradients: Iterable[Array | None]) -> Array | None:
    total = None
    for g in gradients:
        total = g if total is None else total if g is None else total + g
    return total


def _with_backend(backend: str, work: Callable[..., Any], *arguments: Any) -> Any:
    with kernels.using(backend):
        return _quietly(work, *arguments)


def _quietly(work: Callable[..., Any], *arguments: Any) -> Any:
    """Overflow is not a warning here: the loop looks at loss and gradients itself."""
    with np.errstate(over="ignore", invalid="ignore"):
        return work(*arguments)


# ── BLAS ─────────────────────────────────────────────────────────────────────────────────────────


@cache
def one_blas_thread() -> bool:
    """Let NumPy's own OpenBLAS use one thread a call; false where NumPy brings another BLAS."""
    home = Path(np.__file__).parent
    for folder in (home.with_name("numpy.libs"), home / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            library = ctypes.CDLL(str(path))
            for name in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads"):
                if hasattr(library, name):
                    getattr(library, name)(1)
                    return True
    return False
