"""What runs of tiny_training.py left, how two are compared, and how one is stopped."""

from __future__ import annotations

import signal

import pytest
from tiny_training import install

from minswin.training.checkpoints import BEST, LAST, read_checkpoint
from minswin.training.progress import read_journal
from minswin.training.run import Run

CLOCK = ("images_per_second",)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """The tiny model and its data, under their names."""
    install(monkeypatch)


def records(folder, kind=None):
    """The log without what the clock decides."""
    lines = [r for r in read_journal(folder / "log.jsonl") if kind in (None, r["kind"])]
    return [{k: v for k, v in line.items() if k not in (*CLOCK, "out")} for line in lines]


def arrays(path):
    checkpoint = read_checkpoint(path)
    groups = ("weights", "optimizer", "average")
    return {f"{g}/{n}": a for g in groups for n, a in getattr(checkpoint, g).items()}


def assert_same_run(one, other):
    """Weights, optimizer, average, random state, best epoch and log agree, bit for bit."""
    for name in (LAST, BEST):
        ours, theirs = arrays(one / name), arrays(other / name)
        assert ours.keys() == theirs.keys()
        assert [n for n in ours if ours[n].tobytes() != theirs[n].tobytes()] == []
        infos = [read_checkpoint(folder / name).info for folder in (one, other)]
        for key in ("rng", "epoch", "step", "accuracy", "best_accuracy", "totals", "average_step"):
            assert infos[0][key] == infos[1][key], key
    assert records(one) == records(other)


def stop_after(monkeypatch, step, number=signal.SIGINT):
    """Send this process a signal as soon as `step` updates are made."""
    count = Run.count

    def counting(run, *arguments):
        right = count(run, *arguments)
        if run.step == step:
            signal.raise_signal(number)
        return right

    monkeypatch.setattr(Run, "count", counting)
