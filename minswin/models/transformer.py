"""The original Transformer: an encoder reads, a decoder writes.              Vaswani et al. 2017

A block of the encoder, a block of the decoder, the model, its loss. How a trained
model writes is in writing.py.

Words are integers. S words of a source are read, T words of a target are written, V are known.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minswin import ops
from minswin.arguments import Seed, fraction, whole
from minswin.arrays import Array, array_module
from minswin.autograd import Tensor
from minswin.devices import constant
from minswin.layers import Dropout, Embedding, Layer, LayerNorm
from minswin.layers.embeddings import sinusoids
from minswin.layers.parameters import Dtype, Init
from minswin.layers.sequences import (
    FeedForward,
    KeysValues,
    MultiHeadAttention,
    causal_mask,
    padding_mask,
)

# Table 3. The paper gives 65 and 213 million parameters; with 37,000 words of both languages, as
# in §5.1, these have 63,082,496 and 214,245,376.
SIZES: dict[str, dict[str, Any]] = {
    "base": {"embed_dim": 512, "num_heads": 8, "drop_rate": 0.1},
    "big": {"embed_dim": 1024, "num_heads": 16, "drop_rate": 0.3},
}


class EncoderBlock(Layer):
    """Look at the source, think: each added to the tokens, then normalised.     §3.1, "post-norm"

    Takes and gives (B, S, C)
    """

    def __init__(
        self, channels: int, heads: int, hidden: int, *, drop_rate: float, init: Init
    ) -> None:
        self.attn = MultiHeadAttention(channels, heads, init=init)
        self.norm1 = LayerNorm(channels, init=init)
        self.ffn = FeedForward(channels, hidden, init=init)
        self.norm2 = LayerNorm(channels, init=init)
        self.drop = Dropout(drop_rate, init=init)

    def __call__(self, x: Tensor, mask: Array) -> Tensor:  # type: ignore[override]
        x = self.norm1(x + self.drop(self.attn(x, self.attn.keys_values(x), mask)))
        return self.norm2(x + self.drop(self.ffn(x)))


class DecoderBlock(Layer):
    """Look at the words written so far, look at the source, think.        §3.1, Figure 1, right

    Takes    x (B, T, C); keys and values of the target, whose last T words are x's, and of the
    source; a mask for each        Gives (B, T, C)
    """

    def __init__(
        self, channels: int, heads: int, hidden: int, *, drop_rate: float, init: Init
    ) -> None:
        self.attn = MultiHeadAttention(channels, heads, init=init)
        self.norm1 = LayerNorm(channels, init=init)
        self.cross = MultiHeadAttention(channels, heads, init=init)
        self.norm2 = LayerNorm(channels, init=init)
        self.ffn = FeedForward(channels, hidden, init=init)
        self.norm3 = LayerNorm(channels, init=init)
        self.drop = Dropout(drop_rate, init=init)

    def __call__(  # type: ignore[override]
        self,
        x: Tensor,
        target: KeysValues,
        source: KeysValues,
        target_mask: Array | None,
        source_mask: Array,
    ) -> Tensor:
        x = self.norm1(x + self.drop(self.attn(x, target, target_mask)))
        x = self.norm2(x + self.drop(self.cross(x, source, source_mask)))
        return self.norm3(x + self.drop(self.ffn(x)))


class Memory(NamedTuple):
    """What the decoder sees of the source: its tokens (B, S, C), and a mask for the padding."""

    x: Tensor
    mask: Array


class Transformer(Layer):
    """The whole model: source (B, S) and target (B, T) in, logits (B, T, V) of the next words out.

    Learns   embedding: Embedding(V, C), of source, target and, transposed, logits (§3.4)
    mlp_ratio: hidden channels of the feed-forward layers, per channel   pad: the word that fills
    up short sources and targets, at their ends; nobody looks at it
    There is no norm after the last block: PyTorch's nn.Transformer has one there, on both stacks.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        embed_dim: int = 512,
        depth: int = 6,
        num_heads: int = 8,
        mlp_ratio: int = 4,
        drop_rate: float = 0.1,
        pad: int = 0,
        rng: Seed = None,
        dtype: Dtype = np.float32,
    ) -> None:
        who = type(self).__name__
        init = Init(rng, dtype, who)
        fraction(who, "drop_rate", drop_rate)
        vocabulary, C = whole(who, "vocabulary", vocabulary), whole(who, "embed_dim", embed_dim)
        if C % 2:
            raise ValueError(f"{who}: positions come in pairs, embed_dim must be even, got {C}")
        hidden, heads = C * whole(who, "mlp_ratio", mlp_ratio), whole(who, "num_heads", num_heads)
        blocks = range(whole(who, "depth", depth))
        self.rng, self.pad = init.rng, whole(who, "pad", pad, 0)
        if self.pad >= vocabulary:
            raise ValueError(f"{who}: pad must be one of the {vocabulary} words, got {pad}")
        self.embedding = Embedding(vocabulary, C, init=init)
        shared: dict[str, Any] = {"drop_rate": drop_rate, "init": init}
        self.encoder = [EncoderBlock(C, heads, hidden, **shared) for _ in blocks]
        self.decoder = [DecoderBlock(C, heads, hidden, **shared) for _ in blocks]
        self.drop = Dropout(drop_rate, init=init)
        for p in self.parameters():
            if p.ndim == 2:  # keep the variance: 1/inputs; the embedding is multiplied by √C
                p.data = init.normal(*p.shape, spread=1 / math.sqrt(p.shape[1])).data

    def __call__(self, source: Array, target: Array) -> Tensor:  # type: ignore[override]
        return self.logits(self.decode(target, self.encode(source)))

    def encode(self, source: Array) -> Memory:
        """Read a source (B, S)."""
        source = _words("source", source)
        hidden = source == self.pad
        if hidden.all(axis=1).any():
            raise ValueError(
                "Transformer: a source holds nothing but padding; leave it out, or end every "
                "source with a word of its own"
            )
        x, mask = self.embed(source), padding_mask(hidden, self.embedding.weight.dtype)
        for block in self.encoder:
            x = block(x, mask)
        return Memory(x, mask)

    def decode(self, target: Array, memory: Memory) -> Tensor:
        """Tokens (B, T, C) for a target (B, T), each from the words up to its own."""
        x = self.embed(_words("target", target))
        causal = constant(x.data, causal_mask, x.shape[1], x.dtype)  # (T, T)
        for block in self.decoder:
            of_target, of_source = block.attn.keys_values(x), block.cross.keys_values(memory.x)
            x = block(x, of_target, of_source, causal, memory.mask)
        return x

    def embed(self, words: Array, start: int = 0) -> Tensor:
        """Words (B, N), of which the first stands at place `start`, to tokens (B, N, C)."""
        N, (_, C) = words.shape[1], self.embedding.weight.shape
        x = self.embedding(words) * math.sqrt(C)  # (B, N, C)
        waves = constant(x.data, sinusoids, start + N, C)[start:]  # (N, C)
        return self.drop(x + waves.astype(x.dtype))

    def logits(self, x: Tensor) -> Tensor:
        """Tokens (..., C) to a number for every word (..., V)."""
        return ops.linear(x, self.embedding.weight, None)


