"""Edits of our text: which there are, and what they give."""

from __future__ import annotations

from typing import Any

import numpy as np
from tiny_models import tiny_model

from minswin.autograd import Tensor
from minswin.crosscheck.edits.classics import classic_edits, classics, edit_of
from minswin.crosscheck.edits.helpers import (
    e_causal,
    e_far_apart,
    e_interleaved,
    e_masked_late,
    e_padded,
    e_softmax,
)
from minswin.crosscheck.edits.loading import _by_columns, loadings, shared
from minswin.crosscheck.edits.moves import along_images
from minswin.crosscheck.edits.operators import edits_of
from minswin.crosscheck.edits.spots import watch
from minswin.crosscheck.edits.texts import Text
from minswin.layers import LayerNorm, Linear
from minswin.layers.base import Layer
from minswin.layers.parameters import Init
from minswin.layers.windows_v2 import unit
from minswin.reference.conv import max_pool2d
from minswin.reference.normalize import softmax


def joined(x: Any, y: Any, self: Any = None) -> Any:
    z = np.concatenate([x[:1], y])
    z = concatenated.concatenate(x[:1], z[1:])
    return sum_of([z, z])


class concatenated:
    concatenate = staticmethod(lambda a, b: np.concatenate([a, b]))


def sum_of(xs: list[Any]) -> Any:
    return sum(x.sum() for x in xs)


def edits(function: Any, *arguments: Any) -> dict[str, str]:
    text = Text(function)
    seen = watch([text], lambda: function(*arguments))
    return {e.source: e.words for e in edits_of(text, seen)}


def test_the_other_end_and_each_by_itself_are_edits() -> None:
    x = np.arange(6.0).reshape(3, 2)
    found = edits(joined, x, x)
    both = [s for s, words in found.items() if words == "everything from the other end"]
    assert len(both) == 1 and "concatenated.concatenate(z[:-1], x[-1:])" in both[0]
    assert "np.concatenate([x[-1:], y])" in both[0]
    assert any("[sum_of([each]) for each in [z, z]]" in source for source in found)


def grouped(x: Any, y: Any) -> Any:
    size = x.shape[0], y.shape[1]
    z = (x - y) * (x + y) / np.sqrt(x + 10)
    return (z - y) * size[0] / x, size


def test_an_edit_of_grouped_numbers_keeps_them_together() -> None:
    """A tuple without brackets, a sum in brackets, a sum that was the argument of a function."""
    x = np.arange(1.0, 7).reshape(2, 3)
    found = edits(grouped, x, x[::-1])
    for source, words in found.items():
        compile(source, words, "exec")
    for new in (
        "size = e_bump((x.shape[0], y.shape[1]), 1, -1)\n",  # off by one
        "z = ((x + y) * (x - y)) / np.sqrt(x + 10)\n",  # exchanged
        "z = (((x - y) * (x + y)) * (x + y)) / np.sqrt(x + 10)\n",  # twice
        "z = (x - y) * (x + y) / (x + 10)\n",  # left out
        "return (((z - y) / x) * (size[0])), size\n",  # later, in a tuple
        "return ((z * (size[0])) - y) / x, size\n",  # earlier
    ):
        assert any(new in source for source in found), new


def test_heads_are_taken_apart_the_other_way() -> None:
    x = np.arange(12.0).reshape(1, 12)
    expected = x.reshape(1, 3, 4).transpose(0, 2, 1).reshape(1, 12)
    np.testing.assert_array_equal(e_interleaved(x, 3), expected)
    expected = x.reshape(2, 3, 2).transpose(1, 0, 2).reshape(1, 12)  # two heads of q, k and v
    np.testing.assert_array_equal(e_interleaved(x, 2, 3), expected)


def stepped(x: Any, c: float) -> Any:
    v = np.pad(x, ((0, 0), (0, 1)))
    v += x.sum()
    v *= 2
    x -= c * v[:, :2]
    return x + 2 * c


def test_what_fills_up_a_root_more_and_a_factor_of_a_later_statement_are_edits() -> None:
    found = edits(stepped, np.ones((2, 2)), 0.5)
    for new in (
        "v = e_filled('wrap', x, ((0, 0), (0, 1)))",
        "return x + ((2 * c) ** 0.5)",
        "v += c * x.sum()\n    v *= 2\n    x -= v[:, :2]\n",
    ):
        assert any(new in source for source in found), new


