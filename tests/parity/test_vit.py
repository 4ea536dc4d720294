"""ViT and DeiT: logits and every gradient equal those of transformers and timm, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin.autograd import Tensor
from minswin.layers.embeddings import ConvStem
from minswin.models.deit import (
    DistilledVisionTransformer,
    hard_distillation_loss,
    soft_distillation_loss,
)
from minswin.models.vit import VisionTransformer

from .cases import TOLERANCE, Case, Row, build, compare, error, our_run, randomise
from .names import VIT_TRANSFORMERS_FILES, distilled, rename
from .peers import PEERS, need, tensor, torch

pytestmark = pytest.mark.parity

VIT_CASES = (
    Case(
        "ViT, patch 4, image 12×20",
        {
            "img_size": (12, 20), "patch_size": 4, "embed_dim": 15, "depth": 3, "num_heads": 5,
            "num_classes": 7,
        },
        peers=("transformers ViT", "timm ViT"),
        batch=3,
        family=VisionTransformer,
    ),
    Case(
        "ViT, patch 2×3, no qkv bias, mlp ratio 2",
        {
            "img_size": (10, 12), "patch_size": (2, 3), "embed_dim": 12, "depth": 2,
            "num_heads": 3, "num_classes": 5, "qkv_bias": False, "mlp_ratio": 2.0,
        },
        peers=("transformers ViT", "timm ViT"),
        family=VisionTransformer,
    ),
    Case(
        "ViT with pre-logits",
        {
            "img_size": 16, "patch_size": 4, "embed_dim": 10, "depth": 2, "num_heads": 2,
            "num_classes": 6, "representation_size": 7,
        },
        peers=("transformers ViT",),  # timm has it no more
        family=VisionTransformer,
    ),
    Case(
        "ViT, mean of the tokens",
        {
            "img_size": (8, 20), "patch_size": 4, "embed_dim": 14, "depth": 2, "num_heads": 7,
            "num_classes": 5, "global_pool": "avg",
        },
        peers=("timm ViT",),
        family=VisionTransformer,
    ),
    Case(
        "ViT without positions",
        {
            "img_size": (8, 20), "patch_size": 4, "embed_dim": 9, "depth": 2, "num_heads": 3,
            "num_classes": 5, "positions": "none",
        },
        peers=("timm ViT",),
        family=VisionTransformer,
    ),
    Case(
        "ViT, relative positions, class token",
        {
            "img_size": (8, 20), "patch_size": 4, "embed_dim": 9, "depth": 2, "num_heads": 3,
            "num_classes": 5, "positions": "relative",
        },
        peers=("timm ViT",),
        family=VisionTransformer,
    ),
    Case(
        "ViT, relative positions, mean of the tokens",
        {
            "img_size": (20, 12), "patch_size": 4, "embed_dim": 10, "depth": 2, "num_heads": 2,
            "num_classes": 4, "positions": "relative", "global_pool": "avg",
        },
        peers=("timm ViT",),
        family=VisionTransformer,
    ),
    Case(
        "DeiT distilled, patch 4, image 12×20",
        {
            "img_size": (12, 20), "patch_size": 4, "embed_dim": 15, "depth": 3, "num_heads": 5,
            "num_classes": 7,
        },
        peers=("transformers DeiT", "timm DeiT"),
        batch=3,
        family=DistilledVisionTransformer,
    ),
    Case(
        "DeiT distilled, patch 3×2, mlp ratio 3",
        {
            "img_size": (9, 16), "patch_size": (3, 2), "embed_dim": 8, "depth": 2, "num_heads": 4,
            "num_classes": 5, "mlp_ratio": 3.0,
        },
        peers=("transformers DeiT", "timm DeiT"),
        family=DistilledVisionTransformer,
    ),
)  # fmt: skip

PAIRS = [(case, peer) for case in VIT_CASES for peer in case.peers]


def case_named(start: str) -> Case:
    (case,) = (case for case in VIT_CASES if case.name.startswith(start))
    return case


@pytest.mark.parametrize(("case", "against"), PAIRS, ids=str)
def test_logits_and_every_gradient_equal_those_of(case, against, report: list[Row]):
    row = compare(case, against)
    report.append(row)
    assert row.logits < TOLERANCE, row
    assert row.gradient < TOLERANCE, row


@pytest.mark.parametrize(("case", "against"), PAIRS, ids=str)
def test_names_and_shapes_are_those_of(case, against):
    peer, ours = PEERS[against], build(case, np.random.default_rng(0)).state_dict()
    renamed = {name: array.shape for name, array in rename(ours, peer.layout).items()}
    theirs = {n: tuple(p.shape) for n, p in peer.build(case.settings).named_parameters()}
    assert renamed == theirs
    if "timm" in against and case.settings.get("positions") != "relative":
        assert list(ours) == list(theirs)  # in the order of definition, too


@pytest.mark.parametrize("case", VIT_CASES, ids=str)
def test_the_random_attention_is_neither_flat_nor_saturated(case):
    """Else q and k would not matter, and a wrong scale or bias would pass unseen."""
    rng = np.random.default_rng(1)
    model = build(case, rng)
    g = rng.standard_normal((case.batch, case.settings["num_classes"]))
    _, gradients = our_run(model, case.draw_images(rng), g)
    for name, gradient in gradients.items():
        if name.endswith("qkv.weight"):
            q, k, v = (np.linalg.norm(part) for part in np.split(gradient, 3))
            assert min(q, k) > 0.05 * v, f"{name}: |dq| {q:.1e}, |dk| {k:.1e}, |dv| {v:.1e}"


@pytest.mark.parametrize("start", ["ViT, patch 2×3", "DeiT distilled, patch 3×2"])
def test_weights_under_the_published_names_load_into_transformers(start, tmp_path):
    """It renames published files itself when it loads them, so this checks our older names."""
    case = case_named(start)
    peer: Any = PEERS[case.peers[0]]
    state = build(case, np.random.default_rng(0), np.float32).state_dict()
    is_vit = case.family is VisionTransformer
    layout = VIT_TRANSFORMERS_FILES if is_vit else distilled(VIT_TRANSFORMERS_FILES)
    arrays = {n: np.ascontiguousarray(a) for n, a in rename(state, layout).items()}
    save_file = need("safetensors.numpy").save_file
    save_file(arrays, tmp_path / "model.safetensors", metadata={"format": "pt"})
    module = peer.build(case.settings)
    module.config.save_pretrained(tmp_path)
    loaded, found = type(module).from_pretrained(tmp_path, output_loading_info=True)
    assert not found["unexpected_keys"]
    assert not found["missing_keys"]
    back = peer.parameters(loaded, list(state))
    assert all(np.array_equal(back[name], state[name]) for name in state)


# ── DeiT's two heads and losses ──────────────────────────────────────────────────────────────────


def test_the_two_heads_give_what_timm_trains_a_distilled_model_with():
    case, rng = case_named("DeiT distilled, patch 4"), np.random.default_rng(3)
    peer, model = PEERS["timm DeiT"], build(case, rng)
    module = peer.build(case.settings).double()
    peer.load(module, model.state_dict())
    module.train()
    module.set_distilled_training()
    images = case.draw_images(rng)
    theirs = module(tensor(images))
    for mine, other in zip(model.both(images), theirs, strict=True):
        assert error(mine.data, other.detach().numpy()) < TOLERANCE


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("soft_targets", [False, True])
def test_the_distillation_losses_equal_torch(kind, soft_targets):
    """Spelled out with torch's own divergence and cross-entropy."""
    rng, (B, K), alpha, tau = np.random.default_rng(4), (3, 5), 0.3, 2.5
    arrays = [3 * rng.standard_normal((B, K)) for _ in range(3)]
    targets: np.ndarray = rng.dirichlet(np.ones(K), B) if soft_targets else rng.integers(0, K, B)
    ours = [Tensor(array, requires_grad=True) for array in arrays]
    theirs = [tensor(array, requires_grad=True) for array in arrays]
    F = torch.nn.functional
    label = F.cross_entropy(theirs[0], tensor(targets), label_smoothing=0.1)
    settings: dict[str, float] = {"alpha": alpha, "smoothing": 0.1}
    if kind == "hard":
        loss = hard_distillation_loss((ours[0], ours[1]), targets, ours[2], **settings)
        taught = F.cross_entropy(theirs[1], theirs[2].argmax(dim=1))
    else:
        settings["temperature"] = tau
        loss = soft_distillation_loss((ours[0], ours[1]), targets, ours[2], **settings)
        q, p = (F.log_softmax(x / tau, dim=1) for x in (theirs[1], theirs[2].detach()))
        taught = F.kl_div(q, p, reduction="sum", log_target=True) * tau**2 / (B * K)
    expected = label * (1 - alpha) + taught * alpha
    loss.backward()
    expected.backward()
    assert abs(loss.item() - expected.item()) < 1e-13
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        assert error(mine.grad, other.grad.numpy()) < TOLERANCE
    assert ours[2].grad is None  # nothing goes to the teacher


