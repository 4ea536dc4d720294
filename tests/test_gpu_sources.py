"""What a CPU can check of the CUDA kernels: each runs here, compiled by a C++ compiler, and is
compared with its definition; their index arithmetic too; and NVIDIA's compiler takes the sources.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from inspect import signature
from itertools import product
from typing import Any

import cuda_on_host
import numpy as np
import nvrtc
import pytest
from cuda_on_host import RawKernel, instantiations
from kernel_cases import (
    DTYPES,
    SPELLED_OUT,
    assert_equals_definition,
    cases,
    laid_out_backwards,
    laid_out_transposed,
    typical_case,
    windows_of,
)
from table import UPDATES, definition_of
from test_kernel_updates import SETTINGS, SHAPES, arrays_of

from minswin import Tensor, kernels, ops
from minswin.arrays import to_numpy
from minswin.kernels import FAST
from minswin.kernels.gpu import launch, updates
from minswin.kernels.gpu.batch_norm import follow_moments as follow_there
from minswin.kernels.gpu.window_attention import shifted_window_attention
from minswin.reference.normalize import follow_moments
from minswin.reference.shape import roll
from minswin.reference.windows import (
    attention_mask,
    relative_position_index,
    shift_regions,
    window_partition,
)
from minswin.training.ema import WeightAverage
from minswin.training.optimizers import SGD, AdamW, clip_gradients

SOURCES = sorted(path.name for path in launch.FOLDER.glob("*.cu"))
ALL = sorted(name for name, row in FAST.items() if "cupy" in row)
NAMES = [name for name in ALL if name not in UPDATES]
PRODUCTS = ("matmul", "resize")  # are cuBLAS's alone


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Any:
    return cuda_on_host.use(monkeypatch)


def through_host(function: Any) -> Any:
    """A function on CuPy arrays as one on NumPy arrays; strides stay as they are."""

    def there(x: Any) -> Any:
        return None if x is None else x.view(cuda_on_host.ndarray)

    def back(x: Any) -> Any:
        return None if x is None else x.get()

    def run(*arrays: Any, **settings: Any) -> Any:
        value, vjp = function(*map(there, arrays), **settings)
        return back(value), lambda g: tuple(map(back, vjp(there(g))))

    return run


# ── where the tokens of a window lie ─────────────────────────────────────────────────────────────

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


def all_maps(largest: int) -> Any:
    """(grid, window, shift): every shift of every window that divides a side, by pairs of sides."""
    sides = [
        (size, side, s)
        for size in range(1, largest + 1)
        for side in range(1, size + 1)
        for s in range(side)
        if size % side == 0
    ]
    return (tuple(zip(a, b, strict=True)) for a, b in product(sides, sides))


def test_each_token_lies_where_roll_and_partition_bring_it_from(window_index: Any) -> None:
    """And has the label of its region: on every map up to 16×16, with every window and shift."""
    count = 0
    for grid, window, shift in all_maps(16):
        places, labels = places_and_labels(window_index, grid, window, shift)
        (H, W), (Mh, Mw) = grid, window
        rows, columns = (np.arange(n) - n + s for n, s in zip(grid, shift, strict=True))
        rolled = rows[:, None] % H * W + columns % W  # what np.roll by −shift brings
        regions = shift_regions.__wrapped__(grid, window, shift)
        for ours, true in ((places, rolled), (labels, regions)):
            cut = true.reshape(H // Mh, Mh, W // Mw, Mw).swapaxes(1, 2).reshape(places.shape)
            assert np.array_equal(ours, cut), (grid, window, shift)
        count += 1
    assert count == 220 * 220  # the divisors of 1…16 add up to 220


def test_places_and_masks_are_those_of_the_reference(window_index: Any) -> None:
    """The definitions themselves, on some of these maps: a mask has N × N numbers a window."""
    maps = list(all_maps(16))
    for i in np.random.default_rng(0).choice(len(maps), 600, replace=False):
        grid, window, shift = maps[i]
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


# ── equality, with the sources and the wrappers that a GPU has ───────────────────────────────────


def test_the_gpu_has_kernels_for_these() -> None:
    assert set(ALL) == UPDATES | {
        "attention", "batch_norm", "conv2d", "cross_entropy", "dropout", "gelu", "gelu_tanh",
        "layer_norm", "linear", "log_softmax", "matmul", "mlp", "resize",
        "shifted_window_attention", "softmax",
    }  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_a_kernel_has_the_arguments_of_its_definition(name: str) -> None:
    definition = definition_of(name)
    ours, truth = (
        [
            (p.name, p.kind, p.default)
            for p in signature(f).parameters.values()
            if p.name not in SPELLED_OUT
        ]
        for f in (FAST[name]["cupy"], definition)
    )
    assert ours == truth


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_equals_its_definition(name: str, dtype: type, host: Any) -> None:
    kernel = FAST[name]["cupy"]
    takes = getattr(kernel, "takes", lambda *arrays, **settings: True)
    for arrays, settings in cases(name, dtype, np.random.default_rng(0)):
        if takes(*(None if x is None else host.asarray(x) for x in arrays), **settings):
            assert_equals_definition(name, through_host(kernel), arrays, settings)
    assert name in PRODUCTS or any(f"<{launch.c_name(dtype)}" in ran for ran in RawKernel.ran)


@pytest.mark.parametrize("layout", [laid_out_backwards, laid_out_transposed])
@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_takes_arrays_with_strides(name: str, layout: Any, host: Any) -> None:
    arrays, settings = typical_case(name, np.float32)
    laid_out = tuple(layout(x) for x in arrays)
    assert_equals_definition(name, through_host(FAST[name]["cupy"]), laid_out, settings)
    assert name in PRODUCTS or RawKernel.ran


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("C", [1, 5, 300])
def test_running_statistics_follow_in_one_launch(C: int, dtype: type, host: Any) -> None:
    rng = np.random.default_rng(C)
    kept = [rng.standard_normal(C).astype(dtype) for _ in range(2)] + [np.array(7)]
    seen, numbers = [rng.random(C).astype(dtype) for _ in range(2)], {"momentum": 0.3, "count": 4}
    ours = [host.asarray(x.copy()) for x in kept]
    follow_there(*ours, *map(host.asarray, seen), **numbers)
    follow_moments(*kept, *seen, **numbers)
    for x, y in zip(ours, kept, strict=True):
        np.testing.assert_allclose(x.get(), y, rtol=0, atol=4 * np.finfo(dtype).eps)
    assert kept[2] == 8 and len(RawKernel.ran) == 1


@pytest.mark.parametrize("shape", [(6, 48), (2, 19, 33)])
def test_a_vjp_that_adds_adds_to_what_is_there_and_leaves_it(shape: Any, host: Any) -> None:
    rng = np.random.default_rng(0)
    x, g, onto = (host.asarray(rng.standard_normal(shape)) for _ in range(3))
    weight, before = host.asarray(rng.standard_normal(shape[-1])), onto.get().copy()
    for kernel in ("layer_norm",):
        _, vjp = FAST[kernel]["cupy"](x, weight, weight)
        alone, added = vjp(g), vjp(g, onto)
        np.testing.assert_allclose(added[0].get(), before + alone[0].get(), rtol=1e-14)
        assert np.array_equal(onto.get(), before) and hasattr(vjp, "adds")
        for one, other in zip(alone[1:], added[1:], strict=True):
            assert np.array_equal(one.get(), other.get())


# Heads of 16, 32 and 64 channels and a little less, windows of 16 to 256 tokens, some not square,
# wholes and parts of a tile, one head and several in a block, masks on both axes.
GEOMETRIES = [
    # (B, H, W), heads, d, window, shift, window of the table
    ((2, 8, 12), 3, 16, (4, 4), (2, 2), (4, 4)),
    ((1, 4, 4), 8, 5, (4, 4), (0, 0), (4, 4)),
    ((2, 7, 14), 2, 32, (7, 7), (3, 3), (7, 7)),
    ((1, 14, 7), 4, 17, (7, 7), (6, 1), (8, 9)),
    ((2, 6, 5), 2, 20, (3, 5), (2, 1), (3, 5)),  # read in fours, and less than 32
    ((1, 8, 16), 2, 32, (8, 8), (4, 4), (8, 8)),
    ((1, 12, 24), 1, 64, (12, 12), (6, 6), (12, 12)),
    ((1, 16, 32), 1, 32, (16, 16), (8, 8), (16, 16)),
    ((1, 16, 16), 2, 64, (16, 16), (0, 15), (16, 16)),
    ((1, 2, 256), 1, 7, (1, 256), (0, 100), (1, 256)),
    ((1, 6, 10), 2, 33, (3, 5), (1, 0), (3, 5)),
    ((2, 3, 3), 2, 1, (1, 1), (0, 0), (1, 1)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_shifted_windows_of_every_size_equal_their_definition(
    geometry: Any, dtype: type, host: Any
) -> None:
    shape, heads, d, window, shift, table_window = geometry
    rng = np.random.default_rng(d)
    qkv = 2 * rng.standard_normal((*shape, 3 * heads * d))
    rows = (2 * table_window[0] - 1) * (2 * table_window[1] - 1)
    arrays = qkv.astype(dtype), rng.standard_normal((rows, heads)).astype(dtype)
    settings = windows_of(heads, window, shift, table_window)
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


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_threads_changes_no_bit(name: str, host: Any, monkeypatch: Any) -> None:
    """A barrier too few would show: all threads then see the others' work, or none of it."""
    arrays, settings = typical_case(name, np.float32)
    results = []
    for backwards in (False, True):
        monkeypatch.setattr(RawKernel, "backwards", backwards)
        value, vjp = through_host(FAST[name]["cupy"])(*arrays, **settings)
        g = np.asarray(np.random.default_rng(2).standard_normal(value.shape), np.float32)
        results.append([value, *vjp(g)])
    for forwards, turned in zip(*results, strict=True):
        assert np.array_equal(forwards, turned)


