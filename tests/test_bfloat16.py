"""Products of numbers rounded to bfloat16 on a CPU: their values, and what is not rounded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import tiny_training
from hypothesis import given
from hypothesis import strategies as st
from numba.core.codegen import get_host_cpu_features
from tiny_models import batch, tiny_model
from tiny_training import tiny_settings

from minswin import Tensor, data_parallel, kernels, ops
from minswin.composites import mlp
from minswin.kernels.cpu.compiled import compiled
from minswin.kernels.cpu.pairs import pair_along, pair_down
from minswin.reference.elementwise import gelu
from minswin.training import read_checkpoint, train
from minswin.training.precision import computing
from minswin.training.run import Run


def rounded(x: np.ndarray) -> np.ndarray:
    """The nearest numbers whose lower 16 bits are 0, the even one of two."""
    step = np.spacing(np.abs(x)).astype(np.float64) * 2**16
    return (np.rint(x / step) * step).astype(np.float32)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng([*shape]).standard_normal(shape).astype(np.float32)


@compiled
def along(x: np.ndarray, pairs: np.ndarray) -> None:
    for i in range(0, len(x), 8):
        pair_along(x, i, pairs, i // 2)


@compiled
def down(x: np.ndarray, below: int, pairs: np.ndarray) -> None:
    pair_down(x, 0, below, pairs, 0)


def halves(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (pairs << 16).view(np.float32), (pairs & 0xFFFF0000).view(np.float32)


# ── rounding ─────────────────────────────────────────────────────────────────────────────────────

floats = st.floats(width=32, allow_subnormal=False, allow_nan=False).filter(
    lambda x: abs(x) < 3e38 or abs(x) == np.inf
)


@given(st.lists(floats, min_size=8, max_size=8))
def test_numbers_are_rounded_to_the_nearest_and_paired(numbers: list[float]) -> None:
    x, pairs = np.array(numbers, np.float32), np.zeros(4, np.uint32)
    along(x, pairs)
    with np.errstate(invalid="ignore"):
        truth = np.where(np.isinf(x) | (x == 0), x, rounded(x))
    first, second = halves(pairs)
    assert np.array_equal(first, truth[0::2]) and np.array_equal(second, truth[1::2])


def test_ties_go_to_the_even_number_and_nan_stays_nan() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7F800001, 0xFFFFFFFF, 0x7F7FFFFF, 0, 0])
    x, pairs = bits.astype(np.uint32).view(np.float32), np.zeros(4, np.uint32)
    along(x, pairs)
    short = np.stack([pairs & 0xFFFF, pairs >> 16], 1).reshape(-1)
    assert short[:3].tolist() == [0x3F80, 0x3F82, 0x3F81]
    assert np.isnan(halves(pairs)[1][1]) and np.isnan(halves(pairs)[0][2])
    assert halves(pairs)[1][2] == np.inf  # the largest float32 is beyond the largest bfloat16


def test_the_last_of_an_odd_number_of_rows_is_paired_with_zeros() -> None:
    x, pairs = np.arange(16, dtype=np.float32), np.zeros(8, np.uint32)
    down(x, 8, pairs)
    assert np.array_equal(halves(pairs), x.reshape(2, 8))
    down(x, -1, pairs)
    assert np.array_equal(halves(pairs), [x[:8], np.zeros(8)])


# ── layers ───────────────────────────────────────────────────────────────────────────────────────

SHAPES = [(5, 8, 8), (1, 16, 24), (33, 48, 144), (64, 5, 7), (203, 1600, 600), (2050, 40, 520)]


def near(ours: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """ours is left @ right, but for the rounding of sums."""
    truth, most = left.astype(np.float64) @ right, abs(left) @ abs(right)
    assert ours.dtype == np.float32
    assert np.all(abs(ours - truth) <= 2e-7 * (left.shape[1] + 2) * most)


@pytest.mark.parametrize(("R", "K", "M"), SHAPES)
def test_a_linear_layer_multiplies_rounded_factors_and_nothing_else(R: int, K: int, M: int) -> None:
    x, w, b, g = normal(R, K), normal(M, K), normal(M), normal(R, M)
    leaves = [Tensor(a, requires_grad=True) for a in (x, w, b)]
    with computing("bfloat16", "cpu"):
        y = ops.linear(*leaves)
        y.backward(g)
    dx, dw, db = (leaf.grad for leaf in leaves)
    near(y.data, np.c_[rounded(x), np.ones(R)], np.r_[rounded(w).T, b[None]])
    near(dx, rounded(g), rounded(w))
    near(dw, rounded(g).T, rounded(x))
    assert np.allclose(db, g.sum(0), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("R", "C", "H"), [(33, 48, 192), (70, 104, 416), (9, 5, 20)])
def test_an_mlp_multiplies_rounded_factors_and_nothing_else(R: int, C: int, H: int) -> None:
    arrays = x, w1, b1, w2, b2 = normal(R, C), normal(H, C), normal(H), normal(C, H), normal(C)
    leaves, g = [Tensor(a, requires_grad=True) for a in arrays], normal(R, C)
    with computing("bfloat16", "cpu"):
        y = mlp(*leaves)
        y.backward(g)
    hidden = (rounded(x).astype(np.float64) @ rounded(w1).T + b1).astype(np.float32)
    act, undo = gelu(hidden)
    (dh,) = undo((rounded(g) @ rounded(w2)).astype(np.float32))
    short, error = rounded(act), 2.0**-8  # of a number on the edge, which is rounded either way
    for ours, truth in (
        (y.data, short @ rounded(w2).T + b2),
        (leaves[0].grad, rounded(dh) @ rounded(w1)),
        (leaves[1].grad, rounded(dh).T @ rounded(x)),
        (leaves[2].grad, dh.sum(0)),
        (leaves[3].grad, rounded(g).T @ short),
        (leaves[4].grad, g.sum(0)),
    ):
        assert np.linalg.norm(ours - truth) <= error / 16 * np.linalg.norm(truth)
    exact = x.astype(np.float64) @ w1.T + b1
    assert np.linalg.norm(hidden - exact) > error / 16 * np.linalg.norm(exact)


def test_float64_and_other_operations_are_as_exact_as_ever() -> None:
    x, w = np.random.default_rng(0).standard_normal((2, 16, 16))
    assert np.array_equal(in_bfloat16(lambda: ops.linear(x, w, None)), ops.linear(x, w, None).data)
    x = x.astype(np.float32)
    for operation in (ops.softmax, ops.gelu):
        assert np.array_equal(in_bfloat16(lambda: operation(x)), operation(x).data)  # noqa: B023


def in_bfloat16(run: Callable[[], Tensor]) -> np.ndarray:
    with computing("bfloat16", "cpu"):
        return run().data


IN_A_CHILD = """
import pytest, sys
from minswin.kernels.cpu import tiles
assert not tiles.PAIRS_AT_ONCE
sys.exit(pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", "-k", "multiplies", sys.argv[1]]))
"""


@pytest.mark.long
def test_a_cpu_without_the_instruction_is_as_near(tmp_path) -> None:
    """The tests above once more, compiled for this CPU without AVX-512."""
    features = [f for f in get_host_cpu_features().split(",") if not f.startswith("+avx512")]
    environment = {"NUMBA_CPU_FEATURES": ",".join(features), "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", IN_A_CHILD, __file__],
        env=os.environ | environment | {"NUMBA_CPU_NAME": "haswell"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SHAPES) + 3} passed" in done.stdout


# ── models ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("family", ["swin_shapes", "vit_cifar"])
def test_a_model_is_near_the_exact_one_in_one_thread_and_in_two(family: str) -> None:
    model = tiny_model(family, dtype=np.float32)
    x, labels = batch(4, np.float32)
    results = []
    for precision, threads in (("float32", 1), ("bfloat16", 1), ("bfloat16", 2)):
        model.zero_grad()
        with computing(precision, "cpu"):
            loss = ops.cross_entropy(data_parallel(model, threads)(x), labels)
            loss.backward()
        results.append([loss.data, *(p.grad for p in model.parameters())])
    assert all(p.data.dtype == np.float32 for p in model.parameters())
    for exact, one, two in zip(*results, strict=True):
        assert one.dtype == two.dtype == np.float32
        assert np.linalg.norm(one - exact) <= 0.05 * np.linalg.norm(exact) + 1e-3
        assert np.linalg.norm(one - two) <= 0.01 * np.linalg.norm(exact) + 1e-3
    assert any(not np.array_equal(exact, one) for exact, one, _ in zip(*results, strict=True))


def test_a_run_splits_its_batches_and_ends_near_the_exact_one(tmp_path, monkeypatch) -> None:
    tiny_training.install(monkeypatch)
    for precision in ("float32", "bfloat16"):
        settings = {"precision": precision, "epochs": 1, "threads": 2}
        train(tiny_settings(tmp_path / precision, **settings), quiet=True)
    assert len(Run(tiny_settings(tmp_path, **settings)).forward._twins) == 2
    exact = read_checkpoint(tmp_path / "float32").weights
    short = read_checkpoint(tmp_path / "bfloat16").weights
    for name, array in short.items():
        assert array.dtype == np.float32
        assert np.linalg.norm(array - exact[name]) <= 0.1 * np.linalg.norm(exact[name]) + 0.05
    assert any(not np.array_equal(array, exact[name]) for name, array in short.items())


def test_a_run_that_cannot_load_its_kernels_leaves_the_older_run_alone(
    tmp_path, monkeypatch
) -> None:
    tiny_training.install(monkeypatch)
    train(tiny_settings(tmp_path, epochs=1), quiet=True)
    before = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.setattr(kernels, "_loaded", kernels._loaded - {"bfloat16"})
    monkeypatch.setattr(kernels, "_numba", lambda: kernels._Numba(forbidden=True))
    with pytest.raises(ValueError, match=r"'bfloat16' on a CPU needs numba's.*choose float32"):
        train(tiny_settings(tmp_path, precision="bfloat16", epochs=1), overwrite=True, quiet=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_what_a_run_computed_with_is_written_down(tmp_path, monkeypatch) -> None:
    tiny_training.install(monkeypatch)
    train(tiny_settings(tmp_path, precision="bfloat16", epochs=1), quiet=True)
    assert read_checkpoint(tmp_path).info["kernels"] == "bfloat16"


def test_the_environment_does_not_choose_it_and_float32_is_not_inside_of_it(monkeypatch) -> None:
    inside = pytest.raises(ValueError, match="in float32 cannot be inside of one in bfloat16")
    with computing("bfloat16", "cpu"), inside, computing("float32", "cpu"):
        pass
    monkeypatch.setattr(kernels, "_environment", "bfloat16")
    with pytest.raises(ValueError, match=r"MINSWIN_KERNELS: 'bfloat16' rounds.*--precision"):
        ops.gelu(np.zeros(2, np.float32))


def test_the_table_shows_what_is_short() -> None:
    table = [line.split() for line in kernels.report().splitlines()]
    assert table[0] == ["operation", "numba", "bfloat16", "cupy"]
    assert [row[0] for row in table if row[2:3] == ["yes"]] == ["linear", "mlp"]
