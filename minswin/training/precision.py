"""How exactly the products of a training step are computed; weights and sums stay float32.

    float32   as the definitions say
    tf32      a GPU rounds the inputs of large products to 10 bits after the point
    float16   products of 16-bit numbers; the loss is scaled so that small gradients are not lost
    bfloat16  the same with the range of float32 and 7 bits after the point; needs no scaling

The parameters are float32 in all of them (the "master weights"): each product makes its own short
copy of its inputs. Norms, softmax, GELU, the loss and the optimizer never see a short number, and
what is kept for backward is float32 but for those copies. A GPU's kernel of attention in windows
multiplies float32 in all four, and uses no tensor cores. In float16 a CPU runs the definitions,
slowly. In bfloat16, whatever MINSWIN_KERNELS says, it runs kernels whose linear layers and MLPs
are short and nothing else, and keeps no short copies (kernels/cpu/bfloat16.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np

from minswin import kernels
from minswin.around import Around, around, surrounded_by
from minswin.arrays import Array, Definition, Vjp, array_module
from minswin.autograd import Run, Tensor, vjp
from minswin.composites import spelled_out
from minswin.devices import cupy, gpu_number
from minswin.lifting import OPERATIONS

PRECISIONS = ("float32", "tf32", "float16", "bfloat16")
PRODUCTS = ("linear", "matmul", "conv2d")


def check_precision(precision: str, device: str) -> None:
    """Raise for what the device cannot do."""
    if precision not in PRECISIONS:
        raise ValueError(
            f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}; "
            "float32 is the exact one"
        )
    if precision == "tf32" and gpu_number(device) is None:
        raise ValueError(
            "precision 'tf32' is a mode of NVIDIA's GPUs, and the device is 'cpu'; "
            "choose float32, bfloat16 or float16, or device 'gpu'"
        )


class _State(threading.local):
    precision = "float32"


_state = _State()


def current_precision() -> str:
    """That of the innermost block of `computing` in this thread."""
    return _state.precision


@contextmanager
def computing(precision: str, device: str) -> Iterator[None]:
    """Inside this block (in this thread) operations work in this precision, and so does backward.

    What is differentiated inside is to be pulled back inside.
    """
    check_precision(precision, device)
    before = _state.precision
    if precision == "float32" != before:
        raise ValueError(f"computing: a block in float32 cannot be inside of one in {before}")
    how: AbstractContextManager[None] = nullcontext()
    on_cpu = gpu_number(device) is None
    if precision == "tf32":
        how = _tf32()
    elif precision == "bfloat16" and on_cpu:
        how = _short_kernels()
    elif precision != "float32":
        how = _short(_dtype(precision), on_cpu)
    with how:
        _state.precision = precision
        try:
            yield
        finally:
            _state.precision = before


@contextmanager
def _short_kernels() -> Iterator[None]:
    with ExitStack() as block:
        try:
            block.enter_context(kernels.using("bfloat16"))
        except (ImportError, ValueError) as error:
            why = str(error).removeprefix("using: ")
            raise type(error)(
                f"precision 'bfloat16' on a CPU needs numba's kernels: {why}; or choose float32"
            ) from None
        yield


def _dtype(precision: str) -> np.dtype[Any]:
    if precision == "float16":
        return np.dtype(np.float16)
    try:
        import ml_dtypes
    except ImportError as error:
        raise ImportError(
            f"precision 'bfloat16': NumPy has no such type, and ml_dtypes is missing ({error}); "
            'pip install ml_dtypes "cupy-cuda13x>=14" (for CUDA 12: cupy-cuda12x)'
        ) from error
    return np.dtype(ml_dtypes.bfloat16)


@contextmanager
def _tf32() -> Iterator[None]:
    """cuBLAS may use TF32 for products of two matrices, which is what linear layers are."""
    products: Any = cupy()._core._routines_linalg
    before = products.get_compute_type(np.float32)
    products.set_compute_type(np.float32, products.COMPUTE_TYPE_TF32)
    try:
        yield
    finally:
        products.set_compute_type(np.float32, before)


# ── short products ───────────────────────────────────────────────────────────────────────────────


@contextmanager
def _short(dtype: np.dtype[Any], on_cpu: bool) -> Iterator[None]:
    """Products of numbers of this dtype. A CPU runs the definitions: kernels take no float16.

    A GPU's kernels round what they multiply by themselves (kernels/gpu/products.py).
    """
    definitions = [OPERATIONS[name].definition for name in PRODUCTS]
    attention = OPERATIONS["attention"].definition

    def short(
        go: Run, definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]
    ) -> Tensor:
        if definition in definitions:
            definition = shortened(definition, dtype)
        elif definition is attention:
            definition = in_parts
        return go(definition, inputs, settings)

    short.only_products = True  # type: ignore[attr-defined]  # see Around

    def in_parts(*arrays: Array) -> tuple[Array, Vjp]:
        with surrounded_by(Around(short, None)):  # its two products are short, its softmax is not
            return vjp(spelled_out)(*arrays)

    in_parts.__name__ = "attention"
    with around(short), kernels.using("reference") if on_cpu else _rounding_there(dtype):
        yield


def _rounding_there(dtype: Any) -> AbstractContextManager[None]:
    from minswin.kernels.gpu.products import rounding_to  # only who has a GPU needs its kernels

    return rounding_to(dtype)


def shortened(definition: Definition, dtype: Any) -> Definition:
    """The definition on copies of its arrays in `dtype`; value and gradients as long as before."""

    def short(*arrays: Array, **settings: Any) -> tuple[Array, Vjp]:
        value, vjp = definition(*(_as(x, dtype) for x in arrays), **settings)

        def pull(g: Array) -> tuple[Any, ...]:
            gradients = zip(vjp(g.astype(dtype)), arrays, strict=True)
            return tuple(None if dx is None else dx.astype(x.dtype) for dx, x in gradients)

        return value.astype(arrays[0].dtype), pull

    short.__name__ = definition.__name__
    return short


def _as(x: Array | None, dtype: Any) -> Array | None:
    return None if x is None else x.astype(dtype)


# ── small gradients ──────────────────────────────────────────────────────────────────────────────


class LossScale:
    """Multiply the loss, so that float16 can hold its gradients.    Micikevicius et al. 2018, §3.2

    After a step whose gradients overflow, which is not made, the scale is halved; after `patience`
    good steps in a row it is doubled. It is a power of 2, so it rounds nothing.
    """

    SMALLEST = 2.0**-14

    def __init__(self, like: Array, *, start: float = 2.0**16, patience: int = 2000) -> None:
        self.value, self.good, self.patience = start, 0, patience
        self.array = array_module(like).zeros((), like.dtype)
        self._write()

    def follow(self, finite: bool) -> bool:
        """Adapt to a step; give whether it is to be made."""
        self.good = self.good + 1 if finite else 0
        if not finite:
            self.value /= 2
        elif self.good == self.patience:
            self.value, self.good = self.value * 2, 0
        self._write()
        return finite

    @property
    def exhausted(self) -> bool:
        """Even a tiny scale overflows: it is not the scale that is wrong."""
        return self.value < self.SMALLEST

    def undo(self, parameters: Iterable[Any]) -> None:
        """Divide the gradients by the scale."""
        for p in parameters:
            if p.grad is not None:
                p.grad = p.grad / self.array

    def state(self) -> list[float]:
        return [self.value, self.good]

    def restore(self, state: list[float]) -> None:
        self.value, self.good = float(state[0]), int(state[1])
        self._write()

    def _write(self) -> None:
        self.array[...] = self.value  # in place: a captured step reads it there
