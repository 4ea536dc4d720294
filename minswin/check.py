"""Check a hand-written derivative against finite differences.       `python -m minswin.check`

For a definition y = f(x) with vjp, a random tangent t and a random cotangent g:

    ⟨vjp(g), t⟩  must equal  d/dε ⟨g, f(x + ε t)⟩  at ε = 0

in float64, the right-hand side by a five-point central difference. Both vectors are random: a
cotangent of ones makes the gradients of softmax and layer norm zero, so every wrong rule passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minswin.arguments import Seed, generator
from minswin.arrays import Definition
from minswin.reference import (
    attention,
    conv,
    detection,
    elementwise,
    linear,
    losses,
    maps,
    normalize,
    reduce,
    shape,
    windows,
)

__all__ = ["check_vjp", "samples", "slope"]

STEP = 1e-3  # truncation error ~ STEP⁴ ≈ 1e-12, rounding error ~ 1e-16 / STEP = 1e-13
TOLERANCE = 1e-9  # far above both, and a million times less than a factor of 1.001 would show


def check_vjp(definition: Definition, *arrays: Any, rng: Seed, **settings: Any) -> float:
    """Compare the vjp of `definition` with finite differences; give the largest relative error.

    arrays: float64 arrays are differentiated, all others (indices, masks, None) held fixed.
    Raises AssertionError naming operation, argument, worst index and both numbers.
    """
    rng = generator("check_vjp", rng)
    value, vjp = definition(*arrays, **settings)
    g = rng.standard_normal(value.shape)
    gradients = vjp(g)
    _check_form(definition.__name__, arrays, gradients)
    worst = 0.0
    for position, x in enumerate(arrays):
        if not _is_float(x):
            continue

        def loss(changed: np.ndarray, position: int = position) -> float:
            inputs = (*arrays[:position], changed, *arrays[position + 1 :])
            return float(np.sum(g * definition(*inputs, **settings)[0]))

        tangent = rng.standard_normal(x.shape)
        ours = float(np.sum(gradients[position] * tangent))
        truth = slope(loss, x, tangent)
        # The scale of the sums that were added up, so that a chance cancellation is no alarm.
        scale = float(np.sqrt(np.sum((gradients[position] * tangent) ** 2))) + abs(truth) + 1e-3
        error = abs(ours - truth) / scale
        if not error <= TOLERANCE:
            raise AssertionError(
                _report(definition.__name__, position, loss, x, gradients[position])
            )
        worst = max(worst, error)
    return worst


def slope(loss: Callable[[np.ndarray], float], x: np.ndarray, t: np.ndarray) -> float:
    """d/dε loss(x + ε t) at ε = 0 by the five-point rule."""
    h = STEP
    near = loss(x + h * t) - loss(x - h * t)
    far = loss(x + 2 * h * t) - loss(x - 2 * h * t)
    return (8 * near - far) / (12 * h)


def _is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == np.float64


def _check_form(name: str, arrays: tuple[Any, ...], gradients: Any) -> None:
    if not isinstance(gradients, tuple) or len(gradients) != len(arrays):
        raise AssertionError(f"{name}: the vjp must return a tuple of {len(arrays)} gradients")
    for position, (x, dx) in enumerate(zip(arrays, gradients, strict=True)):
        if not _is_float(x):
            continue
        if dx is None or dx.shape != x.shape or dx.dtype != x.dtype:
            came = "None" if dx is None else f"{dx.shape} {dx.dtype}"
            raise AssertionError(
                f"{name}: the gradient of argument {position} must be {x.shape} {x.dtype}, "
                f"got {came}"
            )


def _report(
    name: str, position: int, loss: Callable[[np.ndarray], float], x: np.ndarray, dx: np.ndarray
) -> str:
    """Differentiate by every element, to name the worst one."""
    truth = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        unit = np.zeros_like(x)
        unit[index] = 1
        truth[index] = slope(loss, x, unit)
    worst = np.unravel_index(int(np.argmax(abs(dx - truth))), x.shape)
    where = tuple(int(i) for i in worst)
    return (
        f"{name}: the gradient of argument {position} is wrong, most at index {where}: "
        f"vjp gives {dx[worst]:.10g}, finite differences give {truth[worst]:.10g}"
    )


# ── one sample or more for every definition ──────────────────────────────────────────────────────

Sample = tuple[Definition, tuple[Any, ...], dict[str, Any]]


def samples(rng: Seed) -> Iterator[Sample]:
    """(definition, arrays, settings) for every definition, sizes pairwise different.

    The tests of derivatives, of kernels and of dtypes all walk this table: a new operation needs
    one row here to be tested everywhere.
    """
    rng = generator("samples", rng)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape)

    def positive(*shape: int) -> np.ndarray:
        return rng.uniform(0.5, 2.0, shape)

    def away_from_zero(*shape: int) -> np.ndarray:
        return positive(*shape) * rng.choice([-1.0, 1.0], shape)

    def apart(*shape: int) -> np.ndarray:
        """No two numbers closer than 0.1, so that a step does not change which is the largest."""
        return 0.1 * rng.permutation(int(np.prod(shape))).reshape(shape)

    def boxes(count: int) -> np.ndarray:
        """Two lists of boxes (2, count, 4), no two edges closer than 1; not all pairs meet."""
        edges = np.sort(10 * apart(2, count, 2, 2), axis=2)  # x, y of one corner, of the other
        return edges.reshape(2, count, 4)

    for arithmetic in (elementwise.add, elementwise.subtract, elementwise.multiply):
        yield arithmetic, (normal(2, 3, 4), normal(2, 3, 4)), {}
        yield arithmetic, (normal(2, 1, 4), normal(3, 1)), {}
    yield elementwise.divide, (normal(2, 1, 4), away_from_zero(3, 1)), {}
    yield elementwise.negative, (normal(2, 3),), {}
    yield elementwise.power, (positive(2, 3),), {"exponent": 2.5}
    yield elementwise.power, (normal(2, 3),), {"exponent": 3}
    yield elementwise.exp, (normal(2, 3),), {}
    yield elementwise.log, (positive(2, 3),), {}
    yield elementwise.sqrt, (positive(2, 3),), {}
    yield elementwise.tanh, (normal(2, 3),), {}
    yield elementwise.sigmoid, (normal(2, 3),), {}
    yield elementwise.relu, (away_from_zero(2, 3),), {}
    yield elementwise.gelu, (2 * normal(4, 5),), {}
    yield elementwise.gelu_tanh, (2 * normal(4, 5),), {}
    yield elementwise.dropout, (normal(3, 4), rng.random((3, 4)) < 0.7), {"rate": 0.3}
    yield elementwise.dropout, (normal(3, 4, 2), rng.random((3, 1, 1)) < 0.5), {"rate": 0.5}

    for reduction in (reduce.sum, reduce.mean, reduce.max):
        yield reduction, (normal(2, 3, 4),), {}
        yield reduction, (normal(2, 3, 4),), {"axis": (0, -1)}
        yield reduction, (normal(2, 3, 4),), {"axis": 1, "keepdims": True}

    yield shape.reshape, (normal(2, 3, 4),), {"shape": (4, -1)}
    yield shape.transpose, (normal(2, 3, 4),), {"axes": (2, 0, 1)}
    yield shape.broadcast_to, (normal(3, 1),), {"shape": (2, 3, 4)}
    yield shape.roll, (normal(2, 5, 4, 3),), {"shift": (-2, 1)}
    yield shape.pad, (normal(2, 3, 4),), {"width": ((0, 0), (1, 2), (0, 3))}
    yield shape.getitem, (normal(4, 5, 3),), {"index": (slice(None, None, 2), 1)}
    yield shape.getitem, (normal(4, 5),), {"index": np.array([1, 1, 3])}
    yield shape.concatenate, (normal(2, 3), normal(2, 1), normal(2, 4)), {"axis": 1}
    yield shape.stack, (normal(2, 3), normal(2, 3)), {"axis": 1}
    yield shape.take, (normal(5, 3), rng.integers(0, 5, (2, 4))), {}
    yield shape.scatter_add, (normal(2, 4, 3), rng.integers(0, 5, (2, 4))), {"length": 6}

    yield linear.matmul, (normal(2, 3, 4), normal(2, 4, 5)), {}
    yield linear.matmul, (normal(2, 1, 3, 4), normal(5, 4, 2)), {}
    yield linear.linear, (normal(2, 3, 4), normal(5, 4), normal(5)), {}
    yield linear.linear, (normal(3, 4), normal(5, 4), None), {}
    yield conv.unfold, (normal(2, 3, 7, 6),), {"kernel": (3, 2), "stride": (2, 1)}
    yield (
        conv.conv2d,
        (normal(2, 3, 7, 6), normal(4, 3, 3, 2), normal(4)),
        {"stride": (2, 3), "padding": (1, 2)},
    )

    overlapping = {"kernel": (3, 2), "stride": (2, 1)}
    yield conv.max_pool2d, (apart(2, 3, 7, 6),), {**overlapping, "padding": (1, 0)}
    yield conv.avg_pool2d, (normal(2, 3, 7, 6),), overlapping

    yield normalize.softmax, (normal(2, 3, 5),), {}
    yield normalize.softmax, (normal(2, 5, 3),), {"axis": 1}
    yield normalize.log_softmax, (normal(3, 5),), {}
    yield normalize.layer_norm, (normal(2, 3, 7), away_from_zero(7), normal(7)), {"eps": 0.1}
    yield normalize.batch_norm, (normal(2, 5, 3, 4), away_from_zero(5), normal(5)), {"eps": 0.1}
    qkv = normal(2, 3, 5, 4), normal(2, 3, 6, 4), normal(2, 3, 6, 2)
    yield attention.attention, (*qkv, None), {}
    yield attention.attention, (*qkv, normal(3, 5, 6)), {}
    labels, soft = rng.integers(0, 5, 4), rng.dirichlet(np.ones(5), 4)
    yield losses.cross_entropy, (normal(4, 5), labels), {}
    yield losses.cross_entropy, (normal(4, 5), soft), {"smoothing": 0.1}

    yield windows.window_partition, (normal(2, 4, 9, 5),), {"window": (2, 3)}
    yield windows.window_merge, (normal(2, 6, 6, 5),), {"window": (2, 3), "grid": (4, 9)}
    yield windows.patch_merge, (normal(2, 4, 6, 3),), {}

    for method in ("bilinear", "mean"):
        yield maps.resize, (normal(2, 5, 3, 4),), {"size": (3, 7), "method": method}

    yield detection.binary_cross_entropy, (2 * normal(4, 3), rng.random((4, 3))), {}
    yield detection.focal_loss, (2 * normal(4, 3), rng.integers(0, 2, (4, 3))), {"gamma": 1.5}
    yield detection.giou, tuple(boxes(6)), {}
    yield detection.giou, tuple(box.reshape(2, 3, 4) for box in boxes(6)), {}


def main() -> None:
    """Print the error of every definition's derivative, worst of several random draws."""
    errors: dict[str, float] = {}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        for definition, arrays, settings in samples(rng):
            error = check_vjp(definition, *arrays, rng=rng, **settings)
            name = f"{definition.__module__.split('.')[-1]}.{definition.__name__}"
            errors[name] = max(error, errors.get(name, 0.0))
    print("operation                     largest relative error of the derivative")
    for name, error in errors.items():
        print(f"{name:30}{error:9.1e}")
    told = f"{len(errors)} operations, the largest error {max(errors.values()):.1e}"
    print(f"{told} ({TOLERANCE:g} is allowed)")


if __name__ == "__main__":
    main()
