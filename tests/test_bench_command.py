"""`minswin bench` as a command: its parts, its options, what it shows and writes."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from bench_results import RESULT

from minswin import cli
from minswin.bench import report, run, setups
from minswin.bench.clock import Spread
from minswin.bench.machine import machine, save_json
from minswin.bench.startup import Startup, Startups
from minswin.bench.sweep import Point


def test_the_command_shows_the_table_and_writes_both_files(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    asked = []

    def pretend(names, setup, **settings):
        asked.append((names, setup.model, settings["threads"], settings["rounds"]))
        return RESULT

    monkeypatch.setattr(run, "race", pretend)
    out = tmp_path / "bench.json"
    command = ["bench", "tiny", "cifar", "--race", "--compile", "--threads", "3", "--rounds", "4"]
    assert cli.main([*command, "-o", str(out)]) == 0
    names = (*run.CONTENDERS, "timm-compiled")
    assert asked == [(names, "swin_tiny", 3, 4), (names, "swin_cifar", 3, 4)]
    shown, told = capsys.readouterr()
    assert "swin_tiny, batch 8, 224×224" in shown and str(tmp_path / "bench.png") in shown
    assert "race cifar: swin_cifar" in told
    written = json.loads(out.read_text("utf-8"))
    assert written["race"]["cifar"]["ratios"]["timm"]["train"] == 1.5
    assert written["settings"]["rounds"] == 4 and "breakdown" not in written
    assert {p.name for p in tmp_path.iterdir()} == {"bench.json", "bench.png"}


def test_without_options_three_parts_of_all_configurations_are_measured(monkeypatch):
    made = []
    monkeypatch.setattr(
        run, "Bench", lambda *a, **kw: made.append((a, kw)) or SimpleNamespace(run=dict)
    )
    assert cli.main(["bench"]) == 0 and cli.main(["bench", "--sweep", "--sides", "64"]) == 0
    assert made[0][1]["parts"] == ("race", "startup", "breakdown") and made[0][0] == ([],)
    assert made[0][1]["contenders"] == run.CONTENDERS
    assert made[1][1]["parts"] == ["sweep"] and made[1][1]["sides"] == [64]
    assert set(cli.PARTS_OF_BENCH) == set(run.ALL_PARTS)
    monkeypatch.undo()
    assert run.Bench().configurations == tuple(setups.SETUPS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cifra"], "bench: unknown configuration 'cifra'; choose among cifar, tiny, vit"),
        (["--sides", "100"], "bench: sides must be multiples of 16"),
        (["-o", "bench.txt"], "bench: the results go into a .json file, got 'bench.txt'"),
        (["-o", "nowhere/b.json"], "bench: cannot write nowhere/b.json: there is no folder"),
        (["--rounds", "0"], "--rounds: expected a whole number of 1 or more, got '0'"),
    ],
)
def test_a_wrong_command_is_one_line_before_any_work(
    capsys, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run.Bench, "run", lambda bench: None)
    try:
        status = cli.main(["bench", *arguments])
    except SystemExit as leaving:
        status = leaving.code
    out, err = capsys.readouterr()
    assert status == 2 and out == "" and err.count("\n") == 1 and message in err


def test_importing_minswin_leaves_the_bench_out():
    program = "import sys, minswin; print(*(name for name in sys.modules if 'bench' in name))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


# ── what is shown and written ─────────────────────────────────────────────────────────────────────


def test_what_compiling_costs_is_the_difference_of_two_starts():
    empty = Startup(0.1, 0.2, load_kernels=1.5, build_model=0.3, first_step=9.0, second_step=0.5)
    warm = empty._replace(load_kernels=0.5, first_step=1.0)
    found = Startups("cifar", 2, empty, warm, 14)
    assert found.compiling == 9.0
    text = report.startup_table(found)
    assert text.endswith("Compiling the 14 kernels of a training step from nothing takes 9.0 s.")
    assert [line.split() for line in text.splitlines()][6] == ["first", "step", "9.00", "1.00"]


def test_a_table_has_its_numbers_under_each_other():
    assert report.columns([("a", "b"), ("cc", "ddd")]) == "a     b\n───────\ncc  ddd"
    assert report.duration(Spread(0.0012, 0.00234, 0.0125)) == "2.3 ms (1.2–12)"


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "bench.json"
    save_json({"race": RESULT, "points": (Point(32, 9, Spread(1.0, 2.0, 3.0)),)}, path)
    before = json.loads(path.read_text("utf-8"))
    assert before["race"]["timm"]["train"] == {"low": 0.75, "median": 0.75, "high": 0.75}
    assert before["points"][0]["times"]["median"] == 2.0
    with pytest.raises(ValueError, match="JSON compliant"):
        save_json({"race": RESULT, "wrong": float("nan")}, path)
    assert json.loads(path.read_text("utf-8")) == before
    assert [p.name for p in tmp_path.iterdir()] == ["bench.json"]


def test_the_machine_is_described_with_its_versions():
    found = machine()
    assert found["numpy"] == np.__version__ and found["processor"] and found["cores_usable"] >= 1
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
