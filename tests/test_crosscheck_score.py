"""Planted faults: each is found, none is blamed on something else, and none stays behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import score

from minswin import ops
from minswin.autograd import Tensor
from minswin.crosscheck.edits.classics import Classic, classics, planted
from minswin.layers import Init
from minswin.models.deit import soft_distillation_loss
from minswin.weights.resize import resize_positions

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "examples/conformance/faults.md"
AGAIN = "write what `python -m tests.score` prints into this file"


@pytest.fixture(scope="module")
def kill():
    return score.killer()


@pytest.fixture(scope="module")
def page() -> list[str]:
    return PAGE.read_text("utf-8").splitlines()


def marks(number: int) -> list[pytest.MarkDecorator]:
    """Every sixteenth fault is in the quick set, every eighth in the Test line."""
    return [pytest.mark.long] if number % 8 else [pytest.mark.slow] if number % 16 else []


FAULTS = [
    pytest.param(fault, id=fault.name, marks=marks(number))
    for number, fault in enumerate(classics())
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_named_as_the_page_says(fault: Classic, kill, page) -> None:
    outcome = score.judge(fault, kill)
    assert outcome.killed_by or outcome.first
    assert score.as_expected(outcome), outcome.first
    assert outcome.diagnosis != "wrong", outcome.named
    assert not (fault.words and fault.first) or outcome.diagnosis == "right"
    if fault.test:
        assert outcome.killed_by == fault.test  # else a probe kills it: no test need be named
    _, _, row, _, _ = score.table([outcome])
    assert row in page, f"{AGAIN}:\n{row}"


def test_the_numbers_of_the_page_are_those_of_its_rows(page) -> None:
    header, rule, *rows, _, _ = score.table([])
    assert [header, rule, *rows] == [line for line in page if line.startswith("|")][:2]
    outcomes = [outcome_of(fault, page) for fault in classics()]
    assert score.summary(outcomes) in page, f"{AGAIN}:\n{score.summary(outcomes)}"


def outcome_of(fault: Classic, page: list[str]) -> score.Outcome:
    """What the page says of a fault."""
    (row,) = (line for line in page if line.startswith(f"| {fault.name} | "))
    killed_by, first, said = row.removesuffix(" |").split(" | ")[2:]
    diagnosis = {"named": "right", "not named": "none", "—": "—"}.get(said, "wrong")
    outcome = score.Outcome(
        fault, *("" if x in ("no probe", "—") else x.strip("`") for x in (killed_by, first)),
        diagnosis, (),
    )  # fmt: skip
    assert row == list(score.table([outcome]))[2]
    return outcome


def test_the_readme_repeats_the_numbers_of_the_page() -> None:
    (summary,) = (s for s in PAGE.read_text("utf-8").splitlines() if " faults: " in s)
    assert summary in " ".join((ROOT / "README.md").read_text("utf-8").split())


def test_the_page_has_a_row_for_every_fault() -> None:
    rows = [s for s in PAGE.read_text("utf-8").splitlines() if s.startswith("| ")][1:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [f.name for f in classics()]


# ── the score itself ─────────────────────────────────────────────────────────────────────────────


def test_without_a_fault_nothing_is_found(kill) -> None:
    harmless = Classic("none", "reference.shape.roll", "back, axis", "back, axis",
                     "", "map")  # fmt: skip
    outcome = score.judge(harmless, kill)
    assert (outcome.killed_by, outcome.first, outcome.diagnosis) == ("", "", "none")
    assert not score.as_expected(outcome._replace(first="head"))


def test_a_fault_is_gone_when_its_block_ends() -> None:
    before = score.run("square", ("float32",)).arrays["float32"]
    for fault in classics():
        with planted(fault):
            pass
    after = score.run("square", ("float32",)).arrays["float32"]
    assert all(np.array_equal(before[n], after[n]) for n in before)


def test_a_fault_whose_text_is_gone_is_out_of_date() -> None:
    gone = Classic("gone", "reference.shape.roll", "no such text", "", "")
    with pytest.raises(LookupError, match="'no such text' stands 0 times"):
        planted(gone).__enter__()
    with pytest.raises(LookupError, match=r"there is no minswin\.nothing"):
        planted(gone._replace(function="nothing.at.all")).__enter__()


def test_faults_have_names_of_their_own_and_a_way_to_be_found() -> None:
    names = [f.name for f in classics()]
    assert len(names) == len(set(names)) > 80
    for fault in classics():
        assert fault.met and fault.text != fault.becomes, fault.name
        assert fault.case in score.CASES, fault.name


def test_the_table_counts_what_it_lists() -> None:
    fault = classics()[0]
    outcomes = [
        score.Outcome(fault, "roll/up_left", "head", "right", ("x",)),
        score.Outcome(fault, "test_a.py::test_b", "", "—", ()),
        score.Outcome(fault, "", "norm", "wrong", ("y",)),
        score.Outcome(fault, "", "", "none", ()),
    ]
    *rows, _, summary = score.table(outcomes)
    assert len(rows) == 6 and "| `roll/up_left` | `head` | named |" in rows[2]
    assert "| no probe | `norm` | WRONG |" in rows[4]
    assert summary.startswith("4 faults: 1 are killed by a probe, 1 by a test of their own.")
    assert (
        "was given 3 and finds 2; of these 1 are named rightly, 1 wrongly, 1 not at all" in summary
    )
    assert f"1 survive everything: {fault.name}." in summary


# ── what neither a trace nor a probe shows ───────────────────────────────────────────────────────


def test_positions_are_resized_to_the_grid_that_was_asked_for() -> None:
    """A table that is a straight line in rows and constant in columns stays so."""
    rows = np.repeat(np.linspace(0, 1, 6), 4).reshape(1, 24, 1)
    found = resize_positions(rows, (9, 5), rule="original", old=(6, 4))
    assert found.shape == (1, 45, 1)
    grid = found.reshape(9, 5)
    assert np.allclose(grid, grid[:, :1]) and (np.diff(grid[:, 0]) > 0).all()


def test_first_weights_are_normal_and_not_cut_off() -> None:
    x = Init(0, np.float64).normal(300, 300).data
    assert abs(x.std() / 0.02 - 1) < 0.01
    assert 0.04 < abs(x).max() < 0.12  # a cut at two deviations ends at 0.04
    assert abs(np.mean(abs(x) > 0.04) - 0.0455) < 0.005


def test_the_loss_of_a_soft_teacher_is_a_mean_over_images_and_classes() -> None:
    rng = np.random.default_rng(0)
    mine, theirs, teacher = (rng.standard_normal((4, 6)) for _ in range(3))
    labels = rng.integers(0, 6, 4)
    p, q = (np.exp(x / 2) / np.exp(x / 2).sum(1, keepdims=True) for x in (teacher, theirs))
    expected = 4 * np.mean(p * np.log(p / q)) * 0.3 + 0.7 * ops.cross_entropy(mine, labels).item()
    both = Tensor(mine), Tensor(theirs)
    loss = soft_distillation_loss(both, labels, teacher, alpha=0.3, temperature=2.0)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
