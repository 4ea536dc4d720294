"""tests/measure.py and numbers.md: the table is the command's; cheap figures are taken again."""

from __future__ import annotations

import re
from pathlib import Path

import measure
import pytest

from minswin import check, create_model
from minswin.arguments import generator
from minswin.bench import report
from minswin.bench.machine import processor
from minswin.training.checkpoints import load_trained_model, pretrained

NUMBERS = measure.DOCUMENT.read_text("utf-8")
README = (measure.ROOT / "README.md").read_text("utf-8")
ROWS = measure.rows(NUMBERS)


# ── the document ─────────────────────────────────────────────────────────────────────────────────


def test_the_table_is_what_the_command_would_write_with_what_is_known() -> None:
    assert measure.with_rows(NUMBERS, {}) == NUMBERS
    assert list(ROWS) == [one.claim for one in measure.MEASURES]
    assert "python -m tests.measure" in NUMBERS
    assert sum(one.minutes for one in measure.MEASURES) < 60


@pytest.mark.parametrize("one", measure.MEASURES, ids=lambda one: one.name)
def test_a_row_has_its_command_its_number_its_date_and_cpu(one: measure.Measure) -> None:
    _, claim, command, printed, when, _ = (cell.strip() for cell in ROWS[one.claim].split("|"))
    assert (claim, command) == (one.claim, f"`{one.command}`")
    if printed != "not taken yet":
        assert re.match(r"\d{4}-\d\d-\d\d, \w.*, \d+ cores$", when)
        for number in printed.split("<br>"):
            assert re.search(one.pattern.replace(" in )", "$)"), number), number


def test_new_rows_take_the_place_of_the_old_ones_and_nothing_else_changes() -> None:
    one = measure.MEASURES[1]
    row = f"| {one.claim} | `{one.command}` | 13 passed | 2030-01-01, a CPU, 3 cores |"
    changed = measure.with_rows(NUMBERS, {one.claim: row})
    assert measure.rows(changed) == {**ROWS, one.claim: row}
    assert changed.replace(row, ROWS[one.claim]) == NUMBERS
    bare = NUMBERS.replace(ROWS[one.claim] + "\n", "")
    assert "| not taken yet | |" in measure.rows(measure.with_rows(bare, {}))[one.claim]
    with pytest.raises(ValueError, match="has no table that begins with"):
        measure.with_rows("# Numbers\n", {})


# ── a measurement ────────────────────────────────────────────────────────────────────────────────


def test_a_row_holds_what_the_command_printed(tmp_path: Path) -> None:
    program = "print('epoch 1'); print('test accuracy 93.5%   6 s'); print('end')"
    row = measure.taken(
        measure.Measure("a", "a claim", f'python -c "{program}"', r"test accuracy .*", 1), tmp_path
    )
    start = f'| a claim | `python -c "{program}"` | test accuracy 93.5% | '
    assert row.startswith(start) and processor() in row
    timed = measure.Measure("a", "b", f'python -c "{program}"', "test .*", 1, times=True)
    assert "| test accuracy 93.5% 6 s |" in measure.taken(timed, tmp_path)


def test_the_smallest_setting_is_another_command_and_no_time_of_pytest_is_kept(
    tmp_path: Path,
) -> None:
    program = "print('===== 3 passed, 1 skipped in 1.20s =====')"
    one = measure.Measure("a", "a", "python -c 1/0", measure.PASSED, 1, f'python -c "{program}"')
    assert "| 3 passed, 1 skipped |" in measure.taken(one, tmp_path, smallest=True)
    assert "ZeroDivisionError" in measure.taken(one, tmp_path)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit('no memory')", "failed with status 1: no memory"),
        ("print(1)", "failed with status 0: 1"),
    ],
)
def test_a_command_that_fails_or_prints_no_number_says_so(
    tmp_path: Path, program: str, words: str
) -> None:
    claim = measure.Measure("a", "a claim", f'python -c "{program}"', "accuracy .*", 1)
    assert words in measure.taken(claim, tmp_path)


def test_the_line_of_the_race_is_one_that_the_report_has() -> None:
    figures = {"train": 1.1, "infer": 1.2, "memory": 1.3}
    lines = report._fastest_peers({"minswin": figures, "timm": figures})
    (race,) = (one for one in measure.MEASURES if one.name == "race")
    assert [bool(re.search(race.pattern, line)) for line in lines] == [True, False]


# ── figures that are cheap to take again ─────────────────────────────────────────────────────────


def test_the_derivatives_are_as_many_and_as_exact_as_it_says() -> None:
    found = re.search(r"(\d+) operations, the largest error ([\d.e-]+)", NUMBERS)
    assert found is not None
    rng = generator("a test", 0)
    samples = {definition.__name__ for definition, _, _ in check.samples(rng)}
    count, error = int(found[1]), float(found[2])
    assert count == len(samples) and error < check.TOLERANCE
    assert f"each of the {count} hand-written derivatives agrees with finite differences" in README
    assert f"| {error:.0e} |".replace("e-0", "e-") in README
    assert f"largest relative error {error:.1e} |" in NUMBERS


def test_the_cost_of_a_picture_is_what_the_models_count() -> None:
    """The table of "Why Swin", which example 18 prints and tells."""
    small = {"embed_dim": 48, "num_heads": 3}
    models = {
        "Swin": ("swin_shapes", {}),
        "ViT": ("vit_cifar_small", {**small, "depth": 3}),
        "TNT": ("tnt_cifar", {**small, "depth": 2, "inner_dim": 8}),
    }
    told = (measure.ROOT / "examples/18_features_side_by_side.py").read_text("utf-8")
    for name, (kind, settings) in models.items():
        sizes = (create_model(kind, **settings, img_size=side) for side in (32, 64, 128, 256, 512))
        costs = [sum(row.macs for row in model.summary()) / 1e6 for model in sizes]
        shown = [f"{cost:,.{0 if cost > 400 else 1}f}" for cost in costs]
        assert re.search(rf"\| {name}, .* \| {' . '.join(map(re.escape, shown))} \|", NUMBERS)
        assert re.search(rf"{name} +{' +'.join(map(re.escape, shown))}\n", told)


@pytest.mark.parametrize("name", sorted(pretrained()))
def test_a_trained_model_is_the_one_of_the_table(name: str) -> None:
    model, _ = load_trained_model(name)
    card = pretrained()[name].with_suffix(".md").read_text("utf-8")
    count = model.parameter_count()
    (accuracy,) = re.findall(r"chosen by them\) \| ([\d.]+) ?%", card)
    assert f"{count:,} parameters" in card
    assert re.search(rf"{count:,} .*\*\*{re.escape(accuracy)} %\*\*", NUMBERS)
    size = f"({count:,} parameters|{count / 1e6:.2g} M)"
    assert re.search(
        rf"CIFAR-10.* {size}.*\|.* {re.escape(accuracy)} %.* of the test images", README
    )