def test_a_label_that_is_no_class_makes_the_loss_nan(host: Any) -> None:
    logits = host.asarray(np.random.default_rng(0).standard_normal((3, 5)))
    for label in (-1, 5):
        loss, _ = FAST["cross_entropy"]["cupy"](logits, host.asarray(np.array([0, label, 2])))
        assert np.isnan(loss)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_rows_with_infinity_and_nan_are_as_in_the_definition(
    name: str, dtype: type, host: Any
) -> None:
    x = np.random.default_rng(0).standard_normal((5, 40)).astype(dtype)
    x[0, 3], x[1, 35], x[2, 4], x[3] = -np.inf, np.nan, np.inf, -np.inf
    assert_equals_definition(name, through_host(FAST[name]["cupy"]), (x,), {})


# ── steps of optimizers ──────────────────────────────────────────────────────────────────────────


def assert_same_steps(name: str, dtype: type, host: Any, shapes: Any, settings: Any) -> None:
    """All parameters in one call, each as the definition steps it alone, to four roundings."""
    rng = np.random.default_rng(len(shapes))
    decays = [settings["decay"] * float(share) for share in rng.random(len(shapes))]
    settings = {key: value for key, value in settings.items() if key != "decay"}
    truth = [arrays_of(name, shape, dtype, seed=i) for i, shape in enumerate(shapes)]
    before = [[abs(x) for x in arrays] for arrays in truth]
    ours = [tuple(host.asarray(x) for x in arrays) for arrays in truth]
    getattr(updates, f"{name}s")(ours, decays=decays, **settings)
    for arrays, mine, old, decay in zip(truth, ours, before, decays, strict=True):
        definition_of(name)(*arrays, decay=decay, **settings)
        for x, y, size in zip(mine, arrays, old, strict=True):
            limit = 4 * np.finfo(dtype).eps * (size + abs(y) + old[1] * (1 + old[1]))
            assert np.all(abs(x.get() - y) <= limit), (name, y.shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(UPDATES))
