"""The first minutes on a GPU, without one: what is asked, limits, answers; CIFAR-10 packed."""

from __future__ import annotations

import json
import os
import signal
import sys

import host_cuda
import numpy as np
import on_device
import on_device_questions
import on_device_race
import pack_cifar
import pytest
import test_gpu
from cuda_cases import NAMES
from gpu import require_gpu
from on_device import Book

from minswin.bench import gpu
from minswin.training.gpu import WARM_UP


def rows_of(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def command(code):
    return (sys.executable, "-c", code)


def test_answers_and_counts_of_tests_are_written_as_they_come(tmp_path):
    book = Book(tmp_path, 60)
    book.ask("one", command("print('ANSWER {\"ms\": 3}'); print('2 passed, 1 failed in 3s')"), 60)
    book.ask("two", command("raise SystemExit(3)"), 60)
    first, second = rows_of(tmp_path)
    assert first["answers"] == [{"ms": 3}] and first["tests"] == {"passed": 2, "failed": 1}
    assert (first["status"], second["status"]) == ("exit 0", "exit 3")
    assert "2 passed" in (tmp_path / "log.txt").read_text()


def test_what_hangs_is_stopped_with_its_children_and_the_next_is_asked(tmp_path):
    hang = "import subprocess, sys; print('begun', flush=True); subprocess.run(['sleep', '600'])"
    book = Book(tmp_path, 600)
    book.ask("hangs", command(hang), 2)
    book.ask("next", command("pass"), 60)
    assert [row["status"] for row in rows_of(tmp_path)] == ["stopped after 2 s", "exit 0"]


def test_nobody_waits_for_a_child_that_has_left_the_session(tmp_path):
    code = """import subprocess, sys, time
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
print('ANSWER {"pid": %d}' % child.pid, flush=True)
time.sleep(600)"""
    Book(tmp_path, 600).ask("leaves", command(code), 2)
    (row,) = rows_of(tmp_path)
    pid = row["answers"][0]["pid"]
    os.kill(pid, signal.SIGKILL)  # it is still there
    assert row["status"] == "stopped after 2 s"


def test_without_time_nothing_is_begun_and_a_missing_program_is_said(tmp_path):
    Book(tmp_path, 0).ask("late", command("raise SystemExit(1)"), 60)
    Book(tmp_path, 60).ask("missing", ("no such program",), 60)
    late, missing = rows_of(tmp_path)
    assert late["status"] == "no time left" and missing["status"].startswith("not started")


def test_every_kernel_is_asked_for_and_cifar_only_where_it_is():
    words = " or ".join(on_device.KERNELS).split(" or ")
    assert all(any(word in f"{name}-" for word in words) for name in NAMES if name != "attention")
    for name in (n for n in vars(test_gpu) if n.startswith("test_")):
        by_kernel = name == "test_a_kernel_equals_its_definition"
        assert by_kernel or any(word in name for word in words), name
    names = [[q.name for q in on_device.questions(data)] for data in (None, "folder")]
    assert set(names[1]) - set(names[0]) == {"train cifar 2", "train cifar"}
    assert names[0][:4] == ["environment", "kernels", "capture", "steps"]
    assert names[0].index("runs") < names[0].index("laps") < names[0].index("compiled")


def test_every_contender_races_at_every_size_in_every_precision():
    asked = [
        command
        for question in on_device.questions(None)
        if question.name in ("laps", "compiled")
        for command in question.commands
    ]
    for race in on_device.RACES:
        for who in ("minswin", "eager", "sdpa", "compiled"):
            assert (*on_device.ASK, "lap", *race, who, *on_device.PRECISIONS) in asked
    assert sorted(on_device.PRECISIONS) == ["bfloat16", "float32", "tf32"]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["tf32", "float32", "bfloat16"])
def test_a_lap_of_ours_runs_and_forward_and_step_are_replayed(precision, monkeypatch, capsys):
    require_gpu()
    on_host = host_cuda.entered() is not None
    monkeypatch.setattr(on_device_race, "ON_HOST", on_host)
    on_device_race.lap("swin_shapes", "2", "minswin", precision)
    *counts, row = (json.loads(line[7:]) for line in capsys.readouterr().out.splitlines())
    assert row["who"] == "minswin" and row["why"] == "" and row["step"] > 0
    if on_host:  # forward, with backward, and the step; the first calls of two functions are plain
        calls = gpu.WARM_UP + gpu.CALLS * gpu.ROUNDS
        assert counts[0]["asked"]["graph"] == 3 * calls - 2 * WARM_UP


@pytest.mark.gpu
def test_steps_are_compared_with_their_replay_and_with_the_cpu(capsys):
    require_gpu()
    on_device_race.steps("swin_shapes", "2")
    replayed, beside = (json.loads(x[7:]) for x in capsys.readouterr().out.splitlines())
    assert replayed["equal"] and replayed["off"] == 0 and replayed["why"] == []
    assert 0 < beside["off_the_cpu"] < 1e-3


def test_a_lap_that_fails_takes_no_other_precision_away(monkeypatch, capsys):
    def fails(setup, precision, who):
        if precision == "tf32":
            raise RuntimeError("out of memory")
        return {"step": 1.5}

    monkeypatch.setattr(on_device_race, "_torch_lap", fails)
    on_device_race.lap("swin_cifar", "2", "eager", "tf32", "float32")
    first, second = (json.loads(line[7:]) for line in capsys.readouterr().out.splitlines())
    assert first["why"] == "RuntimeError: out of memory" and second["step"] == 1.5


@pytest.mark.gpu
def test_what_a_stream_can_record_is_what_is_known(capsys):
    require_gpu()
    on_device_questions.capture()
    lines = [json.loads(line[7:]) for line in capsys.readouterr().out.splitlines()]
    assert lines.pop()["bias_in_the_product"] is True
    refused = {line["capture"] for line in lines if line["error"]}
    assert refused == {"CuPy's product", "copy from the CPU"}


def test_only_what_was_chosen_is_asked(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Book, "ask", lambda self, name, *_: asked.append(name))
    on_device.main(["--out", str(tmp_path), "--only", "train,capture"])
    assert asked == ["capture", "train shapes"]


@pytest.mark.parametrize("kind", ["noise", "smooth", "flat"])
def test_packed_pictures_come_back_to_the_bit(kind, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, 3, 32, 32))
    if kind != "noise":
        images = np.arange(32)[:, None] * (0 if kind == "flat" else np.arange(32)) // 4
        images = np.broadcast_to(images + 5, (7, 3, 32, 32))
    rows = np.concatenate([np.arange(7)[:, None], images.reshape(7, -1)], 1).astype(np.uint8)
    (tmp_path / "batch.bin").write_bytes(rows.tobytes())
    pack_cifar.main([str(tmp_path), str(tmp_path / "packed"), "batch"])
    pack_cifar.main(["--unpack", str(tmp_path / "packed"), str(tmp_path / "back")])
    assert (tmp_path / "back" / "batch.bin").read_bytes() == rows.tobytes()
    if kind != "noise":
        assert (tmp_path / "packed" / "batch.xz").stat().st_size < rows.size / 10
