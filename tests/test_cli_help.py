"""Help, version, and how wide they are."""

from __future__ import annotations

import io
import re
from dataclasses import fields

import pytest

import minswin
import minswin.training
from minswin import cli
from minswin.look.tables import fitted


def test_without_a_command_the_help_is_printed(capsys):
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    for command in ("train", "evaluate", "predict", "models", "info", "kernels"):
        assert f"    {command} " in out


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.main(["--version"])
    assert leaving.value.code == 0
    assert capsys.readouterr().out == f"minswin {minswin.__version__}\n"


def test_the_help_of_train_has_default_type_and_range_of_every_setting(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    out = capsys.readouterr().out
    for entry in fields(minswin.training.Settings):
        name = {"model_settings": "set"}.get(entry.name, entry.name).replace("_", "-")
        option = rf"^ .*--{name}(?![\w-])(?:[^\n]*\n {{20,}})?[^\n]*default: [^\n]*$"
        (line,) = re.findall(option, out, re.M)
        allowed = entry.metadata["allowed"]
        if isinstance(allowed, tuple):
            assert " NAME " in line and f"; {', '.join(allowed)}; " in line
        elif allowed is not None:
            assert re.search(r" (N|X|NAME)  ", line) and f"; {allowed.words}; " in line
    assert (
        "images of an update; a whole number of 1 or more; default: 32, 128 for cifar10 and " in out
    )


@pytest.mark.parametrize("width", [60, 80, 132])
def test_no_line_of_any_help_is_longer_than_the_terminal(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    commands = ["train", "evaluate", "predict", "export", "models", "info", "kernels", "explain"]
    for command in [[], *([name] for name in [*commands, "convert", "bench", "trace", "compare"])]:
        with pytest.raises(SystemExit):
            cli.main([*command, "--help"])
        assert max(map(len, capsys.readouterr().out.splitlines())) <= width, command


def test_long_lines_are_continued_on_a_terminal_and_stay_one_line_in_a_pipe(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "30")
    text = "settings  a=1, b=2, c=3, d=4, e=5, f=6\n\nshort\n" + "x" * 70
    assert fitted(text, io.StringIO()) == text
    lines = fitted(text, Terminal()).split("\n")
    assert lines[:2] == ["settings  a=1, b=2, c=3, d=4,", "          e=5, f=6"]
    assert lines[2:4] == ["", "short"] and max(map(len, lines)) == 30
    assert "".join(line.strip() for line in lines[4:]) == "x" * 70


def test_what_tells_its_progress_can_be_asked_not_to() -> None:
    assert cli._parser().parse_args(["train", "--quiet"]).quiet
    assert not cli._parser().parse_args(["train"]).quiet
