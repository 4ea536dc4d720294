"""The command line: what it prints, what it refuses, and how it exits."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import tiny_training
from tiny_training import DRAW_CURVES, install, tiny_load

import minswin
import minswin.training.evaluation
from minswin import cli
from minswin.cli.parsing import ELSEWHERE
from minswin.look.tables import bars, fitted, shapes_table
from minswin.models import create_model, list_models
from minswin.training import loop
from minswin.training.checkpoints import (
    LAST,
    load_trained_model,
    read_checkpoint,
    save_checkpoint,
)
from minswin.training.classifiers import load_published

TRAIN = ["train", "--model", "tiny", "--epochs", "2", "--batch-size", "8", "--threads", "1"]
TRAIN += ["--holdout", "0"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINSWIN_TRACEBACK", raising=False)


def refusal(capsys, *arguments):
    """The one line that a command prints when it fails."""
    try:
        status = cli.main(list(arguments))
    except SystemExit as leaving:
        status = leaving.code
    out, err = capsys.readouterr()
    assert status == 2 and out == ""
    assert err.startswith("minswin: error: ") and err.count("\n") == 1, err
    return err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        recipe = ["--optimizer", "sgd", "--lr", "0.1", "--clip", "5", "--epochs", "15"]
        assert cli.main([*TRAIN, "-o", str(folder), *recipe]) == 0
    return folder


# ── train ────────────────────────────────────────────────────────────────────────────────────────


def test_training_prints_a_line_for_each_epoch_and_where_everything_is(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "_draw_curves", DRAW_CURVES)
    assert cli.main(TRAIN) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    line = r"epoch {}/2   loss \d\.\d+   accuracy +[\d.]+%   test loss .* images/s"
    assert re.fullmatch(line.format(1), lines[0]) and re.fullmatch(line.format(2), lines[1])
    assert re.fullmatch(r"test accuracy [\d.]+%   \(epochs 2, steps 14, \d+ s\)", lines[2])
    assert "runs/shapes-tiny-0" in lines[3] and "minswin evaluate runs/shapes-tiny-0" in out
    assert err == ""  # no bar where there is no terminal
    run = tmp_path / "runs" / "shapes-tiny-0"
    names = {"last.safetensors", "last.json", "best.safetensors", "best.json", "log.jsonl"}
    assert {p.name for p in run.iterdir()} == {*names, "curves.png"}


def test_a_terminal_gets_a_bar_with_loss_accuracy_speed_and_the_time_left(tmp_path):
    pty = pytest.importorskip("pty")
    import fcntl
    import termios

    terminal, its_end = pty.openpty()
    fcntl.ioctl(its_end, termios.TIOCSWINSZ, np.array([24, 130, 0, 0], np.uint16).tobytes())
    script = [sys.executable, str(Path(tiny_training.__file__)), *TRAIN, "--epochs", "9"]
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    environment["PYTHONPATH"] = str(Path(minswin.__file__).parents[1])
    with subprocess.Popen(
        script, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=its_end
    ) as process:
        os.close(its_end)
        seen = b""
        with suppress(OSError):  # how a closed terminal says that nothing follows
            while part := os.read(terminal, 1000):
                seen += part
        assert process.wait() == 0
    os.close(terminal)
    bar = r"epoch \d/9 .*\d+/63 step .* loss \d\.\d+  accuracy [\d.]+%  [\d,]+ images/s"
    assert re.search(bar, seen.decode())


def test_options_of_train_become_settings_of_the_same_name():
    arguments = [*TRAIN, "--lr", "0.25", "--weight-decay", "0.125", "--optimizer", "adamw"]
    arguments += ["--ema", "0.5", "--mixup", "0.2", "--seed", "7", "-o", "here", "--clip", "0"]
    assert cli.main(arguments) == 0
    settings = read_checkpoint("here").info["settings"]
    want = {"lr": 0.25, "weight_decay": 0.125, "optimizer": "adamw", "ema": 0.5, "mixup": 0.2}
    want |= {"seed": 7, "out": "here", "clip": 0.0, "epochs": 2, "batch_size": 8}
    assert {name: settings[name] for name in want} == want


def test_a_model_is_trained_with_settings_of_its_own_and_found_again():
    own = ["--set", "depths=(1,)", "--set", "stem=overlapping", "--set", "shift = False"]
    assert cli.main([*TRAIN, *own, "-o", "here"]) == 0
    info = read_checkpoint("here").info
    assert info["settings"]["model_settings"] == {
        "depths": [1], "stem": "overlapping", "shift": False,
    }  # fmt: skip
    model, _ = load_trained_model("here")
    assert len(model.layers[0].blocks) == 1 and model.patch_embed.proj.weight.shape[2:] == (3, 3)
    assert cli.main(["train", "--resume", "here"]) == 0  # it is over; the model is built again


def test_info_of_exported_weights_knows_the_settings_of_their_model(capsys):
    own = ["--set", "depths=(1,)", "--set", "stem=convolutions"]
    assert cli.main([*TRAIN, *own, "-o", "here"]) == 0
    assert cli.main(["export", "here", "a.safetensors"]) == 0
    capsys.readouterr()
    assert cli.main(["info", "a.safetensors"]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["model"] == "tiny with depths=[1], stem=convolutions"
    assert not told.keys() & {"settings", "fits", "unknown"}
    model, _ = load_trained_model("here")
    assert told["parameters"] == f"{model.parameter_count():,}"
    published = load_published("tiny", "a.safetensors").model  # its name alone says less
    assert published.parameter_count() == model.parameter_count()


def test_every_option_of_train_is_a_setting():
    known = set(cli._parser().parse_args(["train"]).__dict__) - set(cli.NOT_SETTINGS)
    assert known <= set(minswin.training.Settings.__dataclass_fields__)


def test_a_used_folder_needs_resume_or_overwrite(capsys, trained):
    before = (trained / LAST).read_bytes()
    message = refusal(capsys, *TRAIN, "-o", str(trained))
    assert f"{trained} already holds a run; continue it with --resume {trained}" in message
    assert "--overwrite" in message and (trained / LAST).read_bytes() == before


def test_resume_keeps_to_the_settings_of_the_run(capsys, trained):
    message = refusal(capsys, "train", "--resume", str(trained), "--batch-size", "4")
    assert "--resume continues with the settings that the run began with" in message
    assert "leave out --batch-size" in message
    assert "leave out --overwrite" in refusal(
        capsys, "train", "--resume", str(trained), "--overwrite"
    )
    assert cli.main(["train", "--resume", str(trained), "--data-dir", "elsewhere"]) == 0


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


def test_a_folder_that_cannot_be_made_is_one_line_too(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    message = refusal(capsys, *TRAIN, "-o", str(tmp_path / "file" / "run"))
    assert "cannot write to the folder" in message and "--out" in message


def test_a_divergence_is_one_line_that_says_what_to_try(capsys):
    message = refusal(capsys, *TRAIN, "--lr", "1e20", "--clip", "0", "--warmup", "0")
    assert "step" in message and "Try a smaller --lr" in message


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


# ── evaluate and predict ─────────────────────────────────────────────────────────────────────────


def test_evaluate_prints_each_class_and_the_accuracy_of_the_run(capsys, trained):
    assert cli.main(["evaluate", str(trained), "--threads", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["red", "green", "blue"]
    best = read_checkpoint(trained / "best.safetensors").info["accuracy"]
    assert lines[3].startswith(f"accuracy {best:.2%}   loss ")
    assert lines[3].endswith("(33 test images of shapes)")
    assert cli.main(["evaluate", str(trained), "--split", "train"]) == 0
    assert "(60 train images of shapes)" in capsys.readouterr().out
    assert cli.main(["evaluate", str(trained), "--flips"]) == 0
    flipped = capsys.readouterr().out.splitlines()[3]
    assert flipped.endswith("(33 test images of shapes, each with its mirror image)")
    assert flipped.split()[3] != lines[3].split()[3]  # the loss


def test_evaluate_knows_which_images_the_run_learnt_from_and_which_it_held_out(
    capsys, tmp_path, monkeypatch
):
    small = ["--count", "50", "--holdout", "9", "--seed", "4"]
    assert cli.main([*TRAIN, *small, "-o", "run"]) == 0
    assert cli.main([*TRAIN, "--seed", "4", "-o", "whole"]) == 0
    seen = []
    classify = minswin.training.evaluation.evaluation_batches
    monkeypatch.setattr(
        "minswin.training.evaluation.evaluation_batches",
        lambda images, *settings: seen.append(images) or classify(images, *settings),
    )
    capsys.readouterr()
    for split, number in (("train", 41), ("held-out", 9), ("test", 33)):
        assert cli.main(["evaluate", "run", "--split", split]) == 0
        assert f"({number} {split} images of shapes)" in capsys.readouterr().out
    whole = tiny_load("shapes", split="train", count=50)
    train, held_out = whole.split(9, rng=np.random.default_rng(4))
    assert np.array_equal(seen[0].images, train.images)
    assert np.array_equal(seen[1].images, held_out.images)
    assert cli.main(["evaluate", "run", "--split", "train", "--data", "cifar10"]) == 0
    assert "(60 train images of cifar10)" in capsys.readouterr().out  # not those of the run
    message = refusal(capsys, "evaluate", "whole", "--split", "held-out")
    assert "the run in whole held out no images" in message
    message = refusal(capsys, "evaluate", "run", "--split", "held-out", "--data", "cifar10")
    assert "held out images of 'shapes', not of 'cifar10'; leave out --data" in message


@pytest.mark.parametrize("value", [np.nan, 1e30])
def test_a_model_without_a_loss_is_not_given_figures(capsys, trained, tmp_path, value):
    from PIL import Image

    checkpoint = read_checkpoint(trained)
    for name, array in checkpoint.weights.items():
        if name.endswith("weight"):
            array[...] = value * np.sign(np.random.default_rng(1).standard_normal(array.shape))
    save_checkpoint(tmp_path / LAST, checkpoint)
    message = refusal(capsys, "evaluate", str(tmp_path))
    assert "the loss of the 33 images is nan" in message and "use another checkpoint" in message
    Image.fromarray(tiny_load("shapes", split="test").images[0].transpose(1, 2, 0)).save("a.png")
    message = refusal(capsys, "predict", "a.png", "--checkpoint", str(tmp_path))
    assert "answers with nan" in message and "use another checkpoint" in message


def test_evaluating_on_other_classes_is_refused(capsys, trained, monkeypatch):
    def other(name, **settings):
        return tiny_load(name, **settings).__class__(
            np.zeros((2, 3, 8, 8), np.uint8), np.zeros(2, np.int64), ("cat",), name
        )

    monkeypatch.setattr("minswin.data.load", other)
    message = refusal(capsys, "evaluate", str(trained), "--data", "cifar10")
    assert "tells the 3 classes of 'shapes' apart, not the 1 of 'cifar10'; leave out --data" in (
        message
    )


def test_predict_names_the_colour_of_a_picture(capsys, trained, tmp_path):
    from PIL import Image

    pixels = tiny_load("shapes", split="test")
    for index in range(3):
        kind = ("red", "green", "blue")[pixels.labels[index]]
        picture = Image.fromarray(pixels.images[index].transpose(1, 2, 0))
        picture.resize((40, 24), Image.Resampling.NEAREST).save(tmp_path / "picture.png")
        assert cli.main(["predict", "picture.png", "--checkpoint", str(trained), "--top", "2"]) == 0
        about, only, *lines = capsys.readouterr().out.splitlines()
        assert "cannot say 'none of these'" in only
        assert re.fullmatch(r"tiny, 8×8, 3 classes of shapes, .*% of the test images right", about)
        assert len(lines) == 2 and lines[0].split()[0] == kind
        shares = [float(line.split()[-1].rstrip("%")) for line in lines]
        assert shares[0] > 100 / 3 and shares[0] > shares[1] > 0


def test_predict_names_several_pictures_and_one_that_is_broken_stops_no_other(
    capsys, trained, tmp_path
):
    from PIL import Image

    for name, colour in (("a.png", (255, 0, 0)), ("c.png", (0, 0, 255))):
        Image.new("RGB", (9, 9), colour).save(name)
    arguments = ["predict", "a.png", "b.png", "c.png", "--checkpoint", str(trained), "--top", "1"]
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("tiny, 8×8, 3 classes") and out.count("tiny,") == 1
    assert "cannot say 'none of these'" in lines[1] and out.count("none of these") == 1
    assert lines[2:4] == ["", "a.png"] and lines[4].startswith("red ")
    assert lines[5:7] == ["", "c.png"] and lines[7].startswith("blue ")
    assert err == "minswin: error: predict: there is no image b.png; give the path of a picture\n"


def test_predict_says_what_is_wrong_with_its_picture(capsys, trained, tmp_path, monkeypatch):
    there = ["--checkpoint", str(trained)]
    assert "there is no image no.png" in refusal(capsys, "predict", "no.png", *there)
    (tmp_path / "text.png").write_text("no picture")
    message = refusal(capsys, "predict", "text.png", *there)
    assert "text.png cannot be read as a picture" in message
    monkeypatch.setitem(sys.modules, "PIL", None)
    message = refusal(capsys, "predict", "text.png", *there)
    assert 'pillow is missing; pip install "minswin[plot]"' in message


# ── looking ──────────────────────────────────────────────────────────────────────────────────────


def test_info_shows_what_a_run_is_and_how_to_go_on_with_it(capsys, trained, monkeypatch):
    assert cli.main(["info", str(trained)]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    about = {name: value.strip() for name, value in lines.items()}
    assert about["model"].startswith("tiny, 8×8, ") and about["data"] == "60 images of shapes"
    assert about["classes"] == "3: red, green, blue"
    assert about["trained"] == "15 of 15 epochs, 105 steps; over"
    best = read_checkpoint(trained).info["best_accuracy"]
    assert about["accuracy"] == f"{best:.1%} of the test images at best"
    assert "lr=0.1, " in about["settings"]
    monkeypatch.setattr("minswin.training.loop.Interrupts.received", lambda interrupts: 15)
    assert cli.main([*TRAIN, "-o", "stopped"]) == 143
    capsys.readouterr()
    assert cli.main(["info", "stopped"]) == 0
    out = capsys.readouterr().out
    assert "0 of 2 epochs, 0 steps; minswin train --resume stopped goes on" in out
    assert "accuracy    none yet" in out


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


ON_A_TERMINAL = """
import sys, time
import numpy
from minswin import cli
from minswin.cli.parsing import ELSEWHERE
from minswin.cli import looking, waiting
waiting.SILENCE, waiting.TURN = 0.2, 0.02

