"""Batches are made ahead, in threads that change nothing and end with the run."""

from __future__ import annotations

import threading

import pytest
import tiny_runs
from tiny_runs import arrays, records
from tiny_training import tiny_settings

from minswin.data import Batches
from minswin.data.ahead import ahead
from minswin.training import train
from minswin.training.checkpoints import LAST

tiny = tiny_runs.tiny  # the fixture


def test_batches_are_made_in_a_thread_ahead_of_the_steps(tmp_path, monkeypatch):
    makers, batch = [], Batches.batch

    def watching(batches, epoch, step):
        makers.append((threading.current_thread().name, epoch, step))
        return batch(batches, epoch, step)

    monkeypatch.setattr(Batches, "batch", watching)
    train(tiny_settings(tmp_path, epochs=2, checkpoint_every=0))
    places = [place for name, *place in makers if name.startswith("minswin-data")]
    assert [place for place in places if place[0] < 2] == [[e, i] for e in (0, 1) for i in range(7)]
    assert not any(t.name.startswith("minswin-data") for t in threading.enumerate())


def test_the_number_of_workers_changes_no_bit_of_a_run(tmp_path, monkeypatch):
    asked = []

    def noting(*inputs, workers):
        asked.append(workers)
        return ahead(*inputs, workers=workers)

    monkeypatch.setattr("minswin.training.run.ahead", noting)
    for workers in (1, 3):
        train(tiny_settings(tmp_path / str(workers), epochs=1, workers=workers))
    assert asked == [1, 3]
    one, three = (arrays(tmp_path / name / LAST) for name in "13")
    assert {n: a.tobytes() for n, a in one.items()} == {n: a.tobytes() for n, a in three.items()}


def test_an_error_in_a_worker_ends_the_run(tmp_path, monkeypatch):
    batch = Batches.batch

    def spoilt(batches, epoch, step):
        if step == 4:
            raise OSError("no such picture")
        return batch(batches, epoch, step)

    monkeypatch.setattr(Batches, "batch", spoilt)
    with pytest.raises(OSError, match="no such picture"):
        train(tiny_settings(tmp_path, workers=3, checkpoint_every=0))
    assert [line["step"] for line in records(tmp_path, "step")] == [1, 2, 3, 4]
    assert not any(t.name.startswith("minswin-data") for t in threading.enumerate())
