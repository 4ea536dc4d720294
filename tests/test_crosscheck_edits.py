"""Edits of our text: which there are, how they are told, and that looking up changes no number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin.around import around
from minswin.crosscheck import score
from minswin.crosscheck.edits.helpers import SAID, e_interleaved, said
from minswin.crosscheck.edits.operators import edits_of
from minswin.crosscheck.edits.repeats import reaches
from minswin.crosscheck.edits.texts import Edit, Text
from minswin.crosscheck.edits.watching import watch
from minswin.crosscheck.search import Clock, Search
from minswin.crosscheck.site import Ground
from minswin.reference.elementwise import gelu
from minswin.reference.linear import linear


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
    site = Ground(truth, have).sites(target)[0]
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
