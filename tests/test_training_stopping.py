"""A run that was stopped in this process goes on like an unbroken one, or says why not."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import tiny_runs
from tiny_runs import assert_same_run, records, stop_after
from tiny_training import tiny_load, tiny_settings

from minswin import data, kernels
from minswin.training import resume, train
from minswin.training.checkpoints import BEST, LAST, read_checkpoint
from minswin.training.loop import SIGNALS, Interrupts
from minswin.training.run import Run

tiny = tiny_runs.tiny  # the fixture


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_stopped_after_any_step_ends_like_the_unbroken_one(tmp_path, monkeypatch, threads):
    settings = {
        "epochs": 2,
        "count": 32,
        "threads": threads,
    }  # four steps each; saved after 3 and 6
    train(tiny_settings(tmp_path / "whole", **settings))
    for step in range(1, 8) if threads == 1 else (3, 4, 5):
        folder = tmp_path / f"stopped {step}"
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            result = train(tiny_settings(folder, **settings))
        assert result.interrupted == signal.SIGINT and result.steps == step
        assert read_checkpoint(folder).info["step"] == step
        assert resume(folder).interrupted is None
        assert_same_run(tmp_path / "whole", folder)


def test_a_run_by_muon_continues_bit_for_bit(tmp_path, monkeypatch):
    settings = {"epochs": 2, "optimizer": "muon"}
    train(tiny_settings(tmp_path / "whole", **settings))
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        train(tiny_settings(tmp_path / "stopped", **settings))
    resume(tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_a_run_that_lost_its_newest_steps_repeats_them_without_logging_twice(tmp_path, monkeypatch):
    train(tiny_settings(tmp_path / "whole"))

    class Killed(BaseException):
        pass

    def dying(run, *arguments, step):
        if step == 11:  # two steps after the last checkpoint
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Run, "require_finite", dying)
        train(tiny_settings(tmp_path / "killed"))
    assert read_checkpoint(tmp_path / "killed").info["step"] == 9
    assert records(tmp_path / "killed", "step")[-1]["step"] == 11
    resume(tmp_path / "killed")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    settings = tiny_settings(tmp_path / "a", epochs=1, holdout=20)
    first = train(settings)
    train(tiny_settings(tmp_path / "b", epochs=1, holdout=20))
    again = resume(tmp_path / "a" / LAST)
    assert again.test_accuracy == first.test_accuracy
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_a_run_that_was_moved_continues_in_its_new_place(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        train(tiny_settings(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    assert resume(tmp_path / "new").folder == tmp_path / "new"
    assert not (tmp_path / "old").exists()


def test_signals_act_as_usual_again_after_a_run_and_after_the_first_one(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    count = Run.count

    def twice(run, *arguments):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return count(run, *arguments)

    monkeypatch.setattr(Run, "count", twice)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_settings(tmp_path))
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_is_ignored_stays_ignored(number):
    """As those of a shell's background jobs, or of nohup."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            assert signal.getsignal(number) is signal.SIG_IGN
            signal.raise_signal(number)
            assert interrupts.received() is None
            (other,) = set(SIGNALS) - {number}
            assert signal.getsignal(other) == interrupts._note
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


# ── what is not resumed ───────────────────────────────────────────────────────────────────────────


def test_only_the_last_checkpoint_is_resumed_so_that_a_later_one_is_never_lost(tmp_path):
    train(tiny_settings(tmp_path, epochs=1))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"best\.safetensors may be older .* --resume \S+\Z"):
        resume(tmp_path / BEST)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_run_is_not_resumed_with_other_kernels(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        train(tiny_settings(tmp_path))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    mine = kernels.chosen(np.zeros(1))
    assert read_checkpoint(tmp_path).info["kernels"] == mine
    other = "reference" if mine == "numba" else "numba"
    message = f"with the kernels '{mine}', now '{other}' are chosen; .*MINSWIN_KERNELS={mine}"
    with kernels.using(other), pytest.raises(ValueError, match=message):
        resume(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_run_is_not_resumed_with_another_number_of_images(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        train(tiny_settings(tmp_path))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fewer(*arguments, **settings):
        return tiny_load(*arguments, **settings).subset(slice(57))

    monkeypatch.setattr(data, "load", fewer)
    with pytest.raises(
        ValueError, match=r"on 60 images of 'shapes', now there are 57; .*--data-dir"
    ):
        resume(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("stopped_after", [7, 21])  # in the first of three epochs, and in no other
def test_a_run_whose_best_checkpoint_is_gone_goes_on_and_ends(
    tmp_path, monkeypatch, capsys, stopped_after
):
    settings = tiny_settings(tmp_path, lr=0.0, ema=0.0, holdout=4, checkpoint_every=0)
    with monkeypatch.context() as patch:
        stop_after(patch, stopped_after)
        train(settings, quiet=True)
    assert read_checkpoint(tmp_path / LAST).info["epoch"] == stopped_after // 7
    (tmp_path / BEST).unlink()
    result = resume(tmp_path, quiet=True)
    assert (
        "best.safetensors is gone: of the epochs that come the best is" in capsys.readouterr().err
    )
    assert result.epochs == 3 and result.test_accuracy is not None
    assert (tmp_path / BEST).exists() == (stopped_after == 7)
