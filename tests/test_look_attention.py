"""The attention that is shown is the model's own: found a second way, from the layers alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_models import batch, tiny_model

from minswin.autograd import Tensor, no_grad
from minswin.composites import split_heads
from minswin.look import attention
from minswin.look.page import recorded
from minswin.models import create_model


def image():
    return batch(1)[0][0]  # (3, 8, 12)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_hand(block, x):
    """The probabilities of a block for tokens x (H, W, C) by loops over pairs in the image."""
    layer, (H, W, _) = block.attn, x.shape
    (Mh, Mw), shift = layer.window, [m // 2 * layer.shift for m in layer.window]
    with no_grad():
        normed = block.norm1(Tensor(x.reshape(1, 1, H * W, -1)))
        q, k, _ = (t.data[0, 0] for t in split_heads(layer.qkv(normed), layer.heads))  # (h, HW, d)
    table = layer.relative_position_bias_table.data
    logits = np.full((layer.heads, H * W, H * W), -np.inf)
    for i in range(H * W):
        for j in range(H * W):
            (r, c), (s, t) = divmod(i, W), divmod(j, W)
            same_row = (r + Mh - shift[0]) // Mh == (s + Mh - shift[0]) // Mh
            if same_row and (c + Mw - shift[1]) // Mw == (t + Mw - shift[1]) // Mw:
                row = (r - s + Mh - 1) * (2 * Mw - 1) + c - t + Mw - 1
                logits[:, i, j] = (q[:, i] * k[:, j]).sum(-1) / q.shape[-1] ** 0.5 + table[row]
    return softmax(logits)


def test_a_token_looks_where_loops_over_the_image_say():
    model, x = tiny_model(), image()
    seen = attention.attention_maps(model, x)
    assert [(s.stage, s.block, s.shift) for s in seen] == [(0, 0, (0, 0)), (0, 1, (1, 1))]
    with no_grad():
        tokens = model.embed(x[None])
        for block, record in zip(model.layers[0].blocks, seen, strict=True):
            want = by_hand(block, tokens.data[0])  # (h, HW, HW)
            for token in [(0, 0), (1, 3), (3, 5)]:
                for head in range(2):
                    got = attention.looks_at(record, token, head=head)
                    own = want[head, token[0] * 6 + token[1]].reshape(4, 6)
                    np.testing.assert_allclose(got, own, rtol=1e-10, atol=1e-30)
                mean = want[:, token[0] * 6 + token[1]].mean(0).reshape(4, 6)
                got = attention.looks_at(record, token)
                np.testing.assert_allclose(got, mean, rtol=1e-10, atol=1e-30)
            tokens = block(tokens)


def test_what_goes_to_the_padding_of_a_map_is_not_in_the_image():
    model = tiny_model(window_size=3)  # a 4×6 map is padded to 6×6
    seen = attention.attention_maps(model, image())
    assert [(s.grid, s.covered) for s in seen] == [((4, 6), (6, 6))] * 2
    inside, at_the_end = (attention.looks_at(seen[0], token).sum() for token in [(0, 0), (3, 0)])
    assert abs(inside - 1) < 1e-12 and at_the_end < 0.9


def test_stages_are_counted_by_their_merges():
    model = tiny_model(depths=(1, 2), num_heads=(1, 3))
    seen = attention.attention_maps(model, image())
    assert [(s.name, s.grid) for s in seen] == [
        ("stage 0, block 0", (4, 6)),
        ("stage 1, block 0", (2, 3)),
        ("stage 1, block 1", (2, 3)),
    ]
    assert [s.probabilities.shape[1] for s in seen] == [1, 3, 3]


def test_a_vit_is_one_window_with_the_class_token_in_front():
    seen = attention.attention_maps(tiny_model("vit_cifar"), image())
    assert [(s.probabilities.shape, s.window, s.front) for s in seen] == [
        ((1, 2, 7, 7), (2, 3), 1)
    ] * 2
    p = seen[1].probabilities[0, 1]
    assert np.array_equal(attention.looks_at(seen[1], None, head=1), p[0, 1:].reshape(2, 3))
    assert np.array_equal(attention.looks_at(seen[1], (1, 2), head=1), p[6, 1:].reshape(2, 3))
    with pytest.raises(ValueError, match="has no class token; give token="):
        attention.looks_at(attention.attention_maps(tiny_model(), image())[0], None)


def test_of_tnt_the_patches_are_seen_and_not_the_words():
    model = create_model("tnt_cifar", depth=2, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((3, 32, 32)).astype(np.float32)
    shapes = [s.probabilities.shape for s in attention.attention_maps(model, x)]
    assert shapes == [(1, 6, 65, 65)] * 2


def test_looking_leaves_the_model_in_its_mode_and_draws_nothing():
    model = tiny_model(rate=0.5, attn_drop_rate=0.5)
    model.train()
    state = model.rng.bit_generator.state
    attention.attention_maps(model, image())
    assert model.training and model.rng.bit_generator.state == state


# ── rollout ──────────────────────────────────────────────────────────────────────────────────────


def dense(record):
    """The mean over heads of P in the image, tokens × tokens."""
    H, W = record.grid
    rows = [attention.looks_at(record, (r, c)).ravel() for r in range(H) for c in range(W)]
    return np.array(rows)


def test_rollout_equals_the_product_of_whole_matrices():
    model = tiny_model(depths=(2, 1), num_heads=(2, 3))
    seen = attention.attention_maps(model, image())
    R = np.eye(24)
    for block in range(2):
        R = (dense(seen[block]) @ R + R) / 2
    got = attention.rollout(seen)
    np.testing.assert_allclose(got[1], R.mean(0).reshape(4, 6), rtol=1e-5)
    four = R.reshape(2, 2, 3, 2, 24).mean(axis=(1, 3)).reshape(6, 24)  # 2×2 tokens become one
    R = (dense(seen[2]) @ four + four) / 2
    np.testing.assert_allclose(got[2], R.mean(0).reshape(4, 6), rtol=1e-5)
    assert abs(got[1].sum() - 1) < 1e-5 and got[2].sum() < 0.95  # a 2×3 map has padding


def test_rollout_of_a_vit_is_the_row_of_its_class_token():
    seen = attention.attention_maps(tiny_model("vit_cifar"), image())
    R = np.eye(7)
    for record in seen:
        R = (record.probabilities[0].mean(0) @ R + R) / 2
    np.testing.assert_allclose(attention.rollout(seen)[-1], R[0, 1:].reshape(2, 3), rtol=1e-5)


# ── for a page ───────────────────────────────────────────────────────────────────────────────────


def test_bytes_keep_a_probability_to_half_a_step_of_its_root():
    p = np.random.default_rng(0).random((2, 3, 5, 5))
    back = (recorded.quantised(p) / 255.0) ** 2
    assert np.abs(np.sqrt(back) - np.sqrt(p)).max() <= 0.5 / 255 + 1e-12
    assert recorded.quantised(np.array([0.0, 1.0])).tolist() == [0, 255]


def test_a_page_that_would_be_too_large_leaves_out_middle_blocks_then_heads():
    model = tiny_model(depths=(6,), num_heads=(2,))
    seen = attention.attention_maps(model, image())
    whole = sum(recorded.letters(record, None) for record in seen)
    ends = [seen[i] for i in (0, 1, 4, 5)]
    fewer = [sum(recorded.letters(record, heads) for record in ends) for heads in (2, 1)]
    assert recorded.choose(seen, whole) == (seen, None)
    for budget, heads in ((whole - 1, None), (fewer[0], None), (fewer[0] - 1, 1), (fewer[1], 1)):
        assert recorded.choose(seen, budget) == (ends, heads)
    assert recorded.choose(seen, fewer[1] - 1)[0] == ends[-2:]
    assert recorded.choose(seen, 100) == ([], None)


@pytest.mark.parametrize("heads", [None, 1])
@pytest.mark.parametrize(
    "settings",
    [{}, {"window_size": 3}, {"num_heads": (3,), "window_size": (2, 3)}, {"window_size": (4, 6)}],
)
def test_a_block_takes_no_more_of_a_page_than_was_reckoned(settings, heads):
    for record in attention.attention_maps(tiny_model(**settings), image()):
        data = recorded.recorded_attention([record])["blocks"]
        (data,) = data if heads is None else [recorded._block(record, heads)]
        taken = len(json.dumps(data, separators=(",", ":")))
        assert taken <= recorded.letters(record, heads) <= taken + recorded.AROUND


def test_attention_is_found_in_its_stage_and_summaries_of_twins_are_left_out():
    model = create_model("twins_cifar", rng=np.random.default_rng(0))
    pixels = np.random.default_rng(1).standard_normal((3, 32, 32)).astype(np.float32)
    for record in attention.attention_maps(model, pixels):
        H, W = record.grid
        assert record.front == 0 and H == W == 16 // 2**record.stage
        N = record.window[0] * record.window[1]
        assert record.probabilities.shape[0] * N == record.covered[0] * record.covered[1]
        block = model.blocks[record.stage][record.block]
        assert record.probabilities.shape[1] == block.attn.heads