# ── the convolutional stem ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("depth", [0, 2])
def test_the_convolutional_stem_equals_torchs_layers(depth):
    rng = np.random.default_rng(5)
    stem = ConvStem(12, (8, 8), depth=depth, rng=rng, dtype=np.float64)
    randomise(stem, rng)
    images, x = rng.standard_normal((2, 3, 16, 24)), None
    mine = Tensor(images, requires_grad=True)
    other = x = tensor(images, requires_grad=True)
    weights = {n: tensor(a, requires_grad=True) for n, a in stem.state_dict().items()}
    F = torch.nn.functional
    for i in range(3 * (1 + depth)):
        stride = 1 if i % (1 + depth) else 2
        x = F.conv2d(x, weights[f"convs.{i}.weight"], weights[f"convs.{i}.bias"], stride, 1)
        gain, bias = weights[f"norms.{i}.weight"], weights[f"norms.{i}.bias"]
        x = F.layer_norm(x.permute(0, 2, 3, 1), gain.shape, gain, bias, 1e-6)
        x = F.gelu(x).permute(0, 3, 1, 2)
    x = F.conv2d(x, weights["proj.weight"], weights["proj.bias"]).permute(0, 2, 3, 1)
    y = stem(mine)
    assert error(y.data, x.detach().numpy()) < TOLERANCE
    g = rng.standard_normal(y.shape)
    y.backward(g)
    x.backward(tensor(g))
    assert error(mine.grad, other.grad.numpy()) < TOLERANCE
    for name, p in stem.named_parameters():
        assert error(p.grad, weights[name].grad.numpy()) < TOLERANCE, name