def slow(options):
    options.waiting.now("something long")
    time.sleep(0.6)
    print("result")
    if "numba" in sys.argv:
        from minswin.kernels.cpu import compiled
        loop = lambda x: x + 1
        loop.__module__ = "minswin.loops"  # of others nothing is told
        compiled.njit(loop)(3)
    return 0

looking._models = slow
cli.main(["models"])
"""


def on_a_terminal(script, *arguments, **streams):
    """What a program writes to a terminal."""
    pty = pytest.importorskip("pty")
    terminal, its_end = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(minswin.__file__).parents[1])}
    command = [sys.executable, "-c", script, *arguments]
    ends = {"stdout": its_end, "stderr": its_end, **streams}
    with subprocess.Popen(command, env=environment, **ends) as process:
        os.close(its_end)
        seen = b""
        with suppress(OSError):  # how a closed terminal says that nothing follows
            while part := os.read(terminal, 1000):
                seen += part
        assert process.wait() == 0
    os.close(terminal)
    return seen.decode()


def test_a_silent_command_reports_itself_on_a_terminal_and_clears_the_line():
    seen = on_a_terminal(ON_A_TERMINAL)
    assert re.search(r"\r\x1b\[Kminswin models: something long … \d s", seen)
    assert re.search(r"…[^\n]*\r\x1b\[Kresult\r\n$", seen)  # the line is gone before the result


def test_compiling_is_reported():
    seen = on_a_terminal(ON_A_TERMINAL, "numba")
    assert "minswin models: compiling the kernels, once for all runs: <lambda>" in seen


A_PROGRAM = """
import sys
from minswin.kernels.cpu import compiled
for owner in sys.argv[1:]:
    loop = lambda x: x + 1
    loop.__module__ = owner
    compiled.njit(loop)(3)
    print("compiled for", owner)
