"""The original Transformer: who sees what, decoding with a cache, beam search, loss, schedule."""

from __future__ import annotations

from inspect import signature
from itertools import product
from typing import Any

import numpy as np
import pytest
from drawn import fill, law
from hypothesis import strategies as st

from minswin import ops
from minswin.autograd import Tensor
from minswin.models import Transformer
from minswin.models.blank import BLANK
from minswin.models.transformer import SIZES, sequence_loss
from minswin.models.writing import Writer, beam_search, greedy
from minswin.testing.claims import NORMED, assert_close, assert_derivative, assert_far, assert_same
from minswin.testing.strategies import seeds
from minswin.training.optimizers import noam

V, PAD, START, STOP = 7, 0, 1, 2
WORDS = {"start": START, "stop": STOP}


def transformer(rng: np.random.Generator, **settings: Any) -> Transformer:
    """A small float64 model, all parameters random, ready to write: different texts for sources."""
    own: dict[str, Any] = {"embed_dim": 8, "depth": 2, "num_heads": 2, "mlp_ratio": 2}
    own |= {"drop_rate": 0.0, "dtype": np.float64, **settings}
    vocabulary = own.pop("vocabulary", V)
    model = fill(Transformer(vocabulary, **own, rng=rng), rng)
    for name, p in model.named_parameters():  # else the last bias would decide about every word
        if "norm" in name and name.endswith("weight"):
            p.data += 1
        elif p.ndim == 1:
            p.data *= 0.2
        elif "decoder" in name and "ffn" not in name:
            p.data *= 2
    model.eval()
    return model


def words(rng: np.random.Generator, B: int, N: int) -> np.ndarray:
    return rng.integers(STOP + 1, V, (B, N))


# ── who sees what ────────────────────────────────────────────────────────────────────────────────


@law(examples=6, seed=seeds, t=st.integers(0, 4))
def test_a_word_depends_on_no_later_word_and_on_every_earlier_one(seed: int, t: int) -> None:
    rng = np.random.default_rng(seed)
    model, source, target = transformer(rng), words(rng, 2, 3), words(rng, 2, 6)
    changed = target.copy()
    changed[:, t + 1] = np.where(target[:, t + 1] == 3, 4, 3)
    before, after = model(source, target).data, model(source, changed).data
    assert_close(after[:, : t + 1], before[:, : t + 1])
    for later in range(t + 1, 6):
        assert abs(after[:, later] - before[:, later]).max() > 1e-6


@law(examples=6, seed=seeds, more=st.integers(1, 3))
def test_padding_at_the_end_of_a_source_changes_nothing(seed: int, more: int) -> None:
    rng = np.random.default_rng(seed)
    model, source, target = transformer(rng), words(rng, 2, 4), words(rng, 2, 3)
    padded = np.pad(source, ((0, 0), (0, more)), constant_values=PAD)
    assert_close(model(padded, target), model(source, target).data, NORMED)
    short = padded.copy()
    short[1, 2:] = PAD  # a shorter one in the same batch
    assert_close(model(short, target).data[:1], model(source[:1], target[:1]).data, NORMED)
    assert_close(model(short, target).data[1:], model(source[1:, :2], target[1:]).data, NORMED)


def test_what_stands_at_a_padded_place_is_seen_by_nobody() -> None:
    rng = np.random.default_rng(0)
    model, source, target = transformer(rng), words(rng, 2, 5), words(rng, 2, 3)
    source[:, 3:] = PAD
    before = model(source, target).data.copy()
    embed = model.embed

    def noisy(given: np.ndarray, start: int = 0) -> Tensor:
        return embed(given, start) + 9.0 * (given == PAD)[:, :, None]

    model.embed = noisy  # type: ignore[method-assign]
    assert_close(model(source, target), before, NORMED)


def test_the_order_of_the_source_matters() -> None:
    rng = np.random.default_rng(0)
    model, target = transformer(rng), words(rng, 1, 3)
    assert_far(model([[3, 4, 5]], target), model([[5, 4, 3]], target))


def test_the_model_has_the_derivative_of_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedding's is that of its three uses together: source, target, logits."""
    rng = np.random.default_rng(0)
    model = transformer(rng, depth=1)
    source, target = words(rng, 2, 4), words(rng, 2, 3)
    monkeypatch.setattr(ops, "relu", ops.gelu)  # whose derivative has no jump

    def logits(shift: Tensor) -> Tensor:
        return model(source, target) + shift

    assert_derivative(logits, rng.standard_normal((2, 3, V)), rng, model.parameters())


