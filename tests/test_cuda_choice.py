"""The kernels of CuPy are chosen for arrays of CuPy, and for no others."""

from __future__ import annotations

from typing import Any

import cuda_cases
import numpy as np
import pytest
from cuda_on_host import RawKernel

from minswin import kernels, ops

host = cuda_cases.host  # the fixture


def test_a_cupy_array_runs_the_kernels_of_cupy(host: Any) -> None:
    x = host.asarray(np.random.default_rng(0).standard_normal((2, 3)))
    assert kernels.chosen(x) == "cupy"
    assert ops.softmax(x).data.get().sum() == pytest.approx(2)
    assert RawKernel.ran == ["softmax_forward<double, false>"]


def test_arrays_of_the_other_kind_are_an_error_that_names_both(host: Any) -> None:
    message = "the backend 'cupy' works on CuPy arrays, got a NumPy array; use kernels.using"
    with kernels.using("cupy"), pytest.raises(ValueError, match=message):
        ops.softmax(np.ones(3))
    message = "the backend 'numba' works on NumPy arrays, got a CuPy array; use kernels.using"
    with kernels.using("numba"), pytest.raises(ValueError, match=message):
        ops.softmax(host.zeros(3))


def test_without_cupy_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    monkeypatch.setattr(kernels, "_loaded", {"reference", "numba"})
    message = "the backend 'cupy' cannot be loaded .*; pip install cupy-cuda13x .*, or set"
    with pytest.raises(ImportError, match=message), kernels.using("cupy"):
        pass
