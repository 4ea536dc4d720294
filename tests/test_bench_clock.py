"""`minswin bench` measures times, rates and memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from bench_results import SMALL

from minswin.bench import busy, ceilings, report, setups
from minswin.bench.children import call
from minswin.bench.clock import Spread, peak_memory, seconds, spread


def test_a_spread_is_the_quartiles():
    assert spread([5.0, 1.0, 4.0, 2.0, 3.0]) == Spread(2.0, 3.0, 4.0)
    assert spread([1.0, 2.0]) == Spread(1.25, 1.5, 1.75)
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0)


def test_the_seconds_of_a_step_are_the_time_it_takes(monkeypatch):
    now = iter([5.0, 5.25])  # before the step, and after it
    monkeypatch.setattr("minswin.bench.clock.time.perf_counter", lambda: next(now))
    ran = []
    assert seconds(lambda: ran.append("the step")) == 0.25 and ran == ["the step"]


def test_the_ceilings_are_work_by_the_best_time(monkeypatch):
    times = iter([0.5, 0.25, 1.0, 2.0, 4.0] * 2)
    monkeypatch.setattr(ceilings, "seconds", lambda step: (step(), next(times))[1])
    assert ceilings.product_rate(side=3) == 2 * 27 / 0.25
    assert ceilings.copy_rate(2, numbers=1000) == 2 * 4000 / 0.25


def growth(mebibytes):
    """In a child: how much its peak rises when it fills so much memory for a moment."""
    before = peak_memory()
    np.ones(mebibytes * 2**20, np.uint8)
    return peak_memory() - before


def test_the_peak_remembers_memory_that_was_given_back():
    assert 60 < call(growth, 64) < 68


def test_a_step_is_timed_alone_and_beside_processes_that_count(monkeypatch):
    times, running = iter([1.0, 3.0, 2.0, 20.0, 30.0, 10.0]), []

    def seconds(step):
        running.append(len(started))
        return next(times)

    started: list[Any] = []

    class Process:
        def __init__(self, command):
            started.append(command)

        def kill(self):
            started.pop()

        def wait(self):
            pass

    monkeypatch.setitem(setups.SETUPS, "small", SMALL)
    monkeypatch.setattr(busy, "SETUPS", setups.SETUPS)
    monkeypatch.setattr(busy, "seconds", seconds)
    monkeypatch.setattr(busy.subprocess, "Popen", Process)
    measured = busy._times("small", 2, "ours")
    assert measured == ("ours", 2.0, 20.0) and running == [0, 0, 0, 2, 2, 2] and not started
    table = report.busy_table("small", [measured])
    assert "beside two busy ones" in table and "10.0" in table
