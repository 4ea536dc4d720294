"""examples/22_claims.py: its lines can be trained, and a run of other settings is told."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from minswin.training.checkpoints import LAST, Checkpoint, save_checkpoint
from minswin.training.inputs import new_model, new_optimizer

CLAIMS = Path(__file__).parents[1] / "examples" / "22_claims.py"
CIFAR = SimpleNamespace(images=np.zeros((1, 3, 32, 32), np.uint8), classes=range(10))


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The example as `--table` runs it on a folder of runs: gives its names."""

    def of(*arguments: str) -> dict[str, Any]:
        command = [str(CLAIMS), "--table", "--out", str(tmp_path), *arguments]
        monkeypatch.setattr(sys, "argv", command)
        return runpy.run_path(str(CLAIMS))

    return of


def finish(names: dict[str, Any], line: str, seed: int, accuracy: float, **changes: Any) -> None:
    """Leave the last checkpoint of a finished run of a line in its folder."""
    settings = {**asdict(names["settings"](names["BY_NAME"][line], seed)), **changes}
    folder = names["folder"](line, seed)
    folder.mkdir()
    info = {"settings": json.loads(json.dumps(settings)), "epoch": 5, "accuracy": accuracy}
    save_checkpoint(folder / LAST, Checkpoint(info, {"x": np.zeros(1, np.float32)}))


def test_every_line_is_a_model_that_its_optimizer_takes(table: Any) -> None:
    names = table()
    assert len(names["LINES"]) == 15
    for line in names["LINES"]:
        settings = names["settings"](line, 0)
        optimizer = new_optimizer(new_model(settings, CIFAR), settings)
        assert type(optimizer).__name__ == ("AdamW" if line.name == "ResNet" else "Muon")
        assert optimizer.lr == 3e-3


def test_finished_runs_are_compared_seed_by_seed(table: Any, capsys: Any) -> None:
    names = table()
    for seed, (plain, with_stem) in enumerate([(0.70, 0.74), (0.71, 0.76)]):
        finish(names, "Swin", seed, plain)
        finish(names, "convolutions", seed, with_stem)
    table("--lines", "convolutions")
    printed = capsys.readouterr().out
    assert "+4.5   Swin" in printed and "convolutions  better." in printed


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"optimizer": "adamw", "lr": 1e-3}, "optimizer, lr"),
        ({"momentum": 0.9}, "momentum"),
        ({"model_settings": {"shift": False}}, "model_settings"),
    ],
)
def test_a_run_of_other_settings_is_told_and_not_mixed_in(
    changes: dict[str, Any], told: str, table: Any, tmp_path: Path
) -> None:
    finish(table(), "Swin", 1, 0.5, **changes)
    with pytest.raises(SystemExit) as error:
        table("--lines", "convolutions")
    assert str(error.value) == (
        f"{tmp_path / 'Swin-1'} is a run with another {told}; choose another --out"
    )