def test_all_parameters_are_stepped_in_one_launch(name: str, dtype: type, host: Any) -> None:
    shapes = [(4097,), *SHAPES, (2, 4096), (9001,)]  # around the 4096 numbers of a block
    for settings in SETTINGS[name]:
        assert_same_steps(name, dtype, host, shapes, settings)
    assert len(RawKernel.ran) == len(SETTINGS[name])


@pytest.mark.parametrize("name", sorted(UPDATES))
def test_one_parameter_is_stepped_with_its_decay_and_a_gradient_of_any_layout(
    name: str, host: Any
) -> None:
    p, g, *kept = (host.asarray(x) for x in arrays_of(name, (5, 11), np.float64))
    true = [x.get() for x in (p, g, *kept)]
    g = laid_out_backwards(g).view(cuda_on_host.ndarray)
    FAST[name]["cupy"](p, g, *kept, **SETTINGS[name][-1])
    definition_of(name)(*true, **SETTINGS[name][-1])
    for x, y in zip((p, g, *kept), true, strict=True):
        np.testing.assert_allclose(x.get(), y, rtol=1e-14, atol=1e-14)
    assert len(RawKernel.ran) == 1


def test_a_parameter_with_gaps_and_one_of_another_dtype_are_stepped_too(host: Any) -> None:
    name, (settings, *_) = "sgd_step", SETTINGS["sgd_step"]
    rows = [arrays_of(name, (4, 6), dtype) for dtype in DTYPES]
    gaps = [laid_out_backwards(x) for x in arrays_of(name, (3, 5), np.float32)]
    true = [[x.copy() for x in row] for row in (*rows, gaps)]
    ours = [tuple(map(host.asarray, row)) for row in rows]
    ours.append(tuple(x.view(cuda_on_host.ndarray) for x in gaps))
    rest = {key: value for key, value in settings.items() if key != "decay"}
    updates.sgd_steps(ours, decays=[0.1, 0.2, 0.3], **rest)
    for mine, arrays, decay in zip(ours, true, (0.1, 0.2, 0.3), strict=True):
        definition_of(name)(*arrays, decay=decay, **rest)
        for x, y in zip(mine, arrays, strict=True):
            np.testing.assert_allclose(x.get(), y, rtol=1e-6, atol=1e-6)
    assert sorted(RawKernel.ran) == ["sgd_steps<double>", "sgd_steps<float>"]


