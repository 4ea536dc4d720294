"""Swin V2 equals slow loops that are typed from the paper."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
from drawn import law
from hypothesis import strategies as st
from swin_v2_cases import attention, swin_v2

from minswin.autograd import Tensor
from minswin.testing import oracles
from minswin.testing.claims import NORMED, assert_close
from minswin.testing.strategies import Cut, Pair, seeds, uneven_maps, windows


def slow_bias(state: dict[str, Any], displacement: Pair, pretrained: Pair) -> np.ndarray:
    """16 σ(MLP(t)) of every head, for one displacement."""
    t = [
        math.copysign(math.log2(1 + 8 * abs(step) / max(side - 1, 1)) / math.log2(8), step)
        for step, side in zip(displacement, pretrained, strict=True)
    ]
    hidden = np.maximum(state["cpb_mlp.0.weight"] @ t + state["cpb_mlp.0.bias"], 0)
    return 16 / (1 + np.exp(-state["cpb_mlp.2.weight"] @ hidden))


def slow_attention(
    x: np.ndarray, state: dict[str, Any], *, window: Pair, shifted: bool, pretrained: Pair
) -> np.ndarray:
    """Extend with zeros, attend by cosines in each rectangle of the image by itself, project."""
    _, H, W, C = x.shape
    side, shift = oracles.fit((H, W), window)
    x = oracles.zero_extended(x, side)
    heads = len(state["logit_scale"])
    d, tau = C // heads, np.exp(np.minimum(state["logit_scale"].ravel(), math.log(100)))
    q, k, v = np.split(x @ state["qkv.weight"].T, 3, axis=-1)
    q, v = q + state["q_bias"], v + state["v_bias"]
    steps = product(range(1 - side[0], side[0]), range(1 - side[1], side[1]))
    biases = {step: slow_bias(state, step, pretrained) for step in steps}
    y = np.zeros_like(x)
    for tokens in oracles.rectangles(x.shape[1:3], side, shift if shifted else (0, 0)):
        for b, (r, c), head in product(range(len(x)), tokens, range(heads)):
            own = slice(head * d, (head + 1) * d)
            a, logits = q[b, r, c, own], []
            for s, t in tokens:
                key = k[b, s, t, own]
                lengths = max(np.linalg.norm(a), 1e-12) * max(np.linalg.norm(key), 1e-12)
                logits.append(tau[head] * (a @ key) / lengths + biases[r - s, c - t][head])
            weights = np.exp(np.array(logits) - max(logits))
            values = np.array([v[b, s, t, own] for s, t in tokens])
            y[b, r, c, own] = weights @ values / sum(weights)
    return y[:, :H, :W] @ state["proj.weight"].T + state["proj.bias"]


def slow_model(
    x: np.ndarray, state: dict[str, Any], *, depths: tuple[int, ...], window: Pair, trained: Any
) -> np.ndarray:
    x = oracles.patches(x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"])
    x = oracles.layer_norm(x, state["patch_embed.norm.weight"], state["patch_embed.norm.bias"])
    for i, depth in enumerate(depths):
        stage, pretrained = oracles.below(state, f"layers.{i}"), (trained[i] or window[0],) * 2
        for j in range(depth):
            own = oracles.below(stage, f"blocks.{j}")
            attn, settings = oracles.below(own, "attn"), {"pretrained": pretrained}
            y = slow_attention(x, attn, window=window, shifted=j % 2 == 1, **settings)
            x = x + oracles.layer_norm(y, own["norm1.weight"], own["norm1.bias"])
            y = oracles.mlp(x, oracles.below(own, "mlp"))
            x = x + oracles.layer_norm(y, own["norm2.weight"], own["norm2.bias"])
        if i < len(depths) - 1:
            merge = oracles.below(stage, "downsample")
            x = oracles.merge_neighbours(oracles.zero_extended(x, (2, 2)))
            y = x @ merge["reduction.weight"].T
            x = oracles.layer_norm(y, merge["norm.weight"], merge["norm.bias"])
    x = oracles.layer_norm(x, state["norm.weight"], state["norm.bias"]).mean(axis=(1, 2))
    return x @ state["head.weight"].T + state["head.bias"]


@law(examples=6, cut=windows(counts=(2, 3)), value=st.sampled_from([-100, -np.inf]), seed=seeds)
def test_shifted_windows_are_attention_on_the_rectangles_of_the_unrolled_image(
    cut: Cut, value: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layer = attention(cut.window, rng, shift=True, mask_value=value)
    x = rng.standard_normal((2, *cut.grid, 6))
    how: dict[str, Any] = {"window": cut.window, "shifted": True, "pretrained": cut.window}
    assert_close(layer(Tensor(x)), slow_attention(x, layer.state_dict(), **how))


@law(examples=5, sizes=uneven_maps(), pretrained=st.integers(1, 5), seed=seeds)
def test_a_padded_map_is_extended_with_zeros(
    sizes: tuple[Pair, Pair], pretrained: int, seed: int
) -> None:
    (grid, window), rng = sizes, np.random.default_rng(seed)
    trained = pretrained, pretrained + 1
    layer = attention(window, rng, shift=True, pretrained=trained)
    x = rng.standard_normal((2, *grid, 6))
    how: dict[str, Any] = {"window": window, "shifted": True, "pretrained": trained}
    assert_close(layer(Tensor(x)), slow_attention(x, layer.state_dict(), **how))


@law(examples=2, trained=st.sampled_from([(0, 0), (5, 2)]), seed=seeds)
def test_the_model_equals_the_paper_in_slow_loops(trained: Pair, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = swin_v2(rng, pretrained_window_sizes=trained)
    x = rng.standard_normal((2, 3, 20, 28))
    how: dict[str, Any] = {"depths": (2, 2), "window": (3, 3), "trained": trained}
    assert_close(model(x), slow_model(x, model.state_dict(), **how), NORMED)
