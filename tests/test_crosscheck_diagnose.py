"""A mistake is named only if it gives their numbers, and what else is true of them is said."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from minswin.composites import mlp, spelled_out
from minswin.crosscheck import score
from minswin.crosscheck.compare import compare
from minswin.crosscheck.diagnose import Diagnosis, diagnose
from minswin.crosscheck.edits.functions import known_functions
from minswin.crosscheck.edits.texts import PACKAGE, Edit, Text
from minswin.crosscheck.number import closed_form
from minswin.crosscheck.observations import observe
from minswin.crosscheck.printed import report
from minswin.crosscheck.recording import Step

BLOCK = "layers.0.blocks.1.attn."
TWICE = "ops.gelu(ops.gelu(ops.linear(x, w1, b1)))"


def diagnosed(**changes: Any) -> Diagnosis:
    """The diagnosis of a right trace in which tensors are changed: name=function."""
    truth = score.truth("square")
    theirs = {n: np.array(x) for n, x in truth.arrays["float32"].items()}
    for name, change in changes.items():
        theirs[name] = change(theirs[name]).astype("f4")
    found = diagnose(truth, compare(truth, theirs), seconds=3)
    assert found is not None
    return found


def wrong_port(function: Any, text: str, becomes: str, names: tuple[str, ...] = ()) -> Any:
    """(truth, comparison) of a port with one edit of our text, of which these tensors are given."""
    truth, right = score.truth("square"), Text(function)
    at = right.source.index(text)
    with Edit(right, [(at, at + len(text), becomes)], "planted", 0).planted():
        theirs = score.run("square", ("float32",)).arrays["float32"]
    theirs = {n: x for n, x in theirs.items() if not names or n in names}
    return truth, compare(truth, theirs)


# ── naming ───────────────────────────────────────────────────────────────────────────────────────


def test_a_right_trace_has_no_diagnosis() -> None:
    truth = score.truth("square")
    assert diagnose(truth, compare(truth, truth.arrays["float32"])) is None


def test_a_mistake_is_named_with_its_line_and_what_to_do() -> None:
    truth = score.truth("square")
    d = truth.steps[BLOCK + "q"].value.shape[-1]
    found = diagnosed(**{BLOCK + "scores": lambda s: s * np.sqrt(d)})
    assert [cause.name for cause in found.causes] == ["q kᵀ is not scaled"]
    text = report(truth, compare(truth, truth.arrays["float32"]), found)
    assert "✗ q kᵀ is not scaled" in text and "remedy    scores = (q / √d) kᵀ" in text
    assert "minswin/composites.py:" in text
    assert "      - logits = (q * q.shape[-1] ** -0.5) @ k.transpose(*swapped)" in text


def test_almost_a_mistake_is_not_named() -> None:
    """One element of a thousand is enough to acquit it."""
    truth = score.truth("square")
    d = truth.steps[BLOCK + "q"].value.shape[-1]

    def nearly(s: np.ndarray) -> np.ndarray:
        s = s * np.sqrt(d)
        s[0, 0, 0, 0, 0] += 1
        return s

    found = diagnosed(**{BLOCK + "scores": nearly})
    assert not found.named and found.tried > 100


@pytest.mark.parametrize(
    ("function", "text", "becomes"),
    [
        (mlp.function, "ops.gelu(ops.linear(x, w1, b1))", TWICE),
        (spelled_out.function, "ops.softmax(logits)", "e_softmax(logits, 3)"),
    ],
)  # fmt: skip
def test_what_no_classic_describes_is_named_by_an_edit(
    function: Any, text: str, becomes: str
) -> None:
    truth, comparison = wrong_port(function, text, becomes)
    found = diagnose(truth, comparison, seconds=20)
    assert found is not None and found.named
    assert found.causes[0].edit.text.name.startswith(
        ("composites", "layers", "reference.normalize.softmax")
    )


def test_from_blocks_alone_the_layer_between_them_is_searched() -> None:
    blocks = ("image", "head", *(f"layers.{i}.blocks.{j}.output" for i in (0, 1) for j in (0, 1)))
    truth, comparison = wrong_port(mlp.function, "ops.gelu(", "ops.relu(", blocks)
    found = diagnose(truth, comparison, seconds=20)
    assert found is not None and "relu" in found.causes[0].edit.diff
    assert found.causes[0].explains == found.causes[0].of > 1


def test_a_function_of_a_module_that_comes_later_can_be_edited(monkeypatch: Any) -> None:
    """The functions are looked for once, while the same modules are loaded."""
    before, later = known_functions(), ModuleType("minswin.layers.later")
    exec(compile("def f(): ...", str(PACKAGE / "layers/later.py"), "exec"), later.__dict__)
    monkeypatch.setitem(sys.modules, later.__name__, later)
    assert set(known_functions()) - set(before) == {later.f.__code__}


def test_one_free_number_has_a_closed_form() -> None:
    assert closed_form(2.0794415) == "ln 8"
    assert closed_form(-0.5) == "−1/2" and closed_form(1.2345678) == ""


# ── what else is true ────────────────────────────────────────────────────────────────────────────


def step(axes: tuple[str, ...], shape: tuple[int, ...]) -> Step:
    return Step("x", "x", "x", np.zeros(shape), axes=axes)


def said(theirs: np.ndarray, right: np.ndarray, axes: tuple[str, ...] = ("a", "b")) -> str:
    return "; ".join(observe(step(axes, right.shape), theirs, right))


def test_what_is_true_of_a_wrong_tensor_is_said() -> None:
    right = np.random.default_rng(0).standard_normal((4, 6))
    assert "times 2 everywhere" in said(2 * right, right)
    assert "plus 3 everywhere" in said(right + 3, right)
    assert "zero everywhere" in said(0 * right, right)
    assert "reversing its axis 1 (b)" in said(right[:, ::-1], right)
    assert "order along its axis 0 (a)" in said(right[[1, 0, 3, 2]], right)
    square = right[:, :4]
    assert "exchanging its axes 0 (a) and 1 (b)" in said(square.T, square)
    some = right.copy()
    some[1] += 1
    assert "only a 1 (of 0 to 3) is wrong" in said(some, right)
