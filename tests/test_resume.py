"""Runs that are stopped from outside, in processes of their own, end like unbroken ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from limits import HANG
from tiny_training import tiny_settings

from minswin.training.checkpoints import BEST, LAST, read_checkpoint
from minswin.training.progress import read_journal

pytestmark = pytest.mark.slow  # test_training_loop.py stops a run after any step, in this process
SCRIPT = Path(__file__).with_name("tiny_training.py")
HOME = SCRIPT.parents[1]
OPTIONS = {
    "epochs": 24,
    "batch_size": 6,
    "count": 30,
    "holdout": 0,
    "checkpoint_every": 2,
    "log_every": 1,
    "threads": 2,
    "lr": 0.01,
    "ema": 0.9,
    "mixup": 0.4,
    "cutmix": 0.4,
    "smoothing": 0.1,
    "piece": 6,
    "piece_epochs": 15,
}


def start(*arguments, kernels="reference", stop=()):
    """`minswin train …` with the tiny model and data, in another process; "" is no choice.

    stop: a moment as tiny_training.stop_at takes it, at which the process gets a signal.
    """
    environment = {**os.environ, "PYTHONPATH": str(HOME), "MINSWIN_KERNELS": kernels}
    environment["STOP_AT"] = " ".join(str(int(part)) for part in stop)
    command = [sys.executable, str(SCRIPT), "train", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def options(folder):
    flat = [part for k, v in OPTIONS.items() for part in (f"--{k.replace('_', '-')}", v)]
    return ["--model", "tiny", "--optimizer", "adamw", "--augment", "basic", *flat, "-o", folder]


def finish(process, expected):
    out, err = process.communicate(timeout=HANG)
    assert process.returncode == expected, (process.returncode, out, err)
    return out, err


def contents(folder):
    """Everything that must not depend on where a run was broken."""
    found = {}
    for name in (LAST, BEST):
        checkpoint = read_checkpoint(folder / name)
        for group in ("weights", "optimizer", "average"):
            for key, array in getattr(checkpoint, group).items():
                found[f"{name}/{group}/{key}"] = array.tobytes()
        for key in ("rng", "step", "epoch", "accuracy", "best_accuracy", "average_step"):
            found[f"{name}/{key}"] = checkpoint.info[key]
    hidden = ("images_per_second", "out")
    lines = read_journal(folder / "log.jsonl")
    found["log"] = [{k: v for k, v in line.items() if k not in hidden} for line in lines]
    return found


SHORT = ["--epochs", "6", "--piece-epochs", "3"]  # 30 steps


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    finish(start(*options(folder)), 0)
    return contents(folder)


@pytest.fixture(scope="module")
def short_and_unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "short"
    finish(start(*options(folder), *SHORT), 0)
    return contents(folder)


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    assert [key for key in wanted if found[key] != wanted[key]] == []


def test_a_run_killed_ten_times_ends_with_the_bits_of_the_unbroken_one(tmp_path, unbroken):
    rng = np.random.default_rng(2026)
    folder, done, interrupted_steps = tmp_path / "killed", 0, []
    for _ in range(10):
        moment = done + rng.integers(3, 15), rng.integers(0, 4000), signal.SIGKILL
        finish(
            start(*(["--resume", folder] if done else options(folder)), stop=moment),
            -signal.SIGKILL,
        )
        done = read_checkpoint(folder).info["step"]
        interrupted_steps.append(done)
    finish(start("--resume", folder), 0)
    assert_same(contents(folder), unbroken)
    middle = [step for step in interrupted_steps if 0 < step < 120]
    assert len(set(middle)) >= 5, f"the kills came outside of the run: {interrupted_steps}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_how_to_go_on_and_loses_nothing(tmp_path, short_and_unbroken, number):
    folder = tmp_path / "stopped"
    out, err = finish(start(*options(folder), *SHORT, stop=(5, 100, number)), 128 + number)
    step = read_checkpoint(folder).info["step"]
    assert f"{number.name}: saved after step {step} in {folder}; continue with" in out
    assert f"minswin train --resume {folder}" in out and err == ""
    assert [r["step"] for r in read_journal(folder / "log.jsonl") if r["kind"] == "step"] == [
        *range(1, step + 1)
    ]
    assert 5 <= step < 30
    finish(start("--resume", folder), 0)
    assert_same(contents(folder), short_and_unbroken)


def test_with_the_usual_kernels_a_killed_run_ends_with_the_bits_of_the_unbroken_one(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    finish(start(*options(whole), *SHORT, kernels=""), 0)
    for step, arguments in ((7, [*options(folder), *SHORT]), (19, ["--resume", folder])):
        finish(start(*arguments, kernels="", stop=(step, 100, signal.SIGKILL)), -signal.SIGKILL)
        info = read_checkpoint(folder).info
        assert step - 2 <= info["step"] < 30 and info["kernels"] == "numba"
    _, err = finish(start("--resume", folder, kernels="reference"), 2)
    assert "set MINSWIN_KERNELS=numba" in err
    finish(start("--resume", folder, kernels=""), 0)
    assert_same(contents(folder), contents(whole))


def test_the_tiny_settings_of_both_tests_are_complete(tmp_path):
    assert tiny_settings(tmp_path, **OPTIONS).folder == tmp_path
