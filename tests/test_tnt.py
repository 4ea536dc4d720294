"""Laws of TNT: words, what they tell their patch, and nobody else; what is published."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn import fill, law
from hypothesis import strategies as st
from test_costs import multiplications

from minswin import create_model
from minswin.autograd import Tensor
from minswin.models import TNT
from minswin.models.blank import BLANK
from minswin.models.registry import TNTS
from minswin.testing import oracles
from minswin.testing.claims import NORMED, assert_close, assert_derivative, assert_far, assert_same
from minswin.testing.strategies import seeds

# 2×3 patches of 2×3 words, cut from 4×6 pixels
SMALL: dict[str, Any] = {
    "img_size": (8, 18),
    "patch_size": (4, 6),
    "inner_stride": 2,
    "embed_dim": 10,
    "inner_dim": 4,
    "depth": 2,
    "num_heads": 5,
    "inner_num_heads": 2,
    "mlp_ratio": 1.5,
    "num_classes": 5,
    "dtype": np.float64,
}


def tnt(rng: np.random.Generator, **settings: Any) -> TNT:
    """A small float64 model, all parameters random."""
    return fill(TNT(**{**SMALL, **settings}, rng=rng), rng)


def images(rng: np.random.Generator, B: int = 2) -> np.ndarray:
    return rng.standard_normal((B, 3, 8, 18))


def inner_tokens(model: TNT, x: np.ndarray) -> list[np.ndarray]:
    """The words (B, patches, m, c) after the embedding and after every block."""
    inner, outer = model.embed(x)
    found = [inner.data]
    for block in model.blocks:
        inner, outer = block(inner, outer)
        found.append(inner.data)
    return [words.reshape(len(x), 6, 6, 4) for words in found]


# ── words ────────────────────────────────────────────────────────────────────────────────────────


@law(examples=6, patch=st.integers(0, 5), seed=seeds)
def test_words_depend_on_their_own_patch_alone_through_all_blocks(patch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, x = tnt(rng), images(rng)
    r, c = 4 * (patch // 3), 6 * (patch % 3)
    other = x.copy()
    other[1, :, r : r + 4, c : c + 6] += rng.standard_normal((3, 4, 6))
    for before, after in zip(inner_tokens(model, x), inner_tokens(model, other), strict=True):
        assert_far(after[1, patch], before[1, patch])
        assert_same(after[0], before[0])
        assert_same(np.delete(after[1], patch, axis=0), np.delete(before[1], patch, axis=0))
    assert_far(model(other)[1], model(x)[1].data)


def test_legacy_words_see_across_the_border_of_their_patch() -> None:
    rng = np.random.default_rng(0)
    model, x = tnt(rng, legacy=True), images(rng)
    other = x.copy()
    other[0, :, :4, :6] += 1  # the first patch
    for before, after in zip(inner_tokens(model, x), inner_tokens(model, other), strict=True):
        assert_far(after[0, 1], before[0, 1])  # its neighbour
        assert_same(after[0, 2], before[0, 2])  # too far away for filters of 7


@law(examples=4, seed=seeds)
def test_a_word_is_a_filter_on_its_patch_with_zeros_around(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, x = tnt(rng), images(rng)
    words = model.patch_embed(Tensor(x)).data.reshape(2, 2, 3, 2, 3, 4)
    weight, bias = model.patch_embed.proj.weight.data, model.patch_embed.proj.bias.data
    for b, r, c, i, j in np.ndindex(2, 2, 3, 2, 3):
        patch = x[b, :, 4 * r : 4 * r + 4, 6 * c : 6 * c + 6]
        seen = np.pad(patch, ((0, 0), (3, 3), (3, 3)))[:, 2 * i : 2 * i + 7, 2 * j : 2 * j + 7]
        assert_close(words[b, r, c, i, j], (weight * seen).sum(axis=(1, 2, 3)) + bias)


def test_on_one_patch_legacy_words_are_the_same() -> None:
    rng = np.random.default_rng(0)
    one, other = tnt(rng, img_size=(4, 6)), tnt(rng, img_size=(4, 6), legacy=True)
    state = one.patch_embed.state_dict()
    other.patch_embed.load_state_dict(state)
    x = Tensor(rng.standard_normal((3, 3, 4, 6)))
    assert_close(other.patch_embed(x), one.patch_embed(x).data)


# ── sentences ────────────────────────────────────────────────────────────────────────────────────


def attend(x: np.ndarray, state: dict[str, Any], heads: int) -> np.ndarray:
    """Attention among tokens (N, C), head by head."""
    C = x.shape[1]
    d = C // heads
    q, k = np.split(x @ state["qk.weight"].T, 2, axis=1)
    v, y = x @ state["v.weight"].T, np.zeros_like(x)
    for head in range(heads):
        own, zero = slice(head * d, (head + 1) * d), np.zeros((len(x), len(x)))
        y[:, own] = oracles.attend(q[:, own], k[:, own], v[:, own], zero)
    return y @ state["proj.weight"].T + state["proj.bias"]


def norm(x: np.ndarray, state: dict[str, Any], name: str) -> np.ndarray:
    return oracles.layer_norm(x, state[f"{name}.weight"], state[f"{name}.bias"])


def transform(x: np.ndarray, state: dict[str, Any], which: str, heads: int) -> np.ndarray:
    """A pre-norm Transformer block among tokens (N, C)."""
    attn, mlp = (oracles.below(state, f"{which}_{part}") for part in ("attn", "mlp"))
    x = x + attend(norm(x, state, f"{which}_norm1"), attn, heads)
    return x + oracles.mlp(norm(x, state, f"{which}_norm2"), mlp)


@law(examples=3, legacy=st.booleans(), seed=seeds)
def test_a_block_is_one_transformer_in_each_patch_and_one_over_patches(
    legacy: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    model = tnt(rng, legacy=legacy, depth=1)
    block, state = model.blocks[0], model.blocks[0].state_dict()
    inner, outer = rng.standard_normal((12, 6, 4)), rng.standard_normal((2, 7, 10))
    words, sentences = block(Tensor(inner), Tensor(outer))
    heard = outer.copy()
    for n in range(12):
        truth = transform(inner[n], state, "inner", 2)
        assert_close(words.data[n], truth, NORMED)
        if legacy:
            told = norm(truth, state, "proj_norm1").ravel() @ state["proj.weight"].T
            told = told + state["proj.bias"]
        else:
            told = norm(truth.reshape(1, -1), state, "proj_norm1") @ state["proj.weight"].T
            told = norm(told, state, "proj_norm2")[0]
        heard[n // 6, 1 + n % 6] += told
    for b in range(2):
        assert_close(sentences.data[b], transform(heard[b], state, "outer", 5), NORMED)


def test_the_model_is_words_sentences_blocks_and_the_class_token() -> None:
    rng = np.random.default_rng(0)
    model, x = tnt(rng), images(rng)
    state, inner = model.state_dict(), model.patch_embed(Tensor(x)).data
    inner = inner + state["inner_pos"]
    told = norm(inner.reshape(12, -1), state, "proj_norm1") @ state["proj.weight"].T
    told = norm(told + state["proj.bias"], state, "proj_norm2").reshape(2, 6, 10)
    cls = np.broadcast_to(state["cls_token"], (2, 1, 10))
    pair = Tensor(inner), Tensor(np.concatenate([cls, told], axis=1) + state["outer_pos"])
    for block in model.blocks:
        pair = block(*pair)
    first = norm(pair[1].data[:, 0], state, "norm")
    assert_close(model(x), first @ state["head.weight"].T + state["head.bias"], NORMED)


@pytest.mark.parametrize(
    "choice",
    [{}, {"legacy": True, "qkv_bias": True}, {"inner_stride": 4, "qkv_bias": True}],
    ids=str,
)
def test_the_model_has_the_derivative_of_its_value(choice: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    model = tnt(rng, **choice, depth=1)
    assert_derivative(model, images(rng), rng, model.parameters())


@law(examples=4, legacy=st.booleans(), seed=seeds)
def test_images_of_a_batch_do_not_mix(legacy: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, x = tnt(rng, legacy=legacy), images(rng, B=4)
    together, order = model(x).data, rng.permutation(4)
    assert_close(model(x[order]), together[order], NORMED)
    assert_close(model(x[1:2]), together[1:2], NORMED)


@law(examples=3, seed=seeds)
def test_float32_gives_the_logits_of_float64_to_four_digits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, low = tnt(rng), tnt(np.random.default_rng(0), dtype=np.float32)
    low.load_state_dict(model.state_dict())
    x = images(rng).astype(np.float32)
    ours = low(x)
    assert ours.dtype == np.float32
    assert_close(ours, model(x.astype(np.float64)).data, 1e-4)


# ── dropping ─────────────────────────────────────────────────────────────────────────────────────


def test_words_drop_their_paths_for_each_patch_by_itself() -> None:
    rng = np.random.default_rng(0)
    block = tnt(rng, drop_path_rate=0.5).blocks[1]
    inner, outer = rng.standard_normal((12, 6, 4)), rng.standard_normal((2, 7, 10))
    words, _ = block(Tensor(inner), Tensor(outer))
    left = [np.array_equal(words.data[n], inner[n]) for n in range(12)]
    assert 0 < sum(left) < 12  # a quarter on average: both branches dropped


def test_evaluation_equals_a_model_without_any_dropping() -> None:
    rng = np.random.default_rng(0)
    model = tnt(rng, drop_rate=0.3, attn_drop_rate=0.4, drop_path_rate=0.5)
    plain, x = tnt(rng), images(rng)
    plain.load_state_dict(model.state_dict())
    assert_far(model(x), model(x))  # training: every forward draws anew
    model.eval()
    assert_same(model(x), plain(x))


# ── what is published ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [("tnt_small", 23_768_584, "5.2"), ("tnt_base", 65_428_680, "14.1")],
)
def test_parameters_and_macs_are_the_published_ones(name: str, parameters: int, macs: str) -> None:
    model = create_model(name, rng=BLANK)
    assert model.parameter_count() == parameters
    assert f"{model.flops() / 1e9:.1f}" == macs


@pytest.mark.parametrize("name", TNTS)
@pytest.mark.parametrize("legacy", [False, True])
def test_the_summary_accounts_for_every_parameter(name: str, legacy: bool) -> None:
    model = create_model(name, rng=BLANK, legacy=legacy)
    assert isinstance(model, TNT)
    assert sum(row.parameters for row in model.summary()) == model.parameter_count()


@pytest.mark.parametrize("choice", [{}, {"legacy": True}, {"inner_stride": 4}], ids=str)
def test_the_stated_cost_is_the_number_of_multiplications(choice: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    model = tnt(rng, **choice)
    assert model.flops() == sum(multiplications(model, images(rng, B=1)).values())


def test_names_and_shapes_of_tnt_small_are_those_of_the_original() -> None:
    c, D = 24, 384
    told, heads = 16 * c, {"inner": c, "outer": D}
    expected: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, D), "outer_pos": (1, 197, D), "inner_pos": (1, 16, c),
        "patch_embed.proj.weight": (c, 3, 7, 7), "patch_embed.proj.bias": (c,),
        "proj_norm1.weight": (told,), "proj_norm1.bias": (told,),
        "proj.weight": (D, told), "proj.bias": (D,),
        "proj_norm2.weight": (D,), "proj_norm2.bias": (D,),
    }  # fmt: skip
    for i in range(12):
        for which, n in heads.items():
            block: dict[str, tuple[int, ...]] = {
                "norm1.weight": (n,), "norm1.bias": (n,),
                "attn.qk.weight": (2 * n, n), "attn.v.weight": (n, n),
                "attn.proj.weight": (n, n), "attn.proj.bias": (n,),
                "norm2.weight": (n,), "norm2.bias": (n,),
                "mlp.fc1.weight": (4 * n, n), "mlp.fc1.bias": (4 * n,),
                "mlp.fc2.weight": (n, 4 * n), "mlp.fc2.bias": (n,),
            }  # fmt: skip
            expected |= {f"blocks.{i}.{which}_{name}": shape for name, shape in block.items()}
            if which == "inner":
                expected |= {
                    f"blocks.{i}.proj_norm1.weight": (told,),
                    f"blocks.{i}.proj_norm1.bias": (told,),
                    f"blocks.{i}.proj.weight": (D, told),
                    f"blocks.{i}.proj_norm2.weight": (D,),
                    f"blocks.{i}.proj_norm2.bias": (D,),
                }
    expected |= {"norm.weight": (D,), "norm.bias": (D,)}
    expected |= {"head.weight": (1000, D), "head.bias": (1000,)}
    model = create_model("tnt_small", rng=BLANK)
    ours = {name: array.shape for name, array in model.state_dict().items()}
    assert list(ours.items()) == list(expected.items())


RNG = np.random.default_rng(0)
ERRORS = [
    (lambda: tnt(RNG, depth=-1), "TNT: depth must be an int of 0 or more, got -1"),
    (lambda: tnt(RNG, inner_num_heads=3), "TNT: 4 channels do not divide into 3 heads; choose"),
    (
        lambda: tnt(RNG, legacy=True, inner_stride=4),
        "WordEmbed: legacy words lie on one grid over the image, so inner_stride must divide "
        "the 4×6 patches, got 4",
    ),
    (
        lambda: tnt(RNG)(np.zeros((2, 3, 8, 12))),
        "TNT: the positions were made for 2×3 patches, got 2×2; build the model with img_size="
        "(8, 12)",
    ),
    (lambda: tnt(RNG)(np.zeros((2, 3, 9, 18))), "TNT: a 9×18 image does not divide into 4×6"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors_say_who_what_and_what_to_do(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert message in str(caught.value)
