"""Runs that are stopped from outside, in processes of their own, end like unbroken ones."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import warm
from tiny_training import tiny_settings

from minswin.training.checkpoints import BEST, LAST, read_checkpoint
from minswin.training.progress import read_journal

pytestmark = (
    pytest.mark.slow
)  # test_training_stopping.py stops a run after any step, in this process
SCRIPT = Path(__file__).with_name("tiny_training.py")
OPTIONS = {
    "epochs": 16,
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
    "piece_epochs": 10,
}


def train(*arguments, ends, kernels="reference", stop=()):
    """What `minswin train …` says with the tiny model and data, in another process.

    ends: the status that is expected   kernels: "" is no choice   stop: a moment as
    tiny_training.stop_at takes it, at which the process gets a signal
    """
    moment = " ".join(str(int(part)) for part in stop)
    program = [str(SCRIPT), "train", *map(str, arguments)]
    done = warm.run(program, MINSWIN_KERNELS=kernels, STOP_AT=moment)
    assert done.returncode == ends, done
    return done.stdout, done.stderr


def options(folder):
    flat = [part for k, v in OPTIONS.items() for part in (f"--{k.replace('_', '-')}", v)]
    return ["--model", "tiny", "--optimizer", "adamw", "--augment", "basic", *flat, "-o", folder]


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
    train(*options(folder), ends=0)
    return contents(folder)


@pytest.fixture(scope="module")
def short_and_unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "short"
    train(*options(folder), *SHORT, ends=0)
    return contents(folder)


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    assert [key for key in wanted if found[key] != wanted[key]] == []


def test_a_run_killed_ten_times_ends_with_the_bits_of_the_unbroken_one(tmp_path, unbroken):
    rng = np.random.default_rng(2026)
    folder, done, interrupted_steps = tmp_path / "killed", 0, []
    for _ in range(10):
        moment = done + rng.integers(2, 10), rng.integers(0, 4000), signal.SIGKILL
        arguments = ["--resume", folder] if done else options(folder)
        train(*arguments, stop=moment, ends=-signal.SIGKILL)
        done = read_checkpoint(folder).info["step"]
        interrupted_steps.append(done)
    train("--resume", folder, ends=0)
    assert_same(contents(folder), unbroken)
    middle = [step for step in interrupted_steps if 0 < step < 80]
    assert len(set(middle)) >= 5, f"the kills came outside of the run: {interrupted_steps}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_how_to_go_on_and_loses_nothing(tmp_path, short_and_unbroken, number):
    folder = tmp_path / "stopped"
    out, err = train(*options(folder), *SHORT, stop=(5, 100, number), ends=128 + number)
    step = read_checkpoint(folder).info["step"]
    assert f"{number.name}: saved after step {step} in {folder}; continue with" in out
    assert f"minswin train --resume {folder}" in out and err == ""
    assert [r["step"] for r in read_journal(folder / "log.jsonl") if r["kind"] == "step"] == [
        *range(1, step + 1)
    ]
    assert 5 <= step < 30
    train("--resume", folder, ends=0)
    assert_same(contents(folder), short_and_unbroken)


def test_with_the_usual_kernels_a_killed_run_ends_with_the_bits_of_the_unbroken_one(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    train(*options(whole), *SHORT, kernels="", ends=0)
    for step, arguments in ((7, [*options(folder), *SHORT]), (19, ["--resume", folder])):
        moment = step, 100, signal.SIGKILL
        train(*arguments, kernels="", stop=moment, ends=-signal.SIGKILL)
        info = read_checkpoint(folder).info
        assert step - 2 <= info["step"] < 30 and info["kernels"] == "numba"
    _, err = train("--resume", folder, kernels="reference", ends=2)
    assert "set MINSWIN_KERNELS=numba" in err
    train("--resume", folder, kernels="", ends=0)
    assert_same(contents(folder), contents(whole))


def test_the_tiny_settings_of_both_tests_are_complete(tmp_path):
    assert tiny_settings(tmp_path, **OPTIONS).folder == tmp_path
