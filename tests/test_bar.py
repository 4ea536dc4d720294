"""The line that shows how far a work is: on terminals only, whole, and gone at the end."""

from __future__ import annotations

import io

import pytest

from minswin import bar as module
from minswin.bar import Bar


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """What stands in each line of the terminal."""
        lines = []
        for line in self.getvalue().split("\n"):
            cells: list[str] = []
            for part in line.split("\r"):
                cells[: len(part)] = part
            lines.append("".join(cells).rstrip())
        return lines


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("COLUMNS", "80")
    return now


def test_a_line_shows_share_units_time_and_what_else_is_known(clock: list[float]) -> None:
    out = Terminal()
    with Bar(200, label="epoch 1/3", file=out) as bar:
        clock[0] = 60.0
        bar.text = "loss 0.5"
        bar.update(50)
        shown = "epoch 1/3   25% █████                50/200 step  1:00+3:00  0.83 step/s  loss 0."
        assert out.screen() == [shown[:79].rstrip()]
    assert out.screen() == [""]


def test_what_an_earlier_process_did_counts_as_done_and_not_as_speed(clock: list[float]) -> None:
    bar = Bar(100, done=80, file=Terminal())
    clock[0] = 10.0
    bar.update(10)
    assert " 90% " in bar.line(10.0) and "0:10+0:10  1 step/s" in bar.line(10.0)


def test_nothing_is_drawn_elsewhere_than_on_a_terminal(clock: list[float]) -> None:
    for out, shown in ((io.StringIO(), None), (Terminal(), False)):
        with Bar(3, file=out, shown=shown) as bar:
            clock[0] += 1
            bar.update()
            bar.write("a line", file=out)
        assert out.getvalue() == "a line\n"


def test_a_text_stands_in_the_place_of_the_line(clock: list[float]) -> None:
    out = Terminal()
    bar = Bar(3, file=out)
    clock[0] = 1.0
    bar.update()
    bar.write("epoch 1 is over", file=out)
    clock[0] = 1.01
    bar.update()  # at once, though little time went by: the line had been taken away
    assert out.screen() == ["epoch 1 is over", bar.line(1.01)[:79].rstrip()]


def test_it_is_drawn_ten_times_a_second_at_most(clock: list[float]) -> None:
    out = Terminal()
    bar = Bar(1000, file=out)
    for _ in range(1000):
        clock[0] += 0.001
        bar.update()
    assert 9 <= out.getvalue().count("step/s") <= 10


def test_an_unknown_total_and_a_total_of_bytes(clock: list[float]) -> None:
    bar = Bar(None, unit="B", file=Terminal())
    bar.update(170_498_071)
    assert bar.line(10.0) == "170M B  0:10  17M B/s"


def test_an_error_takes_the_line_away_and_goes_on(clock: list[float]) -> None:
    out = Terminal()
    with pytest.raises(KeyError), Bar(3, file=out) as bar:
        clock[0] = 1.0
        bar.update()
        raise KeyError
    assert out.screen() == [""]


def test_a_terminal_without_block_characters_gets_others(clock: list[float]) -> None:
    out = Terminal()
    out.encoding = "ascii"  # type: ignore[misc]
    bar = Bar(2, file=out)
    clock[0] = 1.0
    bar.update()
    assert out.getvalue().isascii() and "50% " in out.getvalue()
