"""What an encoder-decoder needs beside MSA: attention to another sequence, ReLU layers, masks."""

from __future__ import annotations

import numpy as np

from minswin import ops
from minswin.arrays import Array, array_module
from minswin.autograd import Tensor
from minswin.composites import merge_heads
from minswin.layers.attention import check_heads
from minswin.layers.base import Layer
from minswin.layers.basic import Linear
from minswin.layers.parameters import Dtype, Init

KeysValues = tuple[Tensor, Tensor]  # both (B, h, M, d)


class MultiHeadAttention(Layer):
    """Queries from one sequence, keys and values from another, or the same.  Vaswani 2017, §3.2.2

    Learns   q: Linear(C, C)   kv: Linear(C, 2C)   proj: Linear(C, C)
    Takes    x (B, N, C), the `keys_values` of a sequence of M tokens, and a mask -> (B, h, N, M)
    that is 0 where a query may look and −∞ where it may not        Gives (B, N, C)
    Keys and values are computed apart, so that a decoder can keep those of the words it has.
    """

    def __init__(self, channels: int, heads: int, *, init: Init) -> None:
        check_heads(type(self).__name__, channels, heads)
        self.heads = heads
        self.q = Linear(channels, channels, init=init)
        self.kv = Linear(channels, 2 * channels, init=init)
        self.proj = Linear(channels, channels, init=init)

    def __call__(  # type: ignore[override]
        self, x: Tensor, keys_values: KeysValues, mask: Array | None = None
    ) -> Tensor:
        (q,) = self._split(self.q(x), 1)  # (B, h, N, d)
        return self.proj(merge_heads(ops.attention(q, *keys_values, mask)))  # (B, N, C)

    def keys_values(self, x: Tensor) -> KeysValues:
        """What others see of a sequence: x (B, M, C) gives k, v (B, h, M, d)."""
        k, v = self._split(self.kv(x), 2)
        return k, v

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Channel (part · h + head) · d + t of (B, N, parts · C) to parts of (B, h, N, d)."""
        B, N, C = x.shape
        x = x.reshape(B, N, parts, self.heads, C // (parts * self.heads))  # (B, N, parts, h, d)
        x = x.transpose(2, 0, 3, 1, 4)  # (parts, B, h, N, d)
        return tuple(x[i] for i in range(parts))


class FeedForward(Layer):
    """Two linear layers with a ReLU between, on each token alone.           Vaswani 2017, eq. (2)

    Learns   fc1: Linear(C, hidden)   fc2: Linear(hidden, C)        Takes and gives (..., C)
    """

    def __init__(self, channels: int, hidden: int, *, init: Init) -> None:
        self.fc1 = Linear(channels, hidden, init=init)
        self.fc2 = Linear(hidden, channels, init=init)

    def __call__(self, x: Tensor) -> Tensor:
        return self.fc2(ops.relu(self.fc1(x)))


def causal_mask(count: int, dtype: Dtype = np.float32) -> np.ndarray:
    """Nobody looks ahead: (N, N), −∞ where the key comes after the query, else 0."""
    return np.triu(np.full((count, count), -np.inf, dtype), 1)


def padding_mask(hidden: Array, dtype: Dtype = np.float32) -> Array:
    """Nobody looks at padding: (B, 1, 1, M), −∞ where `hidden` (B, M) is True, else 0."""
    mask = array_module(hidden).where(hidden, -np.inf, 0.0)  # (B, M)
    return mask.astype(dtype)[:, None, None, :]
