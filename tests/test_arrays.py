"""What all definitions ask of an array, NumPy's or CuPy's."""

from __future__ import annotations

import numpy as np
import pytest

from minswin.arrays import sliding_windows


@pytest.mark.parametrize("window", [(1, 1), (2, 3), (4, 5), (4, 1)])
def test_sliding_windows_are_those_of_numpy(window: tuple[int, int]) -> None:
    x = np.arange(2 * 3 * 4 * 5.0).reshape(2, 4, 5, 3).transpose(0, 3, 1, 2)[::-1]  # any strides
    view = sliding_windows(x, window)
    theirs = np.lib.stride_tricks.sliding_window_view(x, window, axis=(2, 3))
    assert np.shares_memory(view, x) and np.array_equal(view, theirs)


@pytest.mark.parametrize("window", [(5, 1), (1, 6), (0, 2), (2, -1)])
def test_a_window_beyond_the_map_is_refused_and_reads_nothing(window: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"must lie in the map, which is \(4, 5\)"):
        sliding_windows(np.zeros((2, 4, 5)), window)