def _words(which: str, words: Array) -> Array:
    words = words.data if isinstance(words, Tensor) else words
    words = words if hasattr(words, "dtype") else np.asarray(words)
    if words.ndim != 2 or words.dtype.kind not in "iu" or 0 in words.shape:
        raise ValueError(
            f"Transformer: the {which} must be words (B, N), integers, at least one of them; "
            f"got {words.dtype} {words.shape}"
        )
    return words


def sequence_loss(
    logits: Tensor, targets: Array, *, pad: int = 0, smoothing: float = 0.1
) -> Tensor:
    """Mean cross-entropy of all words that are not padding.                §5.4, label smoothing

    logits (B, T, V)   targets (B, T), the words that should come next   gives a 0-d Tensor
    """
    if targets.shape != logits.shape[:2]:
        raise ValueError(
            f"sequence_loss: targets must be {logits.shape[:2]} like the logits, "
            f"got {targets.shape}; leave the first word of the target out"
        )
    words = targets.reshape(-1)  # (B·T,)
    rows = array_module(words).flatnonzero(words != pad)
    if not rows.size:
        raise ValueError("sequence_loss: the targets hold nothing but padding; leave them out")
    logits = logits.reshape(-1, logits.shape[2])  # (B·T, V)
    return ops.cross_entropy(ops.take(logits, rows), words[rows], smoothing=smoothing)
