"""tests/measure.py: the commands are those of numbers.md, and a table comes out of them."""

from __future__ import annotations

import re
from pathlib import Path

import measure
import pytest

NUMBERS = (Path(__file__).parents[1] / "examples" / "numbers.md").read_text("utf-8")


def test_every_command_stands_in_the_numbers_and_an_hour_suffices() -> None:
    assert "python -m tests.measure" in NUMBERS
    for one in measure.MEASURES:
        assert one.command in NUMBERS, one.command
    assert sum(one.minutes for one in measure.MEASURES) < 60
    assert len({one.name for one in measure.MEASURES}) == len(measure.MEASURES)


def test_a_row_holds_what_the_command_printed(tmp_path: Path) -> None:
    program = "print('epoch 1'); print('test accuracy 93.5%   (6 s)'); print('end')"
    row = measure.taken(
        measure.Measure("a", "a claim", f'python -c "{program}"', r"test accuracy .*", 1), tmp_path
    )
    assert re.fullmatch(
        r"\| a claim \| `python -c .*` \| test accuracy 93.5% \(6 s\) \| \d+ s \|", row
    )


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
