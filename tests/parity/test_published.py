"""The published models: names, shapes and counts of all, and the float32 logits of Swin-T."""

from __future__ import annotations

import numpy as np
import pytest

from minswin import create_model, no_grad
from minswin.models import SwinTransformer

from .compare import error, randomise
from .names import rename
from .peers import PEERS, load_timm, need, tensor, torch

pytestmark = pytest.mark.parity

TOLERANCE = 1e-4  # of float32 logits; rounding makes 1e-6, and a tanh GELU 1e-3

# ours -> timm's
PUBLISHED = {
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "swin_small": "swin_small_patch4_window7_224",
    "swin_base": "swin_base_patch4_window7_224",
    "swin_base_384": "swin_base_patch4_window12_384",
    "swin_large": "swin_large_patch4_window7_224",
    "swin_large_384": "swin_large_patch4_window12_384",
}

# The settings of the papers' configurations as transformers takes them, typed here once more.
T, S = {}, {"depths": [2, 2, 18, 2]}  # SwinConfig's defaults are Swin-T
B = {**S, "embed_dim": 128, "num_heads": [4, 8, 16, 32]}
L = {**S, "embed_dim": 192, "num_heads": [6, 12, 24, 48]}
AT_384 = {"image_size": 384, "window_size": 12}
CONFIGS = {
    "swin_tiny": T,
    "swin_small": S,
    "swin_base": B,
    "swin_base_384": {**B, **AT_384},
    "swin_large": L,
    "swin_large_384": {**L, **AT_384},
    "swin_tiny_c24": {"num_heads": [4, 8, 16, 32], "image_size": 256, "window_size": 8},
}


class Zeros(np.random.Generator):
    """Draws nothing but zeros, at no cost: a Swin-L has 200 M parameters."""

    def standard_normal(self, size):
        return np.broadcast_to(np.float32(0), size)

    def uniform(self, low, high, size):
        return np.broadcast_to(np.float32(0), size)


def shapes(model: SwinTransformer) -> dict[str, np.ndarray]:
    """Every name with an array of its shape that takes no memory."""
    return {n: np.broadcast_to(np.float32(0), a.shape) for n, a in model.state_dict().items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_names_shapes_and_counts_of_the_published_models(name, record_property):
    model = create_model(name, rng=Zeros(np.random.PCG64(0)))
    ours, count = shapes(model), model.parameter_count()
    del model
    transformers = need("transformers")
    with torch.device("meta"):
        config = transformers.SwinConfig(**CONFIGS[name], num_labels=1000)
        modules = {"transformers": transformers.SwinForImageClassification(config)}
        if name in PUBLISHED:
            modules["timm"] = load_timm().create_model(PUBLISHED[name])
    for against, module in modules.items():
        theirs = {n: tuple(p.shape) for n, p in module.named_parameters()}
        renamed = {n: a.shape for n, a in rename(ours, PEERS[against].layout).items()}
        assert renamed == theirs, against
        assert count == sum(p.numel() for p in module.parameters())
    record_property("parameters", count)


def swin_tiny_error() -> float:
    """Of the float32 logits of Swin-T with random weights, on two images."""
    rng = np.random.default_rng(4)
    model = create_model("swin_tiny", rng=rng)
    randomise(model, rng)
    model.eval()
    images = rng.standard_normal((2, 3, 224, 224)).astype(np.float32)
    peer = PEERS["transformers"]
    module = peer.build({"num_classes": 1000})  # all else by its defaults, which are Swin-T
    peer.load(module, model.state_dict())
    with no_grad(), torch.no_grad():
        ours = model(images).numpy()
        theirs = peer.logits(module, tensor(images)).numpy()
    assert ours.dtype == np.float32
    return error(ours, theirs)


def test_float32_logits_of_swin_tiny_equal_those_of_transformers():
    assert swin_tiny_error() < TOLERANCE
