"""How a trained Transformer writes: a word at a time, the likeliest, or by beam search.

Words are integers. V are known; B texts are written side by side.
"""

from __future__ import annotations

import math

import numpy as np

from minswin import ops
from minswin.arguments import whole
from minswin.arrays import Array, to_numpy
from minswin.autograd import no_grad
from minswin.devices import like
from minswin.layers.sequences import KeysValues
from minswin.models.transformer import Transformer


class Writer:
    """A decoder at work: it takes one word of every target, and gives the logits of the next.

    It keeps the keys and values of all words so far, and of the source, so a step costs one word.
    """

    def __init__(self, model: Transformer, source: Array) -> None:
        self.model, self.length = model, 0
        memory = model.encode(source)
        self.mask = memory.mask
        self.source = [block.cross.keys_values(memory.x) for block in model.decoder]
        self.target: list[KeysValues] = []

    def step(self, words: Array) -> np.ndarray:
        """Words (B,) to log-probabilities (B, V) of the words that follow; padding never does."""
        model = self.model
        words, first = like(self.mask, words), not self.length
        x = model.embed(words[:, None], self.length)  # (B, 1, C)
        for i, block in enumerate(model.decoder):
            new = block.attn.keys_values(x)
            if first:
                self.target.append(new)
            else:
                k, v = (
                    ops.concatenate(*pair, axis=2) for pair in zip(self.target[i], new, strict=True)
                )
                self.target[i] = k, v
            x = block(x, self.target[i], self.source[i], None, self.mask)
        self.length += 1
        log_p = to_numpy(ops.log_softmax(model.logits(x)[:, 0]).data)
        log_p[:, model.pad] = -math.inf
        return log_p

    def keep(self, rows: np.ndarray) -> None:
        """Go on with these targets, in this order; one may be taken more than once."""
        rows = like(self.mask, rows)
        self.target = [(k[rows], v[rows]) for k, v in self.target]
        self.source = [(k[rows], v[rows]) for k, v in self.source]
        self.mask = self.mask[rows]


def greedy(model: Transformer, source: Array, *, start: int, stop: int, length: int) -> np.ndarray:
    """Always write the likeliest word, until `stop` or for `length` words.

    source (B, S)   gives (B, at most length) words without `start`; after `stop` comes padding
    """
    with model.evaluating(), no_grad():
        writer, written = Writer(model, source), []
        words = np.full(len(source), start)  # (B,)
        done = np.zeros(len(source), bool)
        for _ in range(length):
            words = np.where(done, model.pad, writer.step(words).argmax(axis=1))
            written.append(words)
            done |= words == stop
            if done.all():
                break
    return np.stack(written, axis=1)


def beam_search(
    model: Transformer,
    source: Array,
    *,
    start: int,
    stop: int,
    length: int,
    width: int = 4,
    alpha: float = 0.6,
) -> np.ndarray:
    """Follow the `width` likeliest beginnings side by side; give the best.   §6.1; Wu et al. 2016

        score = log P / ((5 + n) / 6)^α        n words, `stop` included

    source (B, S)   gives (B, at most length) words, as `greedy` does, which is width = 1
    While writing, log P alone decides, so a finished target stays until better ones push it out.
    """
    B, k, V = len(source), whole("beam_search", "width", width), model.embedding.weight.shape[0]
    log_p = np.full((B, k), -math.inf)
    log_p[:, 0] = 0  # all begin alike, so one is enough
    texts = np.full((B, k, 1), start)
    done = np.zeros((B, k), bool)
    with model.evaluating(), no_grad():
        writer = Writer(model, source.repeat(k, axis=0))
        for _ in range(length):
            log_next = writer.step(texts[:, :, -1].reshape(-1)).reshape(B, k, V)
            log_next[done] = -math.inf
            log_next[done, model.pad] = 0  # what is finished stays as it is
            total = (log_p[:, :, None] + log_next).reshape(B, k * V)
            best = np.argsort(-total, axis=1, kind="stable")[:, :k]  # (B, k)
            log_p = np.take_along_axis(total, best, axis=1)
            origin, words = np.divmod(best, V)
            rows = (np.arange(B)[:, None] * k + origin).reshape(-1)  # among B·k targets
            writer.keep(rows)
            texts = texts.reshape(B * k, -1)[rows].reshape(B, k, -1)
            texts = np.concatenate([texts, words[:, :, None]], axis=2)  # (B, k, one more)
            done = done.reshape(-1)[rows].reshape(B, k) | (words == stop)
            if done.all():
                break
    texts = texts[:, :, 1:]
    count = (texts != model.pad).sum(axis=2)  # (B, k)
    winner = (log_p / ((5 + count) / 6) ** alpha).argmax(axis=1)
    return texts[np.arange(B), winner]
