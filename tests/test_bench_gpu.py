"""Measuring on a GPU: the arithmetic, the table and the messages; the measuring needs a GPU."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial

import host_cuda
import pytest
from gpu import require_gpu

from minswin.bench import gpu
from minswin.bench.clock import Spread
from minswin.bench.contenders import Setup
from minswin.bench.machine import save_json
from minswin.cli import main

SETUP = Setup("swin_cifar", 128, 32, 10)
LIMITS = gpu.Ceilings(2e12, {"float32": 50e12, "tf32": 200e12, "float16": 400e12})
WORK = gpu.Work(macs=10**12, parameters=3 * 10**8)


def test_the_floor_is_products_at_the_rate_and_the_update_at_the_bandwidth():
    least = gpu.floor(WORK, LIMITS, "float32")
    assert least["forward"] == pytest.approx(0.04)
    assert least["backward"] == pytest.approx(0.08)
    assert least["step"] == pytest.approx(0.12 + 0.003)
    assert gpu.floor(WORK, LIMITS, "tf32")["forward"] == pytest.approx(0.01)


def test_the_work_is_that_of_the_whole_batch():
    one, many = (gpu.work_of(SETUP._replace(batch=n)) for n in (1, 128))
    assert many.macs == 128 * one.macs and many.parameters == one.parameters
    assert 0.05e9 < one.macs < 0.07e9


def test_the_table_has_every_contender_its_floor_and_why_one_did_not_run():
    same = Spread(0.9, 1.0, 1.1)
    laps = [
        gpu.Lap("minswin", SETUP, "float32", same, same, Spread(0.2, 0.246, 0.3)),
        gpu.Lap("PyTorch eager", SETUP, "float32", why="RuntimeError: out of memory"),
    ]
    shown = gpu.table(SETUP, WORK, laps, LIMITS)
    first = next(line for line in shown.splitlines() if line.startswith("float32"))
    assert "2.0" in first.split() and "520" in first.split()
    assert "PyTorch eager, float32: RuntimeError: out of memory" in shown
    assert "copies 2,000 GB/s; products float32 50.0 TF/s, tf32 200.0 TF/s" in shown


def test_the_figures_can_be_written_and_read_again(tmp_path):
    lap = gpu.Lap("minswin", SETUP, "tf32", *[Spread(1.0, 2.0, 3.0)] * 3)
    save_json({"ceilings": LIMITS, "laps": [lap]}, tmp_path / "gpu.json")
    read = json.loads((tmp_path / "gpu.json").read_text())
    assert read["ceilings"]["products"]["tf32"] == 200e12
    assert read["laps"][0]["setup"]["batch"] == 128
    assert read["laps"][0]["step"] == {"low": 1.0, "median": 2.0, "high": 3.0}


def test_times_are_of_one_call_and_the_end_is_waited_for():
    asked, waited = [], []
    clocked = gpu.timed(
        lambda: asked.append(1), lambda: waited.append(len(asked)), warm_up=2, calls=3, rounds=2
    )
    assert waited == [2, 5, 5, 8] and 0 <= clocked.low <= clocked.high


def test_without_a_gpu_the_command_says_so(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    assert main(["bench", "--device", "gpu"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("minswin: error: device 'gpu': CuPy cannot be loaded")
    assert "pip install cupy-cuda13x" in err


@pytest.mark.gpu
def test_a_small_bench_runs_on_a_gpu(monkeypatch, tmp_path):
    require_gpu()
    monkeypatch.setattr(gpu, "SETUPS", (SETUP._replace(batch=2),))
    monkeypatch.setattr(gpu, "SIDE", 64)
    monkeypatch.setattr(gpu, "COPIED", 2**16)
    monkeypatch.setattr(gpu, "timed", partial(gpu.timed, warm_up=4, calls=1, rounds=1))
    shown, on_host = [], host_cuda.entered() is not None
    with host_cuda.counted(computing=False) if on_host else nullcontext():
        gpu.run(str(tmp_path / "gpu.json"), tell=shown.append, show=shown.append)
    assert "minswin" in shown[-1] and (tmp_path / "gpu.json").exists()
