"""The two pages of NumPy in examples/one_page equal the model: every logit, every gradient."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warm

from minswin import create_model, ops

PAGES = Path(__file__).parent.parent / "examples" / "one_page"


@pytest.fixture(scope="module")
def pages() -> tuple[dict[str, Any], dict[str, Any]]:
    """The names that each page defines."""
    sys.path.insert(0, str(PAGES))
    try:
        return tuple(runpy.run_path(str(PAGES / f"{name}.py")) for name in ("forward", "backward"))
    finally:
        sys.path.remove(str(PAGES))


def test_the_pages_give_the_logits_and_gradients_of_the_model(pages: Any) -> None:
    forward, backward = pages
    weights, classes, *_ = forward["read"](forward["PATH"])
    rng = np.random.default_rng(0)
    weights = {n: v + 0.05 * rng.standard_normal(v.shape) for n, v in weights.items()}
    image = rng.standard_normal((3, 32, 32))
    model = create_model("swin_cifar_small", num_classes=len(classes), dtype=np.float64)
    model.load_state_dict(weights)
    logits = model.eval()(image[None])
    assert np.abs(forward["swin"](image, weights) - logits.data[0]).max() < 1e-12
    loss = ops.cross_entropy(logits, np.array([3]))
    loss.backward()
    value, gradients = backward["loss"](image, 3, weights)
    assert abs(value - loss.item()) < 1e-12
    expected = {name: p.grad for name, p in model.named_parameters()}
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert np.abs(gradient - expected[name]).max() < 1e-12 * (1 + np.abs(gradient).max()), name


def test_the_model_and_its_file_take_sixty_lines_and_nothing_of_minswin() -> None:
    text = (PAGES / "forward.py").read_text("utf-8")
    model = text.split("\ndef linear")[1].split("\ndef ship")[0]
    assert sum(bool(line.strip()) for line in model.splitlines()) <= 60
    for page in PAGES.glob("*.py"):
        assert "import minswin" not in (code := page.read_text("utf-8"))
        assert "from minswin" not in code


@pytest.mark.parametrize("page", ["forward", "backward"])
def test_a_page_runs_and_names_definitions_that_exist(page: str) -> None:
    path = PAGES / f"{page}.py"
    done = warm.run([str(path)])
    assert done.returncode == 0, done.stderr
    assert "ship" in done.stdout or "loss" in done.stdout
    root = PAGES.parent.parent
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("def ") and "# " in line:
            for file in line.split("# ")[1].split(":")[0].split(", "):
                if file.endswith(".py"):
                    assert (root / "minswin" / file).is_file(), line
