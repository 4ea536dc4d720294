"""Edits are told in our words, and by the lines that differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin.crosscheck.edits.texts import Edit, Text
from minswin.crosscheck.edits.told import said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ops.linear(e_unary(f(x, (1, 2)), 'silu'), w)", "ops.linear(silu(f(x, (1, 2))), w)"),
        ("y = e_reduced(x, 'sum', axis=axis)", "y = x.sum(axis=axis)"),
        ("e_without(e_rolled(x, 1, 0), 1, True)", "roll(x, 1, axis=0)[:, :-1]"),
        ("e_cast(f, e_half, x, w)", "f(x.astype(float16), w).astype(float16)"),
        ("e_softmax(x, -1, 'sigmoid')", "sigmoid(x)"),
        ("e_softmax(x, -1, 'log')", "log_softmax(x)"),
        ("e_softmax(x, -1, 'quiet')", "softmax(x, axis=-1) with one more key of logit 0"),
        ("e_clipped(f(x), 0, np.inf)", "relu(f(x))"),
        ("e_clipped(q @ k, -1, 1)", "clip(q @ k, -1, 1)"),
        ("e_padded(f, 0, x, k=3)", "f(x, k=3) with none of the padding in front"),
        ("e_masked_late(f, x, True)", "f(x without its mask) + mask"),
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


def swapped(z: Any) -> Any:
    z = np.concatenate([z[1:], z[:1]])
    return z


def test_rows_are_the_lines_that_differ() -> None:
    text = Text(swapped)
    a = text.source.index("z[1:]")
    edit = Edit(text, [(a, a + 5, "z[\n        :-1\n    ]")], "", 1)
    assert edit.rows == [
        ("-", "z = np.concatenate([z[1:], z[:1]])"),
        ("+", "z = np.concatenate([z["), ("+", ":-1"), ("+", "], z[:1]])"),
    ]  # fmt: skip
