"""The original Transformer equals torch.nn.Transformer, but for the norm at the end of its stacks.

Embeddings, positions and the shared matrix of the logits, which torch leaves to its user, are
spelled out here with torch's own functions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from minswin import ops
from minswin.autograd import Tensor
from minswin.models import transformer
from minswin.models.transformer import Transformer, sequence_loss

from .compare import TOLERANCE, error, randomise
from .family import Proof
from .names import State
from .peers import tensor, torch

pytestmark = pytest.mark.parity

CASES: list[dict[str, Any]] = [
    {"vocabulary": 11, "embed_dim": 12, "depth": 2, "num_heads": 2, "mlp_ratio": 3},
    {"vocabulary": 7, "embed_dim": 16, "depth": 3, "num_heads": 4, "mlp_ratio": 2, "pad": 5},
]


def ours_and_words(settings: dict[str, Any], seed: int = 0) -> tuple[Any, np.ndarray, np.ndarray]:
    """A model with random gains and biases, sources with padding, and targets."""
    rng = np.random.default_rng(seed)
    model = Transformer(**settings, drop_rate=0.0, rng=rng, dtype=np.float64)
    randomise(model, rng)
    source = rng.integers(0, settings["vocabulary"], (3, 6))
    source[source == model.pad] = 3
    source[1, 4:] = source[2, 1:] = model.pad
    return model, source, rng.integers(0, settings["vocabulary"], (3, 5))


def build(model: Any, settings: dict[str, Any]) -> Any:
    """torch's module with our weights, without the final norms."""
    C = settings["embed_dim"]
    module = torch.nn.Transformer(
        C,
        settings["num_heads"],
        settings["depth"],
        settings["depth"],
        settings["mlp_ratio"] * C,
        dropout=0.0,
        batch_first=True,
        dtype=torch.float64,
    )
    module.encoder.norm = module.decoder.norm = None
    module.load_state_dict({n: tensor(a) for n, a in under_their_names(model.state_dict()).items()})
    return module


ATTENTIONS = {"attn": "self_attn", "cross": "multihead_attn"}


def under_their_names(state: State) -> State:
    """Ours under torch's names: q over k and v in one matrix; the embedding is left out."""
    theirs: State = {}
    for name, array in state.items():
        parts = name.split(".")
        if parts[0] == "embedding":
            continue
        stack, index, part, *rest = parts
        prefix = f"{stack}.layers.{index}."
        if part in ATTENTIONS:
            prefix += ATTENTIONS[part] + "."
            if rest[0] == "proj":
                theirs[f"{prefix}out_proj.{rest[1]}"] = array
            elif rest[0] == "q":
                both = [array, state[name.replace(".q.", ".kv.")]]
                theirs[f"{prefix}in_proj_{rest[1]}"] = np.concatenate(both)
        elif part == "ffn":
            theirs[prefix + rest[0].replace("fc", "linear") + "." + rest[1]] = array
        else:
            theirs[f"{prefix}{part}.{rest[0]}"] = array
    return theirs


def their_logits(module: Any, embedding: Any, source: Any, target: Any, pad: int) -> Any:
    C, T = embedding.shape[1], target.shape[1]
    hidden = tensor(source) == pad
    ahead = torch.triu(torch.ones(T, T, dtype=torch.bool), 1)
    y = module(
        their_tokens(embedding, source, C),
        their_tokens(embedding, target, C),
        tgt_mask=ahead,
        src_key_padding_mask=hidden,
        memory_key_padding_mask=hidden,
    )
    return y @ embedding.T


def their_tokens(embedding: Any, words: np.ndarray, C: int) -> Any:
    places = torch.zeros(words.shape[1], C, dtype=torch.float64)
    for t in range(words.shape[1]):
        for i in range(0, C, 2):
            places[t, i] = math.sin(t / 10000 ** (i / C))
            places[t, i + 1] = math.cos(t / 10000 ** (i / C))
    return torch.nn.functional.embedding(tensor(words), embedding) * C**0.5 + places