class Attention(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = Linear(4, 12, init=Init(0))


def test_a_weight_of_three_maps_is_transposed_and_rows_move_with_their_biases() -> None:
    layer = Attention()
    weight, bias = layer.qkv.weight.data, np.arange(12.0)
    layer.qkv.bias.data = bias
    given = {(e.name, e.words): e for e in loadings(layer)}
    with given["qkv.weight", "transposed"].planted():
        thirds = [third.T for third in np.split(weight, 3)]
        np.testing.assert_array_equal(layer.qkv.weight.data, np.concatenate(thirds))
    with given["qkv", "q, k and v interleaved by 2 heads"].planted():
        order = np.arange(12).reshape(2, 3, 2).swapaxes(0, 1).ravel()
        np.testing.assert_array_equal(layer.qkv.weight.data, weight[order])
        np.testing.assert_array_equal(layer.qkv.bias.data, bias[order])
    assert layer.qkv.weight.data is weight and layer.qkv.bias.data is bias


def sisters(x: Any, mask: Any, self: Any = None) -> Any:
    x = x + np.tanh(x.mean(axis=-1, keepdims=True))
    index = (3 + x) * 5 + (mask - 1)
    return x + np.tanh(index.mean(axis=-1, keepdims=True)) + mask


def test_what_is_written_twice_is_edited_at_both_places() -> None:
    x = np.arange(6.0).reshape(3, 2)
    found = edits(sisters, x, np.where(x > 3, -100.0, 0.0))
    both = [s for s, w in found.items() if w == "a reduction over another axis, at 2 places"]
    assert any(s.count("axis=0, keepdims") == 2 for s in both)
    sums = [s for s, w in found.items() if w == "a residual counted twice, at 2 places"]
    assert any("x = x + x + np.tanh(" in s and "return x + x + np.tanh(" in s for s in sums)
    assert any("index = (x + mask)\n" in s for s, w in found.items() if w == "its numbers left out")
    masked = [s for s, w in found.items() if w == "0 where it is masked"]
    assert any("return e_unmasked(x + np.tanh(" in s and "+ mask)" in s for s in masked)


SIDE = 1


def divided(x: Any, y: Any, self: Any = None) -> Any:
    x = x / 2
    x /= 3
    return sum_of([x * y, y]) / 5 + y


def test_one_sign_of_two_places_of_more_is_wrong() -> None:
    x = np.arange(6.0).reshape(3, 2)
    found = [s for s, words in edits(divided, x, x).items() if words.endswith("2 places")]
    assert any("x * 2" in s and "x *= 3" in s and "/ 5" in s for s in found)
    assert any("x / 2" in s and "x *= 3" in s and "* 5" in s for s in found)


def attended(f: Any, x: Any, y: Any, z: Any) -> Any:
    return f(x * y, z)


def test_what_one_argument_is_multiplied_by_another_is_too() -> None:
    x = np.ones(3)
    found = edits(attended, lambda a, b: a + b, x, x, x)
    assert any("f(x * y, z * (y))" in source for source in found)


def channels(f: Any, x: Any) -> Any:
    return f(x)


def test_what_is_channels_last_is_read_as_channels_first() -> None:
    x = np.arange(6.0).reshape(1, 2, 3)
    found = edits(channels, np.array, x)
    assert any("return e_written(f(x), 1, 2)" in source for source in found)


def cut(x: Any, attend: Any, f: Any) -> Any:
    x = f(x, 1, padding=(2, 2))
    x = f(x, f(x, x.shape[-1], side=SIDE), side=SIDE)
    axes = (2, 0, 3, 1, 4)
    y = x.transpose(*axes)
    return attend(y * y.shape[-1] ** -0.5 + np.where(y > 0, -100.0, 0.0))


def test_sides_axes_arguments_and_transpositions_are_edits() -> None:
    x = np.arange(2 * 3 * 3 * 2 * 4.0).reshape(2, 3, 3, 2, 4) - 7
    found = edits(cut, x, np.tanh, lambda x, y, side=0, padding=0: x)
    for new, words in (
        ("e_padded(f, 0, x, 1, padding=(2, 2))", "padded at the bottom and the right"),
        ("e_padded(f, 1, x, 1, padding=(2, 2))", "padded at the bottom and the right"),
        ("y.shape[-3] ** -0.5", "another axis of a shape"),
        ("x = f(x, f(x, x.shape[-1], side=0), side=0)", "another constant, at 2 places"),
        ("e_as_shape(x.transpose(0, 2, 3, 1, 4), x.transpose(*axes))", PARTLY),
        ("e_as_shape(x.transpose(2, 0, 1, 3, 4), x.transpose(*axes))", PARTLY),
        ("return e_masked_late(attend, y * y.shape[-1]", "masked behind the softmax"),
    ):
        assert any(new in source for source, w in found.items() if w == words), new


PARTLY = "a reshape in the place of a part of a transposition"


def defined(f: Any) -> Any:
    one = f(3, stride=2)
    return one, f(4)


def bounded(x: Any) -> Any:
    return 16.0 * np.tanh(x) + x.sum(axis=-1, keepdims=True)


def test_an_array_for_a_number_and_a_sum_over_heads_are_edits() -> None:
    found = edits(bounded, np.ones((2, 3, 4)))
    source = Text(bounded).source
    assert found[source.replace("16.0 *", "x *")] == "an array in the place of a number"
    assert found[source.replace("=-1", "=(-3, -1)")] == "a reduction over another axis"


def test_images_are_taken_for_tokens_by_all_arrays_of_a_call() -> None:
    text, x, k = Text(blended), np.random.default_rng(0).random((2, 3, 4)), np.ones((2, 3, 4))
    seen = watch([text], lambda: blended(x, k))
    (edit,) = along_images([text], seen, 2)
    with edit.planted():
        np.testing.assert_array_equal(blended(x, k), np.broadcast_to(x.mean(0), x.shape))
    assert not [*along_images([text], seen, 3)]


def test_lengths_stand_in_the_place_of_vectors_of_length_1() -> None:
    rng = np.random.default_rng(0)
    q, k = (rng.standard_normal((2, 3, 4)) for _ in range(2))
    text = Text(unit)
    values = watch([text], lambda: unit(Tensor(q)))
    words = "the length for what is divided by it"
    (edit,) = [e for e in edits_of(text, values) if e.words == words]
    assert "+ return ops.sqrt(ops.relu(squares - 1e-24) + 1e-24)" in edit.diff
    with edit.planted():
        products = unit(Tensor(q)).numpy() @ unit(Tensor(k)).numpy().swapaxes(1, 2)
    lengths = [np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k)]
    assert unit(Tensor(q)).shape == q.shape
    np.testing.assert_allclose(products, lengths[0] @ lengths[1].swapaxes(1, 2), rtol=1e-12)


