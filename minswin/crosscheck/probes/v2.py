"""Probes of what is new in Swin V2: cosine attention, the network of the bias, norms afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minswin.crosscheck.probes import Arrays, Probe, probe, values, with_gradient
from minswin.crosscheck.probes.layers import BLANKS, KEEPING, Pair, attention_length
from minswin.crosscheck.recipe import weights_of
from minswin.layers import PatchMergingV2, WindowAttentionV2
from minswin.layers.windows_v2 import HIDDEN
from minswin.models.swin_v2 import SwinBlockV2

CONSTANTS = ("microsoft/Swin-Transformer#224", "microsoft/Swin-Transformer#329")


def probes() -> Iterator[Probe]:
    yield from _biases()
    yield from _attentions()
    yield from _blocks()


def attention_params(C: int, heads: int) -> Arrays:
    params = weights_of(WindowAttentionV2(C, heads, 2, init=BLANKS))
    params["logit_scale"] = 2 + np.arange(heads, dtype=np.float64).reshape(heads, 1, 1) / 2
    return params


def _biases() -> Iterator[Probe]:
    aim = "8 Δ / (M − 1), log₂(1 + |·|) / log₂ 8, with its sign; 16 σ(·)"
    more: dict[str, Any] = {"length": 2 * HIDDEN, "threads": CONSTANTS}
    params = {n: x for n, x in attention_params(3, 3).items() if n.startswith("cpb_mlp")}
    for case, window in (("window_4x4", (4, 4)), ("window_2x5", (2, 5))):
        bias = probe(f"continuous_position_bias/{case}", aim, params, window, None, **more)
        yield from with_gradient(bias, length=100) if case == "window_2x5" else (bias,)
    aim = "weights of a pre-training with another window: Δ is divided by THAT window − 1"
    more["threads"] = ("microsoft/Swin-Transformer#385",)
    name = "continuous_position_bias/pretrained_8"
    yield probe(name, aim, params, (4, 4), (8, 8), **more)


def attention(
    case: str, aim: str, x: np.ndarray, params: Arrays, window: Pair, *, shifted: bool = True,
    **more: Any,
) -> Probe:  # fmt: skip
    shift = (window[0] // 2, window[1] // 2) if shifted else (0, 0)
    length = attention_length(x.shape[3], window[0] * window[1])
    heads = params["logit_scale"].shape[0]
    name = f"window_attention_v2/{case}"
    more = {"length": length, "condition": 32, **more}
    return probe(name, aim, x, params, window, shift, heads, **more)


def _attentions() -> Iterator[Probe]:
    aim = "cosines, no d^−½; the norm of each vector for itself; keys have no bias"
    threads = ("ChristophReich1996/Swin-Transformer-V2#1", *CONSTANTS)
    x = values("x", 2, 6, 4, 4)
    shifted = attention("shifted", aim, x, attention_params(4, 2), (2, 2), threads=threads)
    yield from with_gradient(shifted, length=60)
    aim = "zeros that were padded have keys of length 0, and no NaN in the gradient either"
    x = values("x", 2, 5, 3, 4)
    padded = attention("padded", aim, x, attention_params(4, 2), (3, 3), shifted=False)
    yield from with_gradient(padded, length=60)
    params = attention_params(4, 2)
    params["logit_scale"] = np.array([4.0, 6.0]).reshape(2, 1, 1)
    aim = "logit_scale beyond ln 100 = 4.6 is cut there: exp(6) is 403"
    x = values("x", 2, 4, 4, 4)
    clamped = attention("clamped", aim, x, params, (4, 4), shifted=False, condition=256)
    yield from with_gradient(clamped, "beyond ln 100, logit_scale has gradient 0", length=60)
    yield _leaking()


def _leaking() -> Probe:
    """Tokens of the first rows have the opposite sign, and keys are queries times −1.

    So a pair of one region has cosine −1, a masked one +1: logits −100 and 100 + mask.
    """
    C, heads, grid = 4, 1, (6, 8)
    params = attention_params(C, heads)
    params["logit_scale"] = np.full((heads, 1, 1), 5.0)
    params["q_bias"] = np.zeros(C)
    q = values("q", C, C)
    params["qkv.weight"] = np.concatenate([q, -q, values("v", C, C)])
    side = np.where(np.arange(grid[0]) < 1, 1.0, -1.0).reshape(1, -1, 1, 1)
    token = 1 + values("token", C) / 2
    x = side * token * (1 + values("x", 2, *grid, 1) / 4)
    aim = "−100 masks nothing at the clamp: a mask that is added twice, or −∞, gives other numbers"
    return attention("leaking_mask", aim, x, params, (2, 2), condition=256)


def _blocks() -> Iterator[Probe]:
    C, heads, window = 4, 1, (2, 2)
    params = weights_of(SwinBlockV2(C, heads, window, mlp_ratio=3.0, **KEEPING, init=BLANKS))
    params |= {f"attn.{name}": x for name, x in attention_params(C, heads).items()}
    aim = "x + norm(f(x)): not f(norm(x)), not norm(x + f(x))"
    block = probe(
        "block_v2/shifted", aim, values("x", 2, 6, 4, C), params, window, True, heads,
        threads=("innat/medic-ai#50",), length=200, condition=64,
    )  # fmt: skip
    yield from with_gradient(block, length=60)
    params = weights_of(PatchMergingV2(4, init=BLANKS))
    aim = "the norm comes after the reduction"
    yield probe(
        "patch_merging_v2/odd", aim, values("x", 2, 5, 4, 4), params, length=60, condition=4
    )
