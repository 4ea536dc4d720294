"""An adapter in JAX and Flax: what one writes who ports Swin to it.

    minswin conform --module examples/conformance/jax_flax.py

Two defaults are wrong for Swin, and stand here corrected: jax.nn.gelu approximates by tanh, and
flax.linen.LayerNorm has an eps of 1e-6.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
dtype = "float64"
Pair = tuple[int, int]
Params = dict[str, jax.Array]


def value_of(text: Callable[..., jax.Array]) -> Callable[..., np.ndarray]:
    return lambda *arguments: np.asarray(text(*arguments))


def gradients_of(text: Callable[..., jax.Array]) -> Callable[..., dict[str, np.ndarray]]:
    """The gradients of ⟨cotangent, text⟩ by all floating arrays, by name."""
    names = tuple(inspect.signature(text).parameters)

    def gradients(*arguments: Any) -> dict[str, np.ndarray]:
        *inputs, cotangent = arguments
        given = dict(zip(names, inputs, strict=True))
        arrays = {n: x for n, x in given.items() if _differentiable(x)}
        rest = {n: x for n, x in given.items() if n not in arrays}
        _, back = jax.vjp(lambda some: text(**some, **rest), arrays)
        (found,) = back(jnp.asarray(cotangent))
        flat: dict[str, np.ndarray] = {}
        for name, g in found.items():
            inner = g if isinstance(g, dict) else {name: g}
            flat |= {n: np.asarray(x) for n, x in inner.items()}
        return flat

    return gradients


def _differentiable(x: Any) -> bool:
    first = next(iter(x.values()), None) if isinstance(x, dict) else x
    return isinstance(first, np.ndarray) and first.dtype.kind == "f"


# ── windows ──────────────────────────────────────────────────────────────────────────────────────


def _window_partition(x: jax.Array, window: Pair) -> jax.Array:
    B, H, W, C = x.shape
    Mh, Mw = window
    x = x.reshape(B, H // Mh, Mh, W // Mw, Mw, C).swapaxes(2, 3)
    return x.reshape(B, -1, Mh * Mw, C)


def _window_merge(windows: jax.Array, window: Pair, grid: Pair) -> jax.Array:
    (H, W), (Mh, Mw) = grid, window
    B, C = windows.shape[0], windows.shape[3]
    return windows.reshape(B, H // Mh, W // Mw, Mh, Mw, C).swapaxes(2, 3).reshape(B, H, W, C)


def _roll(x: jax.Array, shift: Pair) -> jax.Array:
    return jnp.roll(x, shift, axis=(1, 2))


def relative_position_index(window: Pair) -> np.ndarray:
    rows, columns = np.divmod(np.arange(window[0] * window[1]), window[1])
    dr, dc = rows[:, None] - rows, columns[:, None] - columns
    return (dr + window[0] - 1) * (2 * window[1] - 1) + dc + window[1] - 1


def _relative_position_bias(table: jax.Array, window: Pair) -> jax.Array:
    return table[relative_position_index(window)].transpose(2, 0, 1)


def attention_mask(grid: Pair, window: Pair, shift: Pair) -> np.ndarray:
    pieces = []
    for n, M, s in zip(grid, window, shift, strict=True):
        at = np.arange(n)
        pieces.append((at >= n - M).astype(int) + (at >= n - s) if s else 0 * at)
    label = (3 * pieces[0][:, None] + pieces[1])[None, :, :, None]
    label = np.asarray(_window_partition(label, window))[0, :, :, 0]
    return np.where(label[:, :, None] != label[:, None, :], -100.0, 0.0)


def _patch_merge(x: jax.Array) -> jax.Array:
    parts = [x[:, r::2, c::2] for c in (0, 1) for r in (0, 1)]  # the row varies fastest
    return jnp.concatenate(parts, axis=-1)


# ── layers ───────────────────────────────────────────────────────────────────────────────────────


def _layer_norm(x: jax.Array, weight: jax.Array, bias: jax.Array, eps: float) -> jax.Array:
    norm = nn.LayerNorm(epsilon=eps, use_fast_variance=False)
    return norm.apply({"params": {"scale": weight, "bias": bias}}, x)


def _gelu(x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x, approximate=False)


def _softmax(x: jax.Array) -> jax.Array:
    return jax.nn.softmax(x)


def _linear(x: jax.Array, params: Params, name: str) -> jax.Array:
    y = x @ params[f"{name}.weight"].T  # Flax keeps the transpose
    return y + params[f"{name}.bias"] if f"{name}.bias" in params else y


def _mlp(x: jax.Array, params: Params) -> jax.Array:
    return _linear(_gelu(_linear(x, params, "fc1")), params, "fc2")


def _patch_merging(x: jax.Array, params: Params) -> jax.Array:
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
    x = _layer_norm(_patch_merge(x), params["norm.weight"], params["norm.bias"], 1e-5)
    return _linear(x, params, "reduction")


def _window_attention(
    x: jax.Array, params: Params, window: Pair, shift: Pair, heads: int
) -> jax.Array:
    _, H, W, C = x.shape
    x = jnp.pad(x, ((0, 0), (0, -H % window[0]), (0, -W % window[1]), (0, 0)))
    grid = x.shape[1], x.shape[2]
    x = _window_partition(_roll(x, (-shift[0], -shift[1])), window)  # (B, nW, N, C)
    qkv = _linear(x, params, "qkv").reshape(*x.shape[:3], 3, heads, C // heads)
    q, k, v = jnp.moveaxis(qkv, 3, 0)  # (B, nW, N, h, d) each
    logits = jnp.einsum("bwihd,bwjhd->bwhij", q, k) * (C // heads) ** -0.5
    logits += _relative_position_bias(params["relative_position_bias_table"], window)
    logits += attention_mask(grid, window, shift)[:, None]
    y = jnp.einsum("bwhij,bwjhd->bwihd", jax.nn.softmax(logits), v).reshape(x.shape)
    y = _roll(_window_merge(y, window, grid), shift)[:, :H, :W]
    return _linear(y, params, "proj")


window_partition, window_partition_grad = (
    value_of(_window_partition),
    gradients_of(_window_partition),
)
window_merge, window_merge_grad = value_of(_window_merge), gradients_of(_window_merge)
roll = value_of(_roll)
relative_position_bias = value_of(_relative_position_bias)
relative_position_bias_grad = gradients_of(_relative_position_bias)
patch_merge, patch_merge_grad = value_of(_patch_merge), gradients_of(_patch_merge)
layer_norm, layer_norm_grad = value_of(_layer_norm), gradients_of(_layer_norm)
gelu, gelu_grad = value_of(_gelu), gradients_of(_gelu)
softmax, softmax_grad = value_of(_softmax), gradients_of(_softmax)
mlp, mlp_grad = value_of(_mlp), gradients_of(_mlp)
patch_merging, patch_merging_grad = value_of(_patch_merging), gradients_of(_patch_merging)
window_attention, window_attention_grad = (
    value_of(_window_attention),
    gradients_of(_window_attention),
)
