"""Another implementation that is right raises no alarm: transformers, captured by forward hooks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin.crosscheck import recipe
from minswin.crosscheck.compare import compare
from minswin.crosscheck.trace import trace
from minswin.models import create_model
from minswin.weights import rename

from .peers import PEERS, need, tensor, torch

pytestmark = pytest.mark.parity

SETTINGS = {"img_size": 32, "patch_size": 2, "embed_dim": 12, "depths": (2, 2),
            "num_heads": (2, 3), "window_size": 4, "num_classes": 5}  # fmt: skip


def capture(module: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    """The result of every module by its name."""
    found: dict[str, np.ndarray] = {"image": images}

    def hook(name: str) -> Any:
        def keep(_: Any, __: Any, result: Any) -> None:
            first = result[0] if isinstance(result, tuple) else result
            if isinstance(first, torch.Tensor):
                found[name or "logits"] = first.detach().numpy()

        return keep

    handles = [m.register_forward_hook(hook(n)) for n, m in module.named_modules()]
    with torch.no_grad():
        found["answer"] = module(tensor(images)).logits.numpy()
    for handle in handles:
        handle.remove()
    return found


def load(module: Any, state: dict[str, np.ndarray]) -> None:
    version = int(need("transformers").__version__.split(".")[0])
    theirs = rename(state, "minswin", "transformers5" if version >= 5 else "transformers")
    missing, unexpected = module.load_state_dict(
        {name: tensor(np.ascontiguousarray(x)) for name, x in theirs.items()}, strict=False
    )
    buffers = {name for name, _ in module.named_buffers()}
    assert set(missing) <= buffers and not unexpected


def test_transformers_has_no_divergence_and_a_wrong_order_of_merging_is_one() -> None:
    def build(dtype: Any) -> Any:
        return create_model("swin_tiny", **SETTINGS, rng=np.random.default_rng(0), dtype=dtype)

    images = recipe.images(3, 3, (32, 32), np.float32)
    truth = trace(build, images, recipe.labels(3, 5))
    module = PEERS["transformers"].build(SETTINGS)
    state = recipe.weights(build(np.float32).state_dict(), np.float32)
    load(module, state)
    theirs = capture(module, images)
    found = compare(truth, theirs, {"head": "classifier"})
    assert found.passed, found.first
    compared = [f for f in found.findings if f.verdict != "missing"]
    assert len(compared) > 25 and {f.verdict for f in compared} <= {"equal", "right"}
    rows = state["layers.0.downsample.reduction.weight"].reshape(24, 4, 12)[:, [0, 2, 1, 3]]
    state["layers.0.downsample.reduction.weight"] = rows.reshape(24, 48)
    load(module, state)
    spoilt = capture(module, images)
    names = {"layers.0.downsample.reduction": "swin.encoder.layers.0.downsample.reduction"}
    wrong = compare(truth, spoilt, names).first
    assert wrong is not None and wrong.name == "layers.0.downsample.reduction"
