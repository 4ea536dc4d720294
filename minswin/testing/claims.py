"""What the tests assert and measure: equality, derivatives, adjoints, influence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

from minswin import composites, kernels
from minswin.autograd import Tensor, no_grad
from minswin.check import TOLERANCE, slope
from minswin.reference.windows import attention_mask

# float64 rounds at 1e-16; sums of some hundred terms, through a few layers, lose three digits of
# that, while a law that is broken is off by 1e-3 or more. A layer norm may enlarge the rounding of
# what it gets by 1/√eps = 316.
ROUNDING = 1e-12
NORMED = 316 * ROUNDING

# Of a tangent: the five-point rule errs by the fifth derivative along it times STEP⁴ = 1e-12, and
# by rounding, 1e-14 / STEP. Whole blocks bend sharply; a short tangent keeps both below 1e-9.
LENGTH = 0.25


def assert_close(ours: Any, truth: Any, tolerance: float = ROUNDING) -> None:
    """Same shape, and no difference above `tolerance` times the largest number (at least 1)."""
    ours, truth = np.asarray(ours), np.asarray(truth)
    assert ours.shape == truth.shape, f"{ours.shape} is not {truth.shape}"
    difference = float(abs(ours - truth).max(initial=0))
    scale = max(1.0, float(abs(truth).max(initial=0)))
    assert difference <= tolerance * scale, f"they differ by {difference:.3g}"


def assert_same(ours: Any, truth: Any) -> None:
    """Same shape and the same numbers, to the bit: data were only moved."""
    ours, truth = np.asarray(ours), np.asarray(truth)
    assert ours.shape == truth.shape, f"{ours.shape} is not {truth.shape}"
    assert np.array_equal(ours, truth), f"{np.sum(ours != truth)} of {truth.size} elements differ"


def assert_far(ours: Any, other: Any) -> None:
    """Visibly different: for what must not be a symmetry."""
    assert abs(np.asarray(ours) - np.asarray(other)).max() > 1e-3, "they are equal"


def assert_derivative(
    function: Callable[[Tensor], Tensor],
    x: np.ndarray,
    rng: np.random.Generator,
    parameters: Iterable[Tensor] = (),
    truth: Callable[[], np.ndarray] | None = None,
) -> None:
    """⟨gradient, t⟩ of x and of each parameter equals the slope of ⟨g, value⟩ along a random t.

    The value is differentiated by finite differences; it is `function(x)`, or else `truth()`, a
    slow oracle that reads the same arrays.
    """
    leaf = Tensor(x, requires_grad=True)
    leaves = (leaf, *parameters)
    for tensor in leaves:
        tensor.grad = None
    y = function(leaf)
    g = rng.standard_normal(y.shape)
    y.backward(g)

    def value() -> np.ndarray:
        with no_grad():
            return function(leaf).data if truth is None else truth()

    for i, tensor in enumerate(leaves):
        t = rng.standard_normal(tensor.shape)
        t *= LENGTH / np.sqrt(np.sum(t * t))
        assert tensor.grad is not None, f"leaf {i} of shape {tensor.shape} got no gradient"
        assert tensor.grad.shape == tensor.shape, f"leaf {i}: a gradient of another shape"
        ours, expected = np.sum(tensor.grad * t), _slope(value, tensor.data, g, t)
        assert abs(ours - expected) <= TOLERANCE * (1 + abs(expected)), (
            f"leaf {i} of shape {tensor.shape}: gradient {ours:.10g}, slope {expected:.10g}"
        )


def _slope(
    value: Callable[[], np.ndarray], array: np.ndarray, g: np.ndarray, t: np.ndarray
) -> float:
    """Slope of ⟨g, value()⟩ when `array`, which value reads, moves along t; restored at the end."""
    start = array.copy()

    def loss(moved: np.ndarray) -> float:
        array[...] = moved
        return float(np.sum(g * value()))

    try:
        return slope(loss, start, t)
    finally:
        array[...] = start


def assert_adjoint(function: Callable[[Tensor], Tensor], x: np.ndarray, y: np.ndarray) -> None:
    """⟨P x, y⟩ = ⟨x, Pᵀ y⟩ for a linear P whose backward is Pᵀ; exact: x, y hold integers."""
    leaf = Tensor(x, requires_grad=True)
    image = function(leaf)
    image.backward(y)
    assert leaf.grad is not None
    assert np.sum(image.data * y) == np.sum(x * leaf.grad)


def influence(function: Callable[[Tensor], Tensor], x: np.ndarray, token: tuple[int, int]) -> Any:
    """(B, H, W): how strongly a token of image 0 of the result depends on each token of x."""
    leaf = Tensor(x, requires_grad=True)
    y = function(leaf)
    g = np.zeros(y.shape)
    g[0][token] = np.linspace(1, 2, y.shape[-1])
    y.backward(g)
    assert leaf.grad is not None
    return abs(leaf.grad).max(axis=-1)


@contextmanager
def no_leak() -> Iterator[None]:
    """Inside, masked logits are −∞, not −100: a masked pair has exactly no influence."""

    def mask(grid: Any, window: Any, shift: Any, value: float) -> np.ndarray:
        return attention_mask(grid, window, shift, -np.inf)

    with kernels.using("reference"), mock.patch.object(composites, "attention_mask", mask):
        yield
