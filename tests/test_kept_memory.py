"""What the vjps keep for backward: nothing that they do not need or can cheaply compute again."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import numpy as np
import pytest

from minswin import Tensor, kernels, ops
from minswin.kernels.cpu import again, layer_norm, linear
from minswin.kernels.cpu.compiled import when_compiling
from minswin.reference import elementwise, reduce, shape, windows


def floats(*sides: int, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(sides).astype(dtype)


LINEAR: dict[str, Callable[[np.ndarray], tuple[Any, Any]]] = {
    "add": lambda x: elementwise.add(x, x[0]),
    "subtract": lambda x: elementwise.subtract(x, x[0]),
    "negative": elementwise.negative,
    "reshape": lambda x: shape.reshape(x, shape=(-1,)),
    "transpose": lambda x: shape.transpose(x, axes=(3, 0, 1, 2)),
    "broadcast_to": lambda x: shape.broadcast_to(x, shape=(3, *x.shape)),
    "roll": lambda x: shape.roll(x, shift=1),
    "pad": lambda x: shape.pad(x, width=((0, 1),) * 4),
    "concatenate": lambda x: shape.concatenate(x, x),
    "stack": lambda x: shape.stack(x, x),
    "take": lambda x: shape.take(x, np.array([1, 0])),
    "scatter_add": lambda x: shape.scatter_add(x, np.array([1, 0]), length=3),
    "sum": lambda x: reduce.sum(x, axis=(1, 2)),
    "mean": lambda x: reduce.mean(x, axis=1),
    "window_partition": lambda x: windows.window_partition(x, window=(2, 2)),
    "window_merge": lambda x: windows.window_merge(
        x.reshape(2, 4, 4, 3), window=(2, 2), grid=(4, 4)
    ),
    "patch_merge": windows.patch_merge,
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_function_keeps_no_input(name: str) -> None:
    x = floats(2, 4, 4, 3)
    y, vjp = LINEAR[name](x)
    kept = weakref.ref(x)
    cotangent = np.ones_like(y)
    del x, y
    assert kept() is None
    vjp(cotangent)


def once_compiled(test: Callable[..., None]) -> Callable[..., None]:
    """The test; where it fails and loops were compiled in it, it is run again.

    Compiling leaves frames behind, which hold the arrays of a call, and for how long is not ours.
    """

    @wraps(test)
    def run(*arguments: Any, **settings: Any) -> None:
        loops: list[None] = []
        note = partial(loops.append, None)
        when_compiling.append(note)
        try:
            test(*arguments, **settings)
        except AssertionError:
            if not loops:
                raise
            test(*arguments, **settings)
        finally:
            when_compiling.remove(note)

    return run


def normed(x: np.ndarray) -> tuple[np.ndarray, Any]:
    C = x.shape[-1]
    return layer_norm.layer_norm(x, floats(C, dtype=x.dtype), floats(C, dtype=x.dtype) + 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sides", [(1, 5), (3, 130, 24), (2, 4, 100, 19)])
@once_compiled
def test_normalised_rows_are_computed_again_to_the_bit(sides: tuple[int, ...], dtype: Any) -> None:
    y, _ = normed(floats(*sides, dtype=dtype))
    rows = y.reshape(-1, sides[-1])
    inputs, whole = again.later(rows), rows.copy()
    freed = weakref.ref(y.base)
    del y, rows
    assert freed() is None  # nothing keeps them
    for block in (slice(0, 7), slice(7, 300), slice(300, 10**6), slice(0, 10**6)):
        np.testing.assert_array_equal(inputs(block), whole[block])


@once_compiled
def test_all_else_is_kept() -> None:
    y, _ = normed(floats(6, 8))
    for other in (y[1:], y[:, ::-1], y + 0, y.T, y.reshape(8, 6), floats(6, 8)):
        kept = other.copy()
        block = slice(0, 2)
        np.testing.assert_array_equal(again.later(other)(block), kept[block])
    before = len(again._known)
    del y, other
    assert len(again._known) < before  # what is freed is forgotten


@pytest.mark.parametrize("sides", [(3, 130, 24), (9000, 5)])
@once_compiled
def test_a_norm_of_a_norm_keeps_no_input_and_has_the_same_bits(sides: tuple[int, ...]) -> None:
    """As of patches, and of the first block of a Swin; 9000 rows are not all taken at once."""
    x, g = floats(*sides), floats(*sides)
    first, _ = normed(x)
    second, vjp = normed(first)
    other, plain = normed(first.copy())
    freed, whole, plainly = weakref.ref(first.base), second.reshape(-1, sides[-1]), plain(g, x)
    inputs = again.later(whole)
    del first
    assert freed() is None
    for a, b in zip((second, *vjp(g, x)), (other, *plainly), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(inputs(slice(100, 8500)), whole[100:8500])


@pytest.mark.parametrize("function", ["linear", "mlp"])
@once_compiled
def test_a_layer_after_a_norm_does_not_keep_its_input(function: str) -> None:
    x, w, v = floats(9, 16), floats(24, 16), floats(16, 24)
    y, _ = normed(x)
    many, few = floats(24), floats(16)
    if function == "linear":
        _, vjp = linear.linear(y, w, many)
    else:
        _, vjp = linear.mlp(y, w, many, v, few)
    freed, cotangent = weakref.ref(y.base), floats(9, 24 if function == "linear" else 16)
    again_, kept = y.copy(), vjp(cotangent)
    del y
    assert freed() is None
    _, plain = (
        linear.linear(again_, w, many)
        if function == "linear"
        else linear.mlp(again_, w, many, v, few)
    )
    for a, b in zip(kept, plain(cotangent), strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradients_through_norm_and_linear_equal_the_definitions() -> None:
    def gradients(backend: str) -> list[np.ndarray]:
        x, w, b = floats(5, 16), floats(16), floats(16) + 1
        leaves = [Tensor(a, requires_grad=True) for a in (x, w, b, floats(8, 16), floats(8))]
        with kernels.using(backend):
            ops.linear(ops.layer_norm(*leaves[:3]), *leaves[3:]).sum().backward()
        return [leaf.grad for leaf in leaves]

    for ours, theirs in zip(gradients("numba"), gradients("reference"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sides", [(3, 130, 24), (2, 5, 19)])
def test_a_norm_adds_what_its_input_has_from_others_to_the_bit(
    sides: tuple[int, ...], dtype: Any
) -> None:
    """What fits and what does not, which a careless vjp may have sent."""
    y, vjp = normed(floats(*sides, dtype=dtype))
    alone, *_ = vjp(y)
    whole = np.random.default_rng(1).standard_normal(sides).astype(dtype)
    for onto in (whole, whole[::-1], whole[:1, :1], whole.astype(np.float16)):
        before = onto.copy()
        np.testing.assert_array_equal(vjp(y, onto)[0], onto + alone)
        np.testing.assert_array_equal(onto, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_narrow_mlp_keeps_no_hidden_numbers_and_has_the_same_bits(
    dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = (2000, 40), (160, 40), (160,), (40, 160), (40,)
    arrays = [floats(*sides, dtype=dtype) for sides in shapes]

    def held_and_gradients() -> tuple[int, list[np.ndarray]]:
        tracemalloc.start()
        y, vjp = linear.mlp(*arrays)
        held = tracemalloc.get_traced_memory()[0] - y.nbytes
        tracemalloc.stop()
        return held, [y, *vjp(y)]

    held_and_gradients()  # compiled
    (little, ours), hidden = held_and_gradients(), 2000 * 160 * np.dtype(dtype).itemsize
    monkeypatch.setattr(linear, "NARROW", 0)
    much, theirs = held_and_gradients()
    assert little < hidden / 4 and much > hidden
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
