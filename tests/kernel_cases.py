"""What the tests of kernels share: cases for each of them, memory layouts, and the comparison."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher
from table import UPDATES, definition_of

import minswin.kernels.cpu  # noqa: F401  enters the kernels in the table
from minswin import kernels
from minswin.arrays import Array, Definition
from minswin.check import samples
from minswin.kernels import FAST
from minswin.kernels.cpu import losses

losses.FEWEST = 1  # small cases run the loops too
DTYPES = (np.float32, np.float64)
SPELLED_OUT = ("mask_value", "attend")  # settings that no kernel takes: the definition runs
NAMES = sorted(name for name, row in FAST.items() if "numba" in row and name not in UPDATES)


def windows_of(
    heads: int,
    window: tuple[int, int],
    shift: tuple[int, int],
    table_window: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The settings of shifted-window attention."""
    table_window = table_window or window
    return {"heads": heads, "window": window, "shift": shift, "table_window": table_window}


# ── the cases ────────────────────────────────────────────────────────────────────────────────────


def labels(B: int, K: int) -> Callable[[np.random.Generator], Array]:
    return lambda rng: rng.integers(0, K, B)


def kept(*shape: int) -> Callable[[np.random.Generator], Array]:
    return lambda rng: rng.random(shape) < 0.7


