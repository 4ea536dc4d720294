"""The laps of PyTorch that the first minutes on a GPU measure (on_device.py), tried on the CPU."""

from __future__ import annotations

import on_device_questions
import pytest

from .peers import torch  # noqa: F401  skips where it is missing

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("who", ["eager", "sdpa"])
def test_a_lap_of_pytorch_runs(who, monkeypatch, capsys):
    monkeypatch.setattr(on_device_questions, "ON_HOST", True)
    on_device_questions.lap("swin_cifar", "1", "bfloat16", who)
    assert f'"who": "{who}", "why": ""' in capsys.readouterr().out
