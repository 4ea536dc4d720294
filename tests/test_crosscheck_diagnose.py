"""A mistake is named only if it gives their numbers, and what else is true of them is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin.crosscheck import formulas, score
from minswin.crosscheck.compare import compare
from minswin.crosscheck.diagnose import Diagnosis, diagnose
from minswin.crosscheck.mistakes import known, signs
from minswin.crosscheck.mistakes.derivatives import SLIPS
from minswin.crosscheck.observations import observe
from minswin.crosscheck.printed import report
from minswin.crosscheck.recording import Step
from minswin.crosscheck.replay import between, replay

BLOCK = "layers.0.blocks.1.attn."


def diagnosed(**changes: Any) -> Diagnosis:
    """The diagnosis of a right trace in which tensors are changed: name=function."""
    truth = score.truth("square")
    theirs = {n: np.array(x) for n, x in truth.arrays["float32"].items()}
    for name, change in changes.items():
        theirs[name] = change(theirs[name]).astype("f4")
    found = diagnose(truth, compare(truth, theirs))
    assert found is not None
    return found


def names(found: Diagnosis) -> list[str]:
    return [mistake.name for mistake, _ in found.mistakes]


# ── the catalogue ────────────────────────────────────────────────────────────────────────────────


def test_every_mistake_has_a_name_of_its_own_a_remedy_and_a_kind_that_exists() -> None:
    kinds = {s.kind for case in ("square", "wide") for s in score.truth(case).steps.values()}
    kinds |= set(formulas.FORMULAS)
    every = [*known(), *(s.mistake for s in signs()), *(s.mistake for s in SLIPS)]
    told = [(m.name, kind) for m in every for kind in m.kinds]
    assert len(told) == len(set(told))
    for mistake in every:
        assert mistake.remedy and mistake.kinds and set(mistake.kinds) <= kinds, mistake.name
        assert all("/" in t and "#" in t for t in mistake.threads), mistake.name


@pytest.mark.parametrize("case", ["square", "wide"])
def test_no_mistake_gives_the_right_numbers_everywhere(case: str) -> None:
    """Or it would be named without being made."""
    truth, harmless = score.truth(case), {m.name for m in known()}
    for step in truth.steps.values():
        for mistake in known():
            if step.kind not in mistake.kinds or mistake.name not in harmless:
                continue
            chain = between(step, truth.steps, {n: s.value for n, s in truth.steps.items()})
            have = {n: np.asarray(s.value) for n, s in truth.steps.items()}
            try:
                with np.errstate(all="ignore"):
                    value = replay(chain, truth.steps, have, instead={step.name: mistake.formula},
                                   also=mistake.also)  # fmt: skip
            except (ValueError, IndexError, KeyError, TypeError):
                continue
            if value is not None and not np.allclose(value, step.value, rtol=1e-6, atol=1e-9):
                harmless.discard(mistake.name)
    # squares do not tell these apart, and the other case does
    blind = {
        "the height multiplies in the index where the width should",
        "the shifts of rows and columns are exchanged",
        "the mask is of a map that was not rolled",  # the same where the shift is half a window
    }
    impossible = {"the mask is built with rows and columns exchanged",
                  "ε of the layer norm is 1e-05, the default of Swin and PyTorch"}  # fmt: skip
    possible = harmless - impossible - {m.name for m in known() if not _fits(m, truth)}
    assert possible <= (blind if case == "square" else set()), possible


def _fits(mistake: Any, truth: Any) -> bool:
    """Whether the formula runs on any step of the trace."""
    for step in truth.steps.values():
        if step.kind in mistake.kinds and not mistake.also:
            inputs = [np.asarray(s.value) for s in formulas.named(truth.steps, step)]
            try:
                with np.errstate(all="ignore"):
                    value = mistake.formula(step, *inputs)
            except (ValueError, IndexError, KeyError, TypeError):
                continue
            if value is not None and value.shape == step.value.shape:
                return True
    return False


# ── naming ───────────────────────────────────────────────────────────────────────────────────────


def test_a_right_trace_has_no_diagnosis() -> None:
    truth = score.truth("square")
    assert diagnose(truth, compare(truth, truth.arrays["float32"])) is None


def test_a_mistake_is_named_with_its_step_and_what_to_do() -> None:
    truth = score.truth("square")
    d = truth.steps[BLOCK + "q"].value.shape[-1]
    found = diagnosed(**{BLOCK + "scores": lambda s: s * np.sqrt(d)})
    assert names(found) == ["q kᵀ is not scaled"]
    text = report(truth, compare(truth, truth.arrays["float32"]), found)
    assert "✗ q kᵀ is not scaled" in text and "remedy    scores = (q / √d) kᵀ" in text
    assert "minswin/layers/attention.py:" in text


def test_almost_a_mistake_is_not_named() -> None:
    """One element of a thousand is enough to acquit it."""
    truth = score.truth("square")
    d = truth.steps[BLOCK + "q"].value.shape[-1]

    def nearly(s: np.ndarray) -> np.ndarray:
        s = s * np.sqrt(d)
        s[1, 2, 1, 3, 4] *= 1.01
        return s

    assert names(diagnosed(**{BLOCK + "scores": nearly})) == []


def test_mistakes_that_the_tensors_do_not_tell_apart_are_all_named() -> None:
    truth = score.truth("square")
    kept = {n: x for n, x in truth.arrays["float32"].items() if n in ("image", BLOCK + "bias")}
    kept[BLOCK + "bias"] = kept[BLOCK + "bias"].swapaxes(-1, -2)
    found = diagnose(truth, compare(truth, kept))
    assert found is not None
    assert set(names(found)) == {
        "the displacement is key minus query",
        "query and key of the bias are exchanged",
    }


def test_a_gradient_of_zero_is_called_so() -> None:
    found = diagnosed(**{f"cotangent/{BLOCK}proj.weight": lambda g: 0 * g})
    assert names(found) == ["the derivative is zero"]


def test_weights_after_the_steps_are_told_by_kind() -> None:
    truth = score.truth("trained")
    theirs = {n: np.array(x) for n, x in truth.arrays["float32"].items()}
    for name, x in theirs.items():
        if name.startswith("after/") and x.ndim == 1:
            x *= np.float32(0.99)
    found = diagnose(truth, compare(truth, theirs))
    assert found is not None
    assert any("do norms and biases decay?" in line for line in found.observations)


# ── observing ────────────────────────────────────────────────────────────────────────────────────

RIGHT = np.random.default_rng(2).standard_normal((2, 3, 5, 5))
STEP = Step("x", "unknown", "op", RIGHT, axes=("image", "head", "query", "key"))


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (0 * RIGHT, "it is zero everywhere"),
        (RIGHT * 3, "it is the right tensor times 3 everywhere"),
        (-RIGHT, "it is the right tensor times -1 everywhere"),
        (RIGHT + 0.5, "it is the right tensor plus 0.5 everywhere"),
        (RIGHT.swapaxes(2, 3), "right after exchanging its axes 2 (query) and 3 (key)"),
        (RIGHT[:, ::-1], "it is right after reversing its axis 1 (head)"),
        (RIGHT[:, [1, 2, 0]], "it is right but for the order along its axis 1 (head)"),
        (RIGHT.ravel()[::-1].reshape(RIGHT.shape), "it holds the right numbers in another order"),
        (RIGHT.astype("f2").astype("f8"), "it is the right tensor rounded to float16"),
        (RIGHT * (1 + 1e-5), "right to about four digits"),
        (np.where(np.arange(3)[:, None, None] == 2, 9, RIGHT), "only head 2 (of 0 to 2) is wrong"),
    ],
)
def test_what_is_true_of_a_wrong_tensor_is_said(theirs: np.ndarray, said: str) -> None:
    assert any(said in line for line in observe(STEP, theirs, RIGHT)), [
        *observe(STEP, theirs, RIGHT)
    ]


def test_what_counts_as_wrong_is_what_the_verdict_calls_so() -> None:
    """A ramp of errors, all far above the limit, most of them small beside the tensor."""
    ramp = np.linspace(1e-5, 4e-4, RIGHT.size).reshape(RIGHT.shape)
    rough = list(observe(STEP, RIGHT + ramp, RIGHT))
    assert any("only image 1 (of 0 to 1)" in line for line in rough)
    said = list(observe(STEP, RIGHT + ramp, RIGHT, 1e-6))
    assert not any("only" in line or "of its elements" in line for line in said)
    rows = RIGHT + np.where(np.arange(5)[:, None] < 2, ramp, 0)
    assert "only query 0, 1 (of 0 to 4) are wrong" in list(observe(STEP, rows, RIGHT, 1e-6))


def test_of_noise_nothing_is_said() -> None:
    noise = np.random.default_rng(9).standard_normal(RIGHT.shape)
    assert list(observe(STEP, noise, RIGHT)) == []


def test_slices_that_are_wrong_themselves_are_in_no_other_order() -> None:
    """Their sums, or any one number of each, may be right all the same."""
    theirs = RIGHT.copy()
    theirs[0, :, 0, 0] += 0.01
    theirs[0, :, 0, 1] -= 0.01 / np.cos(1.7)
    weights = np.cos(np.arange(50) * 1.7).reshape(2, 1, 5, 5)
    assert np.allclose((theirs * weights).sum((0, 2, 3)), (RIGHT * weights).sum((0, 2, 3)))
    assert not any("order" in line for line in observe(STEP, theirs, RIGHT))
    moved = RIGHT[:, [1, 2, 0]]
    assert any("order along its axis 1" in line for line in observe(STEP, moved, RIGHT))


def test_windows_at_the_seam_are_pointed_out() -> None:
    truth = score.truth("square")
    step = truth.steps[BLOCK + "logits"]
    row, column = formulas.places(step)
    (H, W), (sh, sw) = step.geometry["grid"], step.geometry["shift"]
    seam = ((row >= H - sh) | (column >= W - sw)).any(axis=1)
    theirs = np.where(seam[:, None, None, None], 5.0, step.value)
    assert any("the shift's seam crosses" in line for line in observe(step, theirs, step.value))
