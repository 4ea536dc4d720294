"""ViT and DeiT: published files, two heads, distillation and the stem equal those of others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin.autograd import Tensor
from minswin.layers.embeddings import ConvStem
from minswin.models.deit import hard_distillation_loss, soft_distillation_loss
from minswin.models.vit import VisionTransformer

from .cases import case_named
from .compare import TOLERANCE, build, compare, error, randomise
from .names import VIT_TRANSFORMERS_FILES, distilled, rename
from .peers import PEERS, need, tensor, torch

pytestmark = pytest.mark.parity


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
