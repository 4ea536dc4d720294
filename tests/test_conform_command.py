"""`minswin conform`: modules, files in any form, damaged files, pytest, and a program in C."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import warm

from minswin import cli
from minswin.crosscheck.conform import VARIABLES, conform_files
from minswin.crosscheck.probes import pack, selected
from minswin.crosscheck.probes.files import FORMS, write_pack
from minswin.crosscheck.report import DIFFERS, NOT_COVERED, PASSED

ROOT = Path(__file__).parents[1]
LIMIT = 64 * 1024  # bytes of a probe in files: inputs, parameters and answers
ONLY = ["gelu/", "relative_position_index/window_2x3", "layer_norm_grad/rows", "cross_entropy/"]
RIGHT = "from minswin.crosscheck.own import gelu, roll\n"
WRONG = RIGHT + "def softmax(x):\n    return 0 * x\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINSWIN_TRACEBACK", raising=False)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    return tmp_path


def refused(capsys, *arguments):
    try:
        status = cli.main(["conform", *arguments])
    except SystemExit as leaving:
        status = leaving.code
    err = capsys.readouterr().err
    assert status == 2 and err.startswith("minswin: error: ") and err.count("\n") == 1, err
    return err


# ── modules ──────────────────────────────────────────────────────────────────────────────────────


def test_the_exit_status_says_whether_something_differs(here, capsys):
    Path("right_one.py").write_text(RIGHT)
    Path("wrong_one.py").write_text(WRONG)
    assert cli.main(["conform", "--module", "right_one"]) == 0
    out = capsys.readouterr().out
    assert "0 differ" in out and "not covered" in out
    assert cli.main(["conform", "--module", "wrong_one.py", "--markdown", "report.md"]) == 1
    assert "softmax/rows DIFFERS" in capsys.readouterr().out
    assert "softmax/rows" in Path("report.md").read_text("utf-8")


@pytest.mark.parametrize(
    "source, expected",
    [
        ("import no_such_package\n", "no_such_package"),
        ("raise SystemExit(3)\n", "raised SystemExit"),
        ("def (:\n", "SyntaxError"),
        ("x = 1\n", "none of the functions"),
        ("def window_partiton(x, window):\n    return x\n", "did you mean window_partition"),
        ("dtype = 'float16'\n" + RIGHT, "dtype must be float32 or float64"),
        ("dtype = 'nonsense'\n" + RIGHT, "dtype must be float32 or float64"),
    ],
)
def test_a_module_that_is_no_adapter_is_refused(here, capsys, source, expected):
    Path("bad_one.py").write_text(source)
    sys.modules.pop("bad_one", None)
    assert expected in refused(capsys, "--module", "./bad_one.py")


def test_a_module_or_file_that_is_not_there_is_refused(here, capsys):
    assert "no_such_module" in refused(capsys, "--module", "no_such_module")
    assert "there is no file" in refused(capsys, "--module", "not/here.py")
    assert "one of the arguments" in refused(capsys)
    assert "not allowed with" in refused(capsys, "--module", "a", "--files", "b")
    assert "no probe's name" in refused(capsys, "--write", "pack", "--only", "nothing_like_it")


def test_misspelt_names_and_values_that_are_no_functions_are_told(here, capsys):
    Path("notes_one.py").write_text(RIGHT + "softmax = 3\ndef layernorm(x):\n    return x\n")
    assert cli.main(["conform", "--module", "notes_one", "--only", "gelu/"]) == 0
    out = capsys.readouterr().out
    assert "softmax is no function but int" in out and "did you mean layer_norm?" in out


def test_the_laws_leave_nothing_in_the_working_folder(here):
    """In a process of its own: what hypothesis keeps, it writes once in each."""
    Path("right_one.py").write_text(RIGHT)
    text = "import sys; sys.dont_write_bytecode = True\n"
    text += "from minswin.cli import main; raise SystemExit(main(sys.argv[1:]))"
    given = ["-c", text, "conform", "--module", "right_one", "--only", "roll"]
    done = warm.run(given)
    assert done.returncode == 0 and "law" in done.stdout, done.stderr
    assert [path.name for path in here.iterdir()] == ["right_one.py"]


def test_functions_and_probes_are_listed(capsys):
    assert cli.main(["conform", "--functions", "--only", "nothing_like_it"]) == 0
    assert "window_attention(x, params, window, shift, heads)" in capsys.readouterr().out
    assert cli.main(["conform", "--list"]) == 0
    out = capsys.readouterr().out
    assert "window_attention/padded" in out and "law/mask_counts" in out


def test_a_pipe_that_does_not_know_our_letters_gets_the_report_all_the_same(here):
    Path("right_one.py").write_text(RIGHT)
    text = "import sys; sys.stdout.reconfigure(encoding='ascii', errors='strict')\n"
    text += "from minswin.cli import main; raise SystemExit(main(sys.argv[1:]))"
    for command in (["--functions"], ["--module", "right_one", "--only", "gelu"]):
        done = warm.run(["-c", text, "conform", *command], MINSWIN_KERNELS="reference")
        assert done.returncode == 0 and done.stdout.isascii(), done.stderr
        assert "gelu" in done.stdout and "error" not in done.stderr


# ── files ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", FORMS)
def test_the_expected_files_pass_in_every_form(tmp_path, form):
    write_pack(tmp_path / "pack", form=form, only=ONLY)
    verdicts, notes = conform_files(tmp_path / "pack" / "expected", ONLY)
    assert [v.message for v in verdicts if v.status != PASSED] == [] and notes == []
    manifest = json.loads((tmp_path / "pack" / "manifest.json").read_text("utf-8"))
    assert [p["name"] for p in manifest["probes"]] == [p.name for p in selected(ONLY)]


@pytest.mark.parametrize("form", FORMS)
def test_no_probe_is_larger_than_64_kb(tmp_path, form):
    write_pack(tmp_path / "pack", form=form)
    for probe in pack():
        both = ((tmp_path / "pack" / part / probe.name) for part in ("probes", "expected"))
        size = sum(f.stat().st_size for folder in both for f in folder.iterdir())
        assert 0 < size <= LIMIT, probe.name


def test_the_inputs_in_files_are_those_of_the_calls(tmp_path):
    write_pack(tmp_path / "raw", form="raw", only=["window_attention_v2/padded"])
    (probe,) = selected(["window_attention_v2/padded"])
    folder = tmp_path / "raw" / "probes" / probe.name
    for name, x in probe.arrays().items():
        assert np.array_equal(np.fromfile(folder / f"{name}.f32", "<f4").reshape(x.shape), x)
    lines = (folder / "shapes.txt").read_text().splitlines()
    assert "x float32 4 2 5 3 4" in lines and "window setting 2 3 3" in lines
    assert "heads setting 1 2" in lines and "y output 4 2 5 3 4" in lines


def test_a_pack_is_written_over_a_pack_and_over_nothing_else(tmp_path):
    write_pack(tmp_path / "pack", only=["roll/"])
    write_pack(tmp_path / "pack", only=["gelu/"])
    assert not (tmp_path / "pack" / "probes" / "roll").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(FileExistsError, match="choose a new folder"):
        write_pack(tmp_path / "mine", only=["roll/"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "pack"]
    (tmp_path / "pack" / "answers").mkdir()
    with pytest.raises(FileExistsError, match="or other files too"):
        write_pack(tmp_path / "pack", only=["roll/"])


@pytest.fixture
def answers(tmp_path):
    """Right answers in raw form, to be damaged."""
    write_pack(tmp_path / "pack", form="raw", only=ONLY)
    return tmp_path / "pack" / "expected"


def verdict_of(answers, name):
    verdicts, _ = conform_files(answers, [name])
    return next(v for v in verdicts if v.name == name)


def test_a_truncated_or_too_long_file_is_a_finding(answers):
    file = answers / "gelu" / "far" / "y.f64"
    data = file.read_bytes()
    for changed, told in ((data[:-8], "is cut off"), (data + b"12345678", "is too long")):
        file.write_bytes(changed)
        verdict = verdict_of(answers, "gelu/far")
        assert verdict.status == DIFFERS and told in verdict.message, verdict.message


def test_big_endian_numbers_are_named_as_such(answers):
    file = answers / "gelu" / "far" / "y.f64"
    file.write_bytes(np.fromfile(file, "<f8").astype(">f8").tobytes())
    assert "write little-endian" in verdict_of(answers, "gelu/far").message


def test_a_missing_file_is_missing_and_a_missing_folder_is_not_covered(answers):
    (answers / "layer_norm_grad" / "rows" / "bias.f64").unlink()
    verdict = verdict_of(answers, "layer_norm_grad/rows")
    assert verdict.status == DIFFERS and "bias is missing" in verdict.message
    shutil.rmtree(answers / "gelu")
    verdicts, _ = conform_files(answers, ONLY)
    gelu = {v.status for v in verdicts if v.name.startswith("gelu/")}
    assert gelu == {NOT_COVERED}


def test_a_file_that_matches_nothing_is_told(answers):
    (answers / "gelu" / "far").rename(answers / "gelu" / "farr")
    (answers / "gelu" / "near_-2.7" / "z.npy").write_bytes(b"")
    _, notes = conform_files(answers, ONLY)
    assert "gelu/farr/y.f64 is the answer to no probe; did you mean gelu/far?" in notes
    assert any("z.npy" in note for note in notes)


def test_files_that_are_no_arrays_are_findings(answers):
    folder = answers / "gelu" / "far"
    (folder / "y.f64").unlink()
    for name, data in (("y.npy", b"nonsense"), ("y.npy", b""), ("answers.npz", b"PK nonsense")):
        (folder / name).write_bytes(data)
        assert verdict_of(answers, "gelu/far").status == DIFFERS
        (folder / name).unlink()
    np.save(folder / "y.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "cannot be read" in verdict_of(answers, "gelu/far").message


def test_answers_that_are_too_narrow_are_told_what_files_may_be(answers):
    folder = answers / "gelu" / "far"
    y = np.fromfile(folder / "y.f64", "<f8").reshape(3, 7)
    (folder / "y.f64").unlink()
    np.save(folder / "y.npy", y.astype("f2"))
    said = verdict_of(answers, "gelu/far").message
    assert said == "y: float16, expected float32; write float32 or float64"
    np.save(folder / "y.npy", y.astype("f4"))
    verdicts, _ = conform_files(answers, ["gelu/far"], "float64")
    assert "expected float64; --dtype says what they were computed in" in verdicts[0].message


def test_several_arrays_in_one_npy_file_are_a_finding(answers):
    folder = answers / "gelu" / "far"
    (folder / "y.f64").unlink()
    with open(folder / "y.npy", "wb") as file:
        np.savez(file, a=np.zeros(3))
    assert "y.npy cannot be read: it is an .npz" in verdict_of(answers, "gelu/far").message


def test_a_folder_without_answers_is_refused(here, capsys):
    Path("empty").mkdir()
    assert "is an answer" in refused(capsys, "--files", "empty")
    assert "no folder" in refused(capsys, "--files", "nowhere")
    Path("empty/gelu").mkdir()
    Path("empty/gelu/y.npy").write_bytes(b"x")
    assert "is the answer to no probe" in refused(capsys, "--files", "empty")


def test_float32_answers_in_wide_files_pass_if_it_is_said(answers):
    file = answers / "gelu" / "far" / "y.f64"
    np.fromfile(file, "<f8").astype("<f4").astype("<f8").tofile(file)
    assert verdict_of(answers, "gelu/far").status == DIFFERS
    verdicts, _ = conform_files(answers, ["gelu/far"], "float32")
    assert {v.status for v in verdicts if v.name == "gelu/far"} == {PASSED}


# ── other programs ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")
def test_the_program_in_c_passes_and_is_found_where_it_is_wrong(tmp_path):
    source = (ROOT / "examples/conformance/swin_block.c").read_text("utf-8")
    only = ["window_attention/"]
    write_pack(tmp_path / "pack", form="raw", only=only)
    for name, text, status in (
        ("right", source, {PASSED}),
        ("wrong", source.replace("(apart ? 100 : 0)", "(apart ? 0 : 0)"), {PASSED, DIFFERS}),
    ):
        (tmp_path / f"{name}.c").write_text(text)
        flags = ["-O1", "-std=c99", "-Wall", "-Wextra", "-Werror"]
        command = ["cc", *flags, "-o", tmp_path / name, tmp_path / f"{name}.c", "-lm"]
        subprocess.run(command, check=True)
        for probe in selected(only):
            answer = tmp_path / f"{name}_answers" / probe.name
            answer.mkdir(parents=True)
            folder = tmp_path / "pack" / "probes" / probe.name
            subprocess.run([tmp_path / name, folder, answer / "y.f64"], check=True)
        verdicts, _ = conform_files(tmp_path / f"{name}_answers", only)
        assert {v.status for v in verdicts} == status
        found = {v.name for v in verdicts if v.status == DIFFERS}
        assert ("window_attention/impulse" in found) == (name == "wrong")


def pytest_of(folder, *arguments, **environment):
    own = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    own["MINSWIN_KERNELS"] = "reference"  # nothing to compile
    own["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # and no other plugin to load
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    command += ["--pyargs", "minswin.crosscheck.conform"]
    return subprocess.run(
        command, cwd=folder, env={**own, **environment}, capture_output=True, text=True
    )


def test_pytest_runs_the_probes_for_the_adapter_that_the_variable_names(tmp_path):
    (tmp_path / "their_adapter.py").write_text(WRONG)
    chosen = "-k", "softmax or gelu or tall"
    done = pytest_of(tmp_path, *chosen, "--junitxml=report.xml", MINSWIN_ADAPTER="their_adapter")
    assert done.returncode == 1, done.stderr
    assert "softmax/rows DIFFERS" in done.stdout and "zero everywhere" in done.stdout
    assert "4 failed, 3 passed" in done.stdout and "skipped" in done.stdout
    suite = ElementTree.parse(tmp_path / "report.xml").getroot()[0]
    assert suite.get("failures") == "4"  # three probes and a law
    told = {case.get("name"): case.find("failure") for case in suite}
    assert "softmax/rows DIFFERS" in told["test_conforms[softmax/rows]"].text
    assert told["test_conforms[gelu/far]"] is None


def test_pytest_judges_the_answers_that_the_variable_names(answers):
    file = answers / "gelu" / "far" / "y.f64"
    file.write_bytes(file.read_bytes()[:-8])
    done = pytest_of(answers.parent, "-k", "gelu/ or roll/", MINSWIN_ANSWERS=str(answers))
    assert done.returncode == 1, done.stderr
    assert "is cut off" in done.stdout and "1 failed, 1 passed, 3 skipped" in done.stdout


@pytest.mark.parametrize("named", [{}, {"MINSWIN_ANSWERS": "nowhere"}])
def test_pytest_without_an_adapter_or_answers_is_a_mistake_and_no_success(tmp_path, named):
    done = pytest_of(tmp_path, **named)
    assert done.returncode not in (0, 1, 5)
    told = "give --files the folder" if named else "MINSWIN_ADAPTER"
    assert told in done.stdout + done.stderr
