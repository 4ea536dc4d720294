"""What CuPy takes and refuses where NumPy would do it, for the stand-in: standin.py asks here.

The signatures are those of the real CuPy, kept in cupy_signatures.txt, so that every call is bound
to them where CuPy is missing too. `python tests/cupy_rules.py` writes the file anew, with CuPy.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("cupy_signatures.txt")
CLASSES = {
    "cuda.Stream": "__init__ begin_capture end_capture is_capturing record synchronize wait_event",
    "cuda.Event": "__init__ record synchronize",
    "cuda.Graph": "launch",
    "cuda.MemoryPool": "free_all_blocks malloc",
    "cuda.Device": "synchronize",
}
OWN = "add array asarray asnumpy"
OWN_METHODS = "fill get item set"
REDUCTIONS = ["all", "any", "argmax", "argmin", "cumsum", "max", "mean", "min", "prod", "sum"]


# ── signatures ───────────────────────────────────────────────────────────────────────────────────


@cache
def signatures() -> dict[str, inspect.Signature]:
    """By name, as sum, ndarray.sum or cuda.Stream.record; a default is an ellipsis."""
    lines = FILE.read_text("utf-8").splitlines()
    return {
        name: inspect.signature(eval(f"lambda {rest.removesuffix(')')}: None"))
        for name, _, rest in (line.partition("(") for line in lines)
    }


def bound(name: str, inputs: Any, settings: Any) -> dict[str, Any]:
    """The arguments by the names that CuPy has for them. Raises TypeError where it has not."""
    try:
        return signatures()[name].bind(*inputs, **settings).arguments
    except TypeError as error:
        raise TypeError(f"cupy.{name}: {error}") from None


def binding(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose every call is bound to CuPy's signature first."""

    @wraps(function)
    def checked(*inputs: Any, **settings: Any) -> Any:
        bound(name, inputs, settings)
        return function(*inputs, **settings)

    return checked


def written(name: str, function: Any) -> str:
    """A line of the file: a function of the CuPy that is installed."""
    if hasattr(function, "nin"):  # a ufunc; it says no more
        inputs = "".join(f"x{i}, " for i in range(function.nin))
        return f"{name}({inputs}out=..., dtype=..., casting=...)"
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # compiled: the first line of its documentation says it
        return f"{name}({_written_by_cython(function.__doc__.splitlines()[0])})"
    empty = inspect.Parameter.empty
    plain = [
        p.replace(annotation=empty, default=empty if p.default is empty else ...)
        for p in parameters
    ]
    text = str(inspect.Signature(plain)).replace("=Ellipsis", "=...").replace(" = ", "=")
    return f"{name}{text}"


def _written_by_cython(line: str) -> str:
    """`X.sum(self, size_t axis, out=None) -> Y` as `self, axis, out=...`."""
    text = line.partition("(")[2].rpartition(" -> ")[0] or line.partition("(")[2]
    parts = [part.strip() for part in text.rpartition(")")[0].split(",")]
    names = [part.partition("=")[0].split()[-1] for part in parts]
    return ", ".join(
        f"{name}=..." if "=" in part else name for name, part in zip(names, parts, strict=True)
    )


def of_cupy(functions: str, methods: str) -> list[str]:
    """The lines for the CuPy that is installed; it need not find a GPU."""
    import cupy

    lines = [written(name, getattr(cupy, name)) for name in f"{functions} {OWN}".split()]
    found = {"ndarray": (cupy.ndarray, f"{methods} {OWN_METHODS}")}
    found |= {name: (getattr(cupy.cuda, name[5:], None), m) for name, m in CLASSES.items()}
    found["cuda.Graph"] = cupy.cuda.graph.Graph, CLASSES["cuda.Graph"]
    for kind, (its, names) in found.items():
        lines += [written(f"{kind}.{name}", getattr(its, name)) for name in names.split()]
    lines.append(written("lib.stride_tricks.as_strided", cupy.lib.stride_tricks.as_strided))
    return sorted(lines)


# ── what is refused ──────────────────────────────────────────────────────────────────────────────


def check(name: str, given: dict[str, Any], *, capturing: bool) -> None:
    """Raise what CuPy raises for this call of a function or method."""
    values = list(given.values())
    first = values[0] if values else None
    if name in REDUCTIONS and getattr(first, "ndim", 1) == 0:
        axis = given.get("axis")
        if axis is not None and not isinstance(axis, tuple):
            raise np.exceptions.AxisError(axis, 0)  # NumPy allows 0 and -1
    if not capturing:
        return
    reads = name in ("nonzero", "flatnonzero") or (name == "where" and len(values) == 1)
    if reads or (name == "getitem" and any(map(chooses, parts(values[1])))):
        raise RuntimeError(
            f"cupy.{name}: the current stream is capturing, so D2H and H2D transfers are disallowed"
        )
    if is_product(name, values) and not in_a_place_of_a_kernel():
        raise NotImplementedError(
            f"cupy.{name}: calling cuBLAS API during stream capture is currently unsupported"
        )


def parts(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def chooses(index: Any) -> bool:
    """Whether an index is of truth values, whose number the CPU asks for, or lies on the CPU."""
    return isinstance(index, list) or getattr(index, "dtype", None) == np.bool_


def is_product(name: str, values: list[Any]) -> bool:
    """Whether cuBLAS does it; vdot and the product of two vectors are kernels of CuPy's own."""
    if name == "einsum":
        subscripts, *operands = values[0]
        read, _, wanted = subscripts.partition("->")
        return len(operands) > 1 and not set(read) - {","} <= set(wanted)
    return name == "matmul" and max(getattr(x, "ndim", 0) for x in matrices(values)) > 1


def matrices(values: list[Any]) -> Any:
    return values[0] if isinstance(values[0], tuple) else values[:2]


@cache
def definitions_with_kernels() -> frozenset[str]:
    """Modules of definitions in whose place kernels run on a GPU, with products of their own."""
    from table import COMPOSITES, UPDATES, definition_of

    import minswin.kernels.gpu  # noqa: F401  enters them in the table; it needs no CuPy
    from minswin.kernels import FAST

    names = [name for name, row in FAST.items() if "cupy" in row and name not in UPDATES]
    return frozenset(definition_of(name).__module__ for name in names if name not in COMPOSITES)


def in_a_place_of_a_kernel() -> bool:
    """Whether such a definition asks: tests with the stand-in run definitions alone."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") in definitions_with_kernels():
            return True
        frame = frame.f_back
    return False


if __name__ == "__main__":
    import standin

    FILE.write_text("\n".join(of_cupy(standin.FUNCTIONS, standin.METHODS)) + "\n", "utf-8")