# ── planted faults: the comparison sees them ─────────────────────────────────────────────────────


def test_a_change_of_a_millionth_in_any_parameter_is_seen():
    for start, against in (
        ("ViT with pre-logits", "transformers ViT"),
        ("ViT, relative positions, class", "timm ViT"),
        ("DeiT distilled, patch 3×2", "timm DeiT"),
    ):
        case = case_named(start)
        for name, _ in build(case, np.random.default_rng(0)).named_parameters():

            def nudge(model: Any, name: str = name) -> None:
                # the last element: of qkv a value's, since a key's bias has no effect on a softmax
                model.state_dict()[name].reshape(-1)[-1] += 1e-6

            row = compare(case, against, spoil=nudge)
            assert row.largest > TOLERANCE, f"unseen: {name}, {row}"


def another_epsilon(model: Any) -> None:
    model.norm.eps = 1e-5


def tokens_swapped(model: Any) -> None:
    model.cls_token, model.dist_token = model.dist_token, model.cls_token


def heads_swapped(model: Any) -> None:
    model.head, model.head_dist = model.head_dist, model.head


def swap_q_and_k(model: Any) -> None:
    qkv = model.blocks[0].attn.qkv.weight.data
    q, k, v = np.split(qkv.copy(), 3)
    qkv[...] = np.concatenate([k, q, v])


@pytest.mark.parametrize(
    "fault",
    [another_epsilon, tokens_swapped, heads_swapped, swap_q_and_k],
    ids=lambda f: f.__name__,
)
def test_a_planted_fault_is_seen(fault):
    row = compare(case_named("DeiT distilled, patch 4"), "transformers DeiT", spoil=fault)
    assert row.logits > 100 * TOLERANCE, row
