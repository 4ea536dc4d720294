"""Where the tokens of a window lie: the index arithmetic of the CUDA kernels, compiled as C."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from itertools import product
from typing import Any

import numpy as np
import pytest

from minswin.kernels.gpu import launch
from minswin.reference.shape import roll
from minswin.reference.windows import (
    attention_mask,
    relative_position_index,
    shift_regions,
    window_partition,
)

EXPORTS = """
#include "window_index.h"
void tokens(Windows m, int *places, int *labels) {
    int N = m.Mh * m.Mw, windows = m.H / m.Mh * (m.W / m.Mw);
    for (int i = 0; i < windows * N; i++) {
        places[i] = place_on_map(m, i / N, i % N);
        labels[i] = region_label(m, i / N, i % N);
    }
}
void pairs(Windows m, int Th, int Tw, int *rows) {
    int N = m.Mh * m.Mw;
    for (int p = 0; p < N; p++)
        for (int q = 0; q < N; q++)
            rows[p * N + q] = displacement_row(p / m.Mw - q / m.Mw, p % m.Mw - q % m.Mw, Th, Tw);
}
"""


@pytest.fixture(scope="module")
def window_index(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The functions of window_index.h, for all windows of a map, compiled as C."""
    compiler = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler: there is neither gcc nor clang nor cc")
    folder = tmp_path_factory.mktemp("window_index")
    (folder / "all.c").write_text(EXPORTS)
    flags = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{launch.FOLDER}")
    command = [compiler, *flags, str(folder / "all.c"), "-o", str(folder / "all.so")]
    subprocess.run(command, check=True, capture_output=True)
    return ctypes.CDLL(str(folder / "all.so"))


class Windows(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("H", "W", "Mh", "Mw", "sh", "sw")]


def pointer(x: Any) -> Any:
    return ctypes.c_void_p(x.ctypes.data)


def places_and_labels(library: Any, grid: Any, window: Any, shift: Any) -> Any:
    """(nW, N) each, by the functions of the kernels"""
    N = window[0] * window[1]
    answers = [np.empty((grid[0] * grid[1] // N, N), np.int32) for _ in range(2)]
    library.tokens(Windows(*grid, *window, *shift), *map(pointer, answers))
    return answers


Side = tuple[int, int, int]  # of a map, of its windows, and the shift

SIDES: list[Side] = [
    (size, side, s)
    for size in range(1, 17)
    for side in range(1, size + 1)
    for s in range(side)
    if size % side == 0
]


def along(size: int, side: int, s: int) -> tuple[Any, Any]:
    """(windows, side) each: where the tokens along one side come from, and their regions, 0 to 2"""
    rolled = np.roll(np.arange(size), -s)
    regions = shift_regions.__wrapped__((1, size), (1, side), (0, s))[0]
    return rolled.reshape(-1, side), regions.reshape(-1, side)


def test_each_token_lies_where_roll_and_partition_bring_it_from(window_index: Any) -> None:
    """And has the label of its region: on every map up to 16×16, with every window and shift."""
    truth = [along(*side) for side in SIDES]
    rows = [[x[:, None, :, None] for x in each] for each in truth]
    columns = [[x[None, :, None, :] for x in each] for each in truth]
    count = 0
    for (vertical, (row, above)), (across, (column, left)) in product(
        zip(SIDES, rows, strict=True), zip(SIDES, columns, strict=True)
    ):
        grid, window, shift = zip(vertical, across, strict=True)
        places, labels = places_and_labels(window_index, grid, window, shift)
        assert (places.ravel() == (row * grid[1] + column).ravel()).all(), (grid, window, shift)
        assert (labels.ravel() == (above * 3 + left).ravel()).all(), (grid, window, shift)
        count += 1
    assert count == 220 * 220  # the divisors of 1…16 add up to 220


def test_places_and_masks_are_those_of_the_reference(window_index: Any) -> None:
    """The definitions themselves, on some of these maps: a mask has N × N numbers a window."""
    maps = list(product(SIDES, SIDES))
    for i in np.random.default_rng(0).choice(len(maps), 600, replace=False):
        grid, window, shift = zip(*maps[i], strict=True)
        places, labels = places_and_labels(window_index, grid, window, shift)
        tokens = np.arange(grid[0] * grid[1]).reshape(1, *grid, 1)
        rolled, _ = roll(tokens, shift=(-shift[0], -shift[1]))
        assert np.array_equal(places, window_partition(rolled, window=window)[0][0, :, :, 0])
        apart = labels[:, :, None] != labels[:, None, :]
        assert np.array_equal(apart, attention_mask.__wrapped__(grid, window, shift) != 0)


def test_rows_of_the_table_are_those_of_the_reference(window_index: Any) -> None:
    for Mh, Mw in product(range(1, 17), repeat=2):
        for table_window in ((Mh, Mw), (Mh + 2, Mw + 1)):
            rows = np.empty((Mh * Mw, Mh * Mw), np.int32)
            window_index.pairs(Windows(Mh, Mw, Mh, Mw, 0, 0), *table_window, pointer(rows))
            assert np.array_equal(rows, relative_position_index.__wrapped__((Mh, Mw), table_window))
