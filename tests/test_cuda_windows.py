"""The CUDA kernel of shifted windows: windows and heads of every size."""

from __future__ import annotations

from typing import Any

import cuda_cases
import numpy as np
import pytest
from cuda_cases import GEOMETRIES, case_of, through_host
from cuda_on_host import RawKernel
from kernel_cases import DTYPES, assert_equals_definition, windows_of

from minswin.kernels.gpu.window_attention import shifted_window_attention

host = cuda_cases.host  # the fixture


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_shifted_windows_of_every_size_equal_their_definition(
    geometry: Any, dtype: type, host: Any
) -> None:
    arrays, settings = case_of(geometry, dtype)
    function = through_host(shifted_window_attention)
    assert_equals_definition("shifted_window_attention", function, arrays, settings)
    assert sum("window_attention" in ran for ran in RawKernel.ran) == 2


@pytest.mark.parametrize(("window", "d"), [((16, 17), 4), ((2, 2), 65)])
def test_larger_windows_and_heads_are_left_to_the_definition(
    window: Any, d: int, host: Any
) -> None:
    rows = (2 * window[0] - 1) * (2 * window[1] - 1)
    settings = windows_of(1, window, (0, 0))
    qkv, table = host.zeros((1, *window, 3 * d), np.float32), host.zeros((rows, 1), np.float32)
    assert not shifted_window_attention.takes(qkv, table, **settings)  # type: ignore[attr-defined]
    small = {**settings, "window": (2, 2), "table_window": (2, 2)}
    qkv, table = host.zeros((1, 2, 2, 12), np.float32), host.zeros((9, 1), np.float32)
    assert shifted_window_attention.takes(qkv, table, **small)  # type: ignore[attr-defined]
