"""Muon against its formula by singular values, against torch, and beside AdamW in one optimizer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from drawn import law
from gpu import require_gpu
from hypothesis import strategies as st
from tiny_models import tiny_model

from minswin import create_model, kernels
from minswin.arrays import to_numpy
from minswin.devices import to_device
from minswin.distributed import Group
from minswin.reference.muon import COEFFICIENTS, muon_step, orthogonal
from minswin.testing.claims import assert_close
from minswin.testing.strategies import seeds
from minswin.training import AdamW, Muon, Settings
from minswin.training.inputs import new_optimizer
from minswin.training.muon import is_hidden

SHAPES = {
    "embed.weight": (4, 3, 2, 2), "in.weight": (6, 4), "in.bias": (6,), "out.weight": (4, 6),
    "head.weight": (3, 4),
}  # fmt: skip
HIDDEN = ["in.weight", "out.weight"]


def parameters_of(seed: int, dtype: Any = np.float64) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        name: SimpleNamespace(data=rng.standard_normal(shape).astype(dtype), shape=shape, grad=None)
        for name, shape in SHAPES.items()
    }


def give_gradients(parameters: dict[str, Any], rng: np.random.Generator) -> None:
    for p in parameters.values():
        p.grad = rng.standard_normal(p.shape).astype(p.data.dtype)


def by_singular_values(x: np.ndarray, steps: int = 5) -> np.ndarray:
    """The same map, of each singular value by itself."""
    a, b, c = COEFFICIENTS
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    s = s / np.sqrt((s**2).sum())
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return (u * s) @ vt


# ── the step ─────────────────────────────────────────────────────────────────────────────────────


@law(examples=20, n=st.integers(1, 9), m=st.integers(1, 9), size=st.floats(1e-5, 1e5), seed=seeds)
def test_each_singular_value_goes_by_itself(n: int, m: int, size: float, seed: int) -> None:
    x = size * np.random.default_rng(seed).standard_normal((n, m))
    assert_close(orthogonal(x), by_singular_values(x), 1e-9)


def test_singular_values_from_a_hundredth_on_end_near_one() -> None:
    a, b, c = COEFFICIENTS
    s = np.linspace(0.01, 1, 100_000)
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    assert 0.68 < s.min() and s.max() < 1.14


def test_a_matrix_of_zeros_stays_and_nothing_is_written_into() -> None:
    x = np.zeros((3, 4), np.float32)
    assert not orthogonal(x).any() and orthogonal(x).dtype == np.float32
    x = np.random.default_rng(0).standard_normal((3, 4))
    before = x.copy()
    orthogonal(x)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("power", [64, 120, -20])
def test_the_length_of_a_gradient_of_float32_does_not_matter(power: int) -> None:
    x = np.random.default_rng(15).standard_normal((4, 6)).astype(np.float32)
    far = orthogonal(x * np.float32(2.0**power))  # squares of 2⁶⁴ are beyond float32
    assert far.dtype == np.float32 and np.array_equal(far, orthogonal(x))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_steps_follow_the_formula(nesterov: bool, decay: float) -> None:
    rng = np.random.default_rng(1)
    for shape in ((4, 7), (7, 4)):
        p, v = rng.standard_normal(shape), np.zeros(shape)
        truth, speed = p.copy(), np.zeros(shape)
        for lr in (0.1, 0.05, 0.2):
            g = rng.standard_normal(shape)
            muon_step(p, g, v, lr=lr, momentum=0.9, nesterov=nesterov, decay=decay)
            speed = 0.9 * speed + g
            u = g + 0.9 * speed if nesterov else speed
            truth = truth - lr * decay * truth - lr * 0.2 * np.sqrt(7) * by_singular_values(u)
        assert_close(p, truth, 1e-12)
        assert_close(v, speed, 1e-14)


def test_a_step_is_about_a_fifth_of_the_rate_in_every_entry() -> None:
    rng = np.random.default_rng(2)
    for shape in ((64, 16), (16, 64)):
        p = np.zeros(shape)
        g = rng.standard_normal(shape)
        muon_step(p, g, np.zeros(shape), lr=1.0, momentum=0.9, nesterov=True, decay=0.0)
        assert 0.2 * 0.68 < np.sqrt((p**2).mean()) < 0.2 * 1.14


@pytest.mark.parity
@pytest.mark.parametrize("nesterov", [False, True])
def test_ten_steps_agree_with_torch(nesterov: bool, monkeypatch: Any) -> None:
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x.clone())  # theirs rounds to 8 bits
    parameters, rng = parameters_of(3), np.random.default_rng(4)
    ours = Muon(parameters.items(), 0.03, 0.9, nesterov, weight_decay=0.2)
    theirs = {name: torch.tensor(parameters[name].data.copy()) for name in HIDDEN}
    peer = torch.optim.Muon(
        list(theirs.values()), lr=0.03, momentum=0.9, nesterov=nesterov, weight_decay=0.2,
        adjust_lr_fn="match_rms_adamw",
    )  # fmt: skip
    for step in range(10):
        give_gradients(parameters, rng)
        if step == 4:
            parameters["in.weight"].grad = None
        for name, p in theirs.items():
            p.grad = None if parameters[name].grad is None else torch.tensor(parameters[name].grad)
        ours.step()
        peer.step()
    for name, p in theirs.items():
        assert np.abs(parameters[name].data - p.numpy()).max() < 1e-11


# ── the optimizer ────────────────────────────────────────────────────────────────────────────────


def test_what_is_no_matrix_inside_moves_by_adamw() -> None:
    mixed, plain = parameters_of(5), parameters_of(5)
    muon, adamw = (kind(named.items(), 0.1) for kind, named in ((Muon, mixed), (AdamW, plain)))
    rng = np.random.default_rng(6)
    for lr in (0.1, 0.02):
        give_gradients(plain, rng)
        for name, p in mixed.items():
            p.grad = plain[name].grad.copy()
        muon.step(lr)
        adamw.step(lr)
    same = [name for name in SHAPES if np.array_equal(mixed[name].data, plain[name].data)]
    assert same == [name for name in SHAPES if name not in HIDDEN]


@pytest.mark.parametrize("backend", kernels.BACKENDS)
def test_muon_keeps_arrays_and_their_dtype(backend: str) -> None:
    parameters = parameters_of(7, np.float32)
    arrays = {name: p.data for name, p in parameters.items()}
    give_gradients(parameters, np.random.default_rng(8))
    with kernels.using(backend):
        Muon(parameters.items(), 0.1).step(np.float64(0.1))
    for name, p in parameters.items():
        assert p.data is arrays[name] and p.data.dtype == np.float32


def test_threads_share_the_matrices_of_a_step() -> None:
    stepped = []
    for threads in (1, 2, 5):
        parameters = parameters_of(11)
        optimizer, rng = Muon(parameters.items(), 0.1, threads=threads), np.random.default_rng(12)
        for _ in range(3):
            give_gradients(parameters, rng)
            optimizer.step()
        stepped.append(np.concatenate([p.data.ravel() for p in parameters.values()]))
    assert np.array_equal(stepped[0], stepped[1]) and np.array_equal(stepped[0], stepped[2])
    with pytest.raises(ValueError, match="Muon: threads must be a positive int, got 0"):
        Muon(parameters_of(11).items(), 0.1, threads=0)


@pytest.mark.gpu
def test_a_step_on_a_gpu_is_that_of_the_cpu() -> None:
    require_gpu()
    stepped = []
    for device in ("cpu", "gpu"):
        parameters = parameters_of(13)
        give_gradients(parameters, np.random.default_rng(14))
        for p in parameters.values():
            p.data, p.grad = (to_device(a, device) for a in (p.data, p.grad))
        optimizer = Muon(parameters.items(), 0.1, weight_decay=0.2)
        for _ in range(3):
            optimizer.step()
        stepped.append([to_numpy(p.data) for p in parameters.values()])
    for ours, truth in zip(*stepped, strict=True):
        assert_close(ours, truth, 1e-12)


def test_muon_continues_from_its_saved_state() -> None:
    def run(restart_at: int | None) -> np.ndarray:
        parameters, rng = parameters_of(9), np.random.default_rng(10)
        optimizer = Muon(parameters.items(), 0.1)
        for step in range(6):
            if step == restart_at:
                saved = {n: a.copy() for n, a in optimizer.state_dict().items()}
                optimizer = Muon(parameters.items(), 0.1)
                optimizer.load_state_dict(saved)
            give_gradients(parameters, rng)
            optimizer.step()
        return np.concatenate([p.data.ravel() for p in parameters.values()])

    assert np.array_equal(run(None), run(3))


@pytest.mark.parametrize("name", ["swin_shapes", "deit_cifar_distilled"])
def test_all_matrices_but_heads_and_tables_are_hidden(name: str) -> None:
    model = create_model(name, rng=0, **({"ape": True} if name == "swin_shapes" else {"depth": 1}))
    matrices = {n: p for n, p in model.named_parameters() if p.ndim == 2}
    others = {n for n, p in matrices.items() if not is_hidden(n, p, model.head_names)}
    assert others and all("bias_table" in n or n.split(".")[0] in model.head_names for n in others)
    assert {f"{head}.weight" for head in model.head_names} <= others < matrices.keys()


def test_muon_of_nothing_hidden_is_an_error() -> None:
    vector = {"norm.weight": SimpleNamespace(data=np.zeros(3), shape=(3,), grad=None)}
    with pytest.raises(ValueError, match=r"Muon: there is no matrix .*; use AdamW"):
        Muon(vector.items(), 0.1)
    only = {"in.weight": SimpleNamespace(data=np.ones((3, 2)), shape=(3, 2), grad=np.ones((3, 2)))}
    muon = Muon(only.items(), 0.1)
    muon.step()
    assert (only["in.weight"].data != 1).all() and "rest.steps" not in muon.state_dict()


# ── in a run ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("optimizer", "given", "momentum"),
    [("muon", None, 0.95), ("sgd", None, 0.9), ("muon", 0.9, 0.9), ("sgd", 0.0, 0.0)],
)
def test_the_momentum_of_a_run_suits_its_optimizer_unless_another_is_given(
    optimizer: str, given: float | None, momentum: float
) -> None:
    chosen = Settings(optimizer=optimizer, momentum=given)
    assert new_optimizer(tiny_model("swin_shapes"), chosen).momentum == momentum


def test_the_cores_of_a_machine_are_divided_among_its_ranks(monkeypatch: Any) -> None:
    monkeypatch.setattr("minswin.parallel.cores", lambda: 8)
    group, chosen = Group(), Settings(optimizer="muon")
    for ranks, threads in ((1, 8), (3, 2), (16, 1)):
        group.ranks_here = ranks
        assert new_optimizer(tiny_model("swin_shapes"), chosen, group).threads == threads
