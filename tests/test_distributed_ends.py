"""Training in several processes ends well whatever happens to one of them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time

import pytest
import ranks
import tiny_training
from limits import HANG
from rank_runs import SCRIPT, line, steps_of, train
from tiny_training import tiny_settings

import minswin.training.folder
from minswin.distributed import Group
from minswin.training import loop, read_checkpoint
from minswin.training.loop import Interrupts

# ── errors ───────────────────────────────────────────────────────────────────────────────────────


def test_an_error_of_rank_0_alone_is_said_once_and_ends_all(tmp_path):
    (tmp_path / "run").write_text("a file where the folder should be")
    done = train(2, tmp_path / "run")
    assert done.returncode == 2 and done.stderr.count("minswin: error:") == 1


def test_a_loss_that_is_no_number_in_one_rank_stops_all_with_one_message(tmp_path):
    done = train(2, tmp_path / "run", lr=1e30, warmup=0, clip=0)
    assert done.returncode == 2, done.stdout
    assert done.stderr.count("minswin: error:") == 1 and "Try a smaller --lr" in done.stderr
    assert read_checkpoint(tmp_path / "run").info["step"] < 4


def full_disk(group, folder):
    """What each rank raises when rank 0 can write no more; the saves before were good."""
    tiny_training.install()
    saves, save = [], minswin.training.folder.save_checkpoint

    def write(path, checkpoint):
        saves.append(path)
        if len(saves) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, checkpoint)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minswin.training.folder.save_checkpoint", write)
        try:
            loop.train(tiny_settings(folder), quiet=True, group=group)
        except OSError as error:
            return str(error), len(saves)


def test_a_full_disk_of_rank_0_stops_all_and_leaves_the_last_good_checkpoint(tmp_path):
    first, second = ranks.run(2, full_disk, str(tmp_path))
    assert first == ("[Errno 28] No space left on device", 3)
    assert second == ("[Errno 28] No space left on device", 0)  # it writes nothing
    assert read_checkpoint(tmp_path).info["step"] == 3


ONE_FAILS = """
import sys
from minswin import cli
from minswin.training.updates import Updates
import tiny_training
tiny_training.install()
step, count = Updates.step, []
def failing(self, lr):
    count.append(lr)
    if self.run.group.rank == 1 and len(count) == 5:
        raise {error}
    step(self, lr)
Updates.step = failing
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("MemoryError('no room')", "rank 1 of 2: no room"),
        ("KeyError('a bug')", "rank 1 of 2: Traceback"),
    ],
)
def test_an_error_of_one_rank_is_printed_by_it_and_ends_all(tmp_path, error, said):
    folder = tmp_path / "run"
    done = ranks.start(2, "-c", ONE_FAILS.format(error=error), "train", *line(folder))
    assert done.returncode == 2
    assert done.stderr.count("minswin: error:") == 1 and said in done.stderr
    assert read_checkpoint(folder).info["step"] == 3


# ── signals and deaths ───────────────────────────────────────────────────────────────────────────


def _wait_for_step(folder, step):
    for _ in range(20 * HANG):
        if (folder / "log.jsonl").is_file() and len(steps_of(folder)) >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"{folder} did not come to step {step}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_mpiexec_saves_once(tmp_path, number):
    folder = tmp_path / "run"
    words = ranks.command(2, SCRIPT, "train", *line(folder, epochs=500, warmup=1))
    with subprocess.Popen(
        words, env=ranks.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        _wait_for_step(folder, 2)
        process.send_signal(number)
        out, err = process.communicate(timeout=HANG)
    assert out.count("saved after step") == 1, out + err
    assert read_checkpoint(folder).info["step"] == steps_of(folder)[-1]["step"]


@pytest.mark.parametrize("victim", [0, 1])
def test_the_death_of_a_rank_ends_all_and_leaves_a_good_checkpoint(tmp_path, victim):
    folder = tmp_path / "run"
    done = train(
        2, folder, epochs=500, warmup=1,
        variables={"STOP_AT": f"5 200 {signal.SIGKILL.value}", "STOP_RANK": str(victim)},
    )  # fmt: skip
    assert done.returncode
    assert read_checkpoint(folder).info["step"] in (3, 6)
    done = train(2, None, "--resume", folder, variables={"STOP_AT": "9 0 15"})
    assert done.returncode == 128 + signal.SIGTERM and "saved after step" in done.stdout


def test_signals_of_a_group_of_one_are_its_own():
    with Interrupts(Group()) as interrupts:
        assert interrupts.received() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.received() == signal.SIGTERM