"""


def test_a_program_that_compiles_kernels_says_so_once_on_a_terminal():
    seen = on_a_terminal(A_PROGRAM, "theirs", "minswin.a", "minswin.b").splitlines()
    assert (
        seen[0] == "compiled for theirs" and "compiling the kernels, once for all runs" in seen[1]
    )
    assert seen[2:] == ["compiled for minswin.a", "compiled for minswin.b"]
    command = [sys.executable, "-c", A_PROGRAM, "minswin.a"]
    environment = {**os.environ, "PYTHONPATH": str(Path(minswin.__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_without_a_terminal_nothing_is_reported():
    environment = {**os.environ, "PYTHONPATH": str(Path(minswin.__file__).parents[1])}
    command = [sys.executable, "-c", ON_A_TERMINAL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "result\n" and done.stderr == ""


TERMINATED = """
import os, signal, sys
from minswin import cli
from minswin.cli.parsing import ELSEWHERE
from minswin.cli import looking
from minswin.replacing import replacing

def half(options):
    with replacing("a.txt") as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

looking._models = half
sys.exit(cli.main(["models"]))
"""


def test_a_terminated_command_leaves_nothing_half_written(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(minswin.__file__).parents[1])}
    command = [sys.executable, "-c", TERMINATED]
    assert subprocess.run(command, env=environment, cwd=tmp_path).returncode == 143
    assert list(tmp_path.iterdir()) == []


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


def test_models_lists_every_name_with_its_published_size(capsys):
    assert cli.main(["models"]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[2:]}
    assert list(rows) == list_models()
    assert rows["swin_tiny"][:2] == ["224×224", "28,288,354"]
    model = create_model("tiny", rng=np.random.default_rng(0))  # there its weights take no room
    assert rows["tiny"] == ["8×8", f"{model.parameter_count():,}", f"{model.flops():,}"]


def test_info_shows_the_pyramid_and_its_total(capsys):
    assert cli.main(["info", "swin_tiny", "--img-size", "384x256"]) == 0
    out = capsys.readouterr().out
    assert "384×256×3 → 96×64×48 → 96×64×96 → 48×32×192 → 24×16×384 → 12×8×768" in out
    total = next(line for line in out.splitlines() if line.startswith("total"))
    model = create_model("tiny", rng=np.random.default_rng(0))
    assert total.split()[1] == "28,288,354"
    assert f"{model.flops():,}" in shapes_table("tiny")


def test_kernels_prints_the_report(capsys):
    assert cli.main(["kernels"]) == 0
    assert capsys.readouterr().out == minswin.kernels.report() + "\n"


def test_bars_are_as_long_as_their_share():
    lines = bars(["a", "bb", "c"], [0.5, 1.0, 0.0]).splitlines()
    assert [line.count("█") for line in lines] == [15, 30, 0]
    assert [line.split()[-1] for line in lines] == ["50.0%", "100.0%", "0.0%"]
    assert [line[:2] for line in bars(["a", "bb", "c"], [0.1, 0.3, 0.6], top=2).splitlines()] == [
        "c ",
        "bb",
    ]
    assert bars(["a"], [float("nan")]).endswith("(none)")


def test_the_module_runs_as_a_program_and_ends_well_when_its_reader_leaves():
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(minswin.__file__))}
    command = f"{sys.executable} -m minswin info swin_tiny | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == "" and done.stdout.strip() in ("0", "141")


def test_the_command_line_alone_loads_nothing_heavy():
    program = "import sys, minswin.cli; minswin.cli._parser(); print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", "import json;" + program], capture_output=True, text=True, check=True
    )
    heavy = {"numba", "safetensors", "matplotlib", "PIL"}
    assert heavy.isdisjoint(json.loads(done.stdout))
