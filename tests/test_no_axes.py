"""A number without axes: which axis of it may be named is NumPy's rule, on a GPU as on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import standin
from gpu import require_gpu

from minswin import Tensor, ops

PLACES = [pytest.param(place, marks=pytest.mark.gpu) for place in ("kernels", "definitions")]


@pytest.fixture(params=["standin", *PLACES])
def cupy(request, monkeypatch):
    """The stand-in, or CuPy with our kernels, or with the definitions."""
    if request.param == "definitions":
        monkeypatch.setattr("minswin.kernels._environment", "reference")
    return standin.use(monkeypatch) if request.param == "standin" else require_gpu()


def outcome(library: Any, name: str, settings: dict[str, Any]) -> Any:
    """The shape, value and gradient, or the kind of the error."""
    x = Tensor(library.asarray(np.float32(2.5)), requires_grad=True)
    try:
        y = getattr(ops, name)(x, **settings)
    except (ValueError, TypeError) as error:
        return type(error)
    y.backward()
    return y.shape, y.item(), x.grad.item()


def cases() -> list[Any]:
    reduced = [
        (name, {"axis": axis, "keepdims": keepdims})
        for name in ("sum", "mean", "max")
        for axis in (None, 0, -1, 1, (), (0,))
        for keepdims in (False, True)
    ]
    along = [(name, {"axis": axis}) for name in ("softmax", "log_softmax") for axis in (0, -1, 1)]
    return [*reduced, *along]


@pytest.mark.parametrize(("name", "settings"), cases(), ids=str)
def test_an_axis_is_taken_or_refused_as_by_numpy(cupy, name, settings):
    assert outcome(cupy, name, settings) == outcome(np, name, settings)


def test_numpy_takes_the_first_and_the_last_axis_of_a_number():
    taken = [
        axis for axis in (0, -1, 1, -2) if outcome(np, "sum", {"axis": axis}) is not ValueError
    ]
    assert taken == [0, -1] and outcome(np, "sum", {"axis": 0}) == ((), 2.5, 1.0)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "softmax", "log_softmax", "stack"])
@pytest.mark.parametrize("axis", [0.0, -1.0, False, True, np.float32(0), np.bool_(False), "0"])
@pytest.mark.parametrize("x", [np.float32(2.5), np.ones((2, 3), np.float32)], ids=str)
def test_an_axis_is_a_whole_number(name, axis, x):
    with pytest.raises(TypeError, match=rf"^{name}: axis must be an int"):
        getattr(ops, name)(Tensor(np.asarray(x)), axis=axis)


def test_axes_of_numpy_are_taken():
    x = Tensor(np.ones((2, 3), np.float32))
    for axis in (np.int64(0), (np.int64(0), -1), (0,), ()):
        assert ops.sum(x, axis=axis).data.sum() == 6
