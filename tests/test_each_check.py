"""Every part of a check is enough alone: one argument is wrong, on one axis, nothing else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin import ops


def z(*shape: int) -> np.ndarray:
    return np.zeros(shape)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers)


TABLE = z(4, 2)
MAP, KEEP = z(2, 4, 6, 3), np.ones((2, 3), bool)
POOL = {"kernel": (2, 4), "stride": (2, 2)}
BATCH = {"padding": (0, 0)}
WINDOW = {"window": (2, 3)}
GRID = {**WINDOW, "grid": (4, 6)}

# operation, inputs, settings
NO_SIDES: Any = (0, -1, 2.5, "2", True, None, (2, ), (2, 0))  # fmt: skip
WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("matmul", (z(3), z(3, 2)), {}),
    ("matmul", (z(2, 3), z(3)), {}),
    ("matmul", (z(2, 3), z(4, 2)), {}),
    ("linear", (z(2, 3), z(3), None), {}),
    ("linear", (z(2, 3), z(5, 4, 3), None), {}),
    ("linear", (z(), z(4, 3), None), {}),
    ("linear", (z(2, 3), z(3, 4), None), {}),
    ("linear", (z(2, 3), z(4, 3), z(3)), {}),
    ("conv2d", (z(2, 3, 5), z(4, 3, 2, 2), None), {}),
    ("conv2d", (z(2, 3, 5, 5), z(4, 3, 2), None), {}),
    ("conv2d", (z(2, 3, 5, 5), z(4, 5, 2, 2), None), {}),
    ("conv2d", (z(2, 3, 5, 5), z(4, 3, 2, 2), z(3)), {}),
    ("conv2d", (z(2, 3, 1, 5), z(4, 3, 2, 2), None), {}),
    ("conv2d", (z(2, 3, 5, 1), z(4, 3, 2, 2), None), {}),
    ("conv2d", (z(2, 3, 1, 5), z(4, 3, 4, 2), None), {"padding": (1, 9)}),
    ("conv2d", (z(2, 3, 5, 1), z(4, 3, 2, 4), None), {"padding": (9, 1)}),
    ("layer_norm", (z(), z(), z()), {}),
    ("layer_norm", (z(2, 3), z(2), z(3)), {}),
    ("layer_norm", (z(2, 3), z(3), z(2)), {}),
    ("batch_norm", (z(2, 3, 4), z(3), z(3)), {}),
    ("batch_norm", (z(2, 3, 4, 5), z(4), z(3)), {}),
    ("batch_norm", (z(2, 3, 4, 5), z(3), z(4)), {}),
    ("max_pool2d", (z(2, 3, 5), ), POOL),
    ("max_pool2d", (MAP, ), {**POOL, "padding": (2, 0)}),
    ("max_pool2d", (MAP, ), {**POOL, "padding": (0, 3)}),
    ("attention", (z(4), z(5, 4), z(5, 2), None), {}),
    ("attention", (z(3, 4), z(4), z(), None), {}),
    ("attention", (z(3, 4), z(5, 6), z(5, 2), None), {}),
    ("attention", (z(3, 4), z(5, 4), z(6, 2), None), {}),
    ("attention", (z(2, 3, 4), z(7, 5, 4), z(7, 5, 2), None), {}),
    ("attention", (z(3, 4), z(5, 4), z(5, 2), z(3, 4)), {}),
    ("attention", (z(3, 4), z(5, 4), z(5, 2), z(2, 5)), {}),
    ("attention", (z(3, 4), z(5, 4), z(5, 2), z(1, 3, 5)), {}),
    ("window_partition", (z(4, 6, 3), ), WINDOW),
    ("window_partition", (z(2, 5, 6, 3), ), WINDOW),
    ("window_partition", (z(2, 4, 5, 3), ), WINDOW),
    ("window_merge", (z(4, 6, 3), ), GRID),
    ("window_merge", (z(2, 3, 6, 3), ), GRID),
    ("window_merge", (z(2, 4, 5, 3), ), GRID),
    ("patch_merge", (z(4, 6, 3), ), {}),
    ("patch_merge", (z(2, 5, 6, 3), ), {}),
    ("patch_merge", (z(2, 4, 5, 3), ), {}),
    ("cross_entropy", (z(3), ints(0, 1, 2)), {}),
    ("cross_entropy", (z(0, 3), np.zeros(0, int)), {}),
    ("cross_entropy", (z(2, 3), z(2)), {}),
    ("cross_entropy", (z(2, 3), ints(0, 1, 2)), {}),
    ("cross_entropy", (z(2, 3), z(2, 4)), {}),
    ("cross_entropy", (z(2, 3), ints(0, 3)), {}),
    ("cross_entropy", (z(2, 3), ints(-1, 2)), {}),
    ("cross_entropy", (z(2, 3), ints(0, 2)), {"smoothing": -0.1}),
    ("cross_entropy", (z(2, 3), ints(0, 2)), {"smoothing": 1.0}),
    ("take", (TABLE, z(2)), {}),
    ("take", (TABLE, ints(0, 4)), {}),
    ("take", (TABLE, ints(-5, 1)), {}),
    ("scatter_add", (z(3, 2), ints(0, 1)), {"length": 4}),
    ("scatter_add", (z(2, 2), ints(0, 4)), {"length": 4}),
    ("dropout", (z(2, 3), KEEP), {"rate": -0.1}),
    ("dropout", (z(2, 3), KEEP), {"rate": 1.1}),
    ("dropout", (z(2, 3), z(2, 3)), {"rate": 0.5}),
    ("dropout", (z(2, 3), np.ones((2, 2), bool)), {"rate": 0.5}),
    ("resize", (z(4, 6, 3), ), {"size": (2, 2)}),
    ("resize", (z(2, 0, 6, 3), ), {"size": (2, 2)}),
    ("resize", (z(2, 4, 0, 3), ), {"size": (2, 2)}),
    ("resize", (MAP, ), {"size": (2, 2), "method": "cubic"}),
    ("resize", (MAP, ), {"size": (2, 2, 2)}),
    ("resize", (MAP, ), {"size": (0, 2)}),
    ("resize", (MAP, ), {"size": (2, 0)}),
    ("resize", (MAP, ), {"size": (2, 2.5)}),
    ("binary_cross_entropy", (z(2, 3), z(2, 1)), {}),
    ("focal_loss", (z(2, 3), z(2, 1)), {}),
    ("focal_loss", (z(2, 3), np.ones((2, 3), int)), {"alpha": 1.5}),
    ("focal_loss", (z(2, 3), np.ones((2, 3), int)), {"gamma": -1.0}),
    ("layer_norm", (z(2, 3), z(3), z(3)), {"eps": -1.0}),
    ("layer_norm", (z(2, 3), z(3), z(3)), {"eps": float("nan")}),
    ("layer_norm", (z(2, 3), z(3), z(3)), {"eps": "1"}),
    ("batch_norm", (z(2, 3, 4, 4), z(3), z(3)), {"eps": -1.0}),
    *(("window_partition", (MAP, ), {"window": side}) for side in NO_SIDES),
    *(("window_merge", (z(2, 4, 6, 3), ), {**GRID, "grid": side}) for side in NO_SIDES),
    *(("conv2d", (z(2, 3, 4, 4), z(4, 3, 2, 2), z(4)), {"stride": side}) for side in NO_SIDES),
    *(("max_pool2d", (MAP, ), {**POOL, "kernel": side}) for side in NO_SIDES),
    ("max_pool2d", (MAP, ), {**POOL, "padding": -1}),
    ("giou", (z(2, 4), z(3, 4)), {}),
    ("giou", (z(2, 3), z(2, 3)), {}),
]  # fmt: skip

RIGHT: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("linear", (z(3), z(4, 3), z(4)), {}),
    ("conv2d", (z(2, 3, 1, 2), z(4, 3, 3, 6), z(4)), {"padding": (1, 2)}),
    ("max_pool2d", (MAP, ), {**POOL, "padding": (1, 2)}),
    ("attention", (z(2, 3, 4), z(2, 5, 4), z(2, 5, 6), z(1, 5)), {}),
    ("attention", (z(2, 3, 4), z(2, 5, 4), z(2, 5, 6), z(2, 3, 1)), {}),
    ("window_partition", (z(2, 2, 3, 1), ), WINDOW),
    ("patch_merge", (z(2, 2, 2, 1), ), {}),
    ("cross_entropy", (z(1, 3), ints(2)), {"smoothing": 0.0}),
    ("take", (TABLE, ints(0, 3)), {}),
    ("scatter_add", (z(2, 2), ints(0, 3)), {"length": 4}),
    ("dropout", (z(2, 3), KEEP[:, :1]), {"rate": 0.0}),
    ("dropout", (z(2, 3), KEEP[0]), {"rate": 1.0}),
    ("resize", (z(2, 1, 1, 3), ), {"size": (1, 1)}),
]  # fmt: skip


def name(case: Any) -> str:
    return case if isinstance(case, str) else ""


@pytest.mark.parametrize(("operation", "inputs", "settings"), WRONG, ids=name)
def test_one_wrong_argument_is_refused(operation: str, inputs: Any, settings: Any) -> None:
    with pytest.raises((ValueError, TypeError, IndexError), match=f"^{operation}: ") as caught:
        getattr(ops, operation)(*inputs, **settings)
    assert "the inputs have the shapes" not in str(caught.value), "NumPy refused it, not the check"


@pytest.mark.parametrize(("operation", "inputs", "settings"), RIGHT, ids=name)
def test_what_just_fits_is_taken(operation: str, inputs: Any, settings: Any) -> None:
    assert np.isfinite(getattr(ops, operation)(*inputs, **settings).data).all()
