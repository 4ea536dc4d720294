"""What a command refuses is one line that says what is meant; its own faults are not hidden."""

from __future__ import annotations

import command_line
import pytest
from command_line import refusal

from minswin import cli
from minswin.cli.parsing import ELSEWHERE

tiny = command_line.tiny  # the fixture


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "--data", "mnist"],
            "data must be one of shapes, cifar10, cifar100, or a folder that has one of pictures",
        ),
        (["train", "--model", "tinny"], "unknown model 'tinny'; did you mean 'tiny', '"),
        (["train", "--epochs", "-1"], "epochs must be a whole number of 1 or more, got -1"),
        (
            ["train", "--epochs", "x"],
            "argument --epochs: invalid int value: 'x' (see minswin",
        ),
        (["train", "--resume", "nowhere"], "there is no checkpoint nowhere; expected a file"),
        (["evaluate", "nowhere"], "there is no checkpoint nowhere; expected a file"),
        (["predict", "no.png"], "predict: there is no image no.png; give the path of a picture"),
        (["info", "swin_tinny"], "unknown model 'swin_tinny'; did you mean 'swin_tiny', '"),
        (
            ["predict", "a.png", "--checkpoint", "x", "--top", "0"],
            "argument --top: expected a whole",
        ),
        (["predict", "a.png", "--checkpoint", "x", "--top=-3"], "number of 1 or more, got '-3'"),
        (["evaluate", "x", "--threads", "0"], "number of 1 or more, got '0' (see minswin"),
        (["evaluate", "x", "--threads=-1"], "--threads: expected a whole number of 1 or more"),
        (["evaluate", "x", "--threads", "two"], "expected a whole number of 1 or more, got 'two'"),
        (["train", "--threads", "0"], "threads must be a whole number of 1 or more, got 0"),
        (["train", "--count", "0"], "count must be 32 or more, got 0"),
        (["info", "swin_tiny", "--img-size", "0"], "expected a size as 224 or 224x320, got '0'"),
        (["info", "swin_tiny", "--img-size", "30"], "30×30 image does not divide into 4×4 patches"),
        (["fly"], "argument COMMAND: invalid choice: 'fly'"),
        (["trian"], "did you mean 'train'? (see minswin --help)"),
        (["--verison"], "unknown option --verison; did you mean --version? (see minswin --help)"),
        (["models", "--xyz"], "minswin: error: unknown option --xyz (see minswin models --help)"),
        (["train", "shapes"], "unexpected argument 'shapes' (see minswin train --help)"),
        (["train", "--count", "-5"], "count must be 32 or more, got -5"),
        (
            ["trace", "--model", "swin_shapes", "-o", "out", "--input", "no.npy"],
            "trace: there is no no.npy; give the path of one that is there",
        ),
    ],
)
def test_an_error_is_one_line(capsys, arguments, message):
    assert message in refusal(capsys, *arguments)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("train --epohcs 3", "--epochs"),
        ("train --imag 3", "--size"),
        ("train --image-size 1", "--size"),
        ("info swin_tiny --imag 30", "--img-size"),
        ("predict --imag x", "IMAGE, which stands without a name"),
        ("evaluate --checkpoint x", "checkpoint, which stands without a name"),
        ("info --model swin_tiny", "model, which stands without a name"),
        ("train --learning-rate=1", "--lr"),
        ("train --wd 0.1", "--weight-decay"),
        ("train --decay 1", "--weight-decay"),
        ("train -bs 8", "--batch-size"),
        ("train --BATCH_SIZE 8", "--batch-size"),
        ("train --num_wor 2", "--threads"),
        ("train --gpu", "--device"),
        ("train --pretrained x", "--weights"),
        ("train --label-smoothing 0.1", "--smoothing"),
        ("explain a.png --ouput x", "--out"),
    ],
)
def test_an_option_of_another_name_or_half_a_name_gets_the_right_one(capsys, line, meant):
    command = line.split()[0]
    error = refusal(capsys, *line.split())
    assert f"; did you mean {meant}? (see minswin {command} --help)" in error


def test_the_names_elsewhere_are_of_options_and_arguments_that_there_are():
    commands = cli._parser()._subparsers._group_actions[0].choices
    known = set()
    for parser in commands.values():
        if parser.options_of_use is not None:
            parser.options_of_use(parser)
        known |= {name.strip("-") for name in parser._option_string_actions}
        known |= {action.dest for action in parser._get_positional_actions()}
    assert set(ELSEWHERE) <= known


def test_the_traceback_is_shown_on_request(monkeypatch):
    monkeypatch.setenv("MINSWIN_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        cli.main(["evaluate", "nowhere"])


def test_a_fault_of_the_program_itself_is_not_dressed_up(monkeypatch):
    monkeypatch.setattr("minswin.look.tables.models_table", lambda: {}["missing"])
    with pytest.raises(KeyError):
        cli.main(["models"])


def test_ctrl_c_outside_of_training_ends_quietly(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("minswin.look.tables.models_table", interrupted)
    assert cli.main(["models"]) == 130
    assert capsys.readouterr().err == "minswin: stopped\n"


@pytest.mark.parametrize(
    "line",
    [
        "compare truth x --json x",
        "compare truth theirs --names x --html ./x",
        "compare truth theirs --json a --html a",
        "conform --module x --markdown x",
        "explain x -o x",
        "explain --weights x -o x",
        "export x.npz x.npz",
    ],
)
def test_what_a_command_reads_or_writes_is_not_written_over(capsys, tmp_path, line):
    for name in ("x", "x.npz"):
        (tmp_path / name).write_text("read")
    assert "is named twice, and would be lost; name another" in refusal(capsys, *line.split())
    assert {file.read_text() for file in tmp_path.iterdir()} == {"read"}


@pytest.mark.parametrize("seconds", ["nan", "-1", "soon"])
def test_the_time_of_a_search_ends(capsys, seconds):
    message = refusal(capsys, "compare", "truth", "theirs", "--seconds", seconds)
    assert f"--seconds: expected a number of 0 or more, got '{seconds}'" in message


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (["train", "--resume", ""], "--resume"),
        (["train", "--weights", ""], "--weights"),
        (["train", "--teacher="], "--teacher"),
        (["train", "-o", ""], "--out"),
        (["train", "--set", "depths=(1,)", "--set", ""], "--set"),
        (["evaluate", ""], "checkpoint"),
        (["predict", "a.png", ""], "IMAGE"),
    ],
)
def test_an_empty_value_is_not_taken_for_none(capsys, line, name):
    assert f"error: {name} is empty; give a value, or leave it out" in refusal(capsys, *line)