@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_an_optimizer_moves_all_parameters_in_one_launch(host: Any, optimizer: Any) -> None:
    rng = np.random.default_rng(0)
    values = {f"{i}.weight": rng.standard_normal((3 + i, 5)) for i in range(4)}
    slopes = {name: rng.standard_normal(x.shape) for name, x in values.items()}
    moved = []
    for place in (host.asarray, np.array):
        own = {name: Tensor(place(x), requires_grad=True) for name, x in values.items()}
        steps = optimizer(own.items(), 0.1, weight_decay=0.2)
        for _ in range(2):
            for name, p in own.items():
                p.grad = place(slopes[name])
            RawKernel.ran.clear()
            steps.step()
            assert len(RawKernel.ran) == (place is host.asarray)
        moved.append([to_numpy(p.data) for p in own.values()])
    for mine, right in zip(*moved, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-13)


@pytest.mark.parametrize("max_norm", [0.5, 1e6, None])
def test_all_gradients_are_clipped_in_three_launches(host: Any, max_norm: float | None) -> None:
    rng = np.random.default_rng(0)
    shapes = [(4097,), *SHAPES, (2, 4096), (9001,)]
    slopes = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    here, there = ([Tensor(place(x)) for x in slopes] for place in (np.array, host.asarray))
    for p in (*here, *there):
        p.grad = p.data.copy()
    length, truth = clip_gradients(there, max_norm), clip_gradients(here, max_norm)
    assert float(length) == pytest.approx(truth, rel=1e-12)
    for p, q in zip(there, here, strict=True):
        np.testing.assert_allclose(p.grad.get(), q.grad, rtol=1e-6)
    assert len(RawKernel.ran) == (2 if max_norm is None else 3)


def test_a_length_that_is_no_number_clips_nothing(host: Any) -> None:
    p = Tensor(host.asarray(np.ones(3, np.float32)))
    for spoilt in (np.inf, np.nan):
        p.grad = host.asarray(np.array([1, spoilt, 2], np.float32))
        assert not np.isfinite(float(clip_gradients([p], 0.1)))
        assert p.grad.get()[[0, 2]].tolist() == [1, 2]


def test_a_gradient_that_two_parameters_share_counts_twice_and_is_scaled_once(host: Any) -> None:
    shared = host.asarray(np.array([3.0, 4.0]))
    parameters = [Tensor(host.asarray(np.ones(2))) for _ in range(2)]
    for p in parameters:
        p.grad = shared
    assert float(clip_gradients(parameters, 1.0)) == pytest.approx(50**0.5)
    np.testing.assert_allclose(shared.get(), np.array([3, 4]) / 50**0.5, rtol=1e-6)


def test_hundreds_of_gradients_of_two_dtypes_are_clipped(host: Any) -> None:
    rng = np.random.default_rng(1)
    slopes = [rng.standard_normal(1 + i % 7).astype(DTYPES[i % 2]) for i in range(300)]
    parameters = [Tensor(host.asarray(x)) for x in slopes]
    for p in parameters:
        p.grad = p.data.copy()
    truth = np.linalg.norm(np.concatenate(slopes, dtype=np.float64))
    assert float(clip_gradients(parameters, 1.0)) == pytest.approx(truth, rel=1e-12)
    clipped = np.concatenate([p.grad.get() for p in parameters], dtype=np.float64)
    assert np.linalg.norm(clipped) == pytest.approx(1, rel=1e-5)
    assert len(RawKernel.ran) == 4 + 1 + 4


