"""Two processes do not work on one run at a time; where there are no locks, nothing is said."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_runs
from tiny_runs import assert_same_run, stop_after
from tiny_training import tiny_settings

from minswin.training import Settings, alone, resume, train
from minswin.training.alone import alone_in
from minswin.training.checkpoints import LAST

tiny = tiny_runs.tiny  # the fixture
TAKEN = r"^train: another process is at work on the run in \S+; wait until it ends, or choose"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_that_is_at_work_is_neither_resumed_nor_begun_anew(tmp_path, monkeypatch):
    train(tiny_settings(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        train(tiny_settings(tmp_path / "run"))
    before = contents(tmp_path / "run")
    with alone_in(tmp_path / "run", who="other"):
        for path in (tmp_path / "run", tmp_path / "run" / LAST):
            with pytest.raises(BlockingIOError, match=TAKEN):
                resume(path)
        with pytest.raises(BlockingIOError, match=TAKEN):
            train(tiny_settings(tmp_path / "run"), overwrite=True)
    assert contents(tmp_path / "run") == before
    resume(tmp_path / "run")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_run_holds_its_folder_while_it_works_and_no_longer(tmp_path, monkeypatch):
    from minswin.training.run import Run

    count, refused = Run.count, []

    def asked(run, *arguments):
        with pytest.raises(BlockingIOError, match=TAKEN):
            resume(tmp_path)
        refused.append(True)
        return count(run, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "count", asked)
        train(tiny_settings(tmp_path, epochs=1, count=16))
        resume(tmp_path)
    assert len(refused) == 2  # of two steps; then it is over, and nothing is held any more


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from minswin.training.alone import alone_in\n"
        "with alone_in(Path(sys.argv[1]), who='train'): print('held', flush=True); sys.stdin.read()"
    )
    given = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError, match=TAKEN), alone_in(tmp_path, who="train"):
            pass
        other.kill()
        other.wait()
        with alone_in(tmp_path, who="train"):
            assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system forks no processes")
def test_a_lock_ends_with_its_block_though_what_was_forked_in_it_lives_on(tmp_path):
    """Such as the workers of a data loader that are not yet gone."""
    program = (
        "import os, sys, time; from pathlib import Path\n"
        "from minswin.training.alone import alone_in\n"
        "with alone_in(Path(sys.argv[1]), who='train'):\n"
        "    child = os.fork()\n"
        "    if child == 0: sys.stdin.read(); os._exit(0)\n"
        "print('left', flush=True); os.waitpid(child, 0)"
    )
    given = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"left\n"
        with alone_in(tmp_path, who="train"):
            assert other.poll() is None


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF, None])
def test_where_nothing_can_be_locked_nothing_is_said(tmp_path, monkeypatch, code):
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    if code is None:
        monkeypatch.setattr(alone, "fcntl", None)
    else:
        monkeypatch.setattr(alone.fcntl, "flock", refuse)
    with alone_in(tmp_path, who="train"), alone_in(tmp_path, who="train"):
        train(tiny_settings(tmp_path / "run", epochs=1, count=16))


def test_a_run_that_could_not_begin_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="unknown model"):
        train(Settings(model="swin_tyni", out=str(tmp_path / "runs" / "a")))
    assert list(tmp_path.iterdir()) == []
