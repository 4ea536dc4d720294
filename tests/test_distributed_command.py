"""The command trains in ranks as alone, and goes on in other numbers of them."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import ranks
from limits import HANG
from rank_runs import SCRIPT, line, steps_of, train

from minswin.training import read_checkpoint


def test_the_command_trains_in_two_ranks_and_goes_on_in_three(tmp_path):
    """The log, the bar and the files are those of one process; the first half is one of ranks."""
    two, one = tmp_path / "two", tmp_path / "one"
    done = train(2, two, variables={"STOP_AT": f"9 0 {signal.SIGTERM.value}"})
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert done.stdout.count("saved after step") == 1 and "saved after step 9" in done.stdout
    done = train(3, None, "--resume", two)
    assert not done.returncode, done.stderr
    assert done.stdout.count("test accuracy 1") == 1 + 1  # the epoch's line, and the result
    words = [sys.executable, SCRIPT, "train", *line(one)]
    subprocess.run(words, env=ranks.environment(), check=True, capture_output=True, timeout=HANG)
    ours, theirs = steps_of(two), steps_of(one)
    assert [r["step"] for r in ours] == [r["step"] for r in theirs] == list(range(1, 17))
    assert np.allclose([r["loss"] for r in ours], [r["loss"] for r in theirs], rtol=1e-4)
    a, b = (read_checkpoint(folder) for folder in (two, one))
    assert a.info["rng"] == b.info["rng"]
    shown = [
        subprocess.run(
            [*start, sys.executable, SCRIPT, "evaluate", one],
            env=ranks.environment(),
            check=True,
            capture_output=True,
            timeout=HANG,
        ).stdout
        for start in ([], [ranks.mpiexec(), "-n", "2"])
    ]
    assert shown[0] == shown[1] and b"33 test images" in shown[0]
    assert {p.name for p in two.iterdir()} == {p.name for p in one.iterdir()}
    for name, array in b.weights.items():
        assert np.abs(a.weights[name] - array).max() < 1e-3 * max(1, np.abs(array).max()), name


def test_off_trains_alone_whatever_the_environment_says(tmp_path):
    ranks.mpiexec()
    words = [sys.executable, SCRIPT, "train", *line(tmp_path / "run"), "--distributed", "off"]
    env = ranks.environment(PMI_RANK="1", PMI_SIZE="2")
    done = subprocess.run(words, env=env, capture_output=True, timeout=HANG)
    assert not done.returncode and (tmp_path / "run" / "last.safetensors").is_file()
