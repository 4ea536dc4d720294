"""A right Swin in the structure of the original code, in our own words: what its submodules return.

Tokens are (B, L, C), qkv and proj are applied to windows (B · nW, N, C), the patches come channels
first. No line of minswin runs here. `rounded` is applied to the result of every operation, which
gives a port in half precision without a framework that has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray
Rounded = Callable[[Array], Array]


class Official:
    """The forward pass. `mistake`: "no bias", "relu" or "eps" for a wrong one."""

    def __init__(
        self,
        state: Mapping[str, Array],
        settings: Mapping[str, Any],
        rounded: Rounded,
        mistake: str,
    ) -> None:
        self.weights = {n: rounded(x) for n, x in state.items()}
        self.settings, self.rounded, self.mistake = settings, rounded, mistake
        self.seen: dict[str, Array] = {}

    def keep(self, name: str, x: Array) -> Array:
        self.seen[name] = self.rounded(x)
        return self.seen[name]

    def linear(self, name: str, x: Array) -> Array:
        bias = self.weights.get(f"{name}.bias", 0)
        return self.keep(name, x @ self.weights[f"{name}.weight"].T + bias)

    def norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        eps = 1e-3 if self.mistake == "eps" else 1e-5
        y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
        return self.keep(name, y * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"])

    def __call__(self, image: Array) -> dict[str, Array]:
        p, B = self.settings["patch_size"], len(image)
        H, W = image.shape[2] // p, image.shape[3] // p
        kernel = self.weights["patch_embed.proj.weight"]
        patches = self.rounded(image).reshape(B, 3, H, p, W, p)
        x = np.einsum("bchpwq,dcpq->bdhw", patches, kernel)
        x = self.keep("patch_embed.proj", x + self.weights["patch_embed.proj.bias"][:, None, None])
        x = x.reshape(*x.shape[:2], -1).swapaxes(1, 2)  # (B, L, C)
        x = self.keep("patch_embed", self.norm("patch_embed.norm", x))
        stages = zip(self.settings["depths"], self.settings["num_heads"], strict=True)
        for i, (depth, heads) in enumerate(stages):
            for j in range(depth):
                x = self.block(f"layers.{i}.blocks.{j}", x, (H, W), heads, shifted=bool(j % 2))
            if i + 1 < len(self.settings["depths"]):
                x, H, W = self.merge(f"layers.{i}.downsample", x, H, W), H // 2, W // 2
            self.keep(f"layers.{i}", x)
        x = self.keep("avgpool", self.norm("norm", x).swapaxes(1, 2).mean(-1, keepdims=True))
        self.keep("output", self.linear("head", x[:, :, 0]))
        return self.seen

    def block(self, name: str, x: Array, grid: Any, heads: int, *, shifted: bool) -> Array:
        (H, W), (B, L, C) = grid, x.shape
        M = self.settings["window_size"]
        s = M // 2 if shifted and min(H, W) > M else 0
        y = np.roll(self.norm(f"{name}.norm1", x).reshape(B, H, W, C), (-s, -s), (1, 2))
        y = y.reshape(B, H // M, M, W // M, M, C).swapaxes(2, 3).reshape(-1, M * M, C)
        y = self.attention(f"{name}.attn", y, heads, _mask(H, W, M, s) if s else None)
        y = y.reshape(B, H // M, W // M, M, M, C).swapaxes(2, 3).reshape(B, H, W, C)
        x = self.rounded(x + np.roll(y, (s, s), (1, 2)).reshape(B, L, C))
        y = self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.norm2", x))
        y = self.keep(f"{name}.mlp.act", np.maximum(y, 0) if self.mistake == "relu" else _gelu(y))
        return self.keep(name, x + self.linear(f"{name}.mlp.fc2", y))

    def attention(self, name: str, x: Array, heads: int, mask: Array | None) -> Array:
        """x and the result are windows (B · nW, N, C), the mask (nW, N, N)."""
        count, N, C = x.shape
        parts = self.linear(f"{name}.qkv", x).reshape(count, N, 3, heads, C // heads)
        q, k, v = parts.transpose(2, 0, 3, 1, 4)
        scores = self.rounded(self.rounded(q * (C // heads) ** -0.5) @ k.swapaxes(-1, -2))
        table = self.weights[f"{name}.relative_position_bias_table"]
        if self.mistake != "no bias":
            scores = self.rounded(scores + table[_index(math.isqrt(N))].transpose(2, 0, 1))
        if mask is not None:
            scores = scores.reshape(-1, len(mask), heads, N, N) + mask[:, None]
            scores = self.rounded(scores.reshape(count, heads, N, N))
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p = self.keep(f"{name}.softmax", p / p.sum(-1, keepdims=True))
        y = self.rounded(p @ v).swapaxes(1, 2).reshape(count, N, C)
        return self.keep(name, self.linear(f"{name}.proj", y))

    def merge(self, name: str, x: Array, H: int, W: int) -> Array:
        x = x.reshape(len(x), H, W, -1)
        x = np.concatenate([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)
        x = self.norm(f"{name}.norm", x.reshape(len(x), -1, x.shape[-1]))
        return self.linear(f"{name}.reduction", x)


def _gelu(x: Array) -> Array:
    return np.asarray(x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2)


def _index(M: int) -> Array:
    row, column = np.divmod(np.arange(M * M), M)
    first = (row[:, None] - row + M - 1) * (2 * M - 1)
    return np.asarray(first + column[:, None] - column + M - 1)


def _mask(H: int, W: int, M: int, s: int) -> Array:
    regions = np.zeros((H, W))
    for i, rows in enumerate((slice(-M), slice(-M, -s), slice(-s, None))):
        for j, columns in enumerate((slice(-M), slice(-M, -s), slice(-s, None))):
            regions[rows, columns] = 3 * i + j
    labels = regions.reshape(H // M, M, W // M, M).swapaxes(1, 2).reshape(-1, M * M)
    return np.where(labels[:, None, :] == labels[:, :, None], 0.0, -100.0)


def official(
    state: Mapping[str, Array],
    settings: Mapping[str, Any],
    image: Array,
    *,
    rounded: Rounded = lambda x: np.asarray(x, np.float32),
    mistake: str = "",
) -> dict[str, Array]:
    """What every submodule returns, by its name in the original code, as float32."""
    seen = Official(state, settings, rounded, mistake)(image)
    return {n: x.astype(np.float32) for n, x in seen.items()}