def test_a_reduction_over_one_axis_is_taken_over_all() -> None:
    text, x = Text(mean_of_tokens), np.ones((2, 3, 4))
    seen = watch([text], lambda: mean_of_tokens(x, x))
    assert "mean(axis=None," in next(along_images([text], seen, 2)).source


class Half(Layer):
    """A half of a block: what it is made of is of two kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mlp = LayerNorm(4, init=Init(0)), Linear(4, 4, init=Init(0))

    def __call__(self, x: Any) -> Any:
        return x + self.mlp(self.norm(x))


def test_other_layers_products_and_branches_without_a_residual_are_edits() -> None:
    half, text = Half(), Text(Half.__call__)
    seen = watch([text], lambda: half(Tensor(np.ones((2, 3, 4), np.float32))))
    found = {e.source: e.words for e in edits_of(text, seen)}
    right = "x + self.mlp(self.norm(x))"
    for wrong, words in (
        ("x + self.norm(self.norm(x))", "another layer"),
        ("x * self.mlp(self.norm(x))", "a product for a sum"),
        ("2 * self.mlp(self.norm(x))", "a residual counted twice"),
    ):
        assert found[text.source.replace(right, wrong)] == words, wrong


def compared(f: Any, g: Any, a: Any, b: Any) -> Any:
    return f(g(a) * 2, b)


def test_an_operation_of_one_argument_is_that_of_another() -> None:
    x = np.ones((2, 3))
    found = edits(compared, np.add, np.tanh, x, 2 * x)
    source = Text(compared).source
    for new, words in (
        ("f(a * 2, g(b))", "an operation of another argument"),
        ("f(g(a), b * (2))", "an operation of another argument"),
        ("f(g(a) * 2, g(b))", "an operation on another argument too"),
        ("f(g(a) * 2, b * (2))", "an operation on another argument too"),
    ):
        assert found[source.replace("f(g(a) * 2, b)", new)] == words, new


def blended(x: Any, k: Any) -> Any:
    return mean_of_tokens(x, k)


def mean_of_tokens(x: Any, k: Any) -> Any:
    return (x * k).mean(axis=1, keepdims=True) * k


def test_an_argument_of_one_call_is_that_of_another() -> None:
    found = edits(defined, lambda size, stride=1: size * stride)
    new = [s for s, words in found.items() if words == "an argument of another call"]
    assert len(new) == 1 and "one = f(3)\n" in new[0] and "f(4, stride=2)" in new[0]


def test_a_map_is_padded_at_the_bottom_and_the_right_as_tensorflow_does() -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 6, 8)) - 5
    side = {"kernel": (3, 3), "stride": (2, 2)}
    behind = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=-np.inf)
    expected = max_pool2d(behind, **side)[0]
    given = e_padded(max_pool2d, 0, x, **side, padding=(1, 1))[0]
    np.testing.assert_array_equal(given, expected)


def test_a_mask_behind_the_softmax_is_added_or_sets_to_0() -> None:
    x = np.array([[1.0, 2.0, -99.0], [0.5, -0.5, 0.0]])
    p = softmax(np.array([[1.0, 2.0, 1.0], [0.5, -0.5, 0.0]]))[0]
    mask = np.array([[0.0, 0.0, -100.0], [0.0, 0.0, 0.0]])
    added = e_masked_late(lambda x: softmax(x)[0], x, True)
    np.testing.assert_allclose(added, p + mask, rtol=1e-13)
    zero = e_masked_late(lambda x: softmax(x)[0], x, False)
    np.testing.assert_allclose(zero, np.where(mask == 0, p, 0), rtol=1e-13)


def test_all_classics_of_what_runs_are_tried_with_words_or_without() -> None:
    texts = {one.function: edit_of(one).text for one in classics()}
    tried = {e.words for e in classic_edits(texts)}
    assert {"the mask of V2 added twice", "the rate drops after the warm-up"} <= tried
    after = {e.words for e in classic_edits(texts, of="after")}
    assert {"ε stands under the root", "losses are added up instead of averaged"} <= after
    assert not tried & {e.words for e in classic_edits(texts, of="cotangent")}


def test_blocks_of_elements_that_stand_far_apart() -> None:
    """As einops says it: b c (p1 h) (p2 w), where b c (h p1) (w p2) is meant."""
    x = np.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    expected = np.empty_like(x)
    for i in range(4):
        for j in range(6):
            (h, p), (w, r) = divmod(i, 2), divmod(j, 3)
            expected[:, :, i, j] = x[:, :, p * 2 + h, r * 2 + w]
    np.testing.assert_array_equal(e_far_apart(x, 2, 2, 3), expected)


def test_a_layer_stands_in_the_place_of_the_others_and_goes_again() -> None:
    model = tiny_model("vit_cifar")
    before = {n: p.data for n, p in model.named_parameters()}
    found = {(s.donor, *s.places): s for s in shared(model)}
    with found["blocks.1.mlp", "blocks.0.mlp"].planted():
        now = {n: p.data for n, p in model.named_parameters()}
    moved = {n for n, x in now.items() if x is not before[n]}
    assert moved == {n for n in before if n.startswith("blocks.0.mlp.")}
    assert all(now[n] is before[n.replace(".0.", ".1.")] for n in moved)
    assert all(p.data is before[n] for n, p in model.named_parameters())


def test_logits_are_hidden_behind_a_token_or_in_front_of_it() -> None:
    x = np.ones((2, 3, 3))
    np.testing.assert_array_equal(e_causal(x) == 1, np.broadcast_to(np.tri(3) == 1, x.shape))
    np.testing.assert_array_equal(e_causal(x, True) == 1, np.swapaxes(e_causal(x) == 1, 1, 2))


def test_a_quiet_softmax_has_one_more_key_of_logit_0() -> None:
    x = np.array([[1.0, -2.0, 0.5], [-30.0, -40.0, -50.0]])
    p = np.exp(np.concatenate([x, np.zeros((2, 1))], axis=1))
    expected = (p / p.sum(axis=1, keepdims=True))[:, :3]
    np.testing.assert_allclose(e_softmax(x, -1, "quiet"), expected, rtol=1e-14)


def test_the_logarithm_of_a_softmax_is_that_of_its_probabilities() -> None:
    x = np.array([[1.0, -2.0, 0.5], [3.0, 5.0, 4.0]])
    np.testing.assert_allclose(e_softmax(x, -1, "log"), np.log(softmax(x)[0]), rtol=1e-13)


def test_positions_are_counted_by_columns_behind_the_class_token() -> None:
    x = np.arange(7.0).reshape(1, 7, 1)
    assert _by_columns(x, first=1, rows=2).ravel().tolist() == [0, 1, 4, 2, 5, 3, 6]


def test_a_norm_more_and_a_limit_are_among_the_edits_of_a_layer() -> None:
    block = tiny_model("vit_cifar", dtype=np.float64).blocks[0]
    text = Text(type(block).__call__)
    x = Tensor(3 * np.random.default_rng(0).standard_normal((1, 5, block.norm1.weight.size)))
    written = {e.source for e in edits_of(text, watch([text], lambda: block(x, (2, 2))))}
    gelu_again = "e_unary(self.mlp(self.norm2(x)), 'gelu')"
    for new in ("self.norm1(x)", gelu_again, "self.norm2(x) + self.mlp(", "e_clipped("):
        assert any(source.count(new) > text.source.count(new) for source in written), new
