"""Optimizers, clipping, decay, schedules and averaged weights against slow oracles."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minswin import Tensor, create_model, kernels
from minswin.reference import updates
from minswin.training.ema import WeightAverage
from minswin.training.optimizers import SGD, AdamW, clip_gradients, decays, noam, warmup_cosine

SHAPES = {"layer.weight": (3, 5), "layer.bias": (5,), "norm.weight": (4,), "head.weight": (2, 3)}


def make_parameters(rng, dtype=np.float64):
    return {
        name: SimpleNamespace(data=rng.standard_normal(shape).astype(dtype), shape=shape, grad=None)
        for name, shape in SHAPES.items()
    }


def give_gradients(parameters, rng):
    for p in parameters.values():
        p.grad = rng.standard_normal(p.shape).astype(p.data.dtype)


def sgd_oracle(p, gradients, lrs, *, momentum, nesterov, decay):
    """One number at a time, as in the text of torch.optim.SGD."""
    velocity = 0.0
    for g, lr in zip(gradients, lrs, strict=True):
        g = g + decay * p
        velocity = momentum * velocity + g
        p = p - lr * (g + momentum * velocity if nesterov else velocity)
    return p


def adamw_oracle(p, gradients, lrs, *, betas, eps, decay):
    """One number at a time: Kingma & Ba, algorithm 1, with the decay taken out of the gradient."""
    m = v = 0.0
    for t, (g, lr) in enumerate(zip(gradients, lrs, strict=True), start=1):
        p = p - lr * decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        p = p - lr * m_hat / (math.sqrt(v_hat) + eps)
    return p


def follow(optimizer, parameters, oracle, *, steps, decay, **settings):
    """Take `steps` steps and compare every element of every parameter with its own oracle."""
    rng = np.random.default_rng(7)
    begin = {name: p.data.copy() for name, p in parameters.items()}
    lrs = [0.1 / (1 + t) for t in range(steps)]
    gradients = {name: [] for name in parameters}
    for lr in lrs:
        give_gradients(parameters, rng)
        for name, p in parameters.items():
            gradients[name].append(p.grad.copy())
        optimizer.step(lr)
    for name, p in parameters.items():
        own = decay if decays(name, p) else 0.0
        for index in np.ndindex(p.shape):
            seen = [float(g[index]) for g in gradients[name]]
            want = oracle(float(begin[name][index]), seen, lrs, decay=own, **settings)
            assert abs(p.data[index] - want) < 1e-12, (name, index)


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize(
    ("momentum", "nesterov", "decay"),
    [(0.0, False, 0.0), (0.9, False, 0.0), (0.9, False, 0.3), (0.8, True, 0.0), (0.8, True, 0.3)],
)
def test_sgd_follows_the_scalar_oracle(momentum, nesterov, decay, backend):
    parameters = make_parameters(np.random.default_rng(1))
    optimizer = SGD(parameters.items(), 1.0, momentum, nesterov, decay)
    settings = {"momentum": momentum, "nesterov": nesterov}
    with kernels.using(backend):
        follow(optimizer, parameters, sgd_oracle, steps=10, decay=decay, **settings)


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("decay", [0.0, 0.4])
@pytest.mark.parametrize(("betas", "eps"), [((0.9, 0.999), 1e-8), ((0.5, 0.8), 0.03)])
def test_adamw_follows_the_scalar_oracle(betas, eps, decay, backend):
    parameters = make_parameters(np.random.default_rng(2))
    optimizer = AdamW(parameters.items(), 1.0, betas, eps, decay)
    with kernels.using(backend):
        follow(optimizer, parameters, adamw_oracle, steps=10, decay=decay, betas=betas, eps=eps)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["sgd", "nesterov", "adamw"])
def test_ten_steps_agree_with_torch(kind):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    parameters = make_parameters(rng)
    theirs = {name: torch.tensor(p.data.copy()) for name, p in parameters.items()}
    groups = [
        {"params": [theirs[n]], "weight_decay": 0.2 if decays(n, p) else 0.0}
        for n, p in parameters.items()
    ]
    if kind == "adamw":
        ours = AdamW(parameters.items(), 0.03, (0.8, 0.99), 1e-6, 0.2)
        reference = torch.optim.AdamW(groups, lr=0.03, betas=(0.8, 0.99), eps=1e-6)
    else:
        ours = SGD(parameters.items(), 0.03, 0.9, kind == "nesterov", 0.2)
        reference = torch.optim.SGD(groups, lr=0.03, momentum=0.9, nesterov=kind == "nesterov")
    for step in range(10):
        give_gradients(parameters, rng)
        if step in (0, 4):
            parameters["norm.weight"].grad = None
        for name, p in parameters.items():
            theirs[name].grad = None if p.grad is None else torch.tensor(p.grad)
        norm = torch.nn.utils.clip_grad_norm_(list(theirs.values()), 3.0)
        assert abs(clip_gradients(parameters.values(), 3.0) - float(norm)) < 1e-12
        ours.step()
        reference.step()
    for name, p in parameters.items():
        assert np.abs(p.data - theirs[name].numpy()).max() < 1e-12


def test_a_parameter_without_a_gradient_is_left_alone_and_so_is_its_count():
    parameters = make_parameters(np.random.default_rng(4))
    optimizer = AdamW(parameters.items(), 0.1, weight_decay=0.5)
    before = parameters["head.weight"].data.copy()
    for _ in range(3):
        give_gradients(parameters, np.random.default_rng(5))
        parameters["head.weight"].grad = None
        optimizer.step()
    assert np.array_equal(parameters["head.weight"].data, before)
    assert optimizer.steps == {n: 0 if n == "head.weight" else 3 for n in SHAPES}


@pytest.mark.parametrize("make", [SGD, AdamW])
def test_a_step_uses_the_kernels_that_are_chosen(make, monkeypatch):
    kernels.report()  # all are entered in the table
    name, ran = f"{make.__name__.lower()}_step", []
    monkeypatch.setitem(kernels.FAST[name], "numba", lambda *_, **__: ran.append("numba"))
    monkeypatch.setattr(updates, name, lambda *_, **__: ran.append("reference"))
    for backend in kernels.BACKENDS:
        parameters = make_parameters(np.random.default_rng(4))
        give_gradients(parameters, np.random.default_rng(5))
        with kernels.using(backend):
            make(parameters.items(), 0.1).step()
        assert ran == [backend] * len(SHAPES)
        ran.clear()


@pytest.mark.parametrize("make", [SGD, AdamW])
def test_a_step_keeps_the_array_and_its_dtype(make):
    stepped = []
    for lr in (0.1, np.float64(0.1)):  # a NumPy number must not widen what is computed
        parameters = make_parameters(np.random.default_rng(4), np.float32)
        arrays = {name: p.data for name, p in parameters.items()}
        give_gradients(parameters, np.random.default_rng(5))
        make(parameters.items(), 0.1, weight_decay=0.5).step(lr)
        for name, p in parameters.items():
            assert p.data is arrays[name] and p.data.dtype == np.float32
        stepped.append(np.concatenate([a.ravel() for a in arrays.values()]))
    assert np.array_equal(*stepped)


@pytest.mark.parametrize("make", [SGD, AdamW])
def test_an_optimizer_continues_from_its_saved_state(make):
    def run(steps, restart_at):
        parameters = make_parameters(np.random.default_rng(6))
        optimizer, rng = make(parameters.items(), 0.1), np.random.default_rng(8)
        for step in range(steps):
            if step == restart_at:
                saved = {n: a.copy() for n, a in optimizer.state_dict().items()}
                optimizer = make(parameters.items(), 0.1)
                optimizer.load_state_dict(saved)
            give_gradients(parameters, rng)
            optimizer.step()
        return parameters

    whole, stopped = run(6, restart_at=None), run(6, restart_at=3)
    assert all(np.array_equal(whole[n].data, stopped[n].data) for n in SHAPES)


def test_an_optimizer_refuses_the_state_of_another_model():
    optimizer = SGD(make_parameters(np.random.default_rng(0)).items(), 0.1)
    state = optimizer.state_dict()
    state["momentum.other.weight"] = state.pop("momentum.head.weight")
    with pytest.raises(ValueError, match=r"SGD: the saved state does not fit .* 2 entries"):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (SGD, {"lr": -1.0}, "SGD: lr must be a number of 0 or more, got -1.0"),
        (SGD, {"lr": 0.1, "momentum": 1.0}, "SGD: momentum must be 0 or more and below 1, got 1.0"),
        (AdamW, {"lr": float("nan")}, "AdamW: lr must be a number of 0 or more, got nan"),
        (AdamW, {"lr": 0.1, "betas": (0.9, 1.0)}, "AdamW: beta2 must be 0 or more and below 1"),
        (AdamW, {"lr": 0.1, "weight_decay": -0.1}, "AdamW: weight_decay must be a number of 0"),
        (AdamW, {"lr": 0.1, "eps": 0.0}, "AdamW: eps must be a positive number, got 0.0"),
        (SGD, {"lr": "0.1"}, "SGD: lr must be a number of 0 or more, got '0.1'"),
        (SGD, {"lr": math.inf}, "SGD: lr must be a number of 0 or more, got inf"),
    ],
)
def test_a_bad_optimizer_setting_is_named(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(make_parameters(np.random.default_rng(0)).items(), **settings)
    with pytest.raises(ValueError, match="named_parameters is empty"):
        make([], 0.1)
    with pytest.raises(TypeError, match=r"got SimpleNamespace; pass model\.named_parameters\(\)"):
        make(make_parameters(np.random.default_rng(0)).values(), 0.1)


# ── clipping and decay ───────────────────────────────────────────────────────────────────────────


@given(st.floats(0.01, 100), st.integers(0, 10_000))
def test_clipping_shortens_to_the_limit_and_never_lengthens(limit, seed):
    parameters = make_parameters(np.random.default_rng(seed))
    give_gradients(parameters, np.random.default_rng(seed + 1))
    before = np.concatenate([p.grad.ravel() for p in parameters.values()])
    length = clip_gradients(parameters.values(), limit)
    after = np.concatenate([p.grad.ravel() for p in parameters.values()])
    assert math.isclose(length, float(np.linalg.norm(before)), rel_tol=1e-12)
    want = before * min(1.0, limit / (length + 1e-6))
    assert np.allclose(after, want, rtol=1e-12, atol=0)


def test_clipping_does_not_write_into_a_gradient_that_two_parameters_share():
    parameters = list(make_parameters(np.random.default_rng(1)).values())[:2]
    shared = np.full(4, 3.0)
    for p in parameters:
        p.grad = shared
    assert clip_gradients([*parameters, SimpleNamespace(grad=None)], 1.0) == pytest.approx(72**0.5)
    assert np.array_equal(shared, np.full(4, 3.0))
    assert parameters[0].grad[0] == pytest.approx(3 / (72**0.5 + 1e-6), rel=1e-12)


@pytest.mark.parametrize("size", [1e20, 1e-30])
def test_the_length_of_a_gradient_of_any_size_is_measured_and_clipped(size):
    p = SimpleNamespace(grad=np.array([[3, 4], [0, 0]], np.float32) * np.float32(size))
    assert clip_gradients([p], None) == pytest.approx(5 * size, rel=1e-6, abs=0)
    clip_gradients([p], 0.5)
    want = np.float64([3, 4]) * size * min(1, 0.5 / (5 * size))
    assert p.grad.dtype == np.float32 and p.grad[0] == pytest.approx(want, rel=1e-6, abs=0)


def test_the_length_is_the_same_number_on_every_python():
    """In order, 1e16 + 1 stays 1e16; sum() of Python 3.12 would count the ones in the end."""
    gradients = [SimpleNamespace(grad=np.array([g])) for g in (1e8, *[1.0] * 64)]
    assert clip_gradients(gradients, None) == 1e8


def test_one_parameter_is_clipped_as_a_list_of_it():
    p = Tensor(np.zeros((2, 2)), requires_grad=True)
    p.grad = np.full((2, 2), 2.0)
    assert clip_gradients(p, 2.0) == 4.0
    assert np.allclose(p.grad, 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [({"a": None}, "str"), ([("a", None)], "tuple"), (3, "int"), ([np.zeros(2)], "ndarray")],
)
def test_clipping_what_has_no_gradients_is_an_error(parameters, kind):
    with pytest.raises(TypeError, match=f"must hold Parameters, got a {kind}; pass model.para"):
        clip_gradients(parameters, 1.0)


def test_clipping_with_none_only_measures():
    p = SimpleNamespace(grad=np.array([3.0, 4.0]))
    assert clip_gradients([p], None) == 5.0
    assert np.array_equal(p.grad, [3.0, 4.0])


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("layers.0.blocks.1.attn.qkv.weight", (12, 4), True),
        ("patch_embed.proj.weight", (4, 3, 2, 2), True),
        ("head.weight", (10, 8), True),
        ("layers.0.blocks.1.norm1.weight", (4,), False),
        ("layers.0.blocks.1.attn.logit_scale.bias", (3, 1, 1), False),
    ],
)
def test_only_maps_decay(name, shape, expected):
    assert decays(name, SimpleNamespace(shape=shape)) is expected
    assert not decays(name, SimpleNamespace(shape=shape, decays=False))


@pytest.mark.parametrize(
    ("model", "settings", "positions"),
    [
        ("swin_cifar", {"ape": True}, "absolute_pos_embed relative_position_bias_table"),
        ("swinv2_cifar", {"ape": True}, "absolute_pos_embed logit_scale cpb_mlp.0 cpb_mlp.2"),
        ("vit_cifar", {}, "cls_token pos_embed"),
        ("vit_cifar", {"positions": "learned_2d"}, "cls_token pos_embed.row pos_embed.column"),
        ("vit_cifar", {"positions": "relative"}, "cls_token relative_position_bias_table"),
        ("deit_cifar_distilled", {}, "cls_token dist_token pos_embed"),
        ("tnt_cifar", {}, "cls_token inner_pos outer_pos"),
        ("resnet20", {}, ""),
    ],
)
def test_positions_and_tokens_of_every_family_do_not_decay(model, settings, positions):
    named = dict(create_model(model, rng=0, **settings).named_parameters())
    matrices = {n for n, p in named.items() if p.ndim > 1 and not n.endswith(".bias")}
    kept = {n.removesuffix(".weight") for n in matrices if not decays(n, named[n])}
    assert {n for n in kept if not n.endswith(tuple(positions.split()))} == set()
    assert all(any(n.endswith(word) for n in kept) for word in positions.split())


# ── schedule ─────────────────────────────────────────────────────────────────────────────────────

settings = st.integers(2, 300).flatmap(
    lambda steps: st.fixed_dictionaries(
        {
            "steps": st.just(steps),
            "warmup": st.integers(0, steps - 1),
            "base": st.floats(1e-3, 1.0),
            "start": st.floats(0, 1e-3),
            "final": st.floats(0, 1e-3),
        }
    )
)


@given(settings)
def test_the_rate_rises_to_base_at_the_end_of_the_warmup_and_then_only_falls(s):
    rates = [warmup_cosine(t, **s) for t in range(s["steps"] + 1)]
    warmup = s["warmup"]
    assert rates[warmup] == s["base"]
    assert warmup == 0 or rates[0] == s["start"]
    assert all(a <= b * (1 + 1e-12) for a, b in pairwise(rates[: warmup + 1]))
    falling = rates[warmup:]
    assert all(a >= b * (1 - 1e-12) for a, b in pairwise(falling))
    assert rates[-1] == s["final"] == warmup_cosine(s["steps"] + 5, **s)


@given(settings)
def test_the_cosine_is_symmetric_about_its_middle(s):
    span = s["steps"] - s["warmup"]
    for k in range(span + 1):
        pair = [warmup_cosine(t, **s) for t in (s["warmup"] + k, s["steps"] - k)]
        assert math.isclose(sum(pair), s["base"] + s["final"], rel_tol=1e-9)


def test_the_warmup_is_a_straight_line():
    s = {"steps": 50, "warmup": 8, "base": 0.9, "start": 0.1, "final": 0.0}
    assert [warmup_cosine(t, **s) for t in range(9)] == pytest.approx(np.linspace(0.1, 0.9, 9))


def test_a_bad_schedule_is_refused():
    s = {"base": 1.0, "start": 0.0, "final": 0.0}
    with pytest.raises(ValueError, match="got warmup=6 and steps=5"):
        warmup_cosine(0, steps=5, warmup=6, **s)
    with pytest.raises(ValueError, match="step counts from 0, got -1"):
        warmup_cosine(-1, steps=5, warmup=2, **s)


# ── averaged weights ─────────────────────────────────────────────────────────────────────────────


def test_the_average_follows_its_recurrence_and_leaves_the_weights_alone():
    rng = np.random.default_rng(9)
    parameters = make_parameters(rng)
    average = WeightAverage(parameters.items(), 0.4)
    want = float(parameters["layer.bias"].data[2])
    for t in range(1, 30):
        for p in parameters.values():
            p.data += rng.standard_normal(p.shape)
        now = float(parameters["layer.bias"].data[2])
        d = min(0.4, (1 + t) / (10 + t))
        want = d * want + (1 - d) * now
        average.update()
        assert abs(average.state_dict()["layer.bias"][2] - want) < 1e-12
        assert parameters["layer.bias"].data[2] == now


def test_the_averaged_weights_are_lent_in_place_and_taken_back_even_after_an_error():
    parameters = make_parameters(np.random.default_rng(10))
    average = WeightAverage(parameters.items(), 0.9)
    arrays = {n: p.data for n, p in parameters.items()}
    for p in parameters.values():
        p.data += 1
    own = {n: a.copy() for n, a in arrays.items()}
    with pytest.raises(KeyError), average.applied():
        for n, p in parameters.items():
            assert p.data is arrays[n]
            assert np.array_equal(p.data, average.average[n])
            assert not np.array_equal(p.data, own[n])
        raise KeyError
    assert all(np.array_equal(arrays[n], own[n]) for n in SHAPES)


def test_an_average_continues_from_its_saved_state():
    parameters = make_parameters(np.random.default_rng(11))
    average = WeightAverage(parameters.items(), 0.9)
    for p in parameters.values():
        p.data += 1
    average.update()
    saved = {n: a.copy() for n, a in average.state_dict().items()}
    again = WeightAverage(parameters.items(), 0.9)
    again.load_state_dict(saved, step=average.step)
    for each in (average, again):
        each.update()
    assert all(np.array_equal(average.average[n], again.average[n]) for n in SHAPES)
    with pytest.raises(ValueError, match="the saved average does not fit: 1 names"):
        again.load_state_dict({n: saved[n] for n in list(saved)[1:]}, step=1)
    with pytest.raises(ValueError, match="decay must lie between 0 and 1, got 1"):
        WeightAverage(parameters.items(), 1)


@pytest.mark.parametrize("max_norm", [-1.0, 0.0, math.nan])
def test_clipping_to_no_positive_length_is_an_error(max_norm):
    p = SimpleNamespace(grad=np.array([3.0, 4.0]))
    with pytest.raises(ValueError, match=r"clip_gradients: max_norm must be a positive number"):
        clip_gradients([p], max_norm)
    assert p.grad.tolist() == [3, 4]
    assert clip_gradients([p], math.inf) == 5
    assert p.grad.tolist() == [3, 4]


@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf])
def test_a_step_refuses_a_rate_that_would_spoil_the_weights(lr):
    parameters = make_parameters(np.random.default_rng(0))
    give_gradients(parameters, np.random.default_rng(1))
    before = {name: p.data.copy() for name, p in parameters.items()}
    with pytest.raises(ValueError, match=r"SGD: lr must be a number of 0 or more"):
        SGD(parameters.items(), 0.1).step(lr)
    assert all(np.array_equal(p.data, before[name]) for name, p in parameters.items())


@pytest.mark.parametrize(
    "call",
    [
        lambda: warmup_cosine(0, steps=2, warmup=1, base=-1, start=0, final=0),
        lambda: warmup_cosine(0, steps=2, warmup=1, base=math.nan, start=0, final=0),
        lambda: warmup_cosine(math.nan, steps=2, warmup=1, base=1, start=0, final=0),
        lambda: noam(0, channels=4, factor=0.0),
        lambda: noam(math.nan, channels=4),
        lambda: noam(0, channels=4, warmup=math.nan),
        lambda: WeightAverage([("p", SimpleNamespace(data=np.ones(1)))], math.nan),
    ],
)
def test_a_schedule_or_average_refuses_what_would_turn_it_round(call):
    with pytest.raises(ValueError, match=r"must|counts from 0"):
        call()


def test_bounds_of_schedules_and_of_the_average_are_exact() -> None:
    rates = {"base": 0.5, "start": 0.25, "final": 0.0}
    assert warmup_cosine(0, warmup=0, steps=1, **rates) == 0.5  # a run of one step
    assert warmup_cosine(0, warmup=1, steps=1, **rates) == 0.25
    for decay in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"decay must lie between 0 and 1, got {decay}"):
            WeightAverage([], decay)
    with pytest.raises(ValueError, match="noam: factor must be"):
        noam(1, channels=4, factor=-1.0)
    with pytest.raises(ValueError, match="noam: warmup and channels must be"):
        noam(1, channels=4, warmup=0)
