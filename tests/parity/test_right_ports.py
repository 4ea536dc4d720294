"""Published Swins are called right by the kit: their own names, no map, any precision."""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

import numpy as np
import pytest

from minswin.crosscheck import recipe
from minswin.crosscheck.compare import GOOD, Comparison, compare
from minswin.crosscheck.folder import Trace
from minswin.crosscheck.torch import keep
from minswin.crosscheck.trace import trace
from minswin.models import create_model

from .peers import torch
from .published import build

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]  # theirs warn

SETTINGS: dict[str, Any] = {
    "img_size": (32, 48), "patch_size": 2, "embed_dim": 20, "depths": (2, 2), "num_heads": (2, 4),
    "window_size": 4, "num_classes": 7,
}  # fmt: skip
FOUR = {"img_size": (128, 96), "depths": (2, 2, 2, 2), "num_heads": (2, 3, 4, 6), "embed_dim": 12}
MODELS = ("swin_tiny", "swinv2_cifar")
PORTS = [
    (name, version)
    for name in ("microsoft", "torchvision", "transformers", "timm", "monai")
    for version in ((1,) if name == "monai" else (1, 2))
]
LEAST = 36  # tensors that are judged of the smallest: else "right" would say little


@cache
def truth(version: int, four: bool, grad: bool) -> tuple[Trace, Any, Any]:
    settings = {**SETTINGS, **(FOUR if four else {})}

    def make(dtype: Any) -> Any:
        rng = np.random.default_rng(0)
        return create_model(MODELS[version - 1], **settings, rng=rng, dtype=dtype)

    images = recipe.images(3, 3, settings["img_size"], np.float32)
    ours = make(np.dtype("float32"))
    return trace(make, images, recipe.labels(3, 7), grad=grad), ours, settings


def judged(name: str, version: int, dtype: str, *, grad: bool = False) -> Comparison:
    """The comparison of a port; dtype "auto …": under autocast."""
    ours_trace, ours, settings = truth(version, name == "monai", grad)
    state = recipe.weights(ours.state_dict(), np.float32)
    kind = getattr(torch, dtype.removeprefix("auto "))
    module = build(name, version, settings, state, ours)
    x = torch.tensor(ours_trace.steps["image"].value.astype(np.float32))
    cast = torch.autocast("cpu", dtype=kind) if "auto" in dtype else contextlib.nullcontext()
    if "auto" not in dtype:
        module, x = module.to(kind), x.to(kind)
    with keep(module) as seen, torch.set_grad_enabled(grad), cast:
        y = module(x)
        if grad:
            labels = torch.tensor(ours_trace.steps["labels"].value)
            y = getattr(y, "logits", y)
            torch.nn.functional.cross_entropy(y, labels).backward()
    return compare(ours_trace, seen.arrays)


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "bfloat16", "auto float16", "auto bfloat16"]
)
@pytest.mark.parametrize(("name", "version"), PORTS)
def test_a_published_swin_is_right_without_a_map(name: str, version: int, dtype: str) -> None:
    found = judged(name, version, dtype)
    assert found.passed, (found.first, found.unknown)
    assert sum(f.verdict in GOOD for f in found.findings) >= LEAST


@pytest.mark.parametrize(("name", "version"), [p for p in PORTS if p[0] != "monai"])
def test_so_are_its_gradients(name: str, version: int) -> None:
    found = judged(name, version, "float32", grad=True)
    assert found.passed, (found.first, found.unknown)
    gradients = [f for f in found.findings if f.name.startswith("cotangent/")]
    assert sum(f.verdict in GOOD for f in gradients) >= 2 * LEAST
