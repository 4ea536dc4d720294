"""SGD and AdamW follow slow oracles, decay what they should, and continue from what was saved."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from small_parameters import SHAPES, give_gradients, make_parameters

from minswin import create_model, kernels
from minswin.reference import updates
from minswin.training.optimizers import SGD, AdamW, clip_gradients, decays


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


@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf])
def test_a_step_refuses_a_rate_that_would_spoil_the_weights(lr):
    parameters = make_parameters(np.random.default_rng(0))
    give_gradients(parameters, np.random.default_rng(1))
    before = {name: p.data.copy() for name, p in parameters.items()}
    with pytest.raises(ValueError, match=r"SGD: lr must be a number of 0 or more"):
        SGD(parameters.items(), 0.1).step(lr)
    assert all(np.array_equal(p.data, before[name]) for name, p in parameters.items())


# ── what decays ──────────────────────────────────────────────────────────────────────────────────


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
