"""The CUDA kernels of optimizers: all parameters in few launches."""

from __future__ import annotations

from typing import Any

import cuda_cases
import cuda_on_host
import numpy as np
import pytest
from cuda_on_host import RawKernel
from kernel_cases import DTYPES, laid_out_backwards
from table import UPDATES, definition_of
from test_kernel_updates import SETTINGS, SHAPES, arrays_of

from minswin import Tensor
from minswin.arrays import to_numpy
from minswin.kernels import FAST
from minswin.kernels.gpu import updates
from minswin.training.ema import WeightAverage
from minswin.training.optimizers import SGD, AdamW, clip_gradients

host = cuda_cases.host  # the fixture


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


# ── clipping ──────────────────────────────────────────────────────────────────────────────────────


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
