"""Edits of our text: which there are, how they are told, and that looking up changes no number."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from tiny_models import tiny_model

from minswin.around import around
from minswin.autograd import Tensor
from minswin.crosscheck import score
from minswin.crosscheck.edits.functions import forget, reaches
from minswin.crosscheck.edits.helpers import SAID, e_causal, e_interleaved, e_softmax, said
from minswin.crosscheck.edits.loading import _by_columns
from minswin.crosscheck.edits.operators import edits_of
from minswin.crosscheck.edits.texts import Edit, Text
from minswin.crosscheck.edits.watching import watch
from minswin.crosscheck.ground import Ground
from minswin.crosscheck.search import Clock, Search
from minswin.crosscheck.site import sites_of
from minswin.reference.elementwise import gelu
from minswin.reference.linear import linear
from minswin.reference.windows import attention_mask, relative_position_index, shift_regions


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


def test_heads_are_taken_apart_the_other_way() -> None:
    x = np.arange(12.0).reshape(1, 12)
    expected = x.reshape(1, 3, 4).transpose(0, 2, 1).reshape(1, 12)
    np.testing.assert_array_equal(e_interleaved(x, 3), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ops.linear(e_unary(f(x, (1, 2)), 'silu'), w)", "ops.linear(silu(f(x, (1, 2))), w)"),
        ("y = e_reduced(x, 'sum', axis=axis)", "y = x.sum(axis=axis)"),
        ("e_without(e_rolled(x, 1, 0), 1, True)", "roll(x, 1, axis=0)[:, :-1]"),
        ("e_cast(f, e_half, x, w)", "f(x.astype(float16), w).astype(float16)"),
        ("e_softmax(x, -1, 'sigmoid')", "sigmoid(x)"),
        ("e_softmax(x, -1, 'quiet')", "softmax(x, axis=-1) with one more key of logit 0"),
        ("e_clipped(q @ k, -1, 1)", "clip(q @ k, -1, 1)"),
        ("softmax(e_causal(x))", "softmax(x where key ≤ query, else −∞)"),
        ("e_free(x + b)", "c * (x + b)"),
        ("e_free(f(x) * g(b))", "c * (f(x) * g(b))"),
        ("e_free(f(x))", "c * f(x)"),
        ("return e_before + x", "return before + x"),
        ("return e_cast(f, e_half, ", "return cast(f, half, "),
    ],
)
def test_helpers_are_told_in_our_words(text: str, expected: str) -> None:
    assert said(text) == expected


def test_every_helper_has_words() -> None:
    from minswin.crosscheck.edits import helpers

    names = {n for n in vars(helpers) if n.startswith("e_")} | {"e_cast"}
    assert names == SAID.keys()


def test_rows_are_the_lines_that_differ() -> None:
    text = Text(joined)
    a = text.source.index("z[1:]")
    edit = Edit(text, [(a, a + 5, "z[\n        :-1\n    ]")], "", 1)
    assert edit.rows == [
        ("-", "z = concatenated.concatenate(x[:1], z[1:])"),
        ("+", "z = concatenated.concatenate(x[:1], z["), ("+", ":-1"), ("+", "])"),
    ]  # fmt: skip


def test_a_definition_reaches_what_it_calls() -> None:
    from minswin.reference.windows import _cut, window_partition

    assert reaches(window_partition, _cut) and reaches(gelu, gelu)
    assert not reaches(linear, gelu)


def test_operations_that_are_looked_up_give_the_same_numbers() -> None:
    """Of every twelfth edit of an attention, with the operations in front of it and without."""
    truth = score.truth("square")
    have = {n: np.array(x) for n, x in truth.arrays["float32"].items()}
    for name in [n for n in have if n.startswith("layers.0.blocks.1.attn.")]:
        if truth.steps[name].op not in ("parameter", "input", "constant"):
            del have[name]
    have = {n: x for n, x in have.items() if not n.startswith(("cotangent/", "after/"))}
    target = "layers.0.blocks.1.attn.proj"
    have[target] = np.array(truth.arrays["float32"][target])
    site = sites_of(Ground(truth, have), target)[0]
    search = Search(site, 2.0**-24, Clock(60))
    tried = search.singles(set())[::12]
    quick = [search.value(e) for e in tried]
    compared = 0
    for edit, value in zip(tried, quick, strict=True):
        try:
            with edit.planted():
                slow = site.run()
        except Exception:  # an edit need not make sense
            slow = None
        if value is not None and slow is not None:
            np.testing.assert_array_equal(value, slow)
            compared += 1
    assert compared > 40

    def rounded(go: Any, definition: Any, inputs: Any, settings: Any) -> Any:
        result = go(definition, inputs, settings)
        result.data = np.round(result.data, 1)
        return result

    with around(rounded):
        assert np.abs(site.value() - search.right).max() > 1e-3  # nothing of the right run


def test_logits_are_hidden_behind_a_token_or_in_front_of_it() -> None:
    x = np.ones((2, 3, 3))
    np.testing.assert_array_equal(e_causal(x) == 1, np.broadcast_to(np.tri(3) == 1, x.shape))
    np.testing.assert_array_equal(e_causal(x, True) == 1, np.swapaxes(e_causal(x) == 1, 1, 2))


def test_a_quiet_softmax_has_one_more_key_of_logit_0() -> None:
    x = np.array([[1.0, -2.0, 0.5], [-30.0, -40.0, -50.0]])
    p = np.exp(np.concatenate([x, np.zeros((2, 1))], axis=1))
    expected = (p / p.sum(axis=1, keepdims=True))[:, :3]
    np.testing.assert_allclose(e_softmax(x, -1, "quiet"), expected, rtol=1e-14)


def test_positions_are_counted_by_columns_behind_the_class_token() -> None:
    x = np.arange(7.0).reshape(1, 7, 1)
    assert _by_columns(x, first=1, rows=2).ravel().tolist() == [0, 1, 4, 2, 5, 3, 6]


def test_an_edit_empties_the_tables_that_its_function_makes_and_no_others() -> None:
    window = (2, 3)
    mask, index = attention_mask((4, 6), window, (1, 1)), relative_position_index(window)
    forget(inspect.unwrap(shift_regions))
    assert attention_mask((4, 6), window, (1, 1)) is not mask
    assert relative_position_index(window) is index


def test_a_norm_more_and_a_limit_are_among_the_edits_of_a_layer() -> None:
    block = tiny_model("vit_cifar", dtype=np.float64).blocks[0]
    text = Text(type(block).__call__)
    x = Tensor(3 * np.random.default_rng(0).standard_normal((1, 5, block.norm1.weight.size)))
    written = {e.source for e in edits_of(text, watch([text], lambda: block(x, (2, 2))))}
    gelu_again = "e_unary(self.mlp(self.norm2(x)), 'gelu')"
    for new in ("self.norm1(x)", gelu_again, "self.norm2(x) + self.mlp(", "e_clipped("):
        assert any(source.count(new) > text.source.count(new) for source in written), new
