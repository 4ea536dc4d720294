"""Laws of ViT and DeiT: their tokens, patches, positions and heads."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from drawn import fill, law
from hypothesis import strategies as st

from minswin import ops
from minswin.autograd import Tensor
from minswin.layers.embeddings import (
    STEMS,
    ConvStem,
    PatchEmbed,
    RelativePositionBias,
    sinusoids,
)
from minswin.models import DistilledVisionTransformer, VisionTransformer
from minswin.models.deit import hard_distillation_loss, soft_distillation_loss
from minswin.models.vit import POSITIONS
from minswin.testing.claims import NORMED, assert_close, assert_derivative, assert_far, assert_same
from minswin.testing.strategies import Pair, seeds

# Patches on a 3×5 grid, 15 of them; all sizes differ.
SMALL: dict[str, Any] = {
    "img_size": (6, 10),
    "patch_size": 2,
    "embed_dim": 8,
    "depth": 2,
    "num_heads": 2,
    "mlp_ratio": 1.5,
    "num_classes": 5,
    "dtype": np.float64,
}
AVG = {"global_pool": "avg"}


def vit(rng: np.random.Generator, **settings: Any) -> VisionTransformer:
    """A small float64 model, all parameters random."""
    return fill(VisionTransformer(**{**SMALL, **settings}, rng=rng), rng)


def deit(rng: np.random.Generator, **settings: Any) -> DistilledVisionTransformer:
    return fill(DistilledVisionTransformer(**{**SMALL, **settings}, rng=rng), rng)


def images(rng: np.random.Generator, B: int = 2, size: Pair = (6, 10)) -> np.ndarray:
    return rng.standard_normal((B, 3, *size))


def shuffled(x: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The image with its 2×2 patches in another order."""
    B, C, H, W = x.shape
    patches = x.reshape(B, C, H // 2, 2, W // 2, 2).transpose(2, 4, 0, 1, 3, 5)
    patches = patches.reshape(-1, B, C, 2, 2)[order].reshape(H // 2, W // 2, B, C, 2, 2)
    return patches.transpose(2, 3, 0, 4, 1, 5).reshape(x.shape)


CHOICES: list[dict[str, Any]] = [
    {},
    {"stem": "convolutions", "img_size": (8, 12), "patch_size": 4},
    {"stem": "overlapping", "positions": "sinusoidal"},
    {"positions": "relative", "representation_size": 7},
    {"global_pool": "avg", "positions": "learned_2d"},
]


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────


@law(examples=8, seed=seeds)
def test_without_positions_shuffled_patches_are_shuffled_tokens(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, order = images(rng), rng.permutation(15)
    model = vit(rng, positions="none", **AVG)
    tokens = model.tokens(x).data
    assert_close(model.tokens(shuffled(x, order)), tokens[:, order], NORMED)
    for build in (vit, deit):
        model = build(rng, positions="none")
        assert_close(model(shuffled(x, order)), model(x).data, NORMED)


@pytest.mark.parametrize("positions", [p for p in POSITIONS if p != "none"])
def test_with_positions_the_order_of_patches_matters(positions: str) -> None:
    rng = np.random.default_rng(0)
    x, order = images(rng), np.roll(np.arange(15), 4)
    model = vit(rng, positions=positions)
    assert_far(model(shuffled(x, order)), model(x))


@law(examples=5, seed=seeds, representation=st.sampled_from([None, 7]))
def test_the_head_reads_the_mean_or_the_class_token(seed: int, representation: int | None) -> None:
    rng = np.random.default_rng(seed)
    for pool in ("avg", "token"):
        model, x = vit(rng, global_pool=pool, representation_size=representation), images(rng)
        tokens = model.tokens(x).data
        assert tokens.shape == (2, 15 + (pool == "token"), 8)
        pooled, state = (tokens.mean(axis=1) if pool == "avg" else tokens[:, 0]), model.state_dict()
        if representation is not None:
            pre = pooled @ state["pre_logits.fc.weight"].T + state["pre_logits.fc.bias"]
            pooled = np.tanh(pre)
        assert_close(model(x), pooled @ state["head.weight"].T + state["head.bias"], NORMED)


@law(examples=4, seed=seeds)
def test_images_of_a_batch_do_not_mix(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for model in (vit(rng), deit(rng, positions="relative")):
        x = images(rng, B=4)
        together, order = model(x).data, rng.permutation(4)
        assert_close(model(x[order]), together[order], NORMED)
        assert_close(model(x[1:2]), together[1:2], NORMED)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_the_model_has_the_derivative_of_its_value(choice: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    model = vit(rng, **{**choice, "depth": 1})
    assert_derivative(model, images(rng, size=model.img_size), rng, model.parameters())


def test_evaluation_equals_a_model_without_any_dropping() -> None:
    rng = np.random.default_rng(0)
    model = vit(rng, drop_rate=0.3, attn_drop_rate=0.4, drop_path_rate=0.5)
    plain, x = vit(rng), images(rng)
    plain.load_state_dict(model.state_dict())
    assert_far(model(x), model(x))  # training: every forward draws anew
    model.eval()
    assert_same(model(x), plain(x))


def test_drop_path_grows_in_equal_steps_from_zero() -> None:
    model = vit(np.random.default_rng(0), depth=4, drop_path_rate=0.3)
    assert_close([block.drop_path.rate for block in model.blocks], [0.0, 0.1, 0.2, 0.3])


# ── patches ──────────────────────────────────────────────────────────────────────────────────────


@law(examples=8, patch=st.tuples(st.integers(1, 3), st.integers(1, 3)), seed=seeds)
def test_convolution_with_stride_p_is_a_linear_map_of_unfolded_patches(
    patch: Pair, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    embed = fill(PatchEmbed(5, patch, norm=False, rng=rng, dtype=np.float64), rng)
    x = images(rng, size=(2 * patch[0], 3 * patch[1]))
    weight, bias = embed.proj.weight, embed.proj.bias
    unfolded = ops.unfold(x, kernel=patch, stride=patch)  # (B, 2, 3, 3·p·p)
    assert_close(embed(Tensor(x)), ops.linear(unfolded, weight.reshape(5, -1), bias).data)
    for r, c in product(range(2), range(3)):
        part = x[:, :, r * patch[0] : (r + 1) * patch[0], c * patch[1] : (c + 1) * patch[1]]
        truth = (part[:, None] * weight.data).sum(axis=(2, 3, 4)) + bias.data
        assert_close(embed(Tensor(x))[:, r, c], truth)


@law(examples=6, patch=st.tuples(st.integers(1, 4), st.integers(2, 4)), seed=seeds)
def test_an_overlapping_patch_is_the_plain_one_and_a_margin_above_and_to_the_left(
    patch: Pair, seed: int
) -> None:
    rng, (ph, pw) = np.random.default_rng(seed), patch
    plain = fill(PatchEmbed(5, patch, norm=False, rng=rng, dtype=np.float64), rng)
    embed = fill(PatchEmbed(5, patch, norm=False, overlap=True, rng=rng, dtype=np.float64), rng)
    x = Tensor(images(rng, size=(2 * ph, 3 * pw)))
    assert embed.proj.weight.shape == (5, 3, 2 * ph - 1, 2 * pw - 1)
    assert_far(embed(x), plain(x))
    embed.proj.weight.data[...] = 0
    embed.proj.weight.data[:, :, ph - 1 :, pw - 1 :] = plain.proj.weight.data
    embed.proj.bias.data[...] = plain.proj.bias.data
    assert_close(embed(x), plain(x).data)


@pytest.mark.parametrize(("patch", "widths"), [(2, [12]), (4, [6, 12]), (8, [3, 6, 12])])
def test_the_convolutional_stem_doubles_its_channels_up_to_those_of_the_tokens(
    patch: int, widths: list[int]
) -> None:
    rng = np.random.default_rng(0)
    stem = ConvStem(12, (patch, patch), rng=rng, dtype=np.float64)
    assert [conv.weight.shape[0] for conv in stem.convs] == widths
    x = images(rng, size=(2 * patch, 3 * patch))
    assert stem(Tensor(x)).shape == (2, 2, 3, 12)
    deep = ConvStem(12, (patch, patch), depth=1, rng=rng, dtype=np.float64)
    assert [conv.weight.shape[0] for conv in deep.convs] == [n for n in widths for _ in range(2)]
    assert deep(Tensor(x)).shape == (2, 2, 3, 12)


# ── positions ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("positions", ["learned", "learned_2d", "relative"])
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_positions_of_zero_are_no_positions(positions: str, pool: str) -> None:
    rng = np.random.default_rng(0)
    model, x = vit(rng, positions=positions, global_pool=pool), images(rng)
    none = vit(rng, positions="none", global_pool=pool)
    zeroed = [n for n, _ in model.named_parameters() if "pos_embed" in n or "rel_pos" in n]
    assert zeroed
    assert not [n for n, _ in none.named_parameters() if "pos" in n]
    none.load_state_dict({n: a for n, a in model.state_dict().items() if n not in zeroed})
    assert_far(model(x), none(x))
    for name in zeroed:
        model.state_dict()[name][...] = 0
    assert_close(model(x), none(x).data, NORMED)


def in_a_table(model: VisionTransformer, table: np.ndarray, rng: np.random.Generator) -> Any:
    """The same model with the learned positions of a table (H, W, C); none for other tokens."""
    learned = type(model)(**SMALL, rng=rng)
    own = model.state_dict()
    front = learned.state_dict()["pos_embed"].shape[1] - 15
    padded = np.concatenate([np.zeros((front, 8)), table.reshape(15, 8)])[None]
    rest = {n: a for n, a in own.items() if not n.startswith("pos_embed")}
    learned.load_state_dict({**rest, "pos_embed": padded})
    return learned


@pytest.mark.parametrize("build", [vit, deit])
def test_positions_by_axis_are_a_table_of_sums(build: Any) -> None:
    rng = np.random.default_rng(0)
    model, x = build(rng, positions="learned_2d"), images(rng)
    state, table = model.state_dict(), np.empty((3, 5, 8))
    for r, c in product(range(3), range(5)):
        table[r, c] = state["pos_embed.row"][r, 0] + state["pos_embed.column"][c]
    assert_close(model(x), in_a_table(model, table, rng)(x).data, NORMED)


def test_sinusoidal_positions_are_waves_of_the_row_and_of_the_column() -> None:
    rng = np.random.default_rng(0)
    model, x = vit(rng, positions="sinusoidal"), images(rng)
    table = np.empty((3, 5, 8))
    for r, c in product(range(3), range(5)):
        waves = [(math.sin(t), math.cos(t), math.sin(t / 100), math.cos(t / 100)) for t in (r, c)]
        table[r, c] = [*waves[0], *waves[1]]
    assert_close(model(x), in_a_table(model, table, rng)(x).data, NORMED)


@law(channels=st.integers(1, 6).map(lambda n: 2 * n), k=st.integers(1, 9))
def test_a_step_of_k_turns_each_pair_of_waves_by_the_same_angle(channels: int, k: int) -> None:
    waves = sinusoids(12 + k, channels)
    assert_close((waves**2).sum(axis=-1), np.full(12 + k, channels / 2))
    pairs = waves.reshape(12 + k, -1, 2) @ [1j, 1]  # cos + i sin
    turn = pairs[k:] / pairs[:-k]
    assert_close(turn, np.broadcast_to(turn[0], turn.shape))
    assert_close(turn[0, 0], np.exp(1j * k))


@law(examples=8, grid=st.tuples(st.integers(1, 4), st.integers(1, 4)), extra=st.integers(0, 2))
def test_a_relative_bias_depends_on_the_displacement_alone(grid: Pair, extra: int) -> None:
    rng = np.random.default_rng(0)
    layer = fill(RelativePositionBias((4, 5), 3, extra=extra, rng=rng, dtype=np.float64), rng)
    table, bias = layer.relative_position_bias_table.data, layer(grid).data
    N = grid[0] * grid[1]
    assert table.shape == (7 * 9 + 3 * (extra > 0), 3)
    assert bias.shape == (3, extra + N, extra + N)
    for p, q in product(range(-extra, N), repeat=2):
        if p < 0 or q < 0:  # a token without a place
            row = 63 + (2 if p < 0 and q < 0 else 0 if p < 0 else 1)
        else:
            dr, dc = p // grid[1] - q // grid[1], p % grid[1] - q % grid[1]
            row = (dr + 3) * 9 + dc + 4
        assert_same(bias[:, extra + p, extra + q], table[row])


@pytest.mark.parametrize("positions", ["sinusoidal", "none", "relative"])
def test_a_model_whose_positions_allow_it_takes_a_smaller_image(positions: str) -> None:
    rng = np.random.default_rng(0)
    model, x = vit(rng, positions=positions), images(rng, size=(4, 8))
    small = vit(rng, positions=positions, img_size=(4, 8))
    state = {name: array.copy() for name, array in model.state_dict().items()}
    for name in [n for n in state if "rel_pos" in n]:  # displacements on 2×4 among those on 3×5
        table, extra = state[name][:-3].reshape(5, 9, 2), state[name][-3:]
        state[name] = np.concatenate([table[1:4, 1:8].reshape(21, 2), extra])
    small.load_state_dict(state)
    assert_close(model(x), small(x).data, NORMED)


# ── the distilled model ──────────────────────────────────────────────────────────────────────────


@law(examples=4, seed=seeds)
def test_a_distilled_model_answers_with_the_mean_of_its_two_heads(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, x = deit(rng), images(rng)
    tokens, state = model.tokens(x).data, model.state_dict()
    assert tokens.shape == (2, 17, 8)
    of_class, of_teacher = model.both(x)
    assert_close(of_class, tokens[:, 0] @ state["head.weight"].T + state["head.bias"], NORMED)
    taught = tokens[:, 1] @ state["head_dist.weight"].T + state["head_dist.bias"]
    assert_close(of_teacher, taught, NORMED)
    for mode in (True, False):
        model.train(mode)
        assert_close(model(x), (of_class.data + of_teacher.data) / 2)


def test_a_student_that_agrees_with_its_teacher_pays_for_the_labels_only() -> None:
    rng = np.random.default_rng(0)
    mine, teacher = (3 * rng.standard_normal((4, 6)) for _ in range(2))
    labels = rng.integers(0, 6, 4)
    both = Tensor(mine, requires_grad=True), Tensor(teacher + 1.7, requires_grad=True)
    loss = soft_distillation_loss(both, labels, teacher, alpha=0.25)
    assert_close(loss, 0.75 * ops.cross_entropy(mine, labels).data)
    loss.backward()
    assert_close(both[1].grad, np.zeros((4, 6)))
    sharp = Tensor(mine), Tensor(teacher * 1e3)
    loss = hard_distillation_loss(sharp, labels, teacher, alpha=0.25)
    assert_close(loss, 0.75 * ops.cross_entropy(mine, labels).data)


def test_every_stem_and_position_goes_with_every_other() -> None:
    rng = np.random.default_rng(0)
    for build, stem, positions in product((vit, deit), STEMS, POSITIONS):
        model = build(rng, stem=stem, positions=positions, depth=1)
        x = images(rng, B=3)
        model(x).backward(rng.standard_normal((3, 5)))
        assert all(abs(p.grad).max() > 0 for p in model.parameters()), (stem, positions)