def test_tokens_are_normalised_after_each_sum() -> None:
    rng = np.random.default_rng(0)
    model = transformer(rng)
    for block in (*model.encoder, *model.decoder):
        norm = block.norm3 if hasattr(block, "cross") else block.norm2
        norm.weight.data[...], norm.bias.data[...] = 1, 0
    source, target = words(rng, 2, 4), words(rng, 2, 3)
    memory = model.encode(source)
    for x in (memory.x.data, model.decode(target, memory).data):
        assert_close(x.mean(axis=-1), np.zeros(x.shape[:2]))
        np.testing.assert_allclose(x.var(axis=-1), 1, rtol=1e-3)


def test_dropout_is_drawn_in_training_only() -> None:
    rng = np.random.default_rng(5)
    model = transformer(rng, drop_rate=0.3)
    source, target = words(rng, 9, 4), words(rng, 9, 3)
    assert_same(model(source, target), model(source, target))
    model.train()
    assert_far(model(source, target), model(source, target))
    written = greedy(model, source, **WORDS, length=5)  # writes as in evaluation
    assert_same(greedy(model, source, **WORDS, length=5), written)
    assert model.training and all(layer.training for layer in model.layers_within())


# ── sizes ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("size", "count"), [("base", 63_082_496), ("big", 214_245_376)])
def test_parameters_are_those_of_the_paper_with_a_vocabulary_of_37000(
    size: str, count: int
) -> None:
    model = Transformer(37_000, **SIZES[size], rng=BLANK)
    C = SIZES[size]["embed_dim"]
    attention, ffn, norm = 4 * (C * C + C), 8 * C * C + 5 * C, 2 * C
    encoder, decoder = attention + ffn + 2 * norm, 2 * attention + ffn + 3 * norm
    assert model.parameter_count() == count == 37_000 * C + 6 * (encoder + decoder)


def test_the_first_weights_keep_the_variance() -> None:
    model = Transformer(50, embed_dim=64, depth=1, num_heads=4, rng=np.random.default_rng(0))
    for name, p in model.named_parameters():
        assert p.dtype == np.float32
        if p.ndim == 2:
            assert abs(p.data.std() * p.shape[1] ** 0.5 - 1) < 0.05, name
        elif "norm" not in name:
            assert not p.data.any(), name


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


@law(examples=5, seed=seeds, N=st.integers(1, 6))
def test_a_step_with_kept_keys_and_values_gives_what_the_whole_target_gives(
    seed: int, N: int
) -> None:
    rng = np.random.default_rng(seed)
    model, source, target = transformer(rng), words(rng, 3, 4), words(rng, 3, N)
    source[1, 2:] = PAD
    whole = ops.log_softmax(model(source, target)).data.copy()
    whole[:, :, PAD] = -np.inf
    writer = Writer(model, source)
    for t in range(N):
        if t == 2:  # go on with others
            rows = np.array([2, 0, 2])
            writer.keep(rows)
            source, target = source[rows], target[rows]
            whole = ops.log_softmax(model(source, target)).data.copy()
            whole[:, :, PAD] = -np.inf
        step = writer.step(target[:, t])
        np.testing.assert_allclose(step, whole[:, t], rtol=1e-9, atol=1e-9)


def uncached(model: Transformer, source: np.ndarray, length: int) -> np.ndarray:
    """Greedy decoding of one source at a time, everything computed anew for every word."""
    texts = []
    for row in source:
        text = [START]
        while len(text) <= length and text[-1] != STOP:
            logits = model(row[None], np.array([text])).data[0, -1].copy()
            logits[PAD] = -np.inf
            text.append(int(logits.argmax()))
        texts.append(text[1:])
    longest = max(map(len, texts))
    return np.array([text + [PAD] * (longest - len(text)) for text in texts])


