"""The laps of PyTorch that the first minutes on a GPU measure (on_device.py), tried on the CPU."""

from __future__ import annotations

import json

import on_device_race
import pytest

from .peers import torch  # noqa: F401  skips where it is missing

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(
    ("who", "precision"), [("eager", "bfloat16"), ("sdpa", "float16"), ("compiled", "float32")]
)
def test_a_lap_of_pytorch_runs(who, precision, monkeypatch, capsys):
    monkeypatch.setattr(on_device_race, "ON_HOST", True)
    on_device_race.lap("swin_cifar", "1", who, precision)
    answer = json.loads(capsys.readouterr().out.removeprefix("ANSWER "))
    assert (answer["who"], answer["precision"]) == (who, precision)
    assert "why" not in answer and answer["step"] > 0
    assert ("forward" in answer) == (who != "compiled")