def test_all_averages_follow_in_one_launch(host: Any) -> None:
    rng = np.random.default_rng(2)
    values = {f"{i}.weight": rng.standard_normal((1 + 1500 * i, 3)) for i in range(4)}
    averages = []
    for place in (host.asarray, np.array):
        own = {name: Tensor(place(x)) for name, x in values.items()}
        average = WeightAverage(own.items(), 0.9)
        for p in own.values():
            p.data += 1
        RawKernel.ran.clear()
        average.update()
        assert len(RawKernel.ran) == (place is host.asarray)
        averages.append([to_numpy(a) for a in average.average.values()])
    for mine, right in zip(*averages, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-14)


# ── choosing ─────────────────────────────────────────────────────────────────────────────────────


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


# ── the stand-in is tested itself ────────────────────────────────────────────────────────────────

FAULTS = {
    "a __syncthreads that not all threads reach": "if (threadIdx.x < 7) __syncthreads();",
    "a shuffle that not all 32 threads": "if (threadIdx.x < 7) x[0] = warp_sum(x[0]);",
    "a write behind the shared memory": "shared()[threadIdx.x] = 1;",
    "a write beside an array": "x[threadIdx.x + 9] = 1;",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_kernel_is_found_out(fault: str, host: Any) -> None:
    code = (
        '#include "rows.h"\n__device__ float* shared() { extern __shared__ char dynamic_memory[];'
    )
    code += (
        " return (float*)dynamic_memory; }\ntemplate <typename T>\n__global__ void wrong(T* x) {"
    )
    code = code.replace('#include "rows.h"', launch.source("rows.h")) + FAULTS[fault] + "}\n"
    module = host.RawModule(code=code, options=launch.OPTIONS, name_expressions=("wrong<float>",))
    with pytest.raises(AssertionError, match=fault):
        module.get_function("wrong<float>")(
            (1,), (32,), (host.zeros(32, np.float32),), shared_mem=64
        )


def test_a_forgotten_barrier_shows_in_the_other_order(host: Any, monkeypatch: Any) -> None:
    code = launch.source("sums.cu").replace(
        "    __syncthreads();\n    double sum", "    double sum"
    )
    name, x, results = "sum_columns<double, double, false>", host.asarray(np.ones((8, 32))), []
    for backwards in (False, True):
        monkeypatch.setattr(RawKernel, "backwards", backwards)
        fresh = f"{code}// {backwards}\n"  # compiled anew: no sums are left in its shared memory
        module = host.RawModule(code=fresh, options=launch.OPTIONS, name_expressions=(name,))
        y = host.empty(32)
        module.get_function(name)((1, 1), (32, 8), (x, y, y, 8, 32, 8, 32))
        results.append(y.get())
    assert not np.array_equal(*results)


# ── NVIDIA's compiler ────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", pytest.param("sm_90", marks=pytest.mark.long)])
@pytest.mark.parametrize("file", SOURCES)
def test_the_compiler_of_cuda_takes_every_kernel(file: str, target: str) -> None:
    code = launch.source(file)
    ptx = nvrtc.compile_for(code, instantiations(code), target, launch.OPTIONS)
    assert ptx.count(".entry ") == len(instantiations(code)) > 0
    assert f".target {target}" in ptx


@pytest.mark.parametrize("kernel", ["forward", "backward"])
def test_rows_of_attention_are_read_and_written_in_fours(kernel: str) -> None:
    name = f"window_attention_{kernel}<float, 16>"
    code = launch.source("window_attention.cu")
    ptx = nvrtc.compile_for(code, [name], "sm_90", launch.OPTIONS)
    rows = {"forward": (1, 1), "backward": (5, 3)}[kernel]  # q; q, g, y, k, v; y; dq, dk, dv
    for step, least in zip(("ld", "st"), rows, strict=True):
        assert ptx.count(f"{step}.global.v4.f32") >= 16 // 4 * least


def test_the_compiler_of_cuda_refuses_a_wrong_kernel() -> None:
    code = "template <typename T> __global__ void wrong(T* x) { x[0] = nothing; }"
    with pytest.raises(RuntimeError, match="nothing"):
        nvrtc.compile_for(code, ["wrong<float>"], "sm_80", launch.OPTIONS)
