"""Models of timm that PyTorch wrote as ONNX: right ones are right, and a mistake is named."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minswin.crosscheck.compare import compare
from minswin.crosscheck.diagnose import diagnose
from minswin.crosscheck.findings import coverage
from minswin.crosscheck.onnx import tensors_of

from .peers import need, torch
from .test_unseen import truth
from .unseen_mistakes import MISTAKES
from .wrong_ports import IMAGES, MODELS, Mistake, changed, theirs

pytestmark = pytest.mark.parity


def exported(file: Path, family: str, mistake: Mistake | None = None) -> dict[str, np.ndarray]:
    need("onnx")
    need("onnxruntime")
    with changed(mistake.changes if mistake else ()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter itself
        module: Any = theirs(family)
        example = torch.zeros(IMAGES, 3, *MODELS[family][1]["img_size"])
        torch.onnx.export(module, example, str(file), dynamo=False, opset_version=17)
    return tensors_of(file, np.asarray(truth(family).steps["image"].value))


# Of V2 the exporter folds the position bias, and writes unit vectors and the clamp otherwise.
SEEN = {"V1": 0.9, "V2": 0.6, "ViT": 0.95, "TNT": 0.9}


@pytest.mark.parametrize("family", SEEN)
def test_an_exported_model_is_right_at_most_of_its_steps(family: str, tmp_path: Path) -> None:
    found = compare(truth(family), exported(tmp_path / "a.onnx", family))
    assert found.passed, found.first
    c = coverage(found)
    assert c.seen >= SEEN[family] * c.of and c.by_inputs >= 0.8 * c.seen


def test_a_mistake_in_an_exported_model_is_named(tmp_path: Path) -> None:
    mistake = next(m for m in MISTAKES if m.name == "SiLU for GELU")
    found = compare(truth("V1"), exported(tmp_path / "a.onnx", "V1", mistake))
    diagnosis = diagnose(truth("V1"), found)
    assert diagnosis is not None and "silu" in diagnosis.causes[0].diff