@law(examples=5, seed=seeds)
def test_greedy_decoding_with_a_cache_equals_decoding_without(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, source = transformer(rng), words(rng, 4, 5)
    source[2, 1:] = PAD
    assert_same(greedy(model, source, **WORDS, length=6), uncached(model, source, 6))


@law(examples=5, seed=seeds, alpha=st.sampled_from([0.0, 0.6]))
def test_a_beam_of_one_is_greedy(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    model, source = transformer(rng), words(rng, 3, 5)
    found = beam_search(model, source, **WORDS, length=6, width=1, alpha=alpha)
    assert_same(found, greedy(model, source, **WORDS, length=6))


def test_the_beam_is_as_wide_as_in_the_paper() -> None:
    defaults = {name: p.default for name, p in signature(beam_search).parameters.items()}
    assert (defaults["width"], defaults["alpha"]) == (4, 0.6)  # §6.1


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", [0, 6, 19, 35])  # their models do not always write the same text
def test_a_beam_as_wide_as_all_targets_finds_the_best(seed: int, alpha: float) -> None:
    rng, length = np.random.default_rng(seed), 3
    model = transformer(rng, vocabulary=6)
    source = rng.integers(3, 6, (8, 5))
    found = beam_search(model, source, **WORDS, length=length, width=90, alpha=alpha)
    every = np.array(list(product(range(1, 6), repeat=length)))  # (125, length)
    targets = np.insert(every[:, :-1], 0, START, axis=1)
    for row, text in zip(source, found, strict=True):
        log_p = ops.log_softmax(model(np.tile(row, (125, 1)), targets)).data
        scores = {}
        for k, words in enumerate(every.tolist()):
            n = words.index(STOP) + 1 if STOP in words else length
            score = sum(log_p[k, t, words[t]] for t in range(n)) / ((5 + n) / 6) ** alpha
            scores[tuple(words[:n])] = score
        best = max(scores, key=lambda words: scores[words])
        assert tuple(word for word in text if word != PAD) == best


def test_nothing_but_padding_follows_the_end() -> None:
    rng = np.random.default_rng(5)
    model, source = transformer(rng), words(rng, 30, 5)
    for found in (
        greedy(model, source, **WORDS, length=6),
        beam_search(model, source, **WORDS, length=6, width=3),
        beam_search(model, source, **WORDS, length=6, width=9, alpha=5.0),  # long texts win
    ):
        for text in found.tolist():
            body = text[: text.index(STOP) + 1] if STOP in text else text
            assert PAD not in body
            assert set(text[len(body) :]) <= {PAD}
        assert 0 < sum(STOP in text[:-1] for text in found.tolist()) < 28
        assert len({tuple(text) for text in found.tolist()}) > 2


# ── loss and schedule ────────────────────────────────────────────────────────────────────────────


def test_padding_counts_neither_in_the_loss_nor_in_its_gradient() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal((2, 4, V)), words(rng, 2, 4)
    targets[0, 2:] = PAD
    leaf = Tensor(logits, requires_grad=True)
    loss = sequence_loss(leaf, targets, pad=PAD, smoothing=0.1)
    log_p = ops.log_softmax(logits).data
    rows = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)]
    each = [0.9 * log_p[b, t, targets[b, t]] + 0.1 * log_p[b, t].mean() for b, t in rows]
    assert_close(loss, -np.mean(each))
    loss.backward()
    assert not leaf.grad[0, 2:].any()
    assert abs(leaf.grad[0, :2]).min() > 0


@law(channels=st.integers(1, 600), warmup=st.integers(1, 5000))
def test_the_rate_rises_in_a_line_to_its_peak_and_falls_with_the_root(
    channels: int, warmup: int
) -> None:
    own = {"channels": channels, "warmup": warmup, "factor": 1.7}
    peak = 1.7 / np.sqrt(channels * warmup)
    assert_close(noam(warmup - 1, **own), peak)
    assert_close(noam(0, **own), peak / warmup)
    assert_close(noam(4 * warmup - 1, **own), peak / 2)
    steps = [noam(t, **own) for t in range(0, 2 * warmup, max(1, warmup // 7))]
    assert max(steps) <= peak * (1 + 1e-12)


def test_the_rate_of_the_paper_peaks_at_0_0007() -> None:
    assert f"{noam(3999, channels=512):.4f}" == "0.0007"


# ── errors ───────────────────────────────────────────────────────────────────────────────────────

RNG = np.random.default_rng(0)
MODEL = transformer(RNG)
ONE = np.array([[3, 4]])
ERRORS = [
    (lambda: transformer(RNG, embed_dim=7), "positions come in pairs, embed_dim must be even, got"),
    (lambda: transformer(RNG, num_heads=3), "8 channels do not divide into 3 heads"),
    (lambda: transformer(RNG, depth=0), "Transformer: depth must be a positive int, got 0"),
    (lambda: MODEL(ONE * 1.0, ONE), "the source must be words (B, N), integers, at least one of"),
    (lambda: MODEL(ONE, ONE[0]), "Transformer: the target must be words (B, N), integers, at"),
    (lambda: MODEL(ONE, ONE[:, :0]), "at least one of them; got int64 (1, 0)"),
    (lambda: MODEL(np.array([[3], [PAD]]), ONE), "a source holds nothing but padding; leave it"),
    (lambda: MODEL(ONE, ONE + V), "take: rows must lie in 0…6, got values from 10 to 11"),
    (
        lambda: sequence_loss(MODEL(ONE, ONE), np.array([[1, 2, 3]])),
        "sequence_loss: targets must be (1, 2) like the logits, got (1, 3)",
    ),
    (lambda: sequence_loss(MODEL(ONE, ONE), ONE * 0), "the targets hold nothing but padding"),
    (lambda: beam_search(MODEL, ONE, **WORDS, length=3, width=0), "width must be a positive int"),
    (lambda: noam(-1, channels=8), "noam: step counts from 0, got -1"),
    (lambda: noam(0, channels=8, warmup=0), "noam: warmup and channels must be 1 or more, got"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors_say_who_what_and_what_to_do(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert message in str(caught.value)