def compare(settings: dict[str, Any], spoil: Any = None) -> dict[str, float]:
    """Errors of the logits and of every gradient, by torch's names."""
    model, source, target = ours_and_words(settings)
    module = build(model, settings)
    embedding = tensor(model.embedding.weight.data, requires_grad=True)
    if spoil is not None:
        spoil(model)
    logits = model(source, target)
    theirs = their_logits(module, embedding, source, target, model.pad)
    g = np.random.default_rng(1).standard_normal(logits.shape)
    logits.backward(g)
    theirs.backward(tensor(g))
    gradients: Any = {name: p.grad for name, p in model.named_parameters()}
    ours = under_their_names(gradients)
    errors = {n: error(ours[n], p.grad.numpy()) for n, p in module.named_parameters()}
    errors["embedding"] = error(gradients["embedding.weight"], embedding.grad.numpy())
    return {**errors, "logits": error(logits.data, theirs.detach().numpy())}


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_logits_and_every_gradient_equal_torch(settings, proofs: list[Proof]):
    errors = compare(settings)
    worst = max(errors, key=lambda name: errors[name])
    against = f"torch {torch.__version__}"
    proofs.append(Proof(Transformer, "forward", against, errors["logits"]))
    proofs.append(Proof(Transformer, "gradients", against, errors[worst]))
    assert errors[worst] < TOLERANCE, f"{worst}: {errors[worst]:.1e}"
    assert len(errors) == 2 + settings["depth"] * (12 + 18)


def test_with_its_final_norms_torch_computes_ours_normalised_after_each_stack():
    settings = CASES[0]
    model, source, target = ours_and_words(settings)
    module, rng = build(model, settings), np.random.default_rng(2)
    norms = [[rng.standard_normal(12) for _ in range(2)] for _ in range(2)]
    for stack, (gain, bias) in zip((module.encoder, module.decoder), norms, strict=True):
        stack.norm = torch.nn.LayerNorm(12, dtype=torch.float64)
        stack.norm.load_state_dict({"weight": tensor(gain), "bias": tensor(bias)})
    memory = model.encode(source)
    memory = memory._replace(x=ops.layer_norm(memory.x, *norms[0]))
    ours = model.logits(ops.layer_norm(model.decode(target, memory), *norms[1]))
    embedding = tensor(model.embedding.weight.data)
    theirs = their_logits(module, embedding, source, target, model.pad).detach().numpy()
    assert error(ours.data, theirs) < TOLERANCE
    assert error(model(source, target).data, theirs) > 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_equals_torch_which_ignores_the_padding(smoothing):
    rng = np.random.default_rng(3)
    logits, targets = rng.standard_normal((3, 4, 6)), rng.integers(0, 6, (3, 4))
    targets[1, 2:] = 5
    ours, theirs = Tensor(logits, requires_grad=True), tensor(logits, requires_grad=True)
    loss = sequence_loss(ours, targets, pad=5, smoothing=smoothing)
    ignoring = {"ignore_index": 5, "label_smoothing": smoothing}
    their_loss = torch.nn.functional.cross_entropy(
        theirs.flatten(0, 1), tensor(targets).flatten(), **ignoring
    )
    loss.backward()
    their_loss.backward()
    assert abs(loss.item() - their_loss.item()) < 1e-13
    assert error(ours.grad, theirs.grad.numpy()) < TOLERANCE


# ── planted faults: the comparison sees them ─────────────────────────────────────────────────────


def unscaled_embedding(model: Any) -> None:
    embed = model.embed
    model.embed = lambda words, start=0: embed(words, start) - model.embedding(words)


def another_epsilon(model: Any) -> None:
    model.encoder[0].norm2.eps = 1e-6


def keys_and_values_swapped(model: Any) -> None:
    kv = model.decoder[0].cross.kv.weight.data
    kv[...] = np.concatenate(np.split(kv.copy(), 2)[::-1])


FAULTS = [unscaled_embedding, another_epsilon, keys_and_values_swapped]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_planted_fault_is_seen(fault):
    assert compare(CASES[0], spoil=fault)["logits"] > 100 * TOLERANCE


@pytest.mark.parametrize("mask", ["causal_mask", "padding_mask"])
def test_a_lost_mask_is_seen(mask, monkeypatch):
    make = getattr(transformer, mask)
    monkeypatch.setattr(transformer, mask, lambda *given: np.where(make(*given) < 0, -1.0, 0.0))
    assert compare(CASES[0])["logits"] > 100 * TOLERANCE