# name -> (shapes of the arrays; settings). None stays None; labels are drawn. The sizes of windows
# and of heads that the models have, sizes around the 8 and 64 of the loops, 0 and 1, any axis.
CASES: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "softmax": [
        *(((shape,), {}) for shape in ((), (1,), (3, 1), (2, 3, 4), (5, 16), (3, 49), (2, 577))),
        *(((shape,), {"axis": 1}) for shape in ((2, 5, 3), (3, 8), (2, 7, 0))),
        (((2, 2100, 3),), {}),  # more than a block
        (((4, 3, 2),), {"axis": 0}),
        (((4, 3, 2),), {"axis": (0, 2)}),  # at once, and below all
        (((0, 4),), {}),
    ],
    "log_softmax": [
        *(((shape,), {}) for shape in ((), (1,), (2, 3, 5), (4, 100), (0, 3))),
        (((2, 5, 3),), {"axis": -2}),
        (((2, 5, 3),), {"axis": None}),
        (((3, 1030),), {}),
    ],
    "gelu": [((shape,), {}) for shape in ((), (1,), (0, 3), (7, 5), (2, 3, 33))],
    "gelu_tanh": [((shape,), {}) for shape in ((), (1,), (0, 3), (7, 5), (2, 3, 33))],
    "layer_norm": [
        *(((shape, shape[-1:], shape[-1:]), {}) for shape in ((5,), (3, 2), (6, 48), (130, 96))),
        *(((shape, shape[-1:], shape[-1:]), {}) for shape in ((3, 1000), (2100, 33))),
        *(((shape, shape[-1:], shape[-1:]), {"eps": 0.1}) for shape in ((2, 3, 7), (3, 1), (0, 4))),
    ],
    "batch_norm": [
        *(((s, s[1:2], s[1:2]), {}) for s in ((2, 5, 3, 4), (1, 1, 1, 3), (3, 40, 17, 19))),
        *(((s, s[1:2], s[1:2]), {"eps": 0.1}) for s in ((70, 3, 2, 2), (4, 1, 3, 3))),
    ],
    "cross_entropy": [
        *(((shape, labels(*shape)), {}) for shape in ((1, 1), (2, 8), (5, 10), (9, 577))),
        *(((shape, shape), {}) for shape in ((1, 1), (2, 8), (5, 10), (3, 577))),
        (((600, 7), labels(600, 7)), {"smoothing": 0.3}),  # more than a block
        (((4, 9), (4, 9)), {"smoothing": 0.25}),
    ],
    "dropout": [
        *(((shape, kept(*shape)), {"rate": 0.3}) for shape in ((5,), (3, 7), (2, 3, 130))),
        *(((shape, kept(shape[0], 1, 1)), {"rate": 0.3}) for shape in ((5, 4, 3), (9, 1, 70))),
        (((4, 3), kept(4, 3)), {"rate": 1.0}),
        (((2, 4, 3), kept(2, 4, 1)), {"rate": 0.5}),
        (((3, 4, 2), kept(1, 4, 1)), {"rate": 0.5}),  # the definition
    ],
    "matmul": [
        *(((x, y), {}) for x, y in (((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((0, 3, 4), (4, 2)))),
        *(((x, y), {}) for x, y in (((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)))),
        *(((x, y), {}) for x, y in (((3, 1, 1), (1, 1, 3)), ((2, 3, 0), (0, 4)))),
        (((3, 4), (2, 4, 5)), {}),
        (((4, 3, 16, 8), (4, 3, 8, 16)), {}),
        (((2, 3, 5, 48), (2, 3, 48, 9)), {}),
    ],
    "attention": [
        *((((2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 2), bias), {}) for bias in (
            None, (3, 5, 6), (2, 1, 5, 6), (2, 3, 5, 6), (5, 6), (5, 1), (6,), (1, 1, 1, 1)
        )),
        (((5, 4), (6, 4), (6, 2), (5, 6)), {}),
        (((3, 2, 16, 16),) * 3 + ((2, 16, 16),), {}),
        (((2, 2, 3, 49, 32),) * 3 + ((2, 3, 49, 49),), {}),
        (((2, 0, 4), (2, 6, 4), (2, 6, 3), (1, 0, 6)), {}),
        (((1, 1, 1), (1, 1, 1), (1, 1, 1), None), {}),
    ],
    "linear": [
        *((((3, 5), (4, 5), bias), {}) for bias in (None, (4,))),
        (((0, 5), (4, 5), (4,)), {}),
        (((513, 2), (3, 2), (3,)), {}),  # one more than a block
        (((2, 3, 5), (4, 5), (4,)), {}),
        (((2, 150, 16), (24, 16), (24,)), {}),  # in tiles
    ],
    "conv2d": [
        # overlapping patches; channels and maps that are no multiples of 8 or of the stride
        *((((2, 3, 7, 9), (5, 3, 3, 3), bias), {"padding": (1, 1)}) for bias in (None, (5,))),
        (((2, 9, 11, 10), (20, 9, 5, 3), (20,)), {"stride": (2, 3), "padding": (2, 0)}),
        (((3, 16, 8, 6), (8, 16, 3, 2), (8,)), {"stride": (2, 1), "padding": (0, 2)}),
        (((2, 1, 5, 1), (1, 1, 5, 1), (1,)), {}),  # a single patch
        (((0, 3, 5, 5), (4, 3, 3, 3), (4,)), {}),
        (((2, 3, 6, 8), (4, 3, 2, 4), (4,)), {"stride": (2, 4)}),  # the definition: no overlap
        (((1, 90, 3, 4), (90, 90, 3, 3), None), {"padding": (1, 1)}),  # the definition: large
    ],
    "mlp": [
        (((0, 3), (5, 3), (5,), (4, 5), (4,)), {}),
        (((1030, 2), (3, 2), (3,), (4, 3), (4,)), {}),  # two blocks and a bit
        (((2, 7, 3), (5, 3), (5,), (4, 5), (4,)), {}),
        (((2, 70, 16), (32, 16), (32,), (8, 32), (8,)), {}),  # in tiles
        (((686, 768), (192, 768), (192,), (768, 192), (768,)), {}),  # the hidden layer is narrow
    ],
    "shifted_window_attention": [
        # qkv (B, H, W, 3C) and table; heads, window, shift, the window of the table
        (((2, 3, 4, 6), (35, 1)), windows_of(1, (3, 4), (0, 0))),
        (((2, 4, 4, 24), (49, 2)), windows_of(2, (2, 2), (1, 1), (4, 4))),  # a larger table
        (((2, 4, 12, 60), (33, 2)), windows_of(2, (2, 6), (1, 3))),  # heads of 10 channels
        (((3, 6, 3, 27), (25, 3)), windows_of(3, (3, 3), (2, 0))),  # rolled along one axis
        (((1, 14, 21, 48), (169, 1)), windows_of(1, (7, 7), (3, 3))),
        (((2, 8, 12, 96), (49, 2)), windows_of(2, (4, 4), (2, 2))),
        (((1, 12, 12, 24), (529, 1)), windows_of(1, (12, 12), (0, 0))),
        (((2, 4, 6, 18), (15, 2)), windows_of(2, (2, 3), (1, 1))),
    ],
}  # fmt: skip

Case = tuple[tuple[Any, ...], dict[str, Any]]


def cases(name: str, dtype: type, rng: np.random.Generator) -> Iterator[Case]:
    """(arrays, settings) of CASES, and those of the project's own samples, as `dtype`."""
    for shapes, settings in CASES.get(name, []):
        yield tuple(_as(_drawn(shape, rng), dtype) for shape in shapes), settings
    for definition, arrays, settings in samples(rng):
        if definition.__name__ == name:
            yield tuple(_as(x, dtype) for x in arrays), settings


def _drawn(shape: Any, rng: np.random.Generator) -> Any:
    if shape is None:
        return None
    return shape(rng) if callable(shape) else 2 * rng.standard_normal(shape)


def _as(x: Any, dtype: type) -> Any:
    floating = isinstance(x, (np.ndarray, float)) and np.asarray(x).dtype.kind == "f"
    return np.asarray(x, dtype) if floating else x


def typical_case(name: str, dtype: type) -> Case:
    """The largest of the cases in which every argument has a gradient, or is a truth value."""
    rng = np.random.default_rng(0)
    drawn = cases(name, dtype, rng)
    complete = [c for c in drawn if all(x is not None and x.dtype in (dtype, bool) for x in c[0])]
    return max(complete, key=lambda case: sum(x.size for x in case[0]))


# ── the walker ───────────────────────────────────────────────────────────────────────────────────


def assert_takes_what_its_definition_takes(name: str, backend: str) -> None:
    """A kernel has the arguments of its definition: names, kinds and defaults, in this order."""
    kernel, definition = (
        [
            (p.name, p.kind, p.default)
            for p in signature(f).parameters.values()
            if p.name not in SPELLED_OUT
        ]
        for f in (FAST[name][backend], definition_of(name))
    )
    assert kernel == definition


def assert_equals_definition(
    name: str, function: Definition, arrays: tuple[Any, ...], settings: dict[str, Any]
) -> None:
    """Value, gradients, shapes and dtypes are the definition's; nothing is written into."""
    rng = np.random.default_rng(1)
    before = [None if x is None else x.copy() for x in arrays]
    with kernels.using("reference"), np.errstate(all="ignore"):
        truth, true_vjp = definition_of(name)(*arrays, **settings)
        g = laid_out_backwards(np.asarray(rng.standard_normal(truth.shape), truth.dtype))
        true_gradients = true_vjp(g)
    g_before = g.copy()
    with np.errstate(all="ignore"):
        value, vjp = function(*arrays, **settings)
        gradients = vjp(g)
    for x, old in zip((*arrays, g), (*before, g_before), strict=True):
        assert x is None or np.array_equal(x, old, equal_nan=True), f"{name} wrote into an input"
    assert isinstance(gradients, tuple)
    # A sum of n terms may differ by n roundings when they are added in another order, and the
    # functions in between by a few more. n is at most the size of an input.
    n = max(x.size for x in arrays if x is not None)
    tolerance = np.finfo(truth.dtype).eps * (16 + min(n, 600))
    assert_close(f"{name}: the value", value, truth, tolerance)
    for i, (dx, true_dx) in enumerate(zip(gradients, true_gradients, strict=True)):
        assert_close(f"{name}: gradient {i}", dx, true_dx, tolerance)


def assert_close(what: str, ours: Any, truth: Any, tolerance: float) -> None:
    """Same shape and dtype, NaN and ∞ in the same places, the rest within tolerance · scale."""
    assert (ours is None) == (truth is None), f"{what} is {ours}"
    if truth is None:
        return
    assert ours.shape == truth.shape and ours.dtype == truth.dtype, f"{what}: {ours.shape}"
    ours, truth = np.asarray(ours), np.asarray(truth)
    finite = np.isfinite(truth)
    assert np.array_equal(ours[~finite], truth[~finite], equal_nan=True), f"{what} is not finite"
    scale = max(1.0, float(abs(truth[finite]).max(initial=0)))
    error = float(abs(ours[finite] - truth[finite]).max(initial=0)) / scale
    assert error <= tolerance, f"{what} is off by {error:.2g}, allowed are {tolerance:.2g}"


# ── strides ──────────────────────────────────────────────────────────────────────────────────────


def laid_out_backwards(x: Array) -> Array:
    """The same numbers, stored backwards and with gaps on every axis: negative strides."""
    if x.ndim == 0:
        return x
    room = np.full(tuple(2 * n for n in x.shape), np.nan, x.dtype)
    view = room[tuple(slice(None, None, -2) for _ in x.shape)]
    view[...] = x
    return view


def laid_out_transposed(x: Array) -> Array:
    return np.asfortranarray(x)


def laid_out_in_slices(x: Array) -> Array:
    """Rows are contiguous, but neighbours in a wider array, as q, k and v are in a qkv map."""
    if x.ndim < 2:
        return x
    order = (0, *range(2, x.ndim - 1), 1, x.ndim - 1) if x.ndim > 2 else (0, 1)
    wide = np.full((*(x.shape[i] for i in order[:-1]), 3 * x.shape[-1]), np.nan, x.dtype)
    view = wide[..., x.shape[-1] : 2 * x.shape[-1]].transpose(np.argsort(order))
    view[...] = x
    return view


def repeated(x: Array) -> Array:
    """The first entry along the first axis, repeated with stride 0; read-only."""
    return np.broadcast_to(x[:1], x.shape) if x.ndim and len(x) else x


def read_only(x: Array) -> Array:
    x = x.copy()
    x.setflags(write=False)
    return x


LAYOUTS: tuple[Callable[[Array], Array], ...] = (
    np.ascontiguousarray,
    laid_out_backwards,
    laid_out_transposed,
    laid_out_in_slices,
    repeated,
    read_only,
)


def change_layout(layout: Callable[[Array], Array], arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        layout(x) if isinstance(x, np.ndarray) and x.ndim and x.dtype.kind == "f" else x
        for x in arrays
    )


# ── the compiled loops ───────────────────────────────────────────────────────────────────────────


def loops() -> Iterator[tuple[Any, str, Dispatcher]]:
    """(module, name, loop) of all compiled functions that modules of kernels/cpu refer to."""
    for module in [m for name, m in sys.modules.items() if name.startswith("minswin.kernels.cpu.")]:
        for name, function in list(vars(module).items()):
            if isinstance(function, Dispatcher):
                yield module, name, function


@contextmanager
def counting_loops() -> Iterator[list[str]]:
    """Inside, the list gets the name of each compiled loop that Python calls.

    Only what was compiled before can run inside: numba would not take the counters for loops.
    """
    ran: list[str] = []
    places = list(loops())

    def counted(name: str, loop: Dispatcher) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            ran.append(name)
            return loop(*arguments)

        return run

    for module, name, loop in places:
        setattr(module, name, counted(name, loop))
    try:
        yield ran
    finally:
        for module, name, loop in places:
            setattr(module, name, loop)
